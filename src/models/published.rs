//! What a preset says of a model's files: the names they have in a folder, and where they are published.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeSeed, MapAccess, Visitor},
};

use super::role::{DecoderKind, Needs, Role};
use crate::{Error, Result, hub::Source};

/// Key of [`FileNames::state_dict`] in a preset.
const STATE_DICT: &str = "state-dict";
/// Key of [`FileNames::lora_alpha`] in a preset.
const LORA_ALPHA: &str = "lora-alpha";

/// Names of a model's files, relative to its folder; the first that exists is taken. A preset writes them as a table:
/// `vae = ["Wan2.1_VAE.pth"]`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct FileNames {
    #[serde(flatten)]
    names: BTreeMap<Role, Vec<String>>,
    /// State dict to take from a transformer file that holds several, for instance `generator`.
    #[serde(rename = "state-dict", skip_serializing_if = "Option::is_none")]
    pub state_dict: Option<String>,
    /// Alpha of the model's LoRA where its file does not say; without it the change is added as it is.
    #[serde(rename = "lora-alpha", skip_serializing_if = "Option::is_none")]
    pub lora_alpha: Option<f64>,
}

impl FileNames {
    /// Whether the model has a file of a kind that not every model has.
    pub fn names_a(&self, role: Role) -> bool {
        !self.of(role).is_empty()
    }

    /// The names of a kind of file; those that it is published under where the preset gives none.
    pub fn of(&self, role: Role) -> Vec<&str> {
        match self.names.get(&role) {
            Some(names) => names.iter().map(String::as_str).collect(),
            None => role.published_names().to_vec(),
        }
    }

    /// All names that the preset gives.
    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        self.names.values().flatten().map(String::as_str)
    }
}

impl<'de> Deserialize<'de> for FileNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Table;

        impl<'de> Visitor<'de> for Table {
            type Value = FileNames;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of file names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<FileNames, A::Error> {
                let mut read = FileNames::default();
                while let Some(key) = map.next_key_seed(Word)? {
                    match key {
                        Key::Role(role) => drop(read.names.insert(role, map.next_value()?)),
                        Key::StateDict => read.state_dict = Some(map.next_value()?),
                        Key::LoraAlpha => read.lora_alpha = Some(map.next_value()?),
                    }
                }
                Ok(read)
            }
        }

        enum Key {
            Role(Role),
            StateDict,
            LoraAlpha,
        }

        /// Reads a key. A seed, so that a wrong word is told with its line.
        struct Word;

        impl<'de> DeserializeSeed<'de> for Word {
            type Value = Key;

            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Key, D::Error> {
                match String::deserialize(deserializer)?.as_str() {
                    STATE_DICT => Ok(Key::StateDict),
                    LORA_ALPHA => Ok(Key::LoraAlpha),
                    word => Role::read(word, &[STATE_DICT, LORA_ALPHA]).map(Key::Role),
                }
            }
        }

        deserializer.deserialize_map(Table)
    }
}

/// Where a model's files are published, by what they are for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sources(BTreeMap<Role, Source>);

impl Sources {
    /// The source of a kind of file.
    pub fn of(&self, role: Role) -> Option<&Source> {
        self.0.get(&role)
    }

    /// Every file of the model, in the order of [`Role::ALL`].
    pub fn all(&self) -> Vec<(Role, &Source)> {
        self.0.iter().map(|(role, source)| (*role, source)).collect()
    }

    /// The files that a run needs.
    ///
    /// # Errors
    /// When one of them is not published with this model, for instance the decoder.
    pub fn needed(&self, needs: Needs) -> Result<Vec<(Role, &Source)>> {
        let needs = self.with_conditions(needs);
        let lacking = Role::ALL
            .iter()
            .find(|role| role.is_required(needs) && self.of(**role).is_none());
        if let Some(role) = lacking {
            return Err(Error::NoSource { role: role.name() });
        }
        let mut files = self.all();
        files.retain(|(role, _)| role.is_used(needs));
        Ok(files)
    }

    /// The files of a model that is whole: one decoder is enough, the tiny one if only that `is_there`.
    pub fn with_one_decoder(&self, is_there: impl Fn(&Source) -> bool) -> Vec<(Role, &Source)> {
        let there = |role: Role| self.of(role).is_some_and(&is_there);
        let decoder = if there(Role::TinyDecoder) && !there(Role::Vae) {
            DecoderKind::Tae
        } else {
            DecoderKind::Wan
        };
        let needs = Needs {
            decoder,
            ..self.with_conditions(Needs::default())
        };
        let mut files = self.all();
        files.retain(|(role, _)| role.is_used(needs));
        files
    }

