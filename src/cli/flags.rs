//! Flags that several commands share, and the layer of settings that they make.

use std::path::PathBuf;

use clap::Args;

use super::video_flags;

use crate::{
    Result,
    cache::RecacheSink,
    checkpoint::lora::LoraChoice,
    config::{Layer, Loras, PreviewMode},
    device::{DeviceChoice, DtypeChoice},
    memory::ByteSize,
    models::DecoderKind,
    recipe::Disclosure,
    rollout::SwitchRule,
    video::{self, EncoderChoice, Form, Target},
};

/// Which model, and where its files are.
#[derive(Args, Default)]
#[command(next_help_heading = "Model")]
pub(super) struct ModelFlags {
    /// Settings of another preset, by name or .toml file [default: the model's own]
    #[arg(long, value_name = "NAME|FILE")]
    pub preset: Option<String>,
    // Last: what follows stands under its headings.
    #[command(flatten)]
    pub network: NetworkFlags,
}

/// A model without its settings, and what computes it.
#[derive(Args, Default)]
#[command(next_help_heading = "Model")]
pub(super) struct NetworkFlags {
    /// A preset's name (`toy` is part of the program), a file or a folder of model files; the files of a preset are in the
    /// Hugging Face cache, a file is one of a transformer, a folder is as published, of diffusers or of ComfyUI, and
    /// ORG/REPO[@REVISION][:FILE] is on the hub
    #[arg(long, alias = "model-dir", value_name = "NAME|DIR")]
    pub model: Option<String>,
    #[command(flatten)]
    pub own: OwnFileFlags,
    /// Decoder: the Wan VAE, or the tiny and fast TAEW2.1
    #[arg(long, value_name = "wan|tae", value_parser = parse_decoder)]
    pub vae: Option<DecoderKind>,
    /// Threads to compute with [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub threads: Option<u16>,
    #[command(flatten)]
    pub device: DeviceFlags,
}

impl ModelFlags {
    pub fn layer(&self) -> Layer {
        self.network.layer(self.preset.as_ref())
    }
}

impl NetworkFlags {
    /// With the settings of `preset`.
    pub fn layer(&self, preset: Option<&String>) -> Layer {
        let layer = self.device.over(Layer {
            model: self.model.clone(),
            preset: preset.cloned(),
            vae: self.vae,
            threads: self.threads.map(usize::from),
            ..Layer::default()
        });
        self.own.over(layer)
    }
}

/// Files in place of the model's.
#[derive(Args, Default)]
#[command(next_help_heading = "Model")]
pub(super) struct OwnFileFlags {
    /// Weights of the transformer in place of the model's: .safetensors (or its index), .pt, .pth, of any tool
    #[arg(long, value_name = "FILE")]
    pub transformer: Option<String>,
    /// Weights of the VAE (with --vae tae: of the tiny decoder) in place of the model's
    #[arg(long, value_name = "FILE")]
    pub vae_file: Option<String>,
    /// Weights of the UMT5 text encoder in place of the model's
    #[arg(long, value_name = "FILE")]
    pub text_encoder: Option<String>,
    /// Tokenizer (tokenizer.json) in place of the model's
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<String>,
}

impl OwnFileFlags {
    /// Puts what was typed over `layer`.
    pub fn over(&self, layer: Layer) -> Layer {
        Layer {
            transformer: self.transformer.clone(),
            vae_file: self.vae_file.clone(),
            text_encoder: self.text_encoder.clone(),
            tokenizer: self.tokenizer.clone(),
            ..layer
        }
    }
}

/// What is merged into the model while it is loaded.
#[derive(Args, Default)]
#[command(next_help_heading = "Model")]
pub(super) struct LoraFlags {
    /// Merge this LoRA into the model, :STRENGTH times (default 1); several are added up
    #[arg(long, value_name = "FILE[:STRENGTH]")]
    pub lora: Vec<LoraChoice>,
}

impl LoraFlags {
    /// Puts what was typed over `layer`.
    pub fn over(&self, layer: Layer) -> Layer {
        Layer {
            lora: (!self.lora.is_empty()).then(|| Loras(self.lora.clone())),
            ..layer
        }
    }
}

/// Where networks are computed, and how.
#[derive(Args, Default)]
#[command(next_help_heading = "Device")]
pub(super) struct DeviceFlags {
    /// Where to compute: cpu, cuda, cuda:N, or auto, which takes a GPU if this build and this machine have one
    /// [default: auto]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceChoice>,
    /// Number format of the networks [default: auto: f32 on the CPU, bf16 on a GPU]
    #[arg(long, value_name = "auto|f32|bf16")]
    pub dtype: Option<DtypeChoice>,
}

impl DeviceFlags {
    /// Puts what was typed over `layer`.
    pub fn over(&self, layer: Layer) -> Layer {
        Layer {
            device: self.device,
            dtype: self.dtype,
            ..layer
        }
    }
}

/// The limit of a GPU's memory.
#[derive(Args, Default)]
#[command(next_help_heading = "Device")]
pub(super) struct MemoryFlags {
    /// Most memory of the GPU to use; settings that were not given are chosen so that the video fits into it, for example
    /// into 12GB [default: all]
    #[arg(long, value_name = "SIZE")]
    pub max_vram: Option<ByteSize>,
}

