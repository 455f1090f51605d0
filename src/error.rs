//! The error of the library: what was wrong, with which value, and what to do next.

mod from;
mod usage;

use std::path::PathBuf;

use crate::{
    batch::BatchError,
    bench::BenchError,
    cache::{PolicyError, plan::PlanError},
    checkpoint::{CheckpointError, lora::LoraError},
    config::ConfigError,
    device::DeviceError,
    hub::HubError,
    memory::MemoryError,
    metrics::MetricsError,
    models::{bundled::BundledError, convert::ConvertError},
    prompts::actions::ActionError,
    prompts::{MomentError, NameError, PromptError, SwitchError},
    recipe::RecipeError,
    render::state::StateError,
    report::ReportError,
    rollout::request::RequestError,
    rollout::sampler::SamplerError,
    rollout::{ActionRowsError, RollingError, SpanError},
    sweep::SweepError,
    text::{TextError, nearest::nearest},
    trace::TraceError,
    vae::VaeError,
    video::VideoError,
    video::latents::LatentError,
};

/// Everything that can go wrong between a prompt and a finished video.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A model file could not be read or does not fit the model.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A LoRA that cannot be merged into the model.
    #[error(transparent)]
    Lora(Box<LoraError>),
    /// A file that cannot be converted.
    #[error(transparent)]
    Convert(Box<ConvertError>),
    /// The prompt or the tokenizer.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The video autoencoder or its input.
    #[error(transparent)]
    Vae(#[from] VaeError),
    /// The output file or the video encoder.
    #[error(transparent)]
    Video(#[from] VideoError),
    /// Cache parameters that break a rule.
    #[error("{0}")]
    Policy(#[from] PolicyError),
    /// The cache has no room for a chunk.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A size or length that cannot be.
    #[error("{0}")]
    Request(#[from] RequestError),
    /// A setting from the environment or the config file that cannot be used.
    #[error(transparent)]
    Setting(#[from] ConfigError),
    /// Settings that cannot be used together, some of them from elsewhere than the command line.
    #[error("{source} ({origins})")]
    SettingsFrom { source: Box<Self>, origins: String },
    /// The default model cannot be had, and nobody chose another one.
    #[error(
        "the model `{name}` is not on this machine and cannot be downloaded ({reason}); choose a model: --model toy is the \
         small one in the program, which shows a toy world, --model DIR a folder of model files"
    )]
    NoModel { name: &'static str, reason: String },
    /// A measurement of speed that cannot be made or compared.
    #[error("{0}")]
    Bench(#[from] BenchError),
    /// A device that cannot be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A prompt file that cannot be used.
    #[error(transparent)]
    PromptFile(#[from] PromptError),
    /// A point in time that cannot be read.
    #[error("{0}")]
    Moment(#[from] MomentError),
    /// Prompt switches that cannot be.
    #[error("{0}")]
    Switch(#[from] SwitchError),
    /// Actions that cannot steer a video, or a world without what it begins with.
    #[error(transparent)]
    Trajectory(#[from] ActionError),
    /// File names for several videos that cannot be.
    #[error("{0}")]
    Name(#[from] NameError),
    /// A recipe that cannot be read or followed.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// Latents that cannot be saved or read.
    #[error(transparent)]
    Latents(#[from] LatentError),
    /// More memory than there is.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A video that cannot be measured.
    #[error("{0}")]
    Metrics(#[from] MetricsError),
    /// A trace of the cache.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// Denoising steps that cannot be.
    #[error("{0}")]
    Sampler(#[from] SamplerError),
    /// A length that cannot be cut into chunks.
    #[error("{0}")]
    Span(#[from] SpanError),
    /// What a rolling window cannot make.
    #[error("{0}")]
    Rolling(#[from] RollingError),
    /// Actions that cannot steer a video.
    #[error("{0}")]
    Actions(#[from] ActionRowsError),
    /// A rollout without a prompt for its first chunk.
    #[error("no prompt for the first chunk")]
    NoPrompt,
    /// Starting latents of another size than the video's.
    #[error("given latents have shape {found:?}, expected [frames, {}, {}, {}]", expected[0], expected[1], expected[2])]
    GivenLatents { found: Vec<usize>, expected: Vec<usize> },
    /// The network produced NaN or infinity.
    #[error("chunk {chunk} holds values that are not finite: the model or its weights are broken")]
    NotFinite { chunk: usize },
    /// A start that is too short, or cannot start this kind of model.
    #[error(
        "{}a start of {found} picture{} is too short: a model with chunks of {chunk} latent frames needs at least {needed}",
        file.as_ref().map_or_else(String::new, |file| format!("`{}`: ", file.display())),
        if *found == 1 { "" } else { "s" }
    )]
    ShortStart {
        file: Option<PathBuf>,
        found: usize,
        needed: usize,
        chunk: usize,
    },
    /// The caller asked to stop at once.
    #[error("cancelled")]
    Cancelled,
    /// A preset that does not exist.
    #[error("unknown preset `{name}`{} {known}, or the path of a .toml file", near(name, known))]
    UnknownPreset { name: String, known: String },
    /// The folder of the model files does not exist.
    #[error("model folder `{}` does not exist or is not a folder; give the folder that holds the model files", path.display())]
    ModelFolder { path: PathBuf },
    /// A model file is missing.
    #[error("{role} is missing from `{}`: looked for `{names}`", folder.display())]
    ModelFile {
        role: &'static str,
        folder: PathBuf,
        names: String,
    },
    /// A file in place of the model's that is not there.
    #[error("`{}`, given as {role} with {flag}, does not exist", path.display())]
    OwnFile {
        path: PathBuf,
        role: &'static str,
        flag: &'static str,
    },
    /// The file of one decoder where the other is chosen.
    #[error("`{}` is {found}: add {flag}", path.display())]
    OtherDecoder {
        path: PathBuf,
        found: &'static str,
        flag: &'static str,
    },
    /// A folder with more than one file of a kind.
    #[error(
        "`{}` holds several files that could be {role}: {}; choose one with {flag} FILE", folder.display(), files.join(", ")
    )]
    SeveralFiles {
        folder: PathBuf,
        role: &'static str,
        files: Vec<String>,
        flag: &'static str,
    },
    /// A repository without a file of a usual name.
    #[error("`{repo}` has no transformer under a usual name (looked for `{names}`): name the file, as {repo}:FILE")]
    RepositoryFile { repo: String, names: String },
    /// The base model in place of a causal one.
    #[error(
        "`{}` is the base model {name}, which is not causal: it makes a whole clip at once, with guidance and 50 steps, and would \
         give noise here. Use a causal model made from it, for example `--model self-forcing` (`deepforcing models list`)",
        path.display()
    )]
    BaseModel { path: PathBuf, name: &'static str },
    /// A kind of file that the files of a model do not include.
    #[error("the files of the model do not include {role}; give a model that has it")]
    NoModelFile { role: &'static str },
    /// The hub or its cache.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The model that is part of the program.
    #[error(transparent)]
    Bundled(#[from] BundledError),
    /// A batch of videos as a whole.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A sweep as a whole.
    #[error(transparent)]
    Sweep(#[from] SweepError),
    /// A report on a folder.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// What is no model.
    #[error(
        "`{name}` is neither a model folder nor a known model{} {known}, or the path of a preset (.toml)",
        near(name, known)
    )]
    UnknownModel { name: String, known: String },
    /// A preset whose files are published nowhere.
    #[error("preset `{name}` does not say where its files are published; give the folder that holds them as the model")]
    NoSources { name: String },
    /// A preset without a file that the run needs.
    #[error(
        "the preset does not say where its {role} is published; add it to [sources]{}",
        if *role == "lora" { ", or give the folder that holds it as the model" } else { ", or choose another decoder" }
    )]
    NoSource { role: &'static str },
    /// A start from an image or clip without the VAE that encodes it.
    #[error("the model folder has no Wan VAE, which is needed to start from an image or a clip")]
    NoVaeEncoder,
    /// A VAE file with the decoder alone.
    #[error(
        "`{}` holds the decoder of the VAE alone, and a start from an image or a clip needs the encoder: use a file of the \
         whole VAE, for example Wan2.1_VAE.pth", path.display()
    )]
    DecoderOnly { path: PathBuf },
    /// A bug: a stage of the pipeline ended without saying why.
    #[error("{stage} ended unexpectedly; please report this as a bug")]
    StagePanicked { stage: &'static str },
    /// A configuration file that is not what it should be.
    #[error("cannot read `{}`: {reason}", path.display())]
    Config { path: PathBuf, reason: String },
    /// A checkpoint that holds some other network.
    #[error("`{origin}` is not a Wan transformer: {reason}")]
    NotATransformer { origin: String, reason: String },
    /// The vision tower and the transformer come from different models.
    #[error(
        "the image encoder gives {gives} numbers per token, the transformer takes {takes}; use files of the same model"
    )]
    ImageWidth { gives: usize, takes: usize },
    /// A checkpoint that holds no vision tower of CLIP.
    #[error("`{origin}` is not a CLIP vision encoder: {reason}")]
    NotClip { origin: String, reason: String },
    /// A world that is steered in another way than its preset says.
    #[error(
        "`{origin}` is made for {reads}, and its preset for {told}: choose the preset that belongs to it, for example \
         --preset {preset}"
    )]
    OtherControls {
        origin: String,
        reads: String,
        told: String,
        preset: &'static str,
    },
    /// A `config.json` that is not that of the weights.
    #[error(
        "config.json says that `{name}` is {told}, but in `{origin}` it is {found}: it belongs to another model; put the \
         config.json of this model beside the weights, or take it away (it gives the number of attention heads)"
    )]
    OtherConfig {
        origin: String,
        name: &'static str,
        told: usize,
        found: usize,
    },
    /// A configuration that contradicts the weights beside it.
    #[error(
        "{config} says that `{name}` is {told}, but in `{origin}` it is {found}: it belongs to another model; put the \
         config.json of this model beside the weights, or take it away"
    )]
    OtherConfigWord {
        config: Box<str>,
        origin: Box<str>,
        name: &'static str,
        told: Box<str>,
        found: Box<str>,
    },
    /// A transformer without blocks.
    #[error("the transformer has no blocks")]
    NoBlocks,
    /// The text encoder and the transformer come from different models.
    #[error(
        "the text encoder `{}` gives {gives} numbers per token, the transformer `{}` takes {takes}; use files of the \
         same model",
        text_encoder.display(), transformer.display()
    )]
    PromptWidth {
        text_encoder: PathBuf,
        gives: usize,
        transformer: PathBuf,
        takes: usize,
    },
    /// More memory than there is.
    #[error(
        "the key/value cache needs {:.1} GB of memory, more than there is; lower the size of the pictures or the \
         window (policy `global` keeps every frame: choose another one or a shorter video)",
        *bytes as f64 / 1e9
    )]
    CacheMemory { bytes: usize },
    /// The device chose cache slots that were not to be chosen.
    #[error(
        "layer {layer}: the GPU chose cache slots that are no candidates; render on the CPU (`--device cpu`) and report \
         the policy and the model"
    )]
    DeviceChoice { layer: usize },
    /// Chunks were given to the cache out of order.
    #[error("a chunk of {frames} latent frames at {start} cannot follow latent frame {known}")]
    ChunkOrder { start: u64, frames: usize, known: u64 },
    /// A chunk that the keys and values of frames have no room for.
    #[error(
        "the action window holds {window} latent frames and a chunk has {frames}: choose an action window of at least \
         {frames}"
    )]
    FrameWindow { window: usize, frames: usize },
    /// Actions that are remembered for longer than the tokens that they belong to.
    #[error(
        "the action window holds {window} latent frames and the cache of the tokens {tokens}: actions are not remembered \
         longer than what they did; choose an action window of at most {tokens}, or a larger --window"
    )]
    ActionWindow { window: usize, tokens: usize },
    /// A pass that is none of the loop that makes a world.
    #[error("{frames} latent frames of actions cannot be written anew where {held} are held")]
    FrameWrite { held: usize, frames: usize },
    /// A model that reads actions, without any.
    #[error("the model reads actions and was given none")]
    NoActions,
    /// Actions of another chunk or model.
    #[error(
        "the actions of a chunk are {keyboard:?} of the keyboard and {} of the mouse, expected {expected:?} and {}",
        shape(mouse),
        shape(moves)
    )]
    ActionShape {
        keyboard: Vec<usize>,
        mouse: Option<Vec<usize>>,
        expected: Vec<usize>,
        moves: Option<Vec<usize>>,
    },
    /// A cache that was not made for the action modules of the model.
    #[error("an action module has {expected} branches and the cache {found} windows of frames for it")]
    ActionWindows { found: usize, expected: usize },
    /// Prompts for a model that reads none.
    #[error("the model reads an image and actions in place of prompts")]
    NoPrompts,
    /// An image of a world for a model that makes videos from prompts.
    #[error("the model makes videos from prompts and can begin with latents alone")]
    NoWorld,
    /// A pass without a cache through a network with action modules.
    #[error("a model that reads actions works chunk by chunk, with a cache")]
    NoActionCache,
    /// A model of a world without the image that it begins with.
    #[error(
        "the model takes {channels} channels beside the latents, of the image that a world begins with: give one with \
         --image FILE"
    )]
    NoImage { channels: usize },
    /// A snapshot of something else than what is to go on from it.
    #[error("the kept state does not fit: {reason}")]
    Snapshot { reason: String },
    /// A model of which nothing is known before its files are there.
    #[error(
        "the sizes of the model `{model}` are not known before its files are on this machine; get them with \
         `deepforcing models pull`, or name another --model"
    )]
    SizesUnknown { model: String },
    /// A profile of the heads of another model.
    #[error(
        "the profile of heads is of a model with {own_layers} layers of {own_heads} heads, and this one has {layers} layers \
         of {heads}; give the profile that was made for it (--heads)"
    )]
    HeadProfile {
        own_layers: usize,
        own_heads: usize,
        layers: usize,
        heads: usize,
    },
    /// Draws for the bases of other heads than there are.
    #[error(
        "the temporal bases of {heads} heads in {layers} layers are to be drawn, by a policy whose heads have their own"
    )]
    HeadDraws { layers: usize, heads: usize },
    /// A frame that a policy wants back and that was not put aside.
    #[error("latent frame {frame} is wanted in place of one of the past, and the cache has not put it aside")]
    NotPutAside { frame: u64 },
    /// A cache that cannot be written anew at a change of the prompt.
    #[error("the cache cannot be encoded again under the new prompt: {reason}")]
    Recache { reason: String },
    /// `--switch` with several videos.
    #[error(
        "a switch belongs to one video, and there are {videos}; put switches into a .jsonl prompt file: \
         {{\"prompts\": [\"first\", \"second\"], \"switch\": [12]}}"
    )]
    SwitchForMany { videos: usize },
    /// `--switch` beside switches in a prompt file.
    #[error("the prompt file has switches of its own; leave out --switch, or the switches of the file")]
    SwitchTwice,
    /// Two things that both want standard output.
    #[error("the video goes to standard output, so nothing else can; leave out --json, or write the video to a file")]
    StdoutTaken,
    /// A file that holds a recipe, of a video that tells none.
    #[error("the {file} would hold the recipe, which is to be left out; ask for one of the two")]
    NothingToTell { file: &'static str },
    /// A file beside standard output.
    #[error("--sidecar writes a file beside the video, and standard output has none; write the video to a file")]
    SidecarOfStdout,
    /// A video that cannot be continued, or whose state cannot be kept.
    #[error(transparent)]
    State(#[from] StateError),
    /// `--resume` with several videos.
    #[error("--resume continues one video, and there are {videos}; `deepforcing batch` continues lists by itself")]
    ResumeOfMany { videos: usize },
    /// A list whose videos cannot be made by one run.
    #[error(
        "`{}`: {other} has other `settings` than {first}; all videos of a run have the same: put those with other settings \
         into a file of their own", path.display()
    )]
    SettingsDiffer {
        path: PathBuf,
        first: String,
        other: String,
    },
    /// Two files with one name.
    #[error("`{}` would be written twice; give each output a name of its own", path.display())]
    SameOutput { path: PathBuf },
    /// A file beside the video cannot be written; the video is complete.
    #[error("cannot write `{}`: {reason}; the video itself is complete", path.display())]
    CannotWrite { path: PathBuf, reason: String },
    /// A video of another program.
    #[error("`{}` holds no recipe; only files made by this program have one", path.display())]
    NoRecipe { path: PathBuf },
    /// Downloaded files that are not there.
    #[error("these files were downloaded and are not in the cache: {files}; run `deepforcing models verify`")]
    StillMissing { files: String },
    /// A model file that cannot be read for its hash.
    #[error("cannot read model file `{}`: {reason}", path.display())]
    ModelFileUnreadable { path: PathBuf, reason: String },
    /// A recipe whose model was a folder.
    #[error("the recipe's model files came from a folder that it does not name; say where they are with --model DIR")]
    ModelNotNamed,
    /// A recipe whose model is a file or folder somewhere.
    #[error(
        "the model `{name}` of the recipe in `{}` is neither a known one nor a preset file beside it, and no other place \
         that a recipe names is looked at; say which model it is with --model NAME|DIR",
        file.display()
    )]
    ModelElsewhere { name: String, file: PathBuf },
    /// A recipe whose LoRA is a file somewhere.
    #[error(
        "the LoRA `{}` of the recipe is not beside `{}`, and no other place that a recipe names is looked at; say where \
         it is with --lora FILE",
        name.display(), file.display()
    )]
    LoraElsewhere { name: PathBuf, file: PathBuf },
    /// LoRAs that are not as many as the recipe's.
    #[error(
        "--lora says where the LoRAs of the recipe are, one for each: {given} given, the recipe has {}",
        match &recorded[..] { [] => "none".into(), names => format!("{} ({})", names.len(), names.join(", ")) }
    )]
    LoraCount { given: usize, recorded: Vec<String> },
    /// A recipe with other model files than those found.
    #[error(
        "the model files are not those of the recipe ({changes}): the pictures would be others; find the same files, or \
         go on with --allow-changed"
    )]
    OtherModelFiles { changes: String },
    /// A tensor operation failed on the device.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// The shape of something that need not be there.
fn shape(dims: &Option<Vec<usize>>) -> String {
    dims.as_ref().map_or_else(|| "none".into(), |dims| format!("{dims:?}"))
}

/// The name of a list that was probably meant, before the list.
fn near(name: &str, known: &str) -> String {
    match nearest(name, known.split(", ")) {
        Some(near) => format!("; did you mean `{near}`? Known are"),
        None => "; known are".into(),
    }
}

/// Result with the library's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
