//! From points in time to the chunks at which prompts take over.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Moment, Segment};
use crate::{
    cache::{Overflow, Policy},
    rollout::{ChunkPlan, OnSwitch, SwitchRule},
    vae::{TEMPORAL_FACTOR, pictures_of_latents},
};

/// A prompt at its final place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PromptSpan {
    /// First latent frame made with the prompt: the start of a chunk.
    pub latent_frame: usize,
    /// When the pictures of that latent frame begin, to a tenth of a millisecond.
    pub seconds: f64,
    pub text: String,
    /// What becomes of the cache where the prompt takes over.
    #[serde(default, skip_serializing_if = "OnSwitch::keeps")]
    pub on_switch: OnSwitch,
}

/// A switch that takes effect later than asked, because a chunk is made with one prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct MovedSwitch {
    /// Number of the switch, from 1.
    pub number: usize,
    pub asked: Moment,
    pub latent_frame: usize,
    pub seconds: f64,
}

impl fmt::Display for MovedSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            number,
            asked,
            latent_frame,
            seconds,
        } = self;
        write!(
            f,
            "switch {number} (asked at {asked}) takes effect with the next chunk, at {} s (latent frame {latent_frame})",
            rounded(*seconds)
        )
    }
}

/// The prompts of a video at their places.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Resolved {
    /// In order, the first at latent frame 0.
    pub prompts: Vec<PromptSpan>,
    /// Switches that are not where they were asked for.
    pub moved: Vec<MovedSwitch>,
}

/// Switches that cannot be. Numbers of switches count from 1.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SwitchError {
    #[error("there is no prompt; give at least one")]
    NoPrompt,
    #[error("switch {number} at {asked} would replace the first prompt; put its text in place of the first prompt")]
    AtStart { number: usize, asked: Moment },
    #[error("switch {number} at {asked} comes before switch {} at {before}; give switches in order", number - 1)]
    Order {
        number: usize,
        asked: Moment,
        before: Moment,
    },
    #[error("switch {number} at {asked} is at the same time as switch {}; leave one of them out", number - 1)]
    SameTime { number: usize, asked: Moment },
    #[error(
        "switches {} at {before} and {number} at {asked} fall into one chunk, the one at {} s (latent frame {latent_frame}); \
         a chunk is made with one prompt, so keep switches at least {} s apart",
        number - 1,
        rounded(*seconds),
        rounded(*chunk_seconds)
    )]
    SameChunk {
        number: usize,
        asked: Moment,
        before: Moment,
        latent_frame: usize,
        seconds: f64,
        chunk_seconds: f64,
    },
    #[error(
        "switch {number} at {asked} is past the end: the video has {} s ({latent_frames} latent frames) and its last \
         chunk begins at {} s (latent frame {last_frame}); ask for an earlier switch or a longer video",
        rounded(*length),
        rounded(*last_seconds)
    )]
    PastEnd {
        number: usize,
        asked: Moment,
        length: f64,
        latent_frames: usize,
        last_frame: usize,
        last_seconds: f64,
    },
    #[error(
        "the prompt that takes over at {} s (latent frame {latent_frame}) cannot have the cache encoded again: the cache of \
         policy `global` ends at {capacity} latent frames; take --on-switch keep or flush, or a policy with a window",
        rounded(*seconds)
    )]
    RecacheBeyondCache {
        latent_frame: usize,
        seconds: f64,
        capacity: usize,
    },
    #[error(
        "the prompt that takes over at {} s (latent frame {latent_frame}) cannot have `{rule}`: this policy holds {what}, \
         which would be lost; take --on-switch keep, or another policy",
        rounded(*seconds)
    )]
    LosesPast {
        latent_frame: usize,
        seconds: f64,
        rule: SwitchRule,
        what: &'static str,
    },
}

