//! The flags of the cache's parameters, one for each row of [`Parameter::ALL`].

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, error::ErrorKind};

use crate::{
    cache::{CacheChanges, Parameter},
    config::{Key, Layer},
};

/// Cache settings on the command line; those not given are the preset's.
#[derive(Default)]
pub(super) struct CacheFlags(CacheChanges);

impl CacheFlags {
    /// Puts what was typed over `layer`.
    pub fn over(&self, layer: Layer) -> Layer {
        let cache = self.0.or(&layer.cache);
        Layer { cache, ..layer }
    }
}

/// The flag of a parameter, without its value.
fn flag(parameter: &'static Parameter) -> Arg {
    Arg::new(parameter.key).long(parameter.name).help(parameter.help())
}

impl Args for CacheFlags {
    fn augment_args(command: Command) -> Command {
        let single = |parameter: &'static Parameter| {
            flag(parameter)
                .value_name(parameter.kind.placeholder())
                .value_parser(move |text: &str| parameter.normal(text))
        };
        command
            .next_help_heading("Cache (sizes in latent frames; defaults are the preset's)")
            .args(Parameter::ALL.iter().map(single))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for CacheFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for parameter in Parameter::ALL {
            let Some(text) = matches.get_one::<String>(parameter.key) else {
                continue;
            };
            let wrong = |reason| clap::Error::raw(ErrorKind::ValueValidation, reason);
            self.0.read(parameter, text).map_err(wrong)?;
        }
        Ok(())
    }
}

/// Lists of values of the cache's parameters, for a grid.
#[derive(Default)]
pub(super) struct CacheLists(Vec<(&'static Parameter, Vec<String>)>);

impl CacheLists {
    /// What was typed for a setting; nothing if it is no parameter of the cache.
    pub fn given(&self, key: &Key) -> &[String] {
        let given = self.0.iter().find(|(parameter, _)| parameter.key == key.name);
        given.map_or(&[], |(_, lists)| lists)
    }
}

impl Args for CacheLists {
    fn augment_args(command: Command) -> Command {
        let list = |parameter| flag(parameter).value_name("LIST").action(ArgAction::Append);
        command.args(Parameter::ALL.iter().map(list))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for CacheLists {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut lists = Self::default();
        lists.update_from_arg_matches(matches)?;
        Ok(lists)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let given = Parameter::ALL.iter().map(|parameter| {
            let lists = matches.get_many::<String>(parameter.key);
            (parameter, lists.into_iter().flatten().cloned().collect())
        });
        self.0 = given.collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cache::{CacheSettings, parameters::Kind};

    #[derive(Parser)]
    struct Single {
        #[command(flatten)]
        cache: CacheFlags,
    }

    fn value(parameter: &Parameter) -> String {
        match parameter.kind {
            Kind::Number { .. } => "3".into(),
            Kind::Share => "0.25".into(),
            Kind::File => "1x4:5".into(),
            Kind::Text { example, .. } => example.into(),
            Kind::Word { names, .. } => names[0].into(),
        }
    }

    #[test]
    fn every_parameter_has_a_flag() {
        for parameter in Parameter::ALL {
            let words = ["x".into(), format!("--{}", parameter.name), value(parameter)];
            let layer = Single::parse_from(words).cache.over(Layer::default());
            assert!(layer.cache.gives(parameter));
            let settings = layer.cache.over(&CacheSettings::default());
            assert_eq!(parameter.text(&settings), value(parameter));
        }
    }

    #[test]
    fn what_was_typed_is_stronger_than_the_layer_below() {
        let typed = Single::parse_from(["x", "--sink", "3"]).cache;
        let below = Layer {
            cache: CacheSettings::default().into(),
            ..Layer::default()
        };
        let cache = typed.over(below).cache;
        assert_eq!((cache.sink, cache.window), (Some(3), Some(21)));
    }
}