    /// Those of which `keep` is true.
    pub(super) fn only(&self, keep: impl Fn(Role) -> bool) -> Self {
        let kept = self.0.iter().filter(|(role, _)| keep(**role));
        Self(kept.map(|(role, source)| (*role, source.clone())).collect())
    }

    /// The same with another file of a kind.
    pub(super) fn with(mut self, role: Role, source: Source) -> Self {
        self.0.insert(role, source);
        self
    }

    /// A file without which no run can do and that is not published with this model.
    pub(super) fn lacks(&self) -> Option<Role> {
        let image = self.with_conditions(Needs::default()).image;
        let mut roles = Role::ALL.iter().copied();
        roles.find(|role| role.is_in_every_model(image) && self.of(*role).is_none())
    }

    /// What a run needs of this model.
    fn with_conditions(&self, needs: Needs) -> Needs {
        Needs {
            image: self.of(Role::ImageEncoder).is_some(),
            ..needs
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> std::result::Result<FileNames, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn names_that_are_not_given_are_those_of_the_published_files() {
        let given =
            names("vae = [\"a.pth\", \"b.pth\"]\nlora = [\"l.pt\"]\nstate-dict = \"generator\"\nlora-alpha = 8")
                .unwrap();
        assert_eq!((given.of(Role::Lora), given.lora_alpha), (vec!["l.pt"], Some(8.0)));
        assert!(!FileNames::default().names_a(Role::Lora));
        assert_eq!(given.of(Role::Vae), ["a.pth", "b.pth"]);
        assert_eq!(given.of(Role::Tokenizer), Role::Tokenizer.published_names());
        assert_eq!(given.state_dict.as_deref(), Some("generator"));
        assert_eq!(names(&toml::to_string(&given).unwrap()).unwrap(), given);
    }

    #[test]
    fn wrong_words_and_values_are_told_with_their_line() {
        for (text, parts) in [
            ("\ntokenzier = []", ["line 2", "did you mean `tokenizer`?"]),
            ("\nstate-dcit = \"x\"", ["line 2", "did you mean `state-dict`?"]),
            ("vae = []\ntokenizer = \"x\"", ["line 2", "sequence"]),
        ] {
            let error = names(text).unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
    }

    #[test]
    fn one_decoder_is_enough_for_a_whole_model() {
        let source = |file: &str| format!("{{ repo = \"a/b\", file = \"{file}\" }}");
        let roles = Role::ALL
            .iter()
            .filter(|role| **role != Role::ImageEncoder)
            .map(|role| format!("{role} = {}\n", source(role.name())));
        let sources: Sources = toml::from_str(&roles.collect::<String>()).unwrap();
        let has = |there: &[&str], role: Role| {
            let files = sources.with_one_decoder(|source| there.contains(&source.file.as_str()));
            files.iter().any(|(known, _)| *known == role)
        };
        for (there, vae) in [
            (&[][..], true),
            (&["vae"], true),
            (&["tiny-decoder"], false),
            (&["vae", "tiny-decoder"], true),
        ] {
            assert_eq!(
                (has(there, Role::Vae), has(there, Role::TinyDecoder)),
                (vae, !vae),
                "{there:?}"
            );
            assert!(has(there, Role::Config) && has(there, Role::Transformer));
        }
        assert_eq!(sources.lacks(), None);
    }

    #[test]
    fn what_is_not_published_is_named() {
        let sources: Sources = toml::from_str("vae = { repo = \"a/b\", file = \"c\" }").unwrap();
        assert_eq!(sources.lacks(), Some(Role::Transformer));
        let sources: Sources = toml::from_str(
            "transformer = { repo = \"a/b\", file = \"c\" }\ntext-encoder = { repo = \"a/b\", file = \"d\" }\n\
             tokenizer = { repo = \"a/b\", file = \"e\" }",
        )
        .unwrap();
        assert_eq!(sources.lacks(), None);
        for (decoder, missing) in [(DecoderKind::Wan, "`vae`"), (DecoderKind::Tae, "`tiny-decoder`")] {
            let error = sources
                .needed(Needs {
                    decoder,
                    ..Needs::default()
                })
                .unwrap_err()
                .to_string();
            assert!(error.contains(missing.trim_matches('`')), "{error}");
        }
    }
}
