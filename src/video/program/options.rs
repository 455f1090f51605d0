//! The options of each encoder, as `codec` sets them for the linked libraries, and which encoder works.

use std::{
    ffi::OsString,
    sync::{Mutex, PoisonError},
};

use super::{
    super::{Encoder, EncoderChoice, EncoderInfo, Form, RejectedEncoder, VideoError, VideoSettings},
    child::{Input, Running},
    find::FfmpegProgram,
};

/// Most bytes of one encoded picture; the largest picture has 805 MB.
const MOST: u64 = 1 << 30;
/// Conversion from RGB: that of the linked libraries (see `colour`).
const CONVERSION: &str = "scale=in_range=pc:out_range=tv:out_color_matrix=bt709:\
    flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp,format=yuv420p,\
    setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709";

/// Words for [`Running::start`].
pub(super) fn words<const N: usize>(words: [&str; N]) -> Vec<OsString> {
    words.into_iter().map(OsString::from).collect()
}

/// What keeps frames as they come, in the words of the version.
pub(super) fn as_they_come(program: &FfmpegProgram) -> [&'static str; 2] {
    match program.number {
        Some(number) if number < (5, 1) => ["-vsync", "passthrough"],
        _ => ["-fps_mode", "passthrough"],
    }
}

/// Options that turn pictures on standard input into a piece of a video on standard output; `first` is the number of
/// the piece's first frame.
pub(super) fn encoding(
    program: &FfmpegProgram,
    form: Form,
    encoder: Encoder,
    settings: &VideoSettings,
    first: u64,
) -> Vec<OsString> {
    let size = format!("{}x{}", settings.width, settings.height);
    let rate = settings.fps.to_string();
    let mut all = words(["-hide_banner", "-nostdin", "-loglevel", "level+error"]);
    all.extend(words([
        "-f",
        "rawvideo",
        "-pixel_format",
        "rgb24",
        "-video_size",
        &size,
    ]));
    all.extend(words(["-framerate", &rate, "-i", "pipe:0", "-map", "0:v:0"]));
    all.extend(words(["-vf", &format!("{CONVERSION},setpts=N+{first}")]));
    all.extend(words(as_they_come(program)));
    for option in ["-colorspace", "-color_primaries", "-color_trc"] {
        all.extend(words([option, "bt709"]));
    }
    all.extend(words(["-color_range", "tv", "-bf", "0"]));
    all.extend(words(["-g", &settings.keyframe_interval.to_string()]));
    all.extend(of_encoder(encoder, settings));
    all.extend(words(["-map_metadata", "-1", "-metadata", &tool()]));
    match form {
        Form::Webm => all.extend(words(["-f", "webm", "-live", "1"])),
        _ => all.extend(words([
            "-f",
            "mp4",
            "-movflags",
            "frag_keyframe+empty_moov+default_base_moof",
        ])),
    }
    all.push("pipe:1".into());
    all
}

/// The name under which a file says which program wrote it.
pub(super) fn tool() -> String {
    format!("encoding_tool={}", super::super::SOFTWARE)
}

fn of_encoder(encoder: Encoder, settings: &VideoSettings) -> Vec<OsString> {
    let mut all = words(["-c:v", encoder.name()]);
    let crf = settings.crf.to_string();
    // From x264's 0..51 to 0..63.
    let stretched = (u32::from(settings.crf) * 63 / 51).max(4).to_string();
    let slowness = settings.preset.slowness();
    match encoder {
        Encoder::X264 => {
            let preset = settings.preset.as_str();
            all.extend(words(["-preset", preset, "-crf", &crf, "-tune", "zerolatency"]));
            all.extend(words(["-sc_threshold", "0"]));
        }
        Encoder::Nvenc => {
            let gpu = settings.gpu.unwrap_or(0).to_string();
            all.extend(words(["-rc", "constqp", "-qp", &crf, "-zerolatency", "1"]));
            all.extend(words(["-delay", "0", "-gpu", &gpu]));
        }
        Encoder::OpenH264 => all.extend(words(["-b:v", &settings.generous_bit_rate().to_string()])),
        Encoder::Mpeg4 => {
            let quantiser = (settings.crf / 6).clamp(1, 31).to_string();
            all.extend(words(["-q:v", &quantiser]));
        }
        Encoder::Vp9 | Encoder::Vp8 => {
            let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(16));
            let limit = match encoder {
                Encoder::Vp8 => settings.generous_bit_rate(),
                _ => 0,
            };
            all.extend(words(["-threads", &threads.to_string(), "-b:v", &limit.to_string()]));
            all.extend(words(["-crf", &stretched, "-deadline", "realtime"]));
            all.extend(words(["-cpu-used", &(8 - slowness).to_string()]));
            all.extend(words(["-lag-in-frames", "0", "-auto-alt-ref", "0"]));
            if encoder == Encoder::Vp9 {
                all.extend(words(["-row-mt", "1"]));
            }
        }
        Encoder::SvtAv1 => {
            all.extend(words(["-crf", &stretched, "-preset", &(12 - slowness).to_string()]));
            all.extend(words(["-svtav1-params", "pred-struct=1:lookahead=0"]));
        }
    }
    all
}

