//! How strongly the pairs of a file work: what is said of it outside of its tensors.
//!
//! The scale of a pair is alpha / rank. Alpha is a tensor of the pair, or else stands in a description: peft's
//! `adapter_config.json` beside the file, the same inside of it as Diffusers writes it, or a number of kohya's tools.

use std::path::Path;

use regex::Regex;
use serde_json::{Map, Value};

use super::{super::Checkpoint, LoraError};
use crate::files;

/// What peft writes beside its files.
const BESIDE: &str = "adapter_config.json";
/// What Diffusers writes into its files.
const INSIDE: &str = "lora_adapter_metadata";
/// What kohya's tools write into theirs.
const KOHYA: &str = "ss_network_alpha";
/// Diffusers names the part of the pipeline in front of every key.
const COMPONENT: &str = "transformer.";

/// Alpha by module, as a description has it.
#[derive(Default)]
pub(super) struct Alphas {
    whole: Option<f64>,
    /// Modules with an alpha of their own, by the end of their names.
    own: Vec<(Regex, f64)>,
    /// Whether pairs are divided by the root of the rank (rsLoRA).
    by_root: bool,
    /// Whether every pair has a magnitude (DoRA).
    pub(super) normed: bool,
}

impl Alphas {
    /// Reads the description of a file; `has_tensors`: whether alpha stands in its tensors.
    ///
    /// # Errors
    /// When it cannot be read, or asks for what this program does not do.
    pub(super) fn of(path: &Path, checkpoint: &Checkpoint, has_tensors: bool) -> Result<Self, LoraError> {
        let beside = path.with_file_name(BESIDE);
        if beside.is_file() {
            let place = format!("`{}`", beside.display());
            let text = files::read_text(&beside, files::LONGEST_TEXT).map_err(|error| wrong(path, &place, error))?;
            return Self::parse(path, &place, &text, "");
        }
        let place = |key: &str| format!("`{key}` in its header");
        if let Some(text) = checkpoint.note(INSIDE) {
            return Self::parse(path, &place(INSIDE), text, COMPONENT);
        }
        let whole = match checkpoint.note(KOHYA) {
            Some(text) if !has_tensors && text != "None" => {
                let number = text.trim().parse::<f64>().ok().filter(|alpha| alpha.is_finite());
                Some(number.ok_or_else(|| LoraError::Alpha {
                    path: path.into(),
                    place: place(KOHYA),
                    value: text.chars().take(40).flat_map(char::escape_debug).collect(),
                })?)
            }
            _ => None,
        };
        Ok(Self {
            whole,
            ..Self::default()
        })
    }

    /// Reads peft's JSON, whose keys begin with `prefix`.
    fn parse(path: &Path, place: &str, text: &str, prefix: &str) -> Result<Self, LoraError> {
        let object: Map<String, Value> = serde_json::from_str(text).map_err(|error| wrong(path, place, error))?;
        let get = |key: &str| object.get(&format!("{prefix}{key}")).filter(|value| !value.is_null());
        let flag = |key: &str| get(key).and_then(Value::as_bool).unwrap_or(false);
        let refused = [
            ("fan_in_fan_out", flag("fan_in_fan_out")),
            (
                "modules_to_save",
                get("modules_to_save").is_some_and(|saved| saved.as_array().is_none_or(|saved| !saved.is_empty())),
            ),
            ("bias", get("bias").is_some_and(|bias| bias != "none")),
        ];
        if let Some((key, _)) = refused.iter().find(|(_, asked)| *asked) {
            let reason = format!("`{key}` asks for what this program does not do; merge it with the tool that made it");
            return Err(wrong(path, place, reason));
        }
        let number = |key: &str, value: &Value| {
            value
                .as_f64()
                .ok_or_else(|| wrong(path, place, format!("`{key}` is {value}, expected a number")))
        };
        let mut own = Vec::new();
        for (pattern, value) in get("alpha_pattern").and_then(Value::as_object).into_iter().flatten() {
            let regex = Regex::new(&format!(r"^(.*\.)?({pattern})$")).map_err(|error| wrong(path, place, error))?;
            own.push((regex, number(pattern, value)?));
        }
        Ok(Self {
            whole: get("lora_alpha").map(|value| number("lora_alpha", value)).transpose()?,
            own,
            by_root: flag("use_rslora"),
            normed: flag("use_dora"),
        })
    }

    /// Alpha of a module, under its name in the file.
    pub(super) fn of_module(&self, module: &str) -> Option<f64> {
        let own = self.own.iter().find(|(pattern, _)| pattern.is_match(module));
        own.map(|(_, alpha)| *alpha).or(self.whole)
    }

    /// The scale of a pair of this alpha and rank.
    pub(super) fn scale(&self, alpha: f64, rank: usize) -> f64 {
        let rank = rank as f64;
        if self.by_root {
            alpha / rank.sqrt()
        } else {
            alpha / rank
        }
    }
}

fn wrong(path: &Path, place: &str, reason: impl ToString) -> LoraError {
    LoraError::Description {
        path: path.into(),
        place: place.into(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, prefix: &str) -> Result<Alphas, LoraError> {
        Alphas::parse(Path::new("a.safetensors"), "there", text, prefix)
    }

    #[test]
    fn a_module_has_its_own_alpha_or_that_of_all() {
        let text = r#"{"lora_alpha": 16, "alpha_pattern": {"ffn.0": 4, "blocks.1.self_attn.q": 2.5}, "bias": "none"}"#;
        let alphas = parse(text, "").unwrap();
        for (module, alpha) in [
            ("base_model.model.blocks.0.ffn.0", 4.0),
            ("blocks.1.self_attn.q", 2.5),
            ("blocks.11.self_attn.q", 16.0),
        ] {
            assert_eq!(alphas.of_module(module), Some(alpha), "{module}");
        }
        assert_eq!(alphas.scale(16.0, 4), 4.0);
        let rooted = parse(
            r#"{"transformer.lora_alpha": 8, "transformer.use_rslora": true}"#,
            COMPONENT,
        )
        .unwrap();
        assert_eq!((rooted.of_module("x"), rooted.scale(8.0, 4)), (Some(8.0), 4.0));
        assert_eq!(parse("{}", "").unwrap().of_module("x"), None);
    }

    #[test]
    fn what_is_not_done_is_refused() {
        for (text, part) in [
            (r#"{"fan_in_fan_out": true}"#, "fan_in_fan_out"),
            (r#"{"modules_to_save": ["head"]}"#, "modules_to_save"),
            (r#"{"bias": "all"}"#, "bias"),
            (r#"{"lora_alpha": "x"}"#, "expected a number"),
            ("[", "a.safetensors"),
        ] {
            let error = parse(text, "").err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(
            !parse(r#"{"modules_to_save": [], "use_dora": false}"#, "")
                .unwrap()
                .normed
        );
        assert!(parse(r#"{"use_dora": true}"#, "").unwrap().normed);
    }
}
