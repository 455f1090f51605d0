//! How much memory a video needs, known before anything is loaded.
//!
//! | file | what it holds |
//! |---|---|
//! | `estimate` | bytes of each part, from the sizes of the networks |
//! | `available` | what there is: free memory and limits of control groups |
//! | `composition` | what the cache holds over time |
//!
//! The sizes are read from the headers of the model files, which takes no time. The estimate is of the highest moment:
//! weights stay, and on top of them come reading the prompts, encoding a start, or rendering, one after the other.
//!
//! Measured on Linux with the bundled model, largest resident size against the estimate: 64x64 for 5 s 123 MB (estimate
//! 107), 256x256 for 5 s 415 MB (398), 512x320 for 1.3 s 663 MB (729). The resident size counts pages of the model files
//! too, which the system can drop.

mod available;
mod composition;
pub mod estimate;

use std::fmt;

use candle_core::{DType, Device};
use serde::Serialize;

pub use available::{Available, Limit};
pub use composition::{CacheState, composition};

use crate::{
    Result,
    cache::{CacheSettings, CacheShape, PolicyName},
    checkpoint::{Checkpoint, Weights},
    hub::human_bytes,
    models::{DecoderKind, ModelFiles},
    recipe::Recipe,
    text::Umt5Config,
    transformer::config::PATCH,
    vae::{TaeConfig, WanVaeConfig},
};

/// The program itself with its libraries and threads.
const PROGRAM: u64 = 60_000_000;
/// Bytes in memory per byte of a tokenizer file.
const TOKENIZER: u64 = 10;
/// Rows of a prompt embedding when the model's `config.json` does not tell (Wan 2.1).
const DEFAULT_TEXT_LEN: usize = 512;
/// Bytes of a number.
const F32: u64 = size_of::<f32>() as u64;
/// Largest parts that a refusal lists.
const LISTED: usize = 3;

/// When a part is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    Always,
    /// While prompts are turned into embeddings.
    ReadingPrompts,
    /// While the image or clip that the video begins with is encoded.
    EncodingStart,
    Rendering,
}

/// One consumer of memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Part {
    pub name: &'static str,
    pub bytes: u64,
    pub when: When,
}

/// The estimated memory of one video.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MemoryPlan {
    /// At the highest moment.
    pub needed: u64,
    /// What there is now; absent on systems that do not tell.
    pub available: Option<Available>,
    /// Largest first.
    pub parts: Vec<Part>,
    /// What can be changed to need less.
    #[serde(skip)]
    levers: Levers,
}

/// More memory than there is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the video needs about {} of memory, and {} are available{}; the largest parts are {largest}. {levers}; or go on all \
     the same with --no-memory-check",
    human_bytes(*needed),
    human_bytes(available.bytes),
    match available.limit {
        Limit::Machine => "",
        Limit::ControlGroup => " within the limit of this container or job",
    }
)]
pub struct MemoryError {
    pub needed: u64,
    pub available: Available,
    /// The largest parts with their sizes.
    pub largest: String,
    /// What to change.
    pub levers: String,
}

impl MemoryPlan {
    /// Estimates the memory for a video, with the prompts of that video alone.
    ///
    /// # Errors
    /// When a model file cannot be read, or a setting breaks a rule.
    pub fn of(files: &ModelFiles, recipe: &Recipe) -> Result<Self> {
        let settings = recipe.rollout_settings()?;
        let (height, width) = (settings.height, settings.width);
        let (transformer, _, config) = files.open_transformer(&Device::Cpu)?;
        let shape = CacheShape {
            layers: config.layers,
            heads: config.heads,
            head_dim: config.head_dim(),
            rows: height / PATCH,
            columns: width / PATCH,
            chunk: settings.chunk,
        };
        let prompts = recipe.prompts.len() as u64;
        let mut plan = Self::empty(recipe);
        plan.add("program", PROGRAM, When::Always);
        plan.add("transformer weights", bytes_of(&transformer, |_| true), When::Always);
        plan.add(
            "prompts",
            estimate::prompt(&config).saturating_mul(prompts),
            When::Always,
        );
        plan.add_text_encoder(files, recipe)?;
        plan.add_decoder(files, height, width)?;
        if recipe.start.is_some() {
            plan.add_encoder(files, height, width)?;
        }
        plan.add(
            "key/value cache",
            estimate::cache(&settings.policy, &shape, recipe.video.latent_frames),
            When::Rendering,
        );
        let pass = estimate::transformer_pass(&config, &settings.policy, &shape);
        plan.add("transformer at work", pass, When::Rendering);
        let (picture_width, picture_height) = (recipe.video.width, recipe.video.height);
        let pictures = estimate::pictures(settings.chunk, picture_width, picture_height);
        let encoder = estimate::video_encoder(picture_width, picture_height);
        plan.add("pictures", pictures.saturating_add(encoder), When::Rendering);
        plan.available = Available::now();
        plan.finish();
        Ok(plan)
    }

