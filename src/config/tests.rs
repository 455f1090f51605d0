use std::{ffi::OsString, path::Path};

use tempfile::{TempDir, tempdir};

use super::*;
use crate::cache::{Parameter, PolicyName, parameters::Kind};

/// A home with a config file, and variables.
struct Home {
    folder: TempDir,
    variables: Vec<(OsString, OsString)>,
}

impl Home {
    fn new(config: &str) -> Self {
        let folder = tempdir().unwrap();
        let variables = vec![("HOME".into(), folder.path().into())];
        let home = Self { folder, variables };
        std::fs::create_dir_all(home.file().parent().unwrap()).unwrap();
        std::fs::write(home.file(), config).unwrap();
        home
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join(".config/deepforcing/config.toml")
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    fn load(&self, flags: Layer) -> Result<Layers, ConfigError> {
        Layers::load(flags, &self.variables.iter().cloned().collect())
    }

    fn refused(&self) -> String {
        self.load(Layer::default()).unwrap_err().to_string()
    }
}

fn settings(layers: &Layers) -> Settings {
    layers.resolve("toy", &Preset::load("toy").unwrap())
}

fn origin(origin: &Origin) -> String {
    origin.to_string()
}

#[test]
fn each_layer_wins_over_the_next() {
    let home = Home::new("seconds = 1\nseed = 1\nfps = 1\n").with("DEEPFORCING_SECONDS", "2");
    let home = home.with("DEEPFORCING_SEED", "2");
    let flags = Layer {
        seconds: Some(3.0),
        ..Layer::default()
    };
    let settings = settings(&home.load(flags).unwrap());
    assert_eq!(
        (settings.seconds.value, settings.seed.value, settings.fps.value),
        (3.0, 2, 1)
    );
    assert_eq!(origin(&settings.seconds.origin), "flag --seconds");
    assert_eq!(origin(&settings.seed.origin), "variable DEEPFORCING_SEED");
    assert_eq!(origin(&settings.fps.origin), format!("{}:3", home.file().display()));
    assert_eq!(
        (settings.size.value.width, origin(&settings.size.origin)),
        (96, "preset toy".into())
    );
    assert_eq!(
        (settings.crf.value, origin(&settings.crf.origin)),
        (18, "default".into())
    );
    assert_eq!(settings.preset.value.as_deref(), Some("toy"));
}

#[test]
fn every_setting_can_be_set_by_every_source() {
    let values = [
        ("model", "\"toy\"", "toy"),
        ("preset", "\"self-forcing\"", "self-forcing"),
        ("transformer", "\"a.pt\"", "a.pt"),
        ("vae-file", "\"b.pth\"", "b.pth"),
        ("text-encoder", "\"c.pth\"", "c.pth"),
        ("tokenizer", "\"d.json\"", "d.json"),
        ("threads", "2", "2"),
        ("max-vram", "\"12GB\"", "12GB"),
        ("device", "\"cpu\"", "cpu"),
        ("dtype", "\"f32\"", "f32"),
        ("vae", "\"tae\"", "tae"),
        ("seconds", "2.5", "2.5"),
        ("seed", "18446744073709551615", "18446744073709551615"),
        ("size", "\"32x48\"", "32x48"),
        ("fps", "8", "8"),
        ("crf", "0", "0"),
        ("encoder-preset", "\"slow\"", "slow"),
        ("encoder", "\"h264_nvenc\"", "h264_nvenc"),
        ("preview", "true", "auto"),
        ("on-switch", "\"flush\"", "flush"),
        ("recache-sink", "\"renew\"", "renew"),
        ("lora", "[\"a.safetensors:0.5\"]", "a.safetensors:0.5"),
        ("sampler.steps", "[1000, 500]", "1000,500"),
        ("sampler.shift", "3.5", "3.5"),
    ];
    let own = values.map(|(name, toml, text)| (name, toml.to_owned(), text.to_owned()));
    let of_cache = Parameter::ALL.iter().map(|parameter| match parameter.kind {
        Kind::Number { .. } => (parameter.key, "3".into(), "3".into()),
        Kind::Text { example, .. } => (parameter.key, format!("\"{example}\""), example.into()),
        Kind::File => (parameter.key, "\"1x4:5\"".into(), "1x4:5".into()),
        Kind::Share => (parameter.key, "0.25".into(), "0.25".into()),
        Kind::Word { names, .. } => (parameter.key, format!("\"{}\"", names[0]), names[0].into()),
    });
    let values: Vec<(_, String, String)> = own.into_iter().chain(of_cache).collect();
    let names: Vec<_> = values.iter().map(|(name, ..)| *name).collect();
    for key in Key::all() {
        assert!(names.contains(&key.name), "{} is not tested", key.name);
    }
    for (name, toml, text) in values {
        for (home, from) in [
            (Home::new(&format!("{name} = {toml}")), "config.toml:1"),
            (Home::new("").with(&variable(name), &text), "variable DEEPFORCING_"),
        ] {
            let settings = settings(&home.load(Layer::default()).unwrap());
            let entries = settings.entries();
            let entry = entries.iter().find(|entry| entry.key == name).unwrap();
            assert_eq!(entry.text.as_deref(), Some(text.as_str()), "{name}");
            assert!(entry.origin.to_string().contains(from), "{name}: {}", entry.origin);
            let set = entries.iter().filter(|entry| entry.origin.to_string().contains(from));
            assert_eq!(set.count(), 1, "{name}");
        }
    }
}

#[test]
fn tables_and_dotted_keys_are_one() {
    for config in ["[cache]\nsink = 4", "cache.sink = 4", "cache = { sink = 4 }"] {
        let settings = settings(&Home::new(config).load(Layer::default()).unwrap());
        assert_eq!(settings.cache().sink, 4, "{config}");
        assert_eq!(settings.cache().policy, PolicyName::DeepForcing);
    }
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_one() {
    for (config, says) in [
        (
            "\nsede = 1",
            "config.toml:2`: unknown setting `sede`; did you mean `seed`?",
        ),
        (
            "[cache]\nsinks = 1",
            "config.toml:2`: unknown setting `cache.sinks`; did you mean `cache.sink`?",
        ),
        ("sink = 3", "unknown setting `sink`; did you mean `cache.sink`?"),
        ("[video]\nfps = 3", "unknown setting `video`; known are model, preset"),
        ("negative_prompt = 1", "known are"),
        ("[cache.sink]\nx = 1", "`cache.sink` in"),
    ] {
        let error = Home::new(config).refused();
        assert!(error.contains(says), "{config}: {error}");
    }
}

#[test]
fn refused_values_say_where_they_stand_and_what_was_expected() {
    for (config, says) in [
        (
            "seed = -1",
            "config.toml:1` is `-1`: expected a whole number from 0 to 18446744073709551615",
        ),
        ("fps = 0", "is `0`: expected a whole number from 1 to 240"),
        ("crf = 52", "expected a whole number from 0 to 51"),
        ("seed = \"7\"", "expected a number without quotes"),
        ("seconds = nan", "is `nan`: expected a number above 0"),
        ("size = \"100x480\"", "is `100x480`: size 100x480 is not possible"),
        ("size = 832", "expected text in quotes"),
        ("vae = \"wam\"", "expected one of wan, tae; did you mean `wan`?"),
        ("cache.policy = \"deepforcing\"", "did you mean `deep-forcing`?"),
        ("sampler.steps = []", "sampler.steps"),
        ("sampler.steps = [250, 1000]", "denoising steps must fall"),
        ("preview = \"maybe\"", "expected one of auto, blocks, off"),
        ("model = \"\"", "expected a name or a path"),
    ] {
        let error = Home::new(config).refused();
        assert!(error.contains(says), "{config}: {error}");
    }
    let error = Home::new("").with("DEEPFORCING_SEED", "x").refused();
    assert!(
        error.starts_with("DEEPFORCING_SEED is `x`: expected a whole number"),
        "{error}"
    );
    let error = Home::new("seed = ").refused();
    assert!(error.contains("config.toml:1` is not TOML"), "{error}");
}

#[test]
fn a_numeral_may_be_written_in_any_way_that_toml_knows() {
    let settings = settings(
        &Home::new("seed = 0xff\nfps = 2_4\nseconds = 1e1")
            .load(Layer::default())
            .unwrap(),
    );
    assert_eq!(
        (settings.seed.value, settings.fps.value, settings.seconds.value),
        (255, 24, 10.0)
    );
}

#[test]
fn unknown_variables_are_warned_about() {
    let home = Home::new("")
        .with("DEEPFORCING_SEDE", "1")
        .with("DEEPFORCING_CONFIG", "");
    let home = home.with("DEEPFORCING_LOG", "debug").with("DEEPFORCING_X", "");
    let warnings = home.load(Layer::default()).unwrap().warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("`DEEPFORCING_SEDE`") && warnings[0].contains("`DEEPFORCING_SEED`?"));
    assert!(!warnings[1].contains("did you mean"), "{}", warnings[1]);
}

#[test]
fn the_file_is_found_where_it_should_be() {
    let at = |variables: &[(&str, &str)]| {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        ConfigFile::locate(&variables.collect()).unwrap().unwrap().path
    };
    let name = "deepforcing/config.toml";
    assert_eq!(at(&[("HOME", "/h")]), Path::new("/h/.config").join(name));
    assert_eq!(
        at(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")]),
        Path::new("/x").join(name)
    );
    assert_eq!(
        at(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "x")]),
        Path::new("/h/.config").join(name)
    );
    let named = [
        ("HOME", "/h"),
        ("DEEPFORCING_CONFIG", "mine.toml"),
        ("XDG_CONFIG_HOME", "/x"),
    ];
    assert_eq!(at(&named), Path::new("mine.toml"));
}

#[test]
fn only_a_named_file_must_be_there() {
    let home = Home::new("");
    std::fs::remove_file(home.file()).unwrap();
    assert!(home.load(Layer::default()).is_ok());
    let error = home.with("DEEPFORCING_CONFIG", "/nowhere/mine.toml").refused();
    assert!(
        error.contains("/nowhere/mine.toml` that DEEPFORCING_CONFIG names"),
        "{error}"
    );
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_no_text_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let value = OsString::from_vec(vec![0xff]);
    let environment = [("DEEPFORCING_SEED".into(), value)].into_iter().collect();
    let error = Layers::load(Layer::default(), &environment).unwrap_err();
    assert!(error.to_string().contains("DEEPFORCING_SEED is not valid UTF-8"));
}
