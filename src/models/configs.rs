//! The `config.json` beside weights, compared with their tensors: that of another model gives pictures of nothing.
//!
//! That of the transformer is read by [`crate::transformer::WanConfigFile`].

use std::path::Path;

use serde_json::{Map, Value};

use crate::{
    Error, Result, files,
    text::Umt5Config,
    vae::{LATENT_CHANNELS, LATENT_MEAN, LATENT_STD, WanVaeConfig},
};

/// Name of the file.
pub(super) const CONFIG: &str = "config.json";

/// What a key of the file should say, as JSON.
type Row = (&'static str, Value);

/// Compares the sizes of a text encoder with the `config.json` of `UMT5EncoderModel` beside its file, if there is one.
///
/// # Errors
/// When they contradict each other, or it cannot be read.
pub(super) fn check_text_encoder(weights: &Path, config: &Umt5Config) -> Result<()> {
    let rows = [
        ("model_type", "umt5".into()),
        ("d_model", config.dim.into()),
        ("d_ff", config.ffn_dim.into()),
        ("d_kv", (config.attention_dim / config.heads).into()),
        ("num_heads", config.heads.into()),
        ("num_layers", config.layers.into()),
        ("vocab_size", config.vocab.into()),
        ("relative_attention_num_buckets", config.buckets.into()),
        ("relative_attention_max_distance", config.max_distance.into()),
        ("layer_norm_epsilon", 1e-6.into()),
        ("feed_forward_proj", "gated-gelu".into()),
    ];
    check(weights, "d_model", &rows)
}

/// Compares the sizes of a VAE with the `config.json` of `AutoencoderKLWan` beside its file, if there is one.
///
/// # Errors
/// As [`check_text_encoder`].
pub(super) fn check_vae(weights: &Path, config: &WanVaeConfig) -> Result<()> {
    let rows = [
        ("_class_name", "AutoencoderKLWan".into()),
        ("base_dim", config.dim.into()),
        ("z_dim", LATENT_CHANNELS.into()),
        ("dim_mult", config.dim_mult.clone().into()),
        ("num_res_blocks", config.num_res_blocks.into()),
        ("temperal_downsample", config.temporal_downsample.clone().into()),
        ("latents_mean", decimals(&LATENT_MEAN)),
        ("latents_std", decimals(&LATENT_STD)),
    ];
    check(weights, "z_dim", &rows)
}

/// Numbers as they are written.
fn decimals(values: &[f32]) -> Value {
    values
        .iter()
        .map(|value| Value::from(rounded(f64::from(*value))))
        .collect()
}

/// To four places, as the published constants have.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// `own`: a key that only the configuration of this kind of network has.
fn check(weights: &Path, own: &str, rows: &[Row]) -> Result<()> {
    let path = weights.with_file_name(CONFIG);
    let Some(file) = read(&path)?.filter(|file| file.contains_key(own)) else {
        return Ok(());
    };
    let other = rows.iter().find_map(|(name, found)| {
        let told = file.get(*name).filter(|told| !told.is_null() && !same(told, found))?;
        Some((*name, told, found))
    });
    match other {
        Some((name, told, found)) => Err(Error::OtherConfigWord {
            config: format!("`{}`", path.display()).into(),
            origin: weights.display().to_string().into(),
            name,
            told: told.to_string().into(),
            found: found.to_string().into(),
        }),
        None => Ok(()),
    }
}

/// Whether two values are the same, numbers as such.
fn same(told: &Value, found: &Value) -> bool {
    match (told, found) {
        (Value::Array(told), Value::Array(found)) => {
            told.len() == found.len() && told.iter().zip(found).all(|(told, found)| same(told, found))
        }
        (Value::Number(told), Value::Number(found)) => told.as_f64() == found.as_f64(),
        _ => told == found,
    }
}

/// A JSON object; `None` where there is no such file.
///
/// # Errors
/// When it cannot be read or is something else.
pub(super) fn read(path: &Path) -> Result<Option<Map<String, Value>>> {
    let text = match files::read_text(path, files::LONGEST_TEXT) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::config(path, error)),
    };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| Error::config(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(config: &str, check: impl Fn(&Path) -> Result<()>) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(CONFIG), config).unwrap();
        check(&folder.path().join("model.safetensors"))
            .err()
            .map(|error| error.to_string())
    }

    #[test]
    fn the_configuration_of_another_encoder_is_refused() {
        let check = |path: &Path| check_text_encoder(path, &Umt5Config::xxl());
        for (config, parts) in [
            (
                r#"{"d_model": 4096, "num_heads": 32}"#,
                ["`num_heads` is 32", "it is 64"],
            ),
            (r#"{"d_model": 1024}"#, ["`d_model` is 1024", "it is 4096"]),
            (r#"{"d_model": 4096, "model_type": "t5"}"#, ["\"t5\"", "umt5"]),
        ] {
            let said = said(config, check).unwrap();
            assert!(parts.iter().all(|part| said.contains(part)), "{said}");
        }
        assert!(said("[", check).unwrap().contains("config.json"));
        let right = r#"{"d_model": 4096, "num_heads": 64, "layer_norm_epsilon": 1e-06, "d_kv": 64}"#;
        // That of the transformer is none of the encoder's.
        for other in [
            right,
            r#"{"dim": 1536, "num_heads": 12, "num_layers": 30, "model_type": "t2v"}"#,
        ] {
            assert_eq!(said(other, check), None);
        }
    }

    #[test]
    fn the_configuration_of_another_vae_is_refused() {
        let check = |path: &Path| check_vae(path, &WanVaeConfig::wan21());
        let whole = format!(
            r#"{{"z_dim": 16, "base_dim": 96, "dim_mult": [1, 2, 4, 4], "latents_mean": {}, "latents_std": {}}}"#,
            decimals(&LATENT_MEAN),
            decimals(&LATENT_STD)
        );
        assert_eq!(said(&whole, check), None);
        let other = whole.replace("-0.7571", "-0.5");
        assert!(said(&other, check).unwrap().contains("latents_mean"));
        assert!(said(r#"{"z_dim": 48}"#, check).unwrap().contains("`z_dim` is 48"));
    }
}
