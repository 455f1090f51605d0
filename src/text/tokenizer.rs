//! Text to token ids, with the pipeline stored in `tokenizer.json` or in the GGUF file of a text encoder.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use super::TextError;
use crate::checkpoint::gguf::{self, Vocabulary};

/// Calls `work`, in which parts of a damaged file make the library panic (decoders of its version 0.23): `None` then, and
/// nothing is printed.
fn without_panic<T>(work: impl FnOnce() -> T) -> Option<T> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let told = take_hook();
    set_hook(Box::new(|_| ()));
    let done = catch_unwind(AssertUnwindSafe(work));
    set_hook(told);
    done.ok()
}

/// Most bytes of a tokenizer; that of UMT5 has 17 MB.
const LARGEST_FILE: u64 = 256 << 20;
const END: &str = "</s>";
const PADDING: &str = "<pad>";

/// The UMT5 tokenizer.
pub struct PromptTokenizer {
    tokenizer: Tokenizer,
    path: PathBuf,
    end_id: u32,
    pad_id: u32,
}

/// Token ids of one prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenizedPrompt {
    /// Ids of the prompt and its end token `</s>`, not padded.
    pub ids: Vec<u32>,
    /// Number of ids before truncation.
    pub total: usize,
}

/// Token ids filled up to a fixed length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaddedPrompt {
    /// Ids of the prompt and its end token, then the padding id.
    pub ids: Vec<u32>,
    /// 1 for the prompt's ids, 0 for padding.
    pub mask: Vec<u32>,
}

impl TokenizedPrompt {
    /// Whether tokens were cut off at the end.
    pub fn truncated(&self) -> bool {
        self.ids.len() < self.total
    }
}

impl PromptTokenizer {
    /// Reads a `tokenizer.json`, or the vocabulary of a GGUF file. Truncation and padding stored in it are ignored.
    ///
    /// # Errors
    /// When the file cannot be read, is not a tokenizer, or does not end every text with `</s>`.
    pub fn open(path: &Path) -> Result<Self, TextError> {
        let fail = |reason: String| TextError::Tokenizer {
            path: path.into(),
            reason,
        };
        let bytes = match gguf::is_gguf(path) {
            true => {
                let vocabulary = Vocabulary::open(path).map_err(|error| fail(error.to_string()))?;
                let vocabulary = vocabulary.ok_or_else(|| fail("this GGUF file carries no tokenizer".into()))?;
                of_vocabulary(&vocabulary)
            }
            false => crate::files::read(path, LARGEST_FILE).map_err(|error| fail(error.to_string()))?,
        };
        let parsed = without_panic(|| Tokenizer::from_bytes(bytes));
        let parsed = parsed.ok_or_else(|| fail("it is damaged".into()))?;
        let mut tokenizer = parsed.map_err(|error| fail(error.to_string()))?;
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|error| fail(error.to_string()))?;
        let end_id = tokenizer
            .token_to_id(END)
            .ok_or_else(|| fail(format!("it has no `{END}` token")))?;
        let pad_id = tokenizer.token_to_id(PADDING).unwrap_or(0);
        let this = Self {
            tokenizer,
            path: path.into(),
            end_id,
            pad_id,
        };
        if this.ids("")?.last() != Some(&end_id) {
            return Err(fail(format!("it does not append `{END}` to a text")));
        }
        Ok(this)
    }

    /// Tokenizes a cleaned prompt; the empty text gives the end token alone.
    ///
    /// More than `text_len` tokens are cut so that `</s>` is the last of `text_len`.
    ///
    /// # Errors
    /// When the tokenizer fails on the text.
    pub fn encode(&self, text: &str, text_len: usize) -> Result<TokenizedPrompt, TextError> {
        let mut ids = self.ids(text)?;
        let total = ids.len();
        if total > text_len {
            ids.truncate(text_len.saturating_sub(1));
            ids.push(self.end_id);
        }
        Ok(TokenizedPrompt { ids, total })
    }

    /// Fills a prompt up to `length` with padding on the right.
    pub fn pad(&self, prompt: &TokenizedPrompt, length: usize) -> PaddedPrompt {
        let (mut ids, mut mask) = (prompt.ids.clone(), vec![1; prompt.ids.len()]);
        ids.resize(length, self.pad_id);
        mask.resize(length, 0);
        PaddedPrompt { ids, mask }
    }

    fn ids(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let encoding = self.tokenizer.encode_fast(text, true);
        let encoding = encoding.map_err(|error| TextError::Tokenizer {
            path: self.path.clone(),
            reason: error.to_string(),
        })?;
        Ok(encoding.get_ids().to_vec())
    }
}