/// Puts prompts on the chunks of a video of `pictures` pictures at `fps` per second. A switch takes effect with the
/// first chunk that starts at its time or later. What becomes of the cache there is not decided here.
///
/// # Errors
/// When switches are not in order, fall into one chunk or come after the start of the last chunk.
pub fn resolve_switches(
    segments: &[Segment],
    plans: &[ChunkPlan],
    pictures: usize,
    fps: u32,
) -> Result<Resolved, SwitchError> {
    let grid = Grid::new(plans, pictures, fps);
    let (first, rest) = segments.split_first().ok_or(SwitchError::NoPrompt)?;
    let mut resolved = Resolved::default();
    resolved.prompts.push(PromptSpan {
        latent_frame: 0,
        seconds: 0.0,
        text: first.text.clone(),
        on_switch: OnSwitch::Keep,
    });
    let mut before: Option<(Moment, usize)> = None;
    for (index, segment) in rest.iter().enumerate() {
        let (number, asked) = (index + 1, segment.start);
        let picture = grid.picture(asked);
        match before {
            _ if picture == 0 => return Err(SwitchError::AtStart { number, asked }),
            Some((_, at)) if picture == at => return Err(SwitchError::SameTime { number, asked }),
            Some((before, at)) if picture < at => return Err(SwitchError::Order { number, asked, before }),
            _ => {}
        }
        let latent_frame = grid.chunk_from(picture).ok_or_else(|| grid.past_end(number, asked))?;
        let seconds = grid.seconds(latent_frame);
        if let (Some(last), Some((before, _))) = (resolved.prompts.last(), before)
            && last.latent_frame == latent_frame
        {
            return Err(SwitchError::SameChunk {
                number,
                asked,
                before,
                latent_frame,
                seconds,
                chunk_seconds: grid.chunk_seconds(),
            });
        }
        if first_picture(latent_frame) != picture {
            resolved.moved.push(MovedSwitch {
                number,
                asked,
                latent_frame,
                seconds,
            });
        }
        resolved.prompts.push(PromptSpan {
            latent_frame,
            seconds,
            text: segment.text.clone(),
            on_switch: OnSwitch::Keep,
        });
        before = Some((asked, picture));
    }
    // What the user did not ask for has not moved.
    resolved
        .moved
        .retain(|moved| !matches!(moved.asked, Moment::Share { .. }));
    Ok(resolved)
}

/// Refuses switches at which a cache would have to be encoded again that cannot hold the video so far, or of which a
/// policy would lose what it lives on.
///
/// # Errors
/// With the first one.
pub fn check_recaches(prompts: &[PromptSpan], policy: &Policy) -> Result<(), SwitchError> {
    let loses = |prompt: &&PromptSpan| match prompt.on_switch {
        OnSwitch::Keep => false,
        OnSwitch::Recache { .. } => !policy.can_be_encoded_again(),
        OnSwitch::Flush | OnSwitch::Cut => policy.replay.is_some(),
    };
    if let Some(prompt) = prompts.iter().find(loses) {
        return Err(SwitchError::LosesPast {
            latent_frame: prompt.latent_frame,
            seconds: prompt.seconds,
            rule: prompt.on_switch.rule(),
            what: if policy.replay.is_some() {
                "the first frames, which it plays again"
            } else {
                "averages of frames that have left"
            },
        });
    }
    let beyond =
        |prompt: &&PromptSpan| prompt.on_switch.recaches() && prompt.latent_frame.saturating_add(1) > policy.window;
    match prompts.iter().find(beyond) {
        Some(prompt) if policy.overflow == Overflow::Full => Err(SwitchError::RecacheBeyondCache {
            latent_frame: prompt.latent_frame,
            seconds: prompt.seconds,
            capacity: policy.window,
        }),
        _ => Ok(()),
    }
}

/// First picture of a latent frame.
fn first_picture(latent_frame: usize) -> usize {
    pictures_of_latents(latent_frame)
}

/// The chunks of a video on the time line of its pictures.
struct Grid<'a> {
    plans: &'a [ChunkPlan],
    latent_frames: usize,
    pictures: usize,
    fps: f64,
}

impl<'a> Grid<'a> {
    fn new(plans: &'a [ChunkPlan], pictures: usize, fps: u32) -> Self {
        Self {
            plans,
            latent_frames: plans.last().map_or(0, |plan| plan.start + plan.frames),
            pictures,
            fps: f64::from(fps.max(1)),
        }
    }

    /// The picture at which a moment is, the nearest one for seconds.
    fn picture(&self, moment: Moment) -> usize {
        match moment {
            Moment::Seconds(seconds) => (seconds * self.fps).round() as usize,
            Moment::LatentFrame(frame) => first_picture(frame),
            Moment::Share { part, parts } => first_picture(self.latent_frames * part / parts.max(1)),
        }
    }

