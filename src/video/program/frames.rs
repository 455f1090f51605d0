//! The frames of a file, one after the other, upright and with square pixels.
//!
//! Pictures come as PAM, which says how large each is. The moment at which each is shown is in what the filter `showinfo`
//! says of it.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader, Read},
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use image::{DynamicImage, RgbImage, RgbaImage};

use super::{
    super::{
        probe::is_fragmented,
        still::{check_size, opaque},
    },
    child::{Input, Output, Running},
    find::FfmpegProgram,
    look::{Look, input_options, look, opened, without_level},
    options::{as_they_come, words},
};

/// Memory for the pictures that threads of a decoder work on at once, in bytes.
const IN_WORK: u64 = 512 << 20;
/// Longest time between a picture and what is said of it.
const SAID: Duration = Duration::from_secs(10);
/// Keyframes can be far apart.
const MARGIN: f64 = 12.0;

/// A file that is to be read.
#[derive(Clone)]
pub(super) struct Source<'a> {
    program: Arc<FfmpegProgram>,
    path: &'a Path,
    pub look: Look,
    /// Whether the pictures are turned as the file says; otherwise the reader turns them.
    pub turns: bool,
    /// Whether transparent parts are laid on black instead of dropped.
    pub opaque: bool,
    /// Second at which reading begins, at the keyframe before it.
    pub from: Option<f64>,
}

impl<'a> Source<'a> {
    /// Looks at a file.
    ///
    /// # Errors
    /// Why it cannot be read as a video.
    pub fn open(program: Arc<FfmpegProgram>, path: &'a Path) -> Result<Self, String> {
        let look = look(&program, path)?;
        // Not known before the first frame for some formats.
        if look.video.width > 0 && look.video.height > 0 {
            check_size(look.video.width, look.video.height)?;
        }
        Ok(Self {
            program,
            path,
            look,
            turns: true,
            opaque: false,
            from: None,
        })
    }

    /// Frames per second on average.
    pub fn rate(&self) -> Option<f64> {
        self.look.video.fps
    }

    /// The same, from a keyframe some time before the last `seconds` of a long video; none for a short one.
    pub fn at_last(&self, seconds: f64) -> Option<Self> {
        let duration = self
            .look
            .duration
            .filter(|duration| *duration > seconds + 3.0 * MARGIN)?;
        let from = Some(self.look.start.unwrap_or(0.0) + duration - seconds - MARGIN);
        Some(Self { from, ..self.clone() })
    }

    /// What the file may do at its end: one that a killed run left ends in the middle of a frame.
    fn may_break_off(&self) -> bool {
        self.look.container.contains("matroska") || is_fragmented(self.path)
    }

    /// Options up to the filters.
    fn options(&self) -> Vec<OsString> {
        let mut before = Vec::new();
        before.extend(words(["-copyts"]));
        match self.may_break_off() {
            true => before.extend(words(["-fflags", "+discardcorrupt"])),
            false => before.extend(words(["-xerror"])),
        }
        if !self.turns {
            before.extend(words(["-noautorotate"]));
        }
        if let Some(threads) = self.threads() {
            before.extend(words(["-threads", &threads.to_string()]));
        }
        if let Some(from) = self.from {
            before.extend(words([
                "-noaccurate_seek",
                "-seek_timestamp",
                "1",
                "-ss",
                &format!("{from:.6}"),
            ]));
        }
        let mut all = input_options(&before);
        all.extend(words(["-map", &format!("0:{}", self.look.video.index)]));
        all.extend(words(as_they_come(&self.program)));
        all
    }

    /// Threads for pictures of this size: each has some of them in work.
    fn threads(&self) -> Option<usize> {
        let bytes = u64::from(self.look.video.width) * u64::from(self.look.video.height) * 3;
        let most = IN_WORK
            .checked_div(bytes)
            .map_or(usize::MAX, |most| (most as usize).max(1));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (most < cores).then_some(most)
    }

    /// Filters that make RGB of the pictures by the matrix that they are tagged with. Without a tag, small pictures are
    /// taken for BT.601 as television's were, but those of y4m, which tools that write it today mean as BT.709.
    fn filters(&self) -> Result<String, String> {
        let video = &self.look.video;
        let matrix = match video.colours[0].as_deref() {
            Some("bt709") => "bt709",
            Some("bt2020nc" | "bt2020c" | "bt2020ncl" | "bt2020cl") => "bt2020",
            Some("smpte240m") => "smpte240m",
            None if self.look.container.contains("yuv4mpegpipe") || video.height >= 720 => "bt709",
            _ => "bt601",
        };
        // As for the libraries: what is not said to be full is limited. RGB has no such choice.
        let rgb = ["rgb", "bgr", "gbr", "pal", "mono"];
        let range = match video.range.as_deref() {
            _ if rgb.iter().any(|kind| video.pixel_format.contains(kind)) => "auto",
            Some("pc") => "pc",
            _ if video.pixel_format.starts_with("yuvj") => "pc",
            _ => "tv",
        };
        let (width, height) = (self.look.display_width()?, video.height);
        let (width, height) = match video.rotation {
            90 | 270 if self.turns => (height, width),
            _ => (width, height),
        };
        let size = match width > 0 && height > 0 {
            true => format!("{width}:{height}:"),
            false => String::new(),
        };
        let format = if self.opaque { "rgba" } else { "rgb24" };
        Ok(format!(
            "showinfo,scale={size}in_color_matrix={matrix}:in_range={range}:out_range=pc:\
             flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp,format={format}"
        ))
    }

