//! Command lines that make videos again.

use serde_json::Value;

use super::study::Video;
use crate::{
    cache::CacheSettings,
    sweep::{SweepPlan, axis_keys, has_meaning, parameters},
};

/// A word as a POSIX shell reads it.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,@%+".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.into(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Words as one line.
pub(super) fn line(words: &[String]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// The command that made the whole sweep.
pub(super) fn sweep(plan: &SweepPlan) -> Option<String> {
    // The plan may come from anybody; the program that is shown with a button to copy it is this one in any case.
    let (_, rest) = plan.command.split_first()?;
    let words: Vec<_> = std::iter::once("deepforcing".to_owned())
        .chain(rest.iter().cloned())
        .collect();
    Some(line(&words))
}

/// Makes the video again from the recipe that it carries.
pub(super) fn rerun(video: &Video) -> String {
    let name = video.line.file.rsplit('/').next().unwrap_or(&video.line.file);
    // A name that begins with a dash would be a flag.
    let file = match video.line.file.starts_with('-') {
        true => format!("./{}", video.line.file),
        false => video.line.file.clone(),
    };
    line(&["deepforcing", "rerun", &file, "-o", &format!("again/{name}")].map(String::from))
}

/// The `generate` with the same result, where flags can say it: one prompt, no start, no added LoRA, no settings without a
/// flag.
pub(super) fn generate(video: &Video, plan: Option<&SweepPlan>) -> Option<String> {
    let recipe = &video.line.recipe();
    let settings = plan
        .and_then(|plan| plan.points.get(video.row))
        .map(|point| &point.settings);
    // All of them have flags of `generate`.
    let sayable = |key: &String| axis_keys().any(|known| known.name == key);
    if settings.is_some_and(|settings| !settings.keys().all(sayable)) || recipe.get("start").is_some() {
        return None;
    }
    // Where an added LoRA lies is in the video's own recipe alone.
    let files = recipe.pointer("/model/files").and_then(Value::as_array);
    if files.into_iter().flatten().any(|file| file.get("strength").is_some()) {
        return None;
    }
    let [prompt] = recipe.get("prompts")?.as_array()?.as_slice() else {
        return None;
    };
    let prompt = prompt.get("text").or_else(|| prompt.get("prompt"))?.as_str()?;
    let text = |path: &str| recipe.pointer(path).and_then(word);
    let number = |path: &str| recipe.pointer(path).and_then(Value::as_f64);
    let of_point = || plan?.points.get(video.row)?.resolved.get("model").cloned();
    let of_plan = || plan.map(|plan| plan.model.clone());
    let model = text("/model/model").or_else(of_point).or_else(of_plan)?;
    let (pictures, fps) = (number("/video/pictures")?, number("/video/fps")?);
    let mut words: Vec<String> = ["deepforcing", "generate"].map(String::from).into();
    let mut flag = |name: &str, value: String| words.extend([name.to_owned(), value]);
    let preset = text("/model/preset").filter(|preset| *preset != model);
    flag("--model", model);
    // A folder's own preset is found by itself, and said it is the same.
    if let Some(preset) = preset {
        flag("--preset", preset);
    }
    flag("--seed", video.line.seed.to_string());
    flag("--seconds", (pictures / fps).to_string());
    flag(
        "--size",
        format!("{}x{}", text("/video/width")?, text("/video/height")?),
    );
    for (name, value) in cache_and_sampler(recipe)? {
        flag(&name, value);
    }
    flag("--vae", text("/model/decoder")?);
    flag("--fps", text("/video/fps")?);
    let name = video.line.file.rsplit('/').next().unwrap_or_default();
    flag("-o", format!("again/{name}"));
    if prompt.starts_with('-') {
        words.push("--".into());
    }
    words.push(prompt.into());
    Some(line(&words))
}

/// Flags of cache and sampler with their values, of what the policy has.
fn cache_and_sampler(recipe: &Value) -> Option<Vec<(String, String)>> {
    // A recipe that is older than a parameter was made with its default.
    let cache: CacheSettings = serde_json::from_value(recipe.get("cache")?.clone()).ok()?;
    let own = parameters().filter(|key| has_meaning(cache.policy, key));
    let flags = own.map(|key| {
        let value = match key.cache_parameter() {
            Some(parameter) => parameter.text(&cache),
            None => word(recipe.pointer(&format!("/{}", key.name.replace('.', "/")))?)?,
        };
        Some((key.flag(), value))
    });
    flags.collect()
}

/// A value as flags take it.
fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Array(list) => Some(list.iter().filter_map(word).collect::<Vec<_>>().join(",")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_those_of_the_policy_whatever_the_age_of_the_recipe() {
        let recipe = serde_json::json!({
            "cache": { "policy": "sink", "window": 9, "budget": 7 },
            "sampler": { "steps": [1000, 500], "shift": 5.0 },
        });
        let flags = cache_and_sampler(&recipe).unwrap();
        let flags: Vec<_> = flags.iter().map(|(name, value)| format!("{name} {value}")).collect();
        assert_eq!(
            flags,
            [
                "--policy sink",
                "--window 9",
                "--sink 10",
                "--steps 1000,500",
                "--shift 5.0"
            ]
        );
    }

    #[test]
    fn words_survive_a_shell() {
        for word in ["a b", "it's $HOME `x`", "", "-x", "é\n\"", "a*?", "plain-1.0/x"] {
            let output = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {}", quoted(&format!("_{word}")))])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("_{word}"));
        }
        assert_eq!(quoted("out/a.mp4"), "out/a.mp4");
        assert_eq!(quoted(""), "''");
    }
}