    /// Start of the first chunk whose pictures begin at `picture` or later, within the video.
    fn chunk_from(&self, picture: usize) -> Option<usize> {
        let starts = self.plans.iter().map(|plan| plan.start);
        let mut starts = starts.filter(|start| first_picture(*start) < self.pictures);
        starts.find(|start| first_picture(*start) >= picture)
    }

    fn seconds(&self, latent_frame: usize) -> f64 {
        let seconds = first_picture(latent_frame) as f64 / self.fps;
        // Few enough digits to survive as JSON.
        (seconds * 10_000.0).round() / 10_000.0
    }

    fn chunk_seconds(&self) -> f64 {
        let longest = self.plans.iter().map(|plan| plan.frames).max().unwrap_or(0);
        (longest * TEMPORAL_FACTOR) as f64 / self.fps
    }

    fn past_end(&self, number: usize, asked: Moment) -> SwitchError {
        let mut starts = self.plans.iter().map(|plan| plan.start);
        let last_frame = starts.rfind(|start| first_picture(*start) < self.pictures);
        let last_frame = last_frame.unwrap_or(0);
        SwitchError::PastEnd {
            number,
            asked,
            length: self.pictures as f64 / self.fps,
            latent_frames: self.latent_frames,
            last_frame,
            last_seconds: self.seconds(last_frame),
        }
    }
}