    /// The pictures.
    ///
    /// # Errors
    /// Why they cannot be read.
    pub fn pictures(&self) -> Result<Pictures, String> {
        let mut arguments = self.options();
        arguments.extend(words([
            "-vf",
            &self.filters()?,
            "-c:v",
            "pam",
            "-f",
            "image2pipe",
            "pipe:1",
        ]));
        let (mut running, shown) = self.start(&arguments)?;
        let output = running.output().ok_or("its output cannot be read")?;
        Ok(Pictures {
            running: Some(running),
            output: BufReader::with_capacity(1 << 20, output),
            shown,
            size: None,
            broken_off: self.may_break_off(),
        })
    }

    /// The second at which each frame is shown, in their order; of the first frame alone if that is all that is wanted.
    ///
    /// # Errors
    /// After how many frames the rest cannot be decoded, and why.
    pub fn times(&self, first: bool) -> Result<Vec<Option<f64>>, (usize, String)> {
        let none = |reason: String| (0, reason);
        let mut arguments = self.options();
        arguments.extend(words(["-vf", "showinfo"]));
        if first {
            arguments.extend(words(["-frames:v", "1"]));
        }
        arguments.extend(words(["-f", "null", "-"]));
        let (running, shown) = self.start(&arguments).map_err(none)?;
        let ended = running.end();
        let all: Vec<Shown> = shown.iter().collect();
        if let Some(changed) = all.windows(2).position(|pair| pair[0].size != pair[1].size) {
            return Err((changed + 1, CHANGES.to_owned()));
        }
        match ended {
            Err(reason) if !self.may_break_off() || all.is_empty() => Err((all.len(), reason)),
            _ => Ok(all.iter().map(|shown| shown.time).collect()),
        }
    }

    fn start(&self, arguments: &[OsString]) -> Result<(Running, Receiver<Shown>), String> {
        let (sender, receiver) = channel();
        let mut listener = Listener { sender, unit: None };
        let on_line = Box::new(move |line: &str| {
            // What is told of frames and streams; warnings and errors are kept.
            let kept = ["[warning] ", "[error] ", "[fatal] ", "[panic] "];
            if kept.iter().any(|level| line.contains(level)) {
                return false;
            }
            listener.hear(without_level(line));
            true
        });
        let input = Input::File(opened(self.path)?);
        let started = Running::start(&self.program.path, arguments, input, Some(on_line));
        let running =
            started.map_err(|error| format!("`{}` cannot be started: {error}", self.program.path.display()))?;
        Ok((running, receiver))
    }
}

const CHANGES: &str = "its picture size changes on the way";

/// What is said of a frame.
struct Shown {
    time: Option<f64>,
    size: String,
}

/// Hears what `showinfo` says.
struct Listener {
    sender: Sender<Shown>,
    /// Seconds per unit of time.
    unit: Option<f64>,
}

impl Listener {
    fn hear(&mut self, line: &str) {
        if let Some((_, rest)) = line.split_once("config in time_base: ") {
            let unit = rest.split(',').next().and_then(|unit| {
                let (over, under) = unit.split_once('/')?;
                Some(over.trim().parse::<f64>().ok()? / under.trim().parse::<f64>().ok()?)
            });
            self.unit = unit.or(self.unit);
            return;
        }
        if !line.trim_start().starts_with("n:") {
            return;
        }
        let after = |key: &str| {
            let (_, rest) = line.split_once(key)?;
            rest.split_whitespace().next()
        };
        let at = after(" pts:").and_then(|at| at.parse::<f64>().ok());
        let time = at.zip(self.unit).map(|(at, unit)| at * unit);
        let size = after(" s:").unwrap_or_default().to_owned();
        self.sender.send(Shown { time, size }).ok();
    }
}

/// Pictures that are being read.
pub(super) struct Pictures {
    running: Option<Running>,
    output: BufReader<Output>,
    shown: Receiver<Shown>,
    /// Size of all frames as stored, known after the first.
    size: Option<String>,
    broken_off: bool,
}

