//! From a prompt string to its embedding: cleaning, tokenizer, UMT5 encoder.

/// What is wrong with a prompt or a tokenizer file.
#[derive(Debug, thiserror::Error)]
pub enum TextError {}