/// Hundredths, without trailing zeros.
fn rounded(seconds: f64) -> f64 {
    (seconds * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{rollout::chunk_plans, rollout::request::VideoLength};

    fn segment(start: Moment) -> Segment {
        Segment {
            text: format!("{start}"),
            start,
            on_switch: None,
        }
    }

    /// Resolves switches of a video of `seconds` seconds at 16 pictures per second in chunks of 3.
    fn resolve(seconds: f64, switches: &[Moment]) -> Result<Resolved, SwitchError> {
        let length = VideoLength::of_seconds(seconds, 16, 3, false).unwrap();
        let plans = chunk_plans(0, length.latent_frames, 3, false).unwrap();
        let segments: Vec<_> = std::iter::once(Moment::START)
            .chain(switches.iter().copied())
            .map(segment)
            .collect();
        resolve_switches(&segments, &plans, length.pictures, 16)
    }

    fn frames(resolved: &Resolved) -> Vec<usize> {
        resolved.prompts.iter().map(|span| span.latent_frame).collect()
    }

    const S: fn(f64) -> Moment = Moment::Seconds;
    const F: fn(usize) -> Moment = Moment::LatentFrame;

    #[test]
    fn a_switch_moves_to_the_next_chunk_and_says_so() {
        let resolved = resolve(60.0, &[S(12.0), F(60), F(61)]).unwrap();
        assert_eq!(frames(&resolved), [0, 51, 60, 63]);
        let numbers: Vec<_> = resolved.moved.iter().map(|moved| moved.number).collect();
        assert_eq!(numbers, [1, 3], "a switch on a boundary has not moved");
        assert_eq!(
            resolved.moved[0].to_string(),
            "switch 1 (asked at 12 s) takes effect with the next chunk, at 12.56 s (latent frame 51)"
        );
    }

    #[test]
    fn the_time_of_a_notice_can_be_typed_in() {
        for typed in [12.56, 12.5625, 12.57] {
            let resolved = resolve(60.0, &[S(typed)]).unwrap();
            assert_eq!((frames(&resolved), resolved.moved.len()), (vec![0, 51], 0), "{typed}");
        }
    }

    #[test]
    fn equal_shares_are_those_of_longlive() {
        let shares: Vec<_> = (1..6).map(|part| Moment::Share { part, parts: 6 }).collect();
        let plans = chunk_plans(0, 240, 3, false).unwrap();
        let segments: Vec<_> = std::iter::once(F(0)).chain(shares).map(segment).collect();
        let resolved = resolve_switches(&segments, &plans, pictures_of_latents(240), 16).unwrap();
        assert_eq!(frames(&resolved), [0, 42, 81, 120, 162, 201]);
        assert_eq!(resolved.moved, []);
    }

    #[test]
    fn a_cache_without_room_is_not_encoded_again() {
        let sink = crate::cache::RecacheSink::Keep;
        let span = |latent_frame, on_switch| PromptSpan {
            latent_frame,
            seconds: 2.0,
            text: "x".into(),
            on_switch,
        };
        let recaching = [span(0, OnSwitch::Keep), span(9, OnSwitch::Recache { sink })];
        assert_eq!(check_recaches(&recaching, &Policy::last(6)), Ok(()));
        assert_eq!(check_recaches(&recaching, &Policy::whole(12)), Ok(()));
        let error = check_recaches(&recaching, &Policy::whole(9)).unwrap_err().to_string();
        for part in ["latent frame 9", "ends at 9 latent frames", "--on-switch keep or flush"] {
            assert!(error.contains(part), "{error}");
        }
        let flushing = [span(0, OnSwitch::Keep), span(9, OnSwitch::Flush)];
        assert_eq!(check_recaches(&flushing, &Policy::whole(9)), Ok(()));
    }

    #[test]
    fn a_first_frame_alone_shifts_the_chunks() {
        let plans = chunk_plans(0, 7, 3, true).unwrap();
        let segments = [segment(F(0)), segment(F(1)), segment(F(2))];
        let resolved = resolve_switches(&segments, &plans, 25, 16).unwrap();
        assert_eq!(frames(&resolved), [0, 1, 4]);
    }

    #[test]
    fn switches_that_cannot_be_are_refused() {
        let error = |seconds, switches: &[Moment]| resolve(seconds, switches).unwrap_err();
        assert!(matches!(
            error(60.0, &[S(20.0), S(10.0)]),
            SwitchError::Order { number: 2, .. }
        ));
        assert!(matches!(
            error(60.0, &[F(51), S(12.5625)]),
            SwitchError::SameTime { number: 2, .. }
        ));
        assert!(matches!(
            error(60.0, &[S(12.0), S(12.2)]),
            SwitchError::SameChunk { number: 2, .. }
        ));
        assert!(matches!(error(60.0, &[S(0.0)]), SwitchError::AtStart { number: 1, .. }));
        assert_eq!(resolve_switches(&[], &[], 0, 16), Err(SwitchError::NoPrompt));
        let past = error(20.0, &[S(75.0)]).to_string();
        assert!(past.contains("the video has 20 s (81 latent frames)"), "{past}");
        assert!(
            past.contains("last chunk begins at 19.31 s (latent frame 78)"),
            "{past}"
        );
        assert!(matches!(error(20.0, &[S(19.5)]), SwitchError::PastEnd { .. }));
        assert!(matches!(error(20.0, &[S(f64::MAX)]), SwitchError::PastEnd { .. }));
        let crowded: Vec<_> = (1..6).map(|part| Moment::Share { part, parts: 6 }).collect();
        assert!(matches!(
            error(1.0, &crowded),
            SwitchError::SameChunk { .. } | SwitchError::PastEnd { .. } | SwitchError::SameTime { .. }
        ));
    }

    proptest! {
        #[test]
        fn resolved_switches_start_chunks_in_order(
            seconds in 1.0f64..120.0, times in proptest::collection::vec(0.0f64..130.0, 0..6), chunk in 1usize..5,
        ) {
            let length = VideoLength::of_seconds(seconds, 16, chunk, false).unwrap();
            let plans = chunk_plans(0, length.latent_frames, chunk, false).unwrap();
            let segments: Vec<_> = std::iter::once(F(0)).chain(times.iter().copied().map(S)).map(segment).collect();
            if let Ok(resolved) = resolve_switches(&segments, &plans, length.pictures, 16) {
                let frames = frames(&resolved);
                prop_assert!(frames.windows(2).all(|pair| pair[0] < pair[1]));
                prop_assert!(frames.iter().all(|frame| plans.iter().any(|plan| plan.start == *frame)));
                for (span, asked) in resolved.prompts[1..].iter().zip(&times) {
                    // Half a picture early at most, less than a chunk late.
                    prop_assert!(span.seconds > asked - 0.5 / 16.0 - 1e-9);
                    prop_assert!(span.seconds < asked + (4 * chunk) as f64 / 16.0 + 0.5 / 16.0);
                }
            }
        }
    }
}
