//! Files that are taken in place of those of the model.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{DecoderKind, Role, configs};
use crate::{
    Error, Result,
    checkpoint::{Network, gguf, networks_in, weights_in},
};

/// Files by what they are for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnFiles(BTreeMap<Role, PathBuf>);

impl OwnFiles {
    /// Files or folders as somebody gave them. `vae`: whichever decoder it is.
    ///
    /// # Errors
    /// When one is not there, a folder holds none or several, or `vae` is the other decoder.
    pub fn given(paths: &GivenPaths, decoder: DecoderKind) -> Result<Self> {
        let mut own = Self::default();
        if let Some(path) = &paths.transformer {
            own.set_transformer(weights(Role::Transformer, path)?);
        }
        if let Some(path) = &paths.vae {
            let path = weights(decoder.role(), path)?;
            check_decoder(&path, decoder)?;
            own.0.insert(decoder.role(), path);
        }
        if let Some(path) = &paths.text_encoder {
            own.0.insert(Role::TextEncoder, weights(Role::TextEncoder, path)?);
        }
        if let Some(path) = &paths.tokenizer {
            let path = if path.is_dir() {
                path.join("tokenizer.json")
            } else {
                path.clone()
            };
            own.0.insert(Role::Tokenizer, there(Role::Tokenizer, path)?);
        }
        Ok(own)
    }

    /// The file of a kind.
    pub fn path(&self, role: Role) -> Option<&Path> {
        self.0.get(&role).map(PathBuf::as_path)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the file of a kind is among them, or belongs to one that is: the model's own is then of no use.
    pub fn replaces(&self, role: Role) -> bool {
        self.0.contains_key(&role) || (role == Role::Config && self.0.contains_key(&Role::Transformer))
    }

    /// The same without the file of a kind.
    #[must_use]
    pub(super) fn without(mut self, role: Role) -> Self {
        if role == Role::Transformer {
            self.0.remove(&Role::Config);
        }
        self.0.remove(&role);
        self
    }

    /// Takes a transformer, with the configuration beside it.
    pub(super) fn set_transformer(&mut self, path: PathBuf) {
        match config_beside(&path) {
            Some(config) => drop(self.0.insert(Role::Config, config)),
            None => drop(self.0.remove(&Role::Config)),
        }
        self.0.insert(Role::Transformer, path);
    }

    /// Takes a file unless there is one.
    pub(super) fn add(&mut self, role: Role, path: PathBuf) {
        if self.0.contains_key(&role) {
            return;
        }
        match role {
            Role::Transformer => self.set_transformer(path),
            role => drop(self.0.insert(role, path)),
        }
    }

    /// Those of `stronger`, and these where it has none.
    #[must_use]
    pub(super) fn under(mut self, stronger: &Self) -> Self {
        if stronger.replaces(Role::Transformer) {
            self.0.remove(&Role::Config);
        }
        self.0
            .extend(stronger.0.iter().map(|(role, path)| (*role, path.clone())));
        self
    }

    /// With the tokenizer that the file of the text encoder carries, where there is no other.
    #[must_use]
    pub(super) fn with_carried_tokenizer(mut self) -> Self {
        let carrying = self
            .0
            .get(&Role::TextEncoder)
            .filter(|path| gguf::carries_tokenizer(path));
        if let (Some(path), None) = (carrying.cloned(), self.0.get(&Role::Tokenizer)) {
            self.0.insert(Role::Tokenizer, path);
        }
        self
    }

    /// Puts these files in the place of others.
    pub(super) fn over(&self, paths: &mut BTreeMap<Role, PathBuf>) {
        paths.retain(|role, _| !self.replaces(*role));
        paths.extend(self.0.iter().map(|(role, path)| (*role, path.clone())));
    }
}

/// Files or folders as somebody gave them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GivenPaths {
    pub transformer: Option<PathBuf>,
    pub vae: Option<PathBuf>,
    pub text_encoder: Option<PathBuf>,
    pub tokenizer: Option<PathBuf>,
}