    fn empty(recipe: &Recipe) -> Self {
        Self {
            needed: 0,
            available: None,
            parts: Vec::new(),
            levers: Levers {
                cache: recipe.cache,
                chunk: recipe.rollout.chunk,
                decoder: recipe.model.decoder,
            },
        }
    }

    fn add(&mut self, name: &'static str, bytes: u64, when: When) {
        self.parts.push(Part { name, bytes, when });
    }

    /// Blocks are read one after the other; of the vocabulary only the rows of the prompts.
    fn add_text_encoder(&mut self, files: &ModelFiles, recipe: &Recipe) -> Result<()> {
        let (_, weights) = files.open_text_encoder(&Device::Cpu)?;
        let config = Umt5Config::infer(&weights)?;
        let longest = files.read_config()?.text_len.unwrap_or(DEFAULT_TEXT_LEN);
        // A token has a byte at least.
        let bytes = recipe.prompts.iter().map(|prompt| prompt.text.len() + 1).max();
        let tokens = bytes.unwrap_or(longest).min(longest);
        let encoder = estimate::text_encoder(&config, tokens);
        self.add("text encoder, block by block", encoder, When::ReadingPrompts);
        let tokenizer = std::fs::metadata(&files.tokenizer).map_or(0, |metadata| metadata.len());
        self.add("tokenizer", tokenizer.saturating_mul(TOKENIZER), When::Always);
        Ok(())
    }

    /// Decoder weights are held twice: as they are stored, and in the order in which the convolutions read them.
    fn add_decoder(&mut self, files: &ModelFiles, height: usize, width: usize) -> Result<()> {
        let (checkpoint, weights) = files.open_decoder(&Device::Cpu)?;
        let of_decoder = |name: &str| name.starts_with("decoder.") || name.starts_with("conv2.");
        let stored = bytes_of(&checkpoint, of_decoder);
        let working = match self.levers.decoder {
            DecoderKind::Wan => estimate::wan_decoder(
                &WanVaeConfig::from_decoder(&weights).map_err(crate::Error::from)?,
                height,
                width,
            ),
            DecoderKind::Tae => estimate::tae_decoder(
                &TaeConfig::from_weights(&weights).map_err(crate::Error::from)?,
                height,
                width,
            ),
        };
        self.add("decoder weights", stored.saturating_mul(2), When::Always);
        self.add("decoder at work", working, When::Rendering);
        Ok(())
    }

    fn add_encoder(&mut self, files: &ModelFiles, height: usize, width: usize) -> Result<()> {
        let Some(vae) = &files.vae else { return Ok(()) };
        let (checkpoint, weights) = open(vae)?;
        let of_encoder = |name: &str| name.starts_with("encoder.") || name.starts_with("conv1.");
        let stored = bytes_of(&checkpoint, of_encoder);
        let config = WanVaeConfig::from_encoder(&weights).map_err(crate::Error::from)?;
        self.add("encoder weights", stored.saturating_mul(2), When::Always);
        let working = estimate::wan_encoder(&config, height, width);
        self.add("encoder at work", working, When::EncodingStart);
        Ok(())
    }

    /// Sums up and sorts the parts.
    fn finish(&mut self) {
        let sum = |when: When| {
            let parts = self.parts.iter().filter(|part| part.when == when);
            parts.map(|part| part.bytes).fold(0, u64::saturating_add)
        };
        let moments = [When::ReadingPrompts, When::EncodingStart, When::Rendering];
        let highest = moments.into_iter().map(sum).max().unwrap_or(0);
        self.needed = sum(When::Always).saturating_add(highest);
        self.parts.sort_by_key(|part| std::cmp::Reverse(part.bytes));
    }

