//! Prompt cleaning and tokenizer.

use std::path::PathBuf;

use anyhow::{Context, Result};
use deepforcing::text::{PromptTokenizer, clean_prompt, fix_text, unescape_html};
use serde_json::Value;

use super::Case;

/// Kind `text_cleaning`: the text after each step.
pub fn cleaning(case: &Case) -> Result<()> {
    for (index, entry) in strings(case.file("cases.json"))?.iter().enumerate() {
        let input = text(entry, "input")?;
        let fixed = fix_text(input);
        let decoded = unescape_html(&unescape_html(&fixed));
        let steps = [
            ("after_ftfy", &fixed),
            ("after_html", &decoded),
            ("cleaned", &clean_prompt(input)),
        ];
        for (step, got) in steps {
            let want = text(entry, step)?;
            case.check(
                format!("string {index} {step}: {got:?}, expected {want:?}"),
                got == want,
            );
        }
        let changes = entry["ftfy_changes"].as_bool() == Some(fixed != input);
        case.check(format!("string {index} ftfy_changes"), changes);
    }
    Ok(())
}

/// Kind `tokenizer`: ids before and after padding, for each tokenizer file of the case.
pub fn tokenizer(case: &Case) -> Result<()> {
    let number = |name: &str| case.meta[name].as_u64().with_context(|| format!("meta.json: `{name}`"));
    let length = number("seq_len")? as usize;
    // A sentence that names the file of the strings.
    let sentence = case.meta["inputs"].as_str().unwrap_or_default();
    let file = sentence.split_whitespace().find(|word| word.ends_with(".json"));
    let inputs = strings(case.file(file.context("meta.json: `inputs` names no file")?))?;
    for name in case.names() {
        let Some(stem) = name.strip_suffix(".ids") else {
            continue;
        };
        let tokenizer = PromptTokenizer::open(&case.file(&format!("{stem}.json")))?;
        let expected = strings(case.file(&format!("expected_{stem}.json")))?;
        case.check(format!("{stem}: number of strings"), expected.len() == inputs.len());
        let (mut ids, mut mask) = (Vec::new(), Vec::new());
        for (index, (input, want)) in inputs.iter().zip(&expected).enumerate() {
            let cleaned = clean_prompt(text(input, "input")?);
            // Left out for very long strings.
            if let Some(want) = want["cleaned"].as_str() {
                case.check(format!("{stem} string {index}: cleaned"), cleaned == want);
            }
            let prompt = tokenizer.encode(&cleaned, length)?;
            let count = |name: &str| want[name].as_u64().map(|n| n as usize);
            case.check(
                format!("{stem} string {index}: total"),
                count("num_tokens_untruncated") == Some(prompt.total),
            );
            case.check(
                format!("{stem} string {index}: kept"),
                count("num_tokens") == Some(prompt.ids.len()),
            );
            let same = want["ids"] == Value::from(prompt.ids.clone());
            case.check(
                format!("{stem} string {index}: ids {:?}, expected {}", prompt.ids, want["ids"]),
                same,
            );
            let padded = tokenizer.pad(&prompt, length);
            ids.extend(padded.ids.into_iter().map(i64::from));
            mask.extend(padded.mask.into_iter().map(i64::from));
        }
        case.exact(&name, &ids);
        case.exact(&format!("{stem}.mask"), &mask);
    }
    Ok(())
}

fn strings(path: PathBuf) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(serde_json::from_str(&text)?)
}

fn text<'v>(entry: &'v Value, name: &str) -> Result<&'v str> {
    entry[name]
        .as_str()
        .with_context(|| format!("`{name}` is not a string"))
}
