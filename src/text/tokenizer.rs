//! Text to token ids, with the pipeline stored in `tokenizer.json`.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use tokenizers::Tokenizer;

use super::TextError;

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
    /// Reads a `tokenizer.json`. Truncation and padding stored in it are ignored.
    ///
    /// # Errors
    /// When the file cannot be read, is not a tokenizer, or does not end every text with `</s>`.
    pub fn open(path: &Path) -> Result<Self, TextError> {
        let fail = |reason: String| TextError::Tokenizer {
            path: path.into(),
            reason,
        };
        let bytes = crate::files::read(path, LARGEST_FILE).map_err(|error| fail(error.to_string()))?;
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

#[cfg(test)]
mod tests {
    use super::*;

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
