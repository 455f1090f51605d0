//! From a prompt string to its embedding: cleaning, tokenizer, UMT5 encoder (docs/algorithms/umt5.md).
//!
//! [`TextPipeline`] does all three. The result always has the full length the video model was trained with (512 rows,
//! zero after the prompt): its cross-attention is not masked, so the zero rows take part.

mod clean;
mod fix_text;
mod html;
pub mod nearest;
mod pipeline;
mod tokenizer;
mod umt5;

use std::path::PathBuf;

pub use clean::{clean_prompt, collapse_white_space};
pub use fix_text::fix_text;
pub use html::unescape_html;
pub use pipeline::{PromptEmbedding, TextPipeline, check_prompt};
pub use tokenizer::{PaddedPrompt, PromptTokenizer, TokenizedPrompt};
pub use umt5::{Observer, Sequence, Umt5, Umt5Config, relative_bucket};

/// What is wrong with a prompt, a tokenizer file or a text encoder.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// Nothing is left of a prompt after cleaning.
    #[error("prompt {} is empty (`{prompt}` holds nothing but white space or control characters); describe the video", index + 1)]
    EmptyPrompt { index: usize, prompt: String },
    /// The tokenizer file cannot be read or is not a tokenizer.
    #[error("cannot use tokenizer `{}`: {reason}; it must be the `tokenizer.json` of google/umt5-xxl", path.display())]
    Tokenizer { path: PathBuf, reason: String },
    /// A prompt has no token, or more tokens than the embedding has rows.
    #[error("the prompt has {tokens} tokens, the text encoder takes 1 to {text_len}")]
    Length { tokens: usize, text_len: usize },
    /// The tokenizer gives an id that the encoder's embedding lacks.
    #[error(
        "token id {id} lies outside the vocabulary of {vocab} in `{origin}`; tokenizer and text encoder do not belong together"
    )]
    OutsideVocabulary { id: u32, vocab: usize, origin: String },
    /// The encoder's tensors do not have the shapes of a UMT5 encoder.
    #[error("`{origin}` is not a UMT5 encoder: {reason}")]
    NotUmt5 { origin: String, reason: String },
    /// The encoder's file was given back.
    #[error("the text encoder was closed; open it again before prompts are embedded")]
    Closed,
}
