//! Points in time as people write them, and the argument of `--switch`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Segment;
use crate::{rollout::SwitchRule, text::nearest::nearest};

/// A point of a video.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// Seconds from the start.
    Seconds(f64),
    /// Latent frame, from 0.
    LatentFrame(usize),
    /// The start of part `part` (from 0) of a video cut into `parts` equal parts.
    Share { part: usize, parts: usize },
}

impl Moment {
    /// The start of a video.
    pub const START: Self = Self::LatentFrame(0);
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seconds(seconds) => write!(f, "{seconds} s"),
            Self::LatentFrame(frame) => write!(f, "latent frame {frame}"),
            Self::Share { part, parts } => write!(f, "{part}/{parts} of the video"),
        }
    }
}

/// A point in time that cannot be read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MomentError {
    #[error("`{text}` is not a time; write 12s, 12.5s, 1:30, 1m30s, or 40f for latent frame 40")]
    NotATime { text: String },
    #[error("`{text}` has no unit; write {text}s for seconds or {text}f for a latent frame")]
    NoUnit { text: String },
    #[error("`{text}` has {part} seconds or minutes after the colon, expected 0 to 59 in two digits, as in 1:30")]
    Clock { text: String, part: String },
    #[error("`{text}` is too far away; a video has at most a day")]
    TooLarge { text: String },
    #[error(
        "`{text}` is not a switch; write the time, a colon and the new prompt, for example --switch '12s: a storm comes'"
    )]
    NotASwitch { text: String },
    #[error(
        "`{word}` between time and colon says nothing known; write keep, recache, flush or cut, or nothing, for example \
         --switch '12s recache: a storm comes'"
    )]
    UnknownRule { word: String },
    #[error("the switch at `{time}` has no prompt; write for example --switch '12s: a storm comes'")]
    NoPrompt { time: String },
}

/// Longest time that is taken for meant, a day (as for the length of videos).
const LONGEST: f64 = 86_400.0;
/// Latent frames of a day.
const MOST_FRAMES: usize = 86_400 * 16 / 4;
/// Letters of a wrong argument that a message repeats.
const SHOWN: usize = 60;

/// Reads `12s`, `12.5s`, `1:30`, `1:02:03.5`, `1m30s`, `1h`, or `40f` (latent frame 40).
///
/// # Errors
/// When it is none of these; the message has examples.
pub fn parse_moment(text: &str) -> Result<Moment, MomentError> {
    let trimmed = text.trim();
    let shown = || shortened(trimmed);
    let lower = trimmed.to_ascii_lowercase();
    if let Some(digits) = lower.strip_suffix('f') {
        let frame = whole(digits).ok_or_else(|| MomentError::NotATime { text: shown() })?;
        return match usize::try_from(frame).ok().filter(|frame| *frame <= MOST_FRAMES) {
            Some(frame) => Ok(Moment::LatentFrame(frame)),
            None => Err(MomentError::TooLarge { text: shown() }),
        };
    }
    let seconds = if lower.contains(':') {
        clock(&lower)?
    } else if decimal(&lower).is_some() {
        return Err(MomentError::NoUnit { text: shown() });
    } else {
        with_units(&lower)
    };
    let seconds = seconds.ok_or_else(|| MomentError::NotATime { text: shown() })?;
    match seconds <= LONGEST {
        true => Ok(Moment::Seconds(seconds)),
        false => Err(MomentError::TooLarge { text: shown() }),
    }
}

