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
/// Holds the vocabulary but no weights: they are read during [`TextPipeline::embed`]. The file they are in stays mapped
/// until [`TextPipeline::close`]: what was read of it counts as memory of the process.
pub struct TextPipeline {
    tokenizer: PromptTokenizer,
    encoder: Option<Umt5>,
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
            encoder: Some(Umt5::new(encoder)?),
            text_len,
        })
    }

    /// Gives back the encoder's file; [`TextPipeline::reopen`] is needed before the next prompts.
    pub fn close(&mut self) {
        self.encoder = None;
    }

    /// Whether prompts can be embedded.
    pub fn is_open(&self) -> bool {
        self.encoder.is_some()
    }

    /// Opens the encoder again after [`TextPipeline::close`].
    ///
    /// # Errors
    /// As [`TextPipeline::open`].
    pub fn reopen(&mut self, encoder: Weights) -> Result<()> {
        self.encoder = Some(Umt5::new(encoder)?);
        Ok(())
    }

    /// Embeds all prompts while the encoder's weights are read once.
    ///
    /// # Errors
    /// [`TextError::EmptyPrompt`] before anything is computed; [`TextError::Closed`]; errors of [`Umt5::encode`].
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
            .encoder()?
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
    ///
    /// # Errors
    /// [`TextError::Closed`] after [`TextPipeline::close`].
    pub fn encoder(&self) -> Result<&Umt5, TextError> {
        self.encoder.as_ref().ok_or(TextError::Closed)
    }
}
