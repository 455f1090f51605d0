//! `deepforcing bench`: how fast this machine makes videos.

use std::{path::PathBuf, time::Instant};

use clap::Args;

use super::{
    Failure,
    cache_flags::CacheFlags,
    flags::DeviceFlags,
    printer::{Printer, print_result},
    render::{Screen, interrupt_on_ctrl_c},
    threads::use_threads,
};
use crate::{
    Error, Result,
    bench::{self, BenchError, BenchReport, BenchSettings, Networks, Scale, compare, parity},
    cache::CacheSettings,
    config::{Environment, Layer, Layers, Origin, Settings},
    device::{Compute, Selection},
    models::{DecoderKind, Locator},
    models::{columns_of, preset::Preset},
    render::{Event, session::Session},
    rollout::CancelToken,
    rollout::request::PictureSize,
};

/// Prompt of a measurement with real weights.
const PROMPT: &str = "a red ball bouncing over green hills";
/// Seed of weights and noise.
const SEED: u64 = 7;
/// As `--vae` says that latents are not decoded.
const NO_DECODER: &str = "none";

const EXAMPLES: &str = "\
Examples:
  deepforcing bench --model toy
  deepforcing bench --random-weights --device cuda --vae tae
  deepforcing bench --random-weights --scale tiny --chunks 10 \\
    --json > before.json
  deepforcing bench --random-weights --scale tiny --chunks 10 \\
    --compare before.json
  deepforcing bench --random-weights --scale mid --preset longlive --vae none \\
    --loops
  deepforcing bench --parity --device cuda --dtype bf16

Every chunk is measured stage by stage, with the device synchronised in between;
then the same video is made with all stages side by side, as `generate` does.
Printed are the chunks that tell the story: the first, those around the first
two that made room in the cache, the last; --json has all of them.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Bench {
    /// A preset's name or a folder of model files, as `generate` takes it
    #[arg(long, value_name = "NAME|DIR")]
    model: Option<String>,
    /// Settings of a preset, by name or .toml file [default: the model's own]
    #[arg(long, value_name = "NAME|FILE")]
    preset: Option<String>,
    /// Random weights made on the device, with the settings of the preset: needs no files
    #[arg(long, conflicts_with = "model")]
    random_weights: bool,
    /// Sizes of networks with random weights: full is Wan 1.3B, mid is measured quickly on any machine, tiny is for tests
    #[arg(
        long,
        value_name = "full|mid|tiny",
        default_value = "full",
        requires = "random_weights"
    )]
    scale: Scale,
    /// Transformer blocks of networks with random weights [default: those of the scale]
    #[arg(long, value_name = "N", requires = "random_weights", value_parser = clap::value_parser!(u16).range(1..=200))]
    layers: Option<u16>,
    /// Decoder; none measures latents alone [default: wan]
    #[arg(long, value_name = "wan|tae|none", value_parser = parse_vae)]
    vae: Option<Vae>,
    /// Picture size in pixels, multiples of 16 [default: the preset's; 128x128 for --scale mid, 160x96 for tiny]
    #[arg(long, value_name = "WxH")]
    size: Option<PictureSize>,
    /// Chunks to measure
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    chunks: u32,
    /// Threads to compute with [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    threads: Option<u16>,
    /// Drop pictures in place of encoding them
    #[arg(long)]
    no_encode: bool,
    /// Measure the stages one by one only, not side by side as well
    #[arg(long)]
    stages_only: bool,
    /// Measure what other loops do as well: LongLive's cache encoded again, a pass of Rolling Forcing's window, and loading
    /// with a LoRA
    #[arg(long)]
    loops: bool,
    /// Compare the device with the CPU on a small rollout with events, in place of measuring
    #[arg(long, conflicts_with_all = ["random_weights", "model", "compare", "stages_only"])]
    parity: bool,
    /// Compare with an earlier result (a file that --json has written)
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cache: CacheFlags,
    #[command(flatten)]
    device: DeviceFlags,
}

/// What latents become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vae {
    Decoded(DecoderKind),
    None,
}

fn parse_vae(text: &str) -> Result<Vae, String> {
    if text == NO_DECODER {
        return Ok(Vae::None);
    }
    let names = || format!("expected {} or {NO_DECODER}", DecoderKind::NAMES.join(", "));
    DecoderKind::of_name(text).map(Vae::Decoded).ok_or_else(names)
}

impl Bench {
    fn layer(&self) -> Layer {
        let layer = Layer {
            model: self.model.clone(),
            preset: self.preset.clone(),
            vae: match self.vae {
                Some(Vae::Decoded(kind)) => Some(kind),
                _ => None,
            },
            size: self.size,
            threads: self.threads.map(usize::from),
            ..Layer::default()
        };
        self.cache.over(self.device.over(layer))
    }

    pub(super) fn run(&self, printer: &Printer) -> Result<(), Failure> {
        let started = Instant::now();
        // What cannot be compared with is refused before the measurement.
        let before = self.compare.as_deref().map(compare::read).transpose();
        let before = before.map_err(Error::from)?;
        let layers = Layers::load(self.layer(), &Environment::of_process()).map_err(Error::from)?;
        layers.warnings.iter().for_each(|warning| printer.warning(warning));
        if self.parity {
            return self.parity(&layers, printer);
        }
        let cancel = CancelToken::default();
        let report = match self.random_weights {
            true => self.with_random_weights(&layers, started, &cancel, printer)?,
            false => self.with_files(&layers, started, &cancel, printer)?,
        };
        let text = match (self.json, &before) {
            (true, _) => report.to_json() + "\n",
            (false, None) => report.to_string(),
            (false, Some(before)) => format!("{report}\n{}", compare::compare(before, &report)),
        };
        print_result(text.as_bytes())
    }

