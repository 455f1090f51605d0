//! A loaded model that renders any number of videos: networks and prompt embeddings are kept between them.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use candle_core::{DType, Tensor};

use crate::{
    Error, Result,
    device::Compute,
    models::{ModelFiles, Role},
    prompts::PromptSpan,
    rollout::{
        ChunkLoop, LoopKind, PromptChange, RollingError, RollingRollout, Rollout, RolloutSettings, Script, SeededNoise,
    },
    text::{PromptEmbedding, TextPipeline},
    transformer::CausalWan,
    vae::{DecodeStream, Decoder, WanEncoder},
};

/// Rows of a prompt embedding when the model's `config.json` does not tell (Wan 2.1).
const DEFAULT_TEXT_LEN: usize = 512;

/// The networks of a run on one device.
pub struct Engine {
    files: ModelFiles,
    compute: Compute,
    text: TextPipeline,
    model: Arc<CausalWan>,
    decoder: Arc<Decoder>,
    /// Loaded at the first start from an image or a clip.
    encoder: Option<WanEncoder>,
    embeddings: HashMap<String, PromptEmbedding>,
    /// What they depend on.
    encoded_by: TextEncoder,
    loading: Duration,
}

/// What the embedding of a prompt depends on.
#[derive(Debug, Clone, PartialEq)]
struct TextEncoder {
    files: [Option<PathBuf>; 2],
    text_len: usize,
    dtype: DType,
}

/// Prompt embeddings of a model that is no longer loaded, for another one with the same text encoder.
pub struct Embeddings {
    of: TextEncoder,
    embeddings: HashMap<String, PromptEmbedding>,
}

impl Engine {
    /// Loads transformer and decoder and opens the text encoder, whose weights are read while prompts are embedded.
    ///
    /// # Errors
    /// When a file is not what it should be, or the files belong to different models.
    pub fn load(files: &ModelFiles, compute: &Compute) -> Result<Self> {
        let started = Instant::now();
        let text_len = files.read_config()?.text_len.unwrap_or(DEFAULT_TEXT_LEN);
        let text = files.open_text(text_len, compute)?;
        let model = files.load_transformer(compute)?;
        files.check_prompt_width(&text, &model)?;
        let decoder = files.load_decoder(compute)?;
        let path = |role| files.path(role).map(Path::to_owned);
        let encoded_by = TextEncoder {
            files: [path(Role::TextEncoder), path(Role::Tokenizer)],
            text_len,
            dtype: compute.dtype,
        };
        Ok(Self {
            files: files.clone(),
            compute: compute.clone(),
            text,
            model,
            decoder,
            encoder: None,
            embeddings: HashMap::new(),
            encoded_by,
            loading: started.elapsed(),
        })
    }

    /// Gives the model back and keeps the embeddings of its prompts.
    pub fn into_embeddings(self) -> Embeddings {
        Embeddings {
            of: self.encoded_by,
            embeddings: self.embeddings,
        }
    }

    /// Takes over embeddings, if they were made by the same text encoder.
    pub fn adopt(&mut self, earlier: Embeddings) {
        if earlier.of == self.encoded_by {
            self.embeddings.extend(earlier.embeddings);
        }
    }

    /// Time that [`Engine::load`] took.
    pub fn loading(&self) -> Duration {
        self.loading
    }

    /// Where the networks are.
    pub fn compute(&self) -> &Compute {
        &self.compute
    }

    /// The transformer.
    pub fn model(&self) -> &Arc<CausalWan> {
        &self.model
    }

    /// Embeds those of `prompts` that are not known yet, reading the encoder's weights once.
    ///
    /// # Errors
    /// On a prompt without words, or when the encoder cannot be read.
    pub fn read_prompts<'a>(&mut self, prompts: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let mut fresh: Vec<String> = Vec::new();
        for prompt in prompts {
            if !self.embeddings.contains_key(prompt) && !fresh.iter().any(|known| known == prompt) {
                fresh.push(prompt.to_owned());
            }
        }
        if fresh.is_empty() {
            return Ok(());
        }
        if !self.text.is_open() {
            let (_, weights) = self.files.open_text_encoder(&self.compute)?;
            self.text.reopen(weights)?;
        }
        let embedded = self.text.embed(&fresh);
        // Of a file of 11 GB, all that was read would count as memory of this process.
        self.text.close();
        for (prompt, embedding) in fresh.into_iter().zip(embedded?) {
            // The rows after the prompt, which are zero, are not kept: they are put back for the transformer.
            let rows = embedding.tokens.min(embedding.tensor.dim(0)?);
            let tensor = embedding.tensor.narrow(0, 0, rows)?.copy()?;
            self.embeddings.insert(prompt, PromptEmbedding { tensor, ..embedding });
        }
        Ok(())
    }

    /// Forgets the embeddings of all prompts but those that `keep` wants: each takes 16 kB per token for Wan models, at
    /// most 8 MB.
    pub fn keep_prompts(&mut self, keep: impl Fn(&str) -> bool) {
        self.embeddings.retain(|prompt, _| keep(prompt));
    }

    /// The embedding of a prompt given to [`Engine::read_prompts`].
    pub fn embedding(&self, prompt: &str) -> Option<&PromptEmbedding> {
        self.embeddings.get(prompt)
    }

    /// A rollout of `settings` with seeded noise, by the loop `kind`, under `prompts` from their latent frames on, the first
    /// one 0. `given`: latents `[frames, 16, height, width]` that the video begins with.
    ///
    /// # Errors
    /// As [`Rollout::new`], [`RollingRollout::new`] and [`Engine::read_prompts`].
    pub fn rollout(
        &mut self,
        kind: LoopKind,
        settings: RolloutSettings,
        prompts: &[PromptSpan],
        given: Option<Tensor>,
    ) -> Result<Box<dyn ChunkLoop>> {
        self.read_prompts(prompts.iter().map(|prompt| prompt.text.as_str()))?;
        let changes = prompts.iter().map(|prompt| {
            let frame = prompt.latent_frame;
            let embedding = self.embeddings.get(&prompt.text).ok_or(Error::NoPrompt)?;
            let embedding = embedding.tensor.to_device(&self.compute.device)?;
            let context = Arc::new(self.model.prompt_context(&embedding)?);
            Ok(PromptChange { frame, context })
        });
        let changes = changes.collect::<Result<Vec<_>>>()?;
        let noise = Box::new(SeededNoise::new(settings.seed));
        let model = self.model.clone();
        Ok(match kind {
            LoopKind::Chunks => {
                let rules = prompts.iter().skip(1).map(|prompt| prompt.on_switch).collect();
                let director = Box::new(Script::new(settings.frames, changes)?.on_switch(rules));
                Box::new(Rollout::directed(model, settings, director, given, noise)?)
            }
            LoopKind::Rolling if given.is_some() => return Err(RollingError::Start.into()),
            LoopKind::Rolling => Box::new(RollingRollout::new(model, settings, changes, noise)?),
        })
    }

    /// A decoder for the latents of one video.
    pub fn decoder(&self) -> DecodeStream {
        self.decoder.stream()
    }

    /// The encoder, for videos that start from an image or a clip.
    ///
    /// # Errors
    /// When the model has no Wan VAE, or its file does not hold an encoder.
    pub fn encoder(&mut self) -> Result<&WanEncoder> {
        let encoder = match self.encoder.take() {
            Some(encoder) => encoder,
            None => self.files.load_encoder(&self.compute)?,
        };
        Ok(self.encoder.insert(encoder))
    }
}