/// Reads the argument of `--switch`: a time as for [`parse_moment`], what becomes of the cache if that is said, a colon,
/// and the prompt that takes over.
///
/// # Errors
/// When there is no time, no colon or no prompt; the message has an example.
pub fn parse_switch(text: &str) -> Result<Segment, MomentError> {
    let bytes = text.as_bytes();
    // Digits on both sides of a colon, without a space, are a clock (`1:30`), and the colon is part of the time.
    let in_clock = |at: usize| {
        let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
        digit(at.checked_sub(1)) && digit(at.checked_add(1))
    };
    let colon = text.match_indices(':').map(|(at, _)| at).find(|at| !in_clock(*at));
    let Some(colon) = colon else {
        return Err(MomentError::NotASwitch { text: shortened(text) });
    };
    let (time, prompt) = (text[..colon].trim(), text[colon + 1..].trim());
    let (time, word) = match time.split_once(char::is_whitespace) {
        Some((time, word)) => (time, Some(word.trim())),
        None => (time, None),
    };
    // As prompts of Infinity-RoPE mark a scene.
    let (time, word) = match (time.strip_suffix('#'), word) {
        (Some(time), None) => (time, Some("cut")),
        (_, Some("#")) => (time, Some("cut")),
        _ => (time, word),
    };
    // `1:30 people dance: all night` has its colon too late: the time ends before the first word.
    if !time.starts_with(|c: char| c.is_ascii_digit()) || word.is_some_and(|word| word.contains(char::is_whitespace)) {
        return Err(MomentError::NotASwitch { text: shortened(text) });
    }
    let rule = |word: &str| match word.parse::<SwitchRule>() {
        Ok(rule) => Ok(rule),
        // A time without a unit or a colon too late is the likelier fault where no name is near.
        Err(_) if nearest(word, SwitchRule::NAMES.iter().copied()).is_none() => {
            Err(MomentError::NotASwitch { text: shortened(text) })
        }
        Err(_) => Err(MomentError::UnknownRule { word: word.into() }),
    };
    let on_switch = word.map(rule).transpose()?;
    let start = parse_moment(time)?;
    match prompt {
        "" => Err(MomentError::NoPrompt { time: time.into() }),
        prompt => Ok(Segment {
            text: prompt.into(),
            start,
            on_switch,
        }),
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

/// Digits only: no sign, no exponent.
fn whole(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // Too many digits for a u64 are a number all the same: the caller finds it too large.
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Digits with at most one point.
fn decimal(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.parse().ok().filter(|_| plain)
}

/// `m:ss` or `h:mm:ss`, seconds with a fraction if wanted.
fn clock(text: &str) -> Result<Option<f64>, MomentError> {
    let mut parts = text.split(':');
    let Some(first) = parts.next().and_then(whole) else {
        return Ok(None);
    };
    let rest: Vec<&str> = parts.collect();
    if rest.len() > 2 {
        return Ok(None);
    }
    let mut seconds = first as f64;
    for (i, part) in rest.iter().enumerate() {
        let last = i + 1 == rest.len();
        let digits = part.split('.').next().unwrap_or_default();
        let value = match last {
            true => decimal(part),
            false => whole(part).map(|value| value as f64),
        };
        match value {
            Some(value) if digits.len() == 2 && value < 60.0 => seconds = seconds * 60.0 + value,
            _ => {
                return Err(MomentError::Clock {
                    text: shortened(text),
                    part: shortened(part),
                });
            }
        }
    }
    Ok(Some(seconds))
}

/// `1h2m3.5s`, any of the three left out but not all.
fn with_units(text: &str) -> Option<f64> {
    let (mut rest, mut seconds) = (text, 0.0);
    for (unit, factor) in [('h', 3600.0), ('m', 60.0), ('s', 1.0)] {
        if let Some((number, after)) = rest.split_once(unit) {
            seconds += decimal(number)? * factor;
            rest = after;
        }
    }
    (rest.is_empty() && !text.is_empty()).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_in_all_forms() {
        for (text, seconds) in [
            ("12s", 12.0),
            ("12.5s", 12.5),
            (" 12S ", 12.0),
            ("1:30", 90.0),
            ("0:05.25", 5.25),
            ("1:02:03", 3723.0),
            ("1m30s", 90.0),
            ("90m", 5400.0),
            ("1h", 3600.0),
            (".5s", 0.5),
        ] {
            assert_eq!(parse_moment(text), Ok(Moment::Seconds(seconds)), "{text}");
        }
        assert_eq!(parse_moment("40f"), Ok(Moment::LatentFrame(40)));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "", "s", "f", "-3s", "+3s", "1e3s", "inf", "nans", "12 s", "3s2m", "1.2.3s", "4.5f", "1:2:3:4",
        ] {
            assert!(parse_moment(text).is_err(), "{text}");
        }
        assert_eq!(parse_moment("12"), Err(MomentError::NoUnit { text: "12".into() }));
        assert!(matches!(parse_moment("1:75"), Err(MomentError::Clock { .. })));
        assert!(matches!(parse_moment("1:5"), Err(MomentError::Clock { .. })));
        for text in ["86401s", "99999999999999999999999f", "9999999999999999999999:00"] {
            assert!(
                matches!(parse_moment(text), Err(MomentError::TooLarge { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn a_switch_is_time_colon_prompt() {
        let switch = |text| parse_switch(text).map(|segment| (segment.start, segment.text));
        assert_eq!(
            switch("12s: a storm comes"),
            Ok((Moment::Seconds(12.0), "a storm comes".into()))
        );
        assert_eq!(
            switch("1:30:at 7:45 the sun rises: slowly"),
            Ok((Moment::Seconds(90.0), "at 7:45 the sun rises: slowly".into()))
        );
        assert_eq!(switch("40f:x"), Ok((Moment::LatentFrame(40), "x".into())));
    }

    #[test]
    fn a_switch_can_say_what_becomes_of_the_cache() {
        let rule = |text: &str| parse_switch(text).map(|segment| segment.on_switch);
        assert_eq!(rule("12s: x"), Ok(None));
        assert_eq!(rule("12s recache: x"), Ok(Some(SwitchRule::Recache)));
        assert_eq!(rule("1:30  flush : x"), Ok(Some(SwitchRule::Flush)));
        for text in ["5s cut: x", "5s #: x", "5s#: x"] {
            assert_eq!(rule(text), Ok(Some(SwitchRule::Cut)), "{text}");
        }
        assert_eq!(rule("40f keep:recache: x"), Ok(Some(SwitchRule::Keep)));
        let error = rule("12s recahce: x").unwrap_err().to_string();
        assert!(
            error.contains("`recahce`") && error.contains("keep, recache, flush or cut"),
            "{error}"
        );
    }

    #[test]
    fn a_switch_without_a_part_says_how_to_write_it() {
        for text in [
            "",
            "a storm comes",
            "12s a storm comes",
            "1:30 people dance",
            "storm: 12s",
            ": x",
            "1:30 people: x",
        ] {
            let error = parse_switch(text).unwrap_err();
            assert!(matches!(error, MomentError::NotASwitch { .. }), "{text}: {error}");
            assert!(error.to_string().contains("'12s: a storm comes'"), "{error}");
        }
        assert!(matches!(parse_switch("12s:  "), Err(MomentError::NoPrompt { .. })));
        assert!(matches!(parse_switch("12: x"), Err(MomentError::NoUnit { .. })));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,80}") {
            let _ = parse_moment(&text);
            let _ = parse_switch(&text);
        }

        #[test]
        fn times_round_trip(millis in 0u32..86_400_000) {
            let seconds = f64::from(millis) / 1000.0;
            prop_assert_eq!(parse_moment(&format!("{seconds}s")), Ok(Moment::Seconds(seconds)));
            let clock = format!("{}:{:02}.{:03}", millis / 60_000, millis / 1000 % 60, millis % 1000);
            let Ok(Moment::Seconds(read)) = parse_moment(&clock) else { panic!("{clock}") };
            prop_assert!((read - seconds).abs() < 1e-6, "{} {}", clock, read);
        }
    }
}
