//! What makes two videos the same.

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{hub::file_hash::hexadecimal, recipe::Recipe};

/// Differences that a message lists.
const LISTED: usize = 4;
/// Letters of a value that a message repeats.
const SHOWN: usize = 60;

/// The part of a recipe that determines the file, and its hash. Where model files and starts lie, what they are called
/// and the program's version do not count; their hashes do.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// SHA-256 of the recipe, in hexadecimal.
    pub hash: String,
    pub recipe: Value,
}

impl Key {
    pub fn of(recipe: &Recipe) -> Self {
        let mut value = serde_json::to_value(recipe).unwrap_or_default();
        if let Some(object) = value.as_object_mut() {
            object.remove("deepforcing");
            object.remove("notes");
        }
        let files = value.pointer_mut("/model/files").and_then(Value::as_array_mut);
        for file in files.into_iter().flatten() {
            if let Some(file) = file.as_object_mut() {
                file.retain(|key, _| matches!(key.as_str(), "role" | "bytes" | "sha256" | "strength" | "alpha"));
            }
        }
        if let Some(start) = value.get_mut("start").and_then(Value::as_object_mut) {
            start.remove("name");
        }
        Self {
            hash: hexadecimal(&Sha256::digest(value.to_string())),
            recipe: value,
        }
    }

    /// Forgets the model's files, for comparisons before they are known, and the format, which may follow from them.
    pub fn without_files(mut recipe: Value) -> Value {
        if let Some(recipe) = recipe.as_object_mut() {
            recipe.remove("format");
        }
        if let Some(model) = recipe.get_mut("model").and_then(Value::as_object_mut) {
            model.remove("files");
        }
        recipe
    }
}

/// How `now` differs from `before`, by the names of the recipe's keys.
pub fn differences(before: &Value, now: &Value) -> String {
    let mut found = Vec::new();
    compare("", before, now, &mut found);
    let more = found.len().saturating_sub(LISTED);
    found.truncate(LISTED);
    if more > 0 {
        found.push(format!("{more} more"));
    }
    found.join(", ")
}

fn compare(name: &str, before: &Value, now: &Value, found: &mut Vec<String>) {
    let inner = |key: &str| match name {
        "" => key.to_owned(),
        name => format!("{name}.{key}"),
    };
    match (before, now) {
        (before, now) if before == now => {}
        (Value::Object(before), Value::Object(now)) => {
            let added = now.keys().filter(|key| !before.contains_key(*key));
            for key in before.keys().chain(added) {
                let value = |object: &serde_json::Map<_, _>| object.get(key).cloned().unwrap_or_default();
                compare(&inner(key), &value(before), &value(now), found);
            }
        }
        (Value::Array(before), Value::Array(now)) if before.len() == now.len() => {
            for (index, (before, now)) in before.iter().zip(now).enumerate() {
                compare(&inner(&index.to_string()), before, now, found);
            }
        }
        (before, now) => found.push(format!("{name} was {}, is {}", shown(before), shown(now))),
    }
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => "absent".into(),
        Value::Array(list) => format!("a list of {}", list.len()),
        value => value.to_string(),
    };
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        models::DecoderKind,
        recipe::{FileRecord, ModelRecord},
    };

    fn recipe() -> Recipe {
        Recipe::new(ModelRecord {
            model: None,
            preset: "toy".into(),
            decoder: DecoderKind::Wan,
            files: vec![FileRecord {
                role: "vae".into(),
                name: "vae.pth".into(),
                bytes: 3,
                sha256: Some("00".into()),
                repo: None,
                revision: None,
                strength: None,
                alpha: None,
            }],
        })
    }

    #[test]
    fn names_of_files_do_not_count_and_their_content_does() {
        let (first, mut second) = (recipe(), recipe());
        second.model.files[0].name = "other.pth".into();
        second.version = "9.9".into();
        assert_eq!(Key::of(&first), Key::of(&second));
        second.model.files[0].sha256 = Some("01".into());
        assert_ne!(Key::of(&first).hash, Key::of(&second).hash);
        let mut lora = second.model.clone();
        lora.files.push(FileRecord {
            role: "lora".into(),
            strength: Some(0.5),
            ..lora.files[0].clone()
        });
        second.set_model(lora.clone());
        let half = Key::of(&second).hash;
        lora.files[1].strength = Some(1.0);
        second.set_model(lora);
        assert_ne!(half, Key::of(&second).hash);
        let without = |recipe| Key::without_files(Key::of(recipe).recipe);
        assert_eq!(without(&first), without(&second));
    }

    #[test]
    fn differences_are_named() {
        let (first, mut second) = (recipe(), recipe());
        second.seed = 7;
        second.encoding.crf = 30;
        let said = differences(&Key::of(&first).recipe, &Key::of(&second).recipe);
        assert_eq!(said, "encoding.crf was 18, is 30, seed was 0, is 7");
    }
}