    /// Whether there is as much memory as is needed.
    ///
    /// # Errors
    /// [`MemoryError`], with the largest parts and what makes them smaller.
    pub fn check(&self) -> Result<(), MemoryError> {
        let Some(available) = self.available.filter(|available| available.bytes < self.needed) else {
            return Ok(());
        };
        let largest = self.parts.iter().take(LISTED);
        let largest: Vec<_> = largest
            .map(|part| format!("{} ({})", part.name, human_bytes(part.bytes)))
            .collect();
        Err(MemoryError {
            needed: self.needed,
            available,
            largest: largest.join(", "),
            levers: self.levers.to_string(),
        })
    }
}

impl fmt::Display for MemoryPlan {
    /// One line for the sum, and one for each part that matters, each with a line end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let available = match self.available {
            Some(Available { bytes, limit }) => {
                let limit = match limit {
                    Limit::Machine => "",
                    Limit::ControlGroup => ", the limit of this container or job",
                };
                format!(" of {} available{limit}", human_bytes(bytes))
            }
            None => String::new(),
        };
        writeln!(f, "{:<13} about {}{available}", "memory", human_bytes(self.needed))?;
        for part in self.parts.iter().filter(|part| part.bytes > 0) {
            let when = match part.when {
                When::Always | When::Rendering => "",
                When::ReadingPrompts => ", while prompts are read",
                When::EncodingStart => ", while the start is encoded",
            };
            writeln!(f, "  {:>10}  {}{when}", human_bytes(part.bytes), part.name)?;
        }
        Ok(())
    }
}

/// What a user can change to need less memory.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Levers {
    cache: CacheSettings,
    chunk: usize,
    decoder: DecoderKind,
}

impl fmt::Display for Levers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Make the pictures smaller with --size")?;
        let least = match self.cache.policy {
            PolicyName::Global => None,
            PolicyName::Fifo => Some(self.chunk),
            PolicyName::Sink | PolicyName::SinkRerope | PolicyName::DeepSink => Some(self.cache.sink + self.chunk),
            PolicyName::DeepForcing => Some(self.cache.budget),
        };
        match least {
            None => f.write_str(
                ", make the video shorter or keep fewer frames with another --policy (`global` keeps every frame)",
            )?,
            Some(least) if self.cache.window > least => {
                write!(f, ", keep fewer frames with a --window below {}", self.cache.window)?;
            }
            Some(_) => write!(
                f,
                ", keep fewer frames with a --window below {} (with smaller --sink and --budget)",
                self.cache.window
            )?,
        }
        match self.decoder {
            DecoderKind::Wan => f.write_str(", or decode with the small decoder, --vae tae"),
            DecoderKind::Tae => Ok(()),
        }
    }
}

fn open(path: &std::path::Path) -> Result<(Checkpoint, Weights)> {
    let checkpoint = Checkpoint::open(path)?;
    let weights = Weights::from_checkpoint(checkpoint.clone(), DType::F32, &Device::Cpu);
    Ok((checkpoint, weights))
}