/// The encoders of the program among those that are used here.
///
/// # Errors
/// Why the program does not tell them.
pub fn listed(program: &FfmpegProgram) -> Result<Vec<Encoder>, String> {
    let mut running = Running::start(
        &program.path,
        &words(["-hide_banner", "-loglevel", "level+error", "-encoders"]),
        Input::None,
        None,
    )
    .map_err(|error| error.to_string())?;
    let said = running.read_to_end(1 << 20).map_err(|error| error.to_string())?;
    running.end()?;
    let said = String::from_utf8_lossy(&said);
    // ` V....D libx264              libx264 H.264 / AVC …`
    let names: Vec<&str> = said
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            words.next().filter(|kind| kind.starts_with('V'))?;
            words.next()
        })
        .collect();
    let known = Encoder::ALL.into_iter();
    Ok(known.filter(|encoder| names.contains(&encoder.name())).collect())
}

/// The first of the wanted encoders that works: one picture is encoded to find out.
///
/// # Errors
/// [`VideoError::NoEncoder`] or [`VideoError::NamedEncoder`] with the reasons.
pub(super) fn working(
    program: &FfmpegProgram,
    form: Form,
    settings: &VideoSettings,
    encoders: Option<&[Encoder]>,
) -> Result<(Encoder, EncoderInfo), VideoError> {
    let (wanted, named) = match (encoders, settings.encoder) {
        (Some(encoders), _) => (encoders.to_vec(), false),
        (None, EncoderChoice::Auto) => (Encoder::preferred(form, settings.gpu.is_some()).to_vec(), false),
        (None, EncoderChoice::Named(encoder)) => (vec![encoder], true),
    };
    let mut rejected = Vec::new();
    for encoder in wanted {
        let (name, codec) = (encoder.name(), encoder.codec());
        match tried(program, form, encoder, settings) {
            Ok(()) => return Ok((encoder, EncoderInfo { name, codec, rejected })),
            Err(reason) => rejected.push(RejectedEncoder { name, reason }),
        }
    }
    Err(match named {
        true => VideoError::NamedEncoder { rejected },
        false => VideoError::NoEncoder { rejected },
    })
}

/// What was tried and what came of it: a video asks several times.
type Tried = (FfmpegProgram, Form, Encoder, VideoSettings, Result<(), String>);
static TRIED: Mutex<Vec<Tried>> = Mutex::new(Vec::new());
/// Trials that are remembered.
const REMEMBERED: usize = 64;

fn tried(program: &FfmpegProgram, form: Form, encoder: Encoder, settings: &VideoSettings) -> Result<(), String> {
    let settings = VideoSettings {
        metadata: Default::default(),
        ..settings.clone()
    };
    let lock = || TRIED.lock().unwrap_or_else(PoisonError::into_inner);
    let same = |tried: &&Tried| tried.0 == *program && (tried.1, tried.2) == (form, encoder) && tried.3 == settings;
    if let Some((.., result)) = lock().iter().find(same) {
        return result.clone();
    }
    let result = try_one(program, form, encoder, &settings);
    let mut all = lock();
    if all.len() == REMEMBERED {
        drop(all.remove(0));
    }
    all.push((program.clone(), form, encoder, settings, result.clone()));
    result
}

fn try_one(program: &FfmpegProgram, form: Form, encoder: Encoder, settings: &VideoSettings) -> Result<(), String> {
    if !listed(program)?.contains(&encoder) {
        return Err("not in this FFmpeg".to_owned());
    }
    let arguments = encoding(program, form, encoder, settings, 0);
    let started = Running::start(&program.path, &arguments, Input::Pipe, None);
    let mut running = started.map_err(|error| error.to_string())?;
    let output = running.output();
    let collected = std::thread::spawn(move || output.map_or_else(|| Ok(Vec::new()), |output| output.all(MOST)));
    // When it does not take the picture, its end says why.
    running.write(&vec![128; settings.frame_bytes()]).ok();
    let end = running.end();
    let bytes = collected.join().map_err(|_| "its output cannot be read".to_owned())?;
    match (end, bytes) {
        (Err(reason), _) => Err(reason),
        (Ok(said), Ok(bytes)) if bytes.is_empty() => Err(format!("it gives nothing {}", said.errors())),
        (Ok(_), Ok(_)) => Ok(()),
        (Ok(_), Err(error)) => Err(error.to_string()),
    }
}