impl MemoryFlags {
    /// Puts what was typed over `layer`.
    pub fn over(&self, layer: Layer) -> Layer {
        Layer {
            max_vram: self.max_vram,
            ..layer
        }
    }
}

fn parse_decoder(text: &str) -> Result<DecoderKind, String> {
    DecoderKind::of_name(text).ok_or_else(|| format!("expected {}", DecoderKind::NAMES.join(" or ")))
}

/// The one video that a command writes.
#[derive(Args)]
pub(super) struct OutputFlags {
    /// The video to write, in any form that `generate` writes
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Form of the video where the name does not tell: mp4, webm, gif, png, y4m or rgb
    #[arg(long, value_name = "NAME")]
    format: Option<Form>,
    /// Replace the output if it exists
    #[arg(long)]
    pub overwrite: bool,
}

impl OutputFlags {
    /// Where the video goes, checked.
    ///
    /// # Errors
    /// When nothing can be written there.
    pub fn target(&self) -> Result<Target> {
        let target = Target::parse(&self.output, self.format)?;
        target.check(self.overwrite)?;
        Ok(target)
    }
}

/// How a video file is encoded.
#[derive(Args, Default)]
#[command(next_help_heading = "Encoding")]
pub(super) struct EncodingFlags {
    /// Quality, 0 (lossless) to 51 (worst) [default: 18]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=51))]
    pub crf: Option<u8>,
    /// Speed against file size, x264's names: ultrafast to veryslow [default: veryfast]
    #[arg(long, value_name = "NAME")]
    pub encoder_preset: Option<video::Preset>,
    /// Video encoder, by FFmpeg's name: libx264, h264_nvenc, libopenh264 or mpeg4 for mp4, libvpx-vp9, libvpx or
    /// libsvtav1 for webm; auto takes the first that works, on a GPU its own [default: auto]
    #[arg(long, value_name = "NAME")]
    pub encoder: Option<EncoderChoice>,
    /// Frames per second of the file, a whole number (23.976 is taken for 24); the models are trained at 16
    /// [default: the preset's]
    #[arg(long, value_name = "N", value_parser = video_flags::parse_fps)]
    pub fps: Option<u32>,
}

impl EncodingFlags {
    /// Puts what was typed over `layer`.
    pub fn over(&self, layer: Layer) -> Layer {
        Layer {
            crf: self.crf,
            encoder_preset: self.encoder_preset,
            encoder: self.encoder,
            fps: self.fps,
            ..layer
        }
    }
}

/// What becomes of the cache at a change of the prompt.
#[derive(Args, Default)]
#[command(next_help_heading = "Video")]
pub(super) struct SwitchFlags {
    /// What becomes of the cache where a prompt takes over, unless a switch says it itself: it stays (keep), its frames
    /// are encoded again under the new prompt (recache), all but the sink and the last chunk is dropped (flush), or a
    /// new scene begins, which what is left lies far in the past of (cut) [default: the preset's]
    #[arg(long, value_name = "keep|recache|flush|cut")]
    pub on_switch: Option<SwitchRule>,
    /// What the sink becomes where the cache is encoded again: it stays as it is (keep), the oldest frames of the window
    /// replace it (renew), or its frames are encoded again too (encode) [default: encode for deep-sink and
    /// deep-forcing, else keep]
    #[arg(long, value_name = "keep|renew|encode")]
    pub recache_sink: Option<RecacheSink>,
}

impl SwitchFlags {
    /// Puts what was typed over `layer`.
    pub fn over(&self, layer: Layer) -> Layer {
        Layer {
            on_switch: self.on_switch,
            recache_sink: self.recache_sink,
            ..layer
        }
    }
}

/// How the command itself behaves.
#[derive(Args, Default)]
#[command(next_help_heading = "Run")]
pub(super) struct RunFlags {
    /// Print what would be done and stop; loads no weights. For `generate` it is files, memory, time, frames and what the
    /// cache holds over time, for `batch` what is there already. What the real run would refuse is refused
    #[arg(long)]
    pub dry_run: bool,
    /// Print results (with --dry-run the plan) as JSON, one line per video
    #[arg(long)]
    pub json: bool,
    /// Go on even if the memory needed is estimated to be more than there is
    #[arg(long)]
    pub no_memory_check: bool,
    /// Keep no state beside the video in work: a run that is stopped cannot be continued
    #[arg(long)]
    pub no_state: bool,
    /// Leave the folders of files out of the recipe that a video carries
    #[arg(long)]
    pub private: bool,
}

impl RunFlags {
    /// What videos tell of how they were made.
    pub fn disclosure(&self) -> Disclosure {
        if self.private {
            Disclosure::WithoutPaths
        } else {
            Disclosure::Full
        }
    }
}

/// Pictures in the terminal.
#[derive(Args, Default)]
#[command(next_help_heading = "Run")]
pub(super) struct PreviewFlag {
    /// Show the current picture in terminals that can; =blocks draws it with coloured half blocks
    #[arg(long, value_name = "auto|blocks|off", num_args = 0..=1, require_equals = true, default_missing_value = "auto")]
    pub preview: Option<PreviewMode>,
}
