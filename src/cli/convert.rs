//! `deepforcing convert`: one clean file of a network in any layout and format.

use std::path::PathBuf;

use candle_core::DType;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    Failure,
    printer::{Printer, print_result},
    render::interrupt_on_ctrl_c,
};
use crate::{
    checkpoint::{Network, lora::LoraChoice},
    hub::{file_hash::FileHashes, human_bytes},
    models::{
        Locator,
        convert::{Conversion, FileLayout, network_named},
    },
    rollout::CancelToken,
};

const EXAMPLES: &str = "\
Examples:
  deepforcing convert umt5-xxl-encoder-Q8_0.gguf umt5.safetensors
  deepforcing convert self_forcing_dmd.pt self_forcing.safetensors --dtype bf16
  deepforcing convert wan.safetensors inked.safetensors --lora ink.pt:0.8
  deepforcing convert wan.gguf wan-diffusers.safetensors --layout diffusers

Names and shapes must be those of a whole network. One tensor after the other is
read and written. The metadata of the input is kept, and its hash is noted.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Convert {
    /// A transformer, text encoder, VAE or tiny decoder: .safetensors, .safetensors.index.json, .gguf, .pt or .pth
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The file to write, named .safetensors
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Number format of all tensors: f32, bf16 or f16 [default: as they are stored, those of 8 bits and less as bf16]
    #[arg(long, value_name = "NAME", value_parser = parse_dtype)]
    dtype: Option<DType>,
    /// Names of the tensors: wan, diffusers or comfy
    #[arg(long, value_name = "NAME", default_value = "wan")]
    layout: FileLayout,
    /// Merge a LoRA into a transformer; can be given several times
    #[arg(long = "lora", value_name = "FILE[:STRENGTH]")]
    loras: Vec<LoraChoice>,
    /// Take this network of a file with several: transformer, text-encoder, vae or tiny-decoder
    #[arg(long, value_name = "NAME", value_parser = network_named)]
    network: Option<Network>,
    /// Take this state dict of a .pt file with several
    #[arg(long, value_name = "KEY")]
    state_dict: Option<String>,
    /// Replace the output if it exists
    #[arg(long)]
    overwrite: bool,
}

fn parse_dtype(text: &str) -> Result<DType, String> {
    match text {
        "f32" => Ok(DType::F32),
        "bf16" => Ok(DType::BF16),
        "f16" => Ok(DType::F16),
        _ => Err("expected f32, bf16 or f16".into()),
    }
}

impl Convert {
    pub(super) fn run(self, printer: &Printer) -> Result<(), Failure> {
        let conversion = Conversion {
            input: self.input,
            output: self.output,
            network: self.network,
            state_dict: self.state_dict,
            dtype: self.dtype,
            layout: self.layout,
            loras: self.loras,
            overwrite: self.overwrite,
        };
        let prepared = conversion.prepare()?;
        printer.note(&prepared.found());
        let cancel = CancelToken::default();
        interrupt_on_ctrl_c(&cancel);
        let bar = printer.is_terminal().then(|| bar(prepared.bytes()));
        let mut progress = |done: u64| {
            if let Some(bar) = &bar {
                bar.set_position(done);
            }
        };
        let hashes = FileHashes::new(Locator::of_process().own_cache());
        let written = prepared.run(&hashes, &|| cancel.is_cancelled(), &mut progress);
        if let Some(bar) = &bar {
            bar.finish_and_clear();
        }
        let bytes = written?;
        printer.detail(&format!("{} are written", human_bytes(bytes)));
        print_result(format!("{}\n", conversion.output.display()).as_bytes())
    }
}

fn bar(bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:12} {bytes} of {total_bytes}, {binary_bytes_per_sec}");
    let bar = ProgressBar::new(bytes);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