/// The flag that names the file of a kind.
pub(super) fn flag(role: Role) -> &'static str {
    match role {
        Role::Transformer | Role::Config => "--transformer",
        Role::Vae | Role::TinyDecoder => "--vae-file",
        Role::TextEncoder => "--text-encoder",
        Role::Tokenizer => "--tokenizer",
        Role::Lora => "--lora",
        Role::ImageEncoder => "--model",
    }
}

/// A file of weights, or the one in a folder.
fn weights(role: Role, path: &Path) -> Result<PathBuf> {
    if path.is_dir() {
        return Ok(weights_in(path)?);
    }
    there(role, path.into())
}

fn there(role: Role, path: PathBuf) -> Result<PathBuf> {
    if path.exists() {
        return Ok(path);
    }
    Err(Error::OwnFile {
        path,
        role: role.words(),
        flag: flag(role),
    })
}

/// Refuses the file of the other decoder.
fn check_decoder(path: &Path, decoder: DecoderKind) -> Result<()> {
    // What cannot be read is told where it is opened.
    let Ok(found) = networks_in(path) else { return Ok(()) };
    let holds = |wanted: Network| found.iter().any(|(network, _)| *network == wanted);
    let (own, other) = match decoder {
        DecoderKind::Wan => (Network::Vae, Network::TinyDecoder),
        DecoderKind::Tae => (Network::TinyDecoder, Network::Vae),
    };
    if holds(own) || !holds(other) {
        return Ok(());
    }
    Err(Error::OtherDecoder {
        path: path.into(),
        found: other.words(),
        flag: match decoder {
            DecoderKind::Wan => "--vae tae",
            DecoderKind::Tae => "--vae wan",
        },
    })
}

/// The `config.json` beside the file of a transformer, unless it is that of another network.
fn config_beside(weights: &Path) -> Option<PathBuf> {
    let path = weights.with_file_name(configs::CONFIG);
    let of_another = match configs::read(&path) {
        Ok(None) => return None,
        Ok(Some(config)) => ["d_model", "z_dim"].iter().any(|key| config.contains_key(*key)),
        // Reading it again tells what is wrong.
        Err(_) => false,
    };
    (!of_another).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transformer_of_ones_own_comes_with_the_configuration_beside_it_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("own.safetensors");
        std::fs::write(&file, "").unwrap();
        let given = GivenPaths {
            transformer: Some(file.clone()),
            ..GivenPaths::default()
        };
        let of_model = || BTreeMap::from([(Role::Config, "model/config.json".into()), (Role::Vae, "vae".into())]);
        let paths = |own: &OwnFiles| {
            let mut paths: BTreeMap<Role, PathBuf> = of_model();
            own.over(&mut paths);
            paths
        };
        let alone = paths(&OwnFiles::given(&given, DecoderKind::Wan).unwrap());
        assert_eq!(alone.get(&Role::Config), None);
        assert_eq!(
            (&alone[&Role::Transformer], &alone[&Role::Vae]),
            (&file, &PathBuf::from("vae"))
        );

        let config = folder.path().join("config.json");
        for (text, taken) in [(r#"{"dim": 1}"#, true), (r#"{"d_model": 1}"#, false), ("[", true)] {
            std::fs::write(&config, text).unwrap();
            let own = OwnFiles::given(&given, DecoderKind::Wan).unwrap();
            assert_eq!(paths(&own).get(&Role::Config), taken.then_some(&config), "{text}");
        }
    }

    #[test]
    fn what_is_not_there_is_named_with_its_flag() {
        let given = GivenPaths {
            text_encoder: Some("no/such/file".into()),
            ..GivenPaths::default()
        };
        let said = OwnFiles::given(&given, DecoderKind::Wan).unwrap_err().to_string();
        assert!(
            said.contains("no/such/file") && said.contains("--text-encoder"),
            "{said}"
        );
    }
}
