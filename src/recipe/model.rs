//! The model of a recipe: its files, by what they hold.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::human;
use crate::models::{DecoderKind, Role};

/// The model that made a video.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ModelRecord {
    /// Name by which the model can be found anywhere; absent when its files came from a folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    pub preset: String,
    #[serde(with = "DecoderName")]
    pub decoder: DecoderKind,
    pub files: Vec<FileRecord>,
}

/// A file of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FileRecord {
    /// As [`crate::models::Role::name`].
    pub role: String,
    /// File name without folder; of a LoRA that was added to the model, its path as it was given.
    pub name: String,
    pub bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Repository and revision on the hub, if it came from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// How strongly a LoRA works that was added to the model; absent for the model's own files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,
    /// The alpha that the preset gave the model's own LoRA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
}

/// Gives [`DecoderKind`] the names of `--vae`.
#[derive(Serialize, Deserialize)]
#[serde(remote = "DecoderKind", rename_all = "kebab-case")]
enum DecoderName {
    Wan,
    Tae,
}

impl ModelRecord {
    /// Whether the preset names a LoRA that belongs to the model.
    pub fn has_own_lora(&self) -> bool {
        let mut loras = self.files.iter().filter(|file| file.role == Role::Lora.name());
        loras.any(|file| file.strength.is_none())
    }

    /// The LoRAs that were added to the model, with their strengths.
    pub fn added_loras(&self) -> impl Iterator<Item = (&FileRecord, f64)> {
        let loras = self.files.iter().filter(|file| file.role == Role::Lora.name());
        loras.filter_map(|file| Some((file, file.strength?)))
    }

    /// How the files of `other` differ from these, one sentence each; file names do not count.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        let mut roles: Vec<&str> = Vec::new();
        for file in self.files.iter().chain(&other.files) {
            if !roles.contains(&file.role.as_str()) {
                roles.push(&file.role);
            }
        }
        for role in roles {
            let of = |record: &'_ Self| -> Vec<FileRecord> {
                let files = record.files.iter().filter(|file| file.role == role);
                files.cloned().collect()
            };
            let (mine, mut theirs) = (of(self), of(other));
            let counts = (mine.len(), theirs.len());
            if counts.0 != counts.1 {
                differences.push(format!(
                    "{role}: {} of the recipe, {} here",
                    files(counts.0),
                    files(counts.1)
                ));
                continue;
            }
            for file in &mine {
                match theirs.iter().position(|other| file.same_content(other)) {
                    Some(at) => drop(theirs.swap_remove(at)),
                    None => differences.push(format!("{role}: no file here is {}", file.content())),
                }
            }
        }
        if self.decoder != other.decoder {
            differences.push(format!(
                "decoder: {} in the recipe, {} here",
                self.decoder.name(),
                other.decoder.name()
            ));
        }
        differences
    }
}

fn files(count: usize) -> String {
    match count {
        1 => "1 file".into(),
        count => format!("{count} files"),
    }
}

impl FileRecord {
    /// The file of this name beside `recipe`, the file that holds the recipe. A recipe may come from anybody, so no other
    /// place that it names is looked at.
    pub fn beside(&self, recipe: &Path) -> Option<PathBuf> {
        let name = Path::new(&self.name);
        let relative = crate::files::is_inside(&self.name).then_some(name);
        let last = name.file_name().map(Path::new);
        let mut places = relative.into_iter().chain(last).map(|name| recipe.with_file_name(name));
        places.find(|path| path.symlink_metadata().is_ok())
    }

    /// Whether both have the same bytes, as far as is known, and are used in the same way.
    fn same_content(&self, other: &Self) -> bool {
        let hashes_agree = match (&self.sha256, &other.sha256) {
            (Some(mine), Some(theirs)) => mine == theirs,
            _ => true,
        };
        let terms_agree = (self.strength, self.alpha) == (other.strength, other.alpha);
        self.bytes == other.bytes && hashes_agree && terms_agree
    }

    fn content(&self) -> String {
        let hash = self.sha256.as_deref().map(human::short_hash);
        let hash = hash.map_or(String::new(), |hash| format!(", SHA-256 {hash}"));
        let strength = self
            .strength
            .map_or(String::new(), |strength| format!(", strength {strength}"));
        let alpha = self.alpha.map_or(String::new(), |alpha| format!(", alpha {alpha}"));
        let name = crate::files::said::printable(&self.name);
        format!("`{name}` ({} bytes{hash}{strength}{alpha})", self.bytes)
    }
}