/// A `tokenizer.json` that does with a vocabulary what that of google/umt5-xxl does (docs/algorithms/gguf.md section 4).
fn of_vocabulary(vocabulary: &Vocabulary) -> Vec<u8> {
    let Vocabulary { pieces, end, .. } = vocabulary;
    let marks = pieces.iter().enumerate().filter(|(_, piece)| piece.is_mark);
    let marks = marks.map(|(id, piece)| {
        json!({
            "id": id, "content": piece.text, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        })
    });
    let mut normalizers = Vec::new();
    if !vocabulary.characters.is_empty() {
        let characters = BASE64_STANDARD.encode(&vocabulary.characters);
        normalizers.push(json!({"type": "Precompiled", "precompiled_charsmap": characters}));
    }
    if vocabulary.joins_spaces {
        normalizers.push(json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}));
    }
    let normalizer = match normalizers.is_empty() {
        true => Value::Null,
        false => json!({"type": "Sequence", "normalizers": normalizers}),
    };
    let last = pieces.get(*end).map_or(END, |piece| piece.text.as_str());
    let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    let mark = json!({"SpecialToken": {"id": last, "type_id": 0}});
    let mut special = serde_json::Map::new();
    special.insert(last.into(), json!({"id": last, "ids": [end], "tokens": [last]}));
    let pieces = pieces.iter().map(|piece| json!([piece.text, piece.score]));
    let prefix = if vocabulary.adds_space { "always" } else { "never" };
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": marks.collect::<Vec<_>>(),
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": prefix, "split": true},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [text("A"), mark],
            "pair": [text("A"), mark, text("B"), mark],
            "special_tokens": special,
        },
        "decoder": null,
        "model": {
            "type": "Unigram", "unk_id": vocabulary.unknown, "byte_fallback": false, "vocab": pieces.collect::<Vec<_>>(),
        },
    });
    tokenizer.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::gguf::build::{Gguf, Meta};

    /// Letters `a`, `b` and the space mark, ids 0 and 1 as in the real file.
    fn tokenizer_json(post_processor: &str) -> String {
        format!(
            r#"{{"version": "1.0",
            "truncation": {{"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}},
            "padding": {{"strategy": {{"Fixed": 9}}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
                "pad_type_id": 0, "pad_token": "<pad>"}},
            "added_tokens": [
                {{"id": 0, "content": "<pad>", "single_word": false, "lstrip": false, "rstrip": false,
                  "normalized": false, "special": true}},
                {{"id": 1, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false,
                  "normalized": false, "special": true}}],
            "normalizer": null,
            "pre_tokenizer": {{"type": "Metaspace", "replacement": "▁", "add_prefix_space": true}},
            "post_processor": {post_processor}, "decoder": null,
            "model": {{"type": "Unigram", "unk_id": 2, "vocab":
                [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["▁", -1.0], ["a", -1.0], ["b", -1.0]]}}}}"#
        )
    }

    const APPEND_END: &str = r#"{"type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}}"#;

    fn open(content: &str) -> Result<PromptTokenizer, TextError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        std::fs::write(&path, content).unwrap();
        PromptTokenizer::open(&path)
    }

    #[test]
    fn stored_truncation_and_padding_are_ignored() {
        let tokenizer = open(&tokenizer_json(APPEND_END)).unwrap();
        let prompt = tokenizer.encode("ab a", 512).unwrap();
        assert_eq!(prompt.ids, [3, 4, 5, 3, 4, 1]);
        assert_eq!(tokenizer.encode("", 512).unwrap().ids, [1]);
        let padded = tokenizer.pad(&prompt, 8);
        assert_eq!(
            (padded.ids, padded.mask),
            (vec![3, 4, 5, 3, 4, 1, 0, 0], vec![1, 1, 1, 1, 1, 1, 0, 0])
        );
    }

    #[test]
    fn truncation_keeps_the_end_token() {
        let tokenizer = open(&tokenizer_json(APPEND_END)).unwrap();
        let prompt = tokenizer.encode("ab a", 4).unwrap();
        assert_eq!(
            (prompt.ids.as_slice(), prompt.total, prompt.truncated()),
            ([3, 4, 5, 1].as_slice(), 6, true)
        );
        assert!(!tokenizer.encode("ab a", 6).unwrap().truncated());
    }

    /// The vocabulary of a golden tokenizer in a GGUF file.
    fn as_gguf(golden: &Value) -> Gguf {
        let pieces = golden["model"]["vocab"].as_array().unwrap();
        let added = golden["added_tokens"].as_array().unwrap();
        let kind = |id: usize| match id {
            _ if golden["model"]["unk_id"] == id => 2,
            _ if added.iter().any(|token| token["id"] == id) => 3,
            _ => 1,
        };
        let texts = pieces.iter().map(|piece| piece[0].as_str().unwrap().to_string());
        let scores = pieces.iter().map(|piece| piece[1].as_f64().unwrap() as f32);
        let file = Gguf::default()
            .with("general.architecture", Meta::Text("t5encoder".into()))
            .with("tokenizer.ggml.model", Meta::Text("t5".into()))
            .with("tokenizer.ggml.tokens", Meta::Texts(texts.collect()))
            .with("tokenizer.ggml.scores", Meta::F32s(scores.collect()))
            .with(
                "tokenizer.ggml.token_type",
                Meta::I32s((0..pieces.len()).map(kind).collect()),
            )
            .with("tokenizer.ggml.eos_token_id", Meta::U32(1))
            .with("tokenizer.ggml.unknown_token_id", Meta::U32(3))
            .floats("token_embd.weight", &[4, 4]);
        match golden["normalizer"]["normalizers"][0]["precompiled_charsmap"].as_str() {
            Some(map) => file.with(
                "tokenizer.ggml.precompiled_charsmap",
                Meta::Bytes(BASE64_STANDARD.decode(map).unwrap()),
            ),
            None => file,
        }
    }

    #[test]
    fn the_vocabulary_of_a_gguf_file_gives_the_ids_of_its_tokenizer() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let cases = std::fs::read(folder.join("text_cleaning/cases.json")).unwrap();
        let cases: Value = serde_json::from_slice(&cases).unwrap();
        let mut texts: Vec<String> = Vec::new();
        strings(&cases, &mut texts);
        assert!(texts.len() > 50);
        for name in ["tokenizer_charsmap.json", "tokenizer_nocharsmap.json"] {
            let path = folder.join("tokenizer").join(name);
            let golden: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let temporary = tempfile::tempdir().unwrap();
            let file = temporary.path().join("encoder.gguf");
            std::fs::write(&file, as_gguf(&golden).bytes()).unwrap();
            let (wanted, got) = (
                PromptTokenizer::open(&path).unwrap(),
                PromptTokenizer::open(&file).unwrap(),
            );
            for text in &texts {
                let text = super::super::clean_prompt(text);
                assert_eq!(
                    got.encode(&text, 512).unwrap(),
                    wanted.encode(&text, 512).unwrap(),
                    "{text:?}"
                );
            }
            std::fs::write(&file, Gguf::default().floats("token_embd.weight", &[4, 4]).bytes()).unwrap();
            let error = PromptTokenizer::open(&file).err().unwrap().to_string();
            assert!(
                error.contains("carries no tokenizer") && error.contains("encoder.gguf"),
                "{error}"
            );
        }
    }

    /// All texts of a JSON value.
    fn strings(value: &Value, texts: &mut Vec<String>) {
        match value {
            Value::String(text) => texts.push(text.clone()),
            Value::Array(values) => values.iter().for_each(|value| strings(value, texts)),
            Value::Object(values) => values.values().for_each(|value| strings(value, texts)),
            _ => {}
        }
    }

    #[test]
    fn unusable_files_are_named() {
        let message = |result: Result<PromptTokenizer, TextError>| result.err().unwrap().to_string();
        assert!(message(open("{\"model\": ")).contains("tokenizer.json"));
        assert!(message(open(&tokenizer_json("null"))).contains("does not append `</s>`"));
        assert!(message(open(&tokenizer_json(APPEND_END).replace("</s>", "<eos>"))).contains("no `</s>`"));
        assert!(message(PromptTokenizer::open(Path::new("absent/tokenizer.json"))).contains("absent/tokenizer.json"));
        assert!(message(PromptTokenizer::open(&std::env::temp_dir())).contains("cannot use tokenizer"));
    }
}