    fn with_random_weights(
        &self,
        layers: &Layers,
        started: Instant,
        cancel: &CancelToken,
        printer: &Printer,
    ) -> Result<BenchReport> {
        let name = layers.preset().unwrap_or_else(|| Preset::DEFAULT.into());
        let preset = Preset::load(&name)?;
        let settings = layers.resolve(&name, &preset);
        let mut bench = self.settings(&name, &preset, &settings)?;
        if let (Some((width, height)), Origin::Preset { .. } | Origin::Default) =
            (self.scale.picture(), &settings.size.origin)
        {
            bench.size = PictureSize { width, height };
        }
        let mut config = match preset.controls.map(columns_of) {
            Some((keys, mouse)) => self.scale.world(keys, mouse),
            None => self.scale.transformer(),
        };
        if let Some(layers) = self.layers {
            config.layers = layers.into();
            if let Some(actions) = &mut config.actions {
                actions.blocks.retain(|block| *block < config.layers);
            }
        }
        let decoder = self.decoder(&settings);
        let make = |compute: &Compute| Networks::random(config, self.scale, decoder, SEED, compute);
        self.measure(&bench, &settings, started, make, cancel, printer)
    }

    fn with_files(
        &self,
        layers: &Layers,
        started: Instant,
        cancel: &CancelToken,
        printer: &Printer,
    ) -> Result<BenchReport> {
        let mut screen = Screen::new(printer);
        let mut observe = |event: Event<'_>| screen.see(event);
        let session = Session::locate(&Locator::of_process(), layers, false, cancel, &mut observe)?;
        let located = &session.located;
        let bench = self.settings(&located.preset_name, &located.preset, &session.settings)?;
        let files = session.files(cancel, &mut observe)?;
        let decoded = self.decoder(&session.settings).is_some();
        let make = |compute: &Compute| Networks::load(&files, PROMPT, decoded, compute);
        self.measure(&bench, &session.settings, started, make, cancel, printer)
    }

    fn measure(
        &self,
        bench: &BenchSettings,
        settings: &Settings,
        started: Instant,
        make: impl FnOnce(&Compute) -> Result<Networks>,
        cancel: &CancelToken,
        printer: &Printer,
    ) -> Result<BenchReport> {
        use_threads(settings.threads.value);
        interrupt_on_ctrl_c(cancel);
        let selection = selected(settings, printer)?;
        bench::run(bench, &selection, started, make, cancel, |stage| printer.stage(stage))
    }

    fn decoder(&self, settings: &Settings) -> Option<DecoderKind> {
        match self.vae {
            Some(Vae::None) => None,
            _ => Some(settings.vae.value),
        }
    }

    fn settings(&self, name: &str, preset: &Preset, settings: &Settings) -> Result<BenchSettings> {
        let vae = self.decoder(settings).map_or(NO_DECODER, DecoderKind::name);
        let bench = BenchSettings {
            preset: name.into(),
            random_weights: self.random_weights,
            vae: vae.into(),
            size: settings.size.value.checked()?,
            fps: settings.fps.value,
            chunk: preset.rollout.chunk,
            sampler: settings.sampler(&preset.sampler),
            cache: settings.cache(),
            action_window: preset.rollout.action_window.unwrap_or(settings.cache().window),
            chunks: self.chunks as usize,
            seed: SEED,
            encode: !self.no_encode && cfg!(feature = "ffmpeg"),
            side_by_side: !self.stages_only,
            loops: self.loops,
        };
        if bench.loops && preset.controls.is_some() {
            return Err(BenchError::NoLoops { preset: bench.preset }.into());
        }
        bench.sampler.validate()?;
        bench.cache.resolve(bench.chunk, bench.chunks * bench.chunk)?;
        Ok(bench)
    }

    /// The device against the CPU; with cache settings that make room early.
    fn parity(&self, layers: &Layers, printer: &Printer) -> Result<(), Failure> {
        let preset = Preset::load(Preset::DEFAULT)?;
        let settings = layers.resolve(Preset::DEFAULT, &preset);
        use_threads(settings.threads.value);
        let selection = selected(&settings, printer)?;
        let compute = selection.open().map_err(Error::from)?;
        let cache = CacheSettings {
            window: 12,
            sink: 4,
            budget: 9,
            recent: 4,
            ..settings.cache()
        };
        printer.stage("comparing with the CPU");
        let parity = parity::measure(&compute, &cache, SEED)?;
        let text = match self.json {
            true => format!("{}\n", serde_json::to_string_pretty(&parity).unwrap_or_default()),
            false => told(&parity, &selection),
        };
        print_result(text.as_bytes())?;
        Ok(parity.check().map_err(Error::from)?)
    }
}

fn selected(settings: &Settings, printer: &Printer) -> Result<Selection> {
    let selection = settings.selection()?;
    if let Some(note) = &selection.note {
        printer.note(note);
    }
    Ok(selection)
}

fn told(parity: &parity::Parity, selection: &Selection) -> String {
    let most = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    let least = parity.kept.iter().copied().fold(1.0, f64::min);
    let tolerance = parity.tolerance;
    format!(
        "{selection} against cpu, f32\n\
         latents    differ by {:.1e} at most over {} chunks (allowed {:.0e})\n\
         selections are the same to {:.2} % at least over {} events of layers (expected {:.0} %)\n\
         pictures   differ by {:.1e} (Wan) and {:.1e} (tiny decoder; allowed {:.0e})\n",
        most(&parity.latents),
        parity.latents.len(),
        tolerance.latents,
        100.0 * least,
        parity.kept.len(),
        100.0 * tolerance.kept,
        parity.pictures[0],
        parity.pictures[1],
        tolerance.pictures
    )
}