impl Pictures {
    /// The next picture; none after the last.
    ///
    /// # Errors
    /// Why the rest cannot be decoded.
    pub fn next(&mut self) -> Result<Option<DynamicImage>, String> {
        let picture = match pam(&mut self.output) {
            Ok(Some(picture)) => picture,
            Ok(None) => return self.ended(),
            Err(reason) => {
                // What the program says of it is nearer to the cause.
                self.ended()?;
                return Err(reason);
            }
        };
        // It is said before the picture is given.
        if let Ok(shown) = self.shown.recv_timeout(SAID)
            && *self.size.get_or_insert_with(|| shown.size.clone()) != shown.size
        {
            return Err(CHANGES.to_owned());
        }
        Ok(Some(picture))
    }

    fn ended(&mut self) -> Result<Option<DynamicImage>, String> {
        match self.running.take().map(Running::end) {
            Some(Err(reason)) if !self.broken_off || self.size.is_none() => Err(reason),
            _ => Ok(None),
        }
    }

    /// The next picture without transparency.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn next_rgb(&mut self) -> Result<Option<RgbImage>, String> {
        Ok(self.next()?.map(|picture| match picture {
            DynamicImage::ImageRgb8(picture) => picture,
            other => opaque(other),
        }))
    }
}

/// Reads one PAM picture of 3 or 4 channels; none at the end.
fn pam(from: &mut impl BufRead) -> Result<Option<DynamicImage>, String> {
    let broken = |error: std::io::Error| format!("its pictures cannot be read: {error}");
    if from.fill_buf().map_err(broken)?.is_empty() {
        return Ok(None);
    }
    let (mut width, mut height, mut depth, mut most) = (0, 0, 0, 0);
    for _ in 0..16 {
        let mut line = Vec::new();
        from.by_ref().take(256).read_until(b'\n', &mut line).map_err(broken)?;
        let line = String::from_utf8_lossy(&line);
        let (key, value) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
        let number = || value.parse::<u32>().unwrap_or(0);
        match key {
            "WIDTH" => width = number(),
            "HEIGHT" => height = number(),
            "DEPTH" => depth = number(),
            "MAXVAL" => most = number(),
            "ENDHDR" => break,
            _ => {}
        }
    }
    check_size(width, height)?;
    if most != 255 || !matches!(depth, 3 | 4) {
        return Err(format!(
            "its pictures come in an unknown form ({depth} channels up to {most})"
        ));
    }
    let mut bytes = vec![0; width as usize * height as usize * depth as usize];
    from.read_exact(&mut bytes).map_err(broken)?;
    let picture = match depth {
        3 => RgbImage::from_raw(width, height, bytes).map(DynamicImage::ImageRgb8),
        _ => RgbaImage::from_raw(width, height, bytes).map(DynamicImage::ImageRgba8),
    };
    picture
        .map(Some)
        .ok_or_else(|| "its pictures are incomplete".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_read_as_they_are_described() {
        let head = |depth, kind| format!("P7\nWIDTH 2\nHEIGHT 1\nDEPTH {depth}\nMAXVAL 255\nTUPLTYPE {kind}\nENDHDR\n");
        let bytes = [
            head(3, "RGB").as_bytes(),
            b"abcdef",
            head(4, "RGB_ALPHA").as_bytes(),
            b"abcdefgh",
        ]
        .concat();
        let mut from = &bytes[..];
        assert_eq!(pam(&mut from).unwrap().unwrap().as_bytes(), b"abcdef");
        assert_eq!(pam(&mut from).unwrap().unwrap().as_bytes(), b"abcdefgh");
        assert!(pam(&mut from).unwrap().is_none());
        assert!(pam(&mut &bytes[..62]).is_err());
        let huge = "P7\nWIDTH 99999\nHEIGHT 99999\nDEPTH 3\nMAXVAL 255\nENDHDR\n";
        assert!(pam(&mut huge.as_bytes()).unwrap_err().contains("16384"));
        assert!(pam(&mut &b"nonsense"[..]).is_err());
    }

    #[test]
    fn moments_are_heard() {
        let (sender, shown) = channel();
        let mut listener = Listener { sender, unit: None };
        listener.hear("config in time_base: 1/16384, frame_rate: 16/1");
        listener.hear("n:   3 pts:   3072 pts_time:0.1875  duration:1024 fmt:yuv420p cl:left sar:0/1 s:96x64 i:P");
        listener.hear("n:   4 pts:  NOPTS pts_time:NOPTS fmt:yuv420p sar:0/1 s:96x64 i:P");
        listener.hear("  side data - User Data Unregistered:");
        let all: Vec<Shown> = shown.try_iter().collect();
        assert_eq!((all[0].time, &*all[0].size), (Some(0.1875), "96x64"));
        assert_eq!(all[1].time, None);
    }
}
