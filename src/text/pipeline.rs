//! Prompts to embeddings in one call.

use std::path::Path;

use candle_core::Tensor;

use super::{PromptTokenizer, TextError, Umt5, clean_prompt};
use crate::{Result, checkpoint::Weights};

/// Refuses a prompt of which cleaning leaves nothing.
///
/// # Errors
/// [`TextError::EmptyPrompt`].
pub fn check_prompt(prompt: &str) -> Result<(), TextError> {
    checked(0, prompt).map(drop)
}

/// The cleaned prompt, if anything is left of it.
fn checked(index: usize, prompt: &str) -> Result<String, TextError> {
    let cleaned = clean_prompt(prompt);
    if cleaned.is_empty() {
        let prompt = prompt.into();
        return Err(TextError::EmptyPrompt { index, prompt });
    }
    Ok(cleaned)
}

/// Cleaning, tokenizer and encoder together.
///
/// Holds the vocabulary but no weights: they are read during [`TextPipeline::embed`].
pub struct TextPipeline {
    tokenizer: PromptTokenizer,
    encoder: Umt5,
    text_len: usize,
}

/// A prompt as the video model sees it.
#[derive(Debug, Clone)]
pub struct PromptEmbedding {
    /// `[text_len, dim]`, f32; rows after the prompt are zero.
    pub tensor: Tensor,
    /// Rows that belong to the prompt, including its end token.
    pub tokens: usize,
    /// Tokens the whole prompt has; more than [`Self::tokens`] when it was cut.
    pub total_tokens: usize,
    /// Whether the end of the prompt was cut off to fit into `text_len`.
    pub truncated: bool,
    /// The prompt after cleaning.
    pub cleaned: String,
}

impl TextPipeline {
    /// Opens `tokenizer.json` and checks the encoder's tensors. `text_len`: rows per prompt (512 for Wan models).
    ///
    /// # Errors
    /// When the tokenizer is unusable or a tensor of the encoder is missing or has another shape.
    pub fn open(tokenizer: &Path, encoder: Weights, text_len: usize) -> Result<Self> {
        Ok(Self {
            tokenizer: PromptTokenizer::open(tokenizer)?,
            encoder: Umt5::new(encoder)?,
            text_len,
        })
    }

    /// Embeds all prompts while the encoder's weights are read once.
    ///
    /// # Errors
    /// [`TextError::EmptyPrompt`] before anything is computed; errors of [`Umt5::encode`].
    pub fn embed(&self, prompts: &[String]) -> Result<Vec<PromptEmbedding>> {
        let cleaned: Vec<_> = prompts
            .iter()
            .enumerate()
            .map(|(index, prompt)| checked(index, prompt))
            .collect::<Result<_, _>>()?;
        let tokenized: Vec<_> = cleaned
            .iter()
            .map(|text| self.tokenizer.encode(text, self.text_len))
            .collect::<Result<_, _>>()?;
        let tensors = self
            .encoder
            .encode(&tokenized.iter().collect::<Vec<_>>(), self.text_len)?;
        let embeddings = tensors.into_iter().zip(tokenized).zip(cleaned);
        let embeddings = embeddings.map(|((tensor, tokens), cleaned)| PromptEmbedding {
            tensor,
            tokens: tokens.ids.len(),
            total_tokens: tokens.total,
            truncated: tokens.truncated(),
            cleaned,
        });
        Ok(embeddings.collect())
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &PromptTokenizer {
        &self.tokenizer
    }

    /// The encoder.
    pub fn encoder(&self) -> &Umt5 {
        &self.encoder
    }
}