/// Bytes that the tensors with these names take as f32.
fn bytes_of(checkpoint: &Checkpoint, wanted: impl Fn(&str) -> bool) -> u64 {
    let specs = checkpoint.specs();
    let specs = specs.iter().filter(|spec| wanted(&spec.name));
    let bytes = specs.map(|spec| spec.shape.iter().fold(F32, |bytes, n| bytes.saturating_mul(*n as u64)));
    bytes.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{ModelRecord, VideoRecord};

    const GB: u64 = 1_000_000_000;

    fn recipe(policy: PolicyName, decoder: DecoderKind) -> Recipe {
        let model = ModelRecord {
            model: None,
            preset: "toy".into(),
            decoder,
            files: Vec::new(),
        };
        Recipe {
            cache: CacheSettings {
                policy,
                ..CacheSettings::default()
            },
            video: VideoRecord {
                width: 64,
                height: 64,
                fps: 16,
                pictures: 81,
                latent_frames: 21,
            },
            ..Recipe::new(model)
        }
    }

    fn plan(policy: PolicyName, decoder: DecoderKind) -> MemoryPlan {
        let mut plan = MemoryPlan::empty(&recipe(policy, decoder));
        plan.add("transformer weights", 5 * GB, When::Always);
        plan.add("text encoder, block by block", 7 * GB, When::ReadingPrompts);
        plan.add("key/value cache", 4 * GB, When::Rendering);
        plan.add("decoder at work", 2 * GB, When::Rendering);
        plan.add("encoder at work", GB, When::EncodingStart);
        plan.finish();
        plan
    }

    #[test]
    fn moments_are_not_added_to_each_other() {
        let mut plan = plan(PolicyName::Fifo, DecoderKind::Wan);
        assert_eq!(plan.needed, 12 * GB);
        assert_eq!(plan.parts[0].name, "text encoder, block by block");
        plan.add("pictures", 3 * GB, When::Rendering);
        plan.finish();
        assert_eq!(plan.needed, 14 * GB);
    }

    #[test]
    fn a_refusal_names_parts_and_levers() {
        let mut fifo = plan(PolicyName::Fifo, DecoderKind::Wan);
        assert_eq!(fifo.check(), Ok(()), "what is unknown is not refused");
        let limit = Limit::ControlGroup;
        fifo.available = Some(Available { bytes: 12 * GB, limit });
        assert_eq!(fifo.check(), Ok(()));
        fifo.available = Some(Available {
            bytes: 12 * GB - 1,
            limit,
        });
        let message = fifo.check().unwrap_err().to_string();
        for part in [
            "needs about 12.00 GB",
            "limit of this container",
            "text encoder, block by block (7.00 GB), transformer weights (5.00 GB), key/value cache (4.00 GB)",
            "--size",
            "--window below 21,",
            "--vae tae",
            "--no-memory-check",
        ] {
            assert!(message.contains(part), "{message} should say {part}");
        }
        let mut global = plan(PolicyName::Global, DecoderKind::Tae);
        global.available = Some(Available {
            bytes: GB,
            limit: Limit::Machine,
        });
        let message = global.check().unwrap_err().to_string();
        assert!(
            message.contains("another --policy") && !message.contains("--vae tae"),
            "{message}"
        );
        let mut tight = recipe(PolicyName::DeepForcing, DecoderKind::Wan);
        tight.cache.budget = 21;
        let levers = MemoryPlan::empty(&tight).levers.to_string();
        assert!(levers.contains("smaller --sink and --budget"), "{levers}");
    }

    #[test]
    fn the_plan_is_printed_line_by_line() {
        let mut plan = plan(PolicyName::Fifo, DecoderKind::Wan);
        plan.available = Some(Available {
            bytes: 20 * GB,
            limit: Limit::Machine,
        });
        plan.add("nothing", 0, When::Always);
        plan.finish();
        assert_eq!(
            plan.to_string(),
            "memory        about 12.00 GB of 20.00 GB available\n\
             \x20    7.00 GB  text encoder, block by block, while prompts are read\n\
             \x20    5.00 GB  transformer weights\n\
             \x20    4.00 GB  key/value cache\n\
             \x20    2.00 GB  decoder at work\n\
             \x20    1.00 GB  encoder at work, while the start is encoded\n"
        );
        let json = serde_json::to_value(&plan).unwrap();
        assert_eq!(json["needed"], 12 * GB);
        assert_eq!(json["parts"][0]["when"], "reading-prompts");
        assert_eq!(json["available"]["limit"], "machine");
    }

    #[test]
    fn the_bundled_model_needs_little() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/toy");
        let preset = crate::preset::Preset::load("toy").unwrap();
        let files = ModelFiles::find(&folder, &preset.files, DecoderKind::Wan).unwrap();
        let plan = MemoryPlan::of(&files, &recipe(PolicyName::DeepForcing, DecoderKind::Wan)).unwrap();
        assert!((100_000_000..600_000_000).contains(&plan.needed), "{plan}");
        let mut large = recipe(PolicyName::DeepForcing, DecoderKind::Wan);
        (large.video.width, large.video.height) = (4096, 4096);
        let large = MemoryPlan::of(&files, &large).unwrap();
        assert!(large.needed > 50 * plan.needed, "{large}");
    }
}
