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
        ActionRows, ChunkLoop, EncodedImage, LoopKind, PromptChange, RollingError, RollingRollout, Rollout,
        RolloutSettings, Script, SeededNoise, World,
        start::{Given, StartPictures},
    },
    text::{PromptEmbedding, TextPipeline},
    transformer::{CausalWan, PromptContext},
    vae::{DecodeStream, Decoder, WanEncoder},
};

/// Rows of a prompt embedding when the model's `config.json` does not tell (Wan 2.1).
const DEFAULT_TEXT_LEN: usize = 512;

/// The networks of a run on one device.
pub struct Engine {
    files: ModelFiles,
    compute: Compute,
    /// Absent where the model reads an image in place of prompts.
    text: Option<TextPipeline>,
    model: Arc<CausalWan>,
    decoder: Arc<Decoder>,
    /// Loaded at the first start from an image or a clip.
    encoder: Option<Arc<WanEncoder>>,
    /// The image that the last world began with, and what the network reads of it.
    image: Option<(Tensor, Arc<PromptContext>)>,
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
        let text = if files.reads_image() {
            None
        } else {
            Some(files.open_text(text_len, compute)?)
        };
        let model = files.load_transformer(compute)?;
        if let Some(text) = &text {
            files.check_prompt_width(text, &model)?;
        }
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
            image: None,
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
        let text = self.text.as_mut().ok_or(Error::NoPrompts)?;
        if !text.is_open() {
            let (_, weights) = self.files.open_text_encoder(&self.compute)?;
            text.reopen(weights)?;
        }
        let embedded = text.embed(&fresh);
        // Of a file of 11 GB, all that was read would count as memory of this process.
        text.close();
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
    /// one 0. `given`: what the video begins with.
    ///
    /// # Errors
    /// As [`Rollout::new`], [`RollingRollout::new`] and [`Engine::read_prompts`].
    pub fn rollout(
        &mut self,
        kind: LoopKind,
        settings: RolloutSettings,
        prompts: &[PromptSpan],
        given: Option<Given>,
    ) -> Result<Box<dyn ChunkLoop>> {
        let given = match given {
            Some(Given::Latents(latents)) => Some(latents),
            Some(Given::Image(_)) => return Err(Error::NoWorld),
            None => None,
        };
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

    /// A rollout of `settings` with seeded noise in a world: under the image `[1, 3, height, width]` and the actions `rows`,
    /// one for each picture that its latent frames give. `action_window`: latent frames that the action modules remember.
    ///
    /// # Errors
    /// When there is no image, as [`Rollout::directed`] and [`Rollout::of_world`], or when the image encoder cannot be read.
    pub fn world(
        &mut self,
        settings: RolloutSettings,
        given: Option<Given>,
        rows: ActionRows,
        action_window: usize,
    ) -> Result<Box<dyn ChunkLoop>> {
        let channels = self.model.config().beside_channels();
        let Some(Given::Image(image)) = given else {
            return Err(Error::NoImage { channels });
        };
        let prompts = vec![PromptChange {
            frame: 0,
            context: self.image_context(&image)?,
        }];
        let script = Script::new(settings.frames, prompts)?.with_actions(rows);
        let world = World {
            image: Box::new(EncodedImage::new(self.shared_encoder()?, image)),
            action_window,
        };
        let noise = Box::new(SeededNoise::new(settings.seed));
        let rollout = Rollout::directed(self.model.clone(), settings, Box::new(script), None, noise)?;
        Ok(Box::new(rollout.of_world(world)?))
    }

    /// What the network reads of the image of a world. The vision tower is loaded for it and let go again.
    fn image_context(&mut self, image: &Tensor) -> Result<Arc<PromptContext>> {
        if let Some((known, context)) = &self.image
            && known.dims() == image.dims()
            && (known - image)?.abs()?.max_all()?.to_scalar::<f32>()? == 0.0
        {
            return Ok(context.clone());
        }
        let tower = self.files.load_image_encoder(&self.compute)?;
        let (gives, takes) = (tower.config().dim, self.model.config().context_dim);
        if gives != takes {
            return Err(Error::ImageWidth { gives, takes });
        }
        let tokens = tower.encode(&tower.prepare(&image.squeeze(0)?)?)?;
        let context = Arc::new(self.model.prompt_context(&tokens)?);
        self.image = Some((image.clone(), context.clone()));
        Ok(context)
    }

    /// What a rollout begins with, of the pictures of a start.
    ///
    /// # Errors
    /// As [`Engine::encoder`], or on a device failure.
    pub fn given(&mut self, start: &StartPictures) -> Result<Given> {
        let device = self.compute.device.clone();
        Ok(match start.image(&device)? {
            Some(image) => Given::Image(image),
            None => Given::Latents(start.encode(self.encoder()?, &device)?),
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
        let encoder = self.shared_encoder()?;
        Ok(self.encoder.insert(encoder))
    }

    /// The same, to be used while the video is made.
    fn shared_encoder(&mut self) -> Result<Arc<WanEncoder>> {
        if let Some(encoder) = &self.encoder {
            return Ok(encoder.clone());
        }
        let encoder = Arc::new(self.files.load_encoder(&self.compute)?);
        self.encoder = Some(encoder.clone());
        Ok(encoder)
    }
}
