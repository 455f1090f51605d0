//! What the cache holds over time, from the planning code alone, without tensors.

use std::fmt;

use serde::Serialize;

use crate::{
    cache::{Holding, Switch, rules::CONTEXT_CHUNKS, window},
    recipe::Recipe,
    rollout::{LoopKind, SwitchRule, chunk_plans, prompt_at},
    vae::pictures_of_latents,
};

/// What is held while a chunk is denoised, the chunk included, in latent frames.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CacheState {
    /// Number of the chunk, from 0.
    pub chunk: usize,
    /// When its pictures begin.
    pub seconds: f64,
    pub sink: usize,
    /// Frames' worth of tokens chosen by score from all between sink and recent frames, fewer when too many of them
    /// have reached the reuse limit; or frames that are averages of what has left.
    pub memory: usize,
    /// Frames that stand for others: the first ones played again, or chunks that were made anew.
    #[serde(skip_serializing_if = "is_zero")]
    pub replaced: usize,
    /// The newest frames, the chunk included.
    pub recent: usize,
    /// Frames before room was made, if it had to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_room_from: Option<usize>,
    /// What a change of the prompt did before the chunk, if it did anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switched: Option<Switched>,
    /// Chunks after which the states repeat from here on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeats_after: Option<usize>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// A cache that was encoded again or flushed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Switched {
    pub rule: SwitchRule,
    /// Latent frames that are left of it.
    pub left: usize,
}

impl CacheState {
    /// Latent frames in all.
    pub fn held(&self) -> usize {
        self.sink + self.memory + self.replaced + self.recent
    }

    fn same(&self, other: &Self) -> bool {
        let key = |state: &Self| {
            (
                state.sink,
                state.memory,
                state.replaced,
                state.recent,
                state.made_room_from,
            )
        };
        key(self) == key(other)
    }
}

impl fmt::Display for CacheState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = (self.seconds * 100.0).round() / 100.0;
        write!(f, "chunk {} ({seconds} s): ", self.chunk)?;
        if let Some(Switched { rule, left }) = self.switched {
            write!(f, "new prompt, {rule} leaves {left}; ")?;
        }
        write!(f, "{}", self.held())?;
        if let Some(total) = self.made_room_from {
            write!(f, " left of {total}")?;
        }
        let kinds = [
            ("sink", self.sink),
            ("memory", self.memory),
            ("replaced", self.replaced),
            ("recent", self.recent),
        ];
        let kinds: Vec<_> = kinds
            .iter()
            .filter(|(_, n)| *n > 0)
            .map(|(kind, n)| format!("{kind} {n}"))
            .collect();
        write!(f, " = {}", kinds.join(" + "))?;
        match self.repeats_after {
            Some(1) => f.write_str("; from here on the same"),
            Some(chunks) => write!(f, "; from here on every {chunks} chunks again"),
            None => Ok(()),
        }
    }
}

/// The states of the cache that tell the story of a video: the first chunk, the last one before room is made, and from
/// then on every chunk until the states repeat; and the same again where a change of the prompt has rewritten or flushed
/// the cache. Empty when the recipe's cache settings break a rule.
pub fn composition(recipe: &Recipe) -> Vec<CacheState> {
    let states = all_states(recipe);
    states
        .chunk_by(|_, next| next.switched.is_none())
        .flat_map(told)
        .collect()
}

/// Those of `states`, which no change of the prompt divides, that tell the story.
fn told(states: &[CacheState]) -> Vec<CacheState> {
    let mut told: Vec<CacheState> = Vec::new();
    let Some(first_event) = states.iter().position(|state| state.made_room_from.is_some()) else {
        told.extend(states.first().cloned());
        told.extend(states.last().filter(|_| states.len() > 1).cloned());
        return told;
    };
    if first_event > 0 {
        told.push(states[0].clone());
    }
    if first_event > 1 {
        told.push(states[first_event - 1].clone());
    }
    for (index, state) in states.iter().enumerate().skip(first_event) {
        // The first states after the overflow may differ from those that repeat.
        let earlier = (first_event..index).rev().find(|earlier| states[*earlier].same(state));
        if let Some(earlier) = earlier {
            let period = index - earlier;
            if let Some(begin) = told.iter_mut().find(|told| told.chunk == states[earlier].chunk) {
                begin.repeats_after = Some(period);
            }
            break;
        }
        told.push(state.clone());
    }
    told
}

/// The state at each chunk.
pub(super) fn all_states(recipe: &Recipe) -> Vec<CacheState> {
    let (video, rollout) = (&recipe.video, recipe.rollout);
    let given = recipe.start.as_ref().map_or(0, |start| start.latent_frames);
    let generated = video.latent_frames.saturating_sub(given);
    let plans = chunk_plans(given, generated, rollout.chunk, rollout.first_frame_alone);
    let policy = recipe.cache.resolve(rollout.chunk, video.latent_frames);
    let (Ok(plans), Ok(mut policy)) = (plans, policy) else {
        return Vec::new();
    };
    if rollout.kind == LoopKind::Rolling {
        policy.window = window::capacity(&policy, rollout.chunk);
    }
    // One token per latent frame: counts of tokens are counts of frames.
    let mut holding = Holding::default();
    let is_made_anew = |chunk| policy.context.is_some_and(|context| chunk >= context.native);
    let mut states = Vec::with_capacity(plans.len());
    for (chunk, span) in plans.iter().enumerate() {
        let before = chunk.checked_sub(1).and_then(|before| plans.get(before));
        let number = |start| prompt_at(&recipe.prompts, |prompt| prompt.latent_frame, start);
        let change = before.filter(|before| number(before.start) != number(span.start));
        let switched = change.and_then(|before| {
            let rule = recipe.prompts.get(number(span.start))?.on_switch;
            match rule.of_cache(before.frames)? {
                // The chunks that were made anew are made once more, under the new prompt.
                Switch::Recache(_) if is_made_anew(chunk) => holding.cap((CONTEXT_CHUNKS - 1) * rollout.chunk),
                switch => drop(holding.switch(&policy, switch, 1)),
            }
            Some(Switched {
                rule: rule.rule(),
                left: holding.total(),
            })
        });
        let held_before = holding.total() + span.frames;
        let Ok(made_room) = holding.take(&policy, span.frames, 1) else {
            break;
        };
        let made_room_from = made_room.then_some(held_before);
        if is_made_anew(chunk) {
            holding.cap(CONTEXT_CHUNKS * rollout.chunk);
        }
        let (held, memory) = (holding.total(), holding.chosen());
        let sink = holding.sink(&policy, 1);
        let replaced = match (policy.replay, is_made_anew(chunk)) {
            (_, true) => held.saturating_sub(sink + span.frames),
            // All but the last chunk and the current one; before the first of these frames left they are themselves.
            (Some(_), false) => {
                let past = held.saturating_sub(2 * span.frames);
                past.min(span.start.saturating_sub(span.frames + policy.window - rollout.chunk))
            }
            (None, false) => 0,
        };
        states.push(CacheState {
            chunk,
            seconds: pictures_of_latents(span.start) as f64 / f64::from(video.fps.max(1)),
            sink,
            memory,
            replaced,
            recent: held.saturating_sub(sink + memory + replaced),
            made_room_from,
            switched,
            repeats_after: None,
        });
    }
    states
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cache::{CacheSettings, PolicyName, RecacheSink},
        models::DecoderKind,
        prompts::PromptSpan,
        recipe::{ModelRecord, VideoRecord},
    };

    fn recipe(policy: &str, latent_frames: usize) -> Recipe {
        let model = ModelRecord {
            model: None,
            preset: "toy".into(),
            decoder: DecoderKind::Wan,
            files: Vec::new(),
        };
        Recipe {
            video: VideoRecord {
                width: 64,
                height: 64,
                fps: 16,
                pictures: pictures_of_latents(latent_frames),
                latent_frames,
            },
            cache: CacheSettings {
                policy: policy.parse().unwrap(),
                ..CacheSettings::default()
            },
            ..Recipe::new(model)
        }
    }

    fn told(policy: &str, latent_frames: usize) -> Vec<String> {
        let mut recipe = recipe(policy, latent_frames);
        recipe.cache = recipe.cache.policy.released().over(&recipe.cache);
        composition(&recipe).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn deep_forcing_compresses_every_other_chunk() {
        assert_eq!(
            told("deep-forcing", 240),
            [
                "chunk 0 (0 s): 3 = sink 3",
                "chunk 6 (4.31 s): 21 = sink 10 + recent 11",
                "chunk 7 (5.06 s): 16 left of 24 = sink 10 + memory 2 + recent 4",
                "chunk 8 (5.81 s): 19 = sink 10 + memory 2 + recent 7; from here on every 2 chunks again",
                "chunk 9 (6.56 s): 16 left of 22 = sink 10 + memory 2 + recent 4",
            ]
        );
    }

    #[test]
    fn windows_stay_full() {
        assert_eq!(
            told("deep-sink", 240).last().unwrap(),
            "chunk 7 (5.06 s): 21 left of 24 = sink 10 + recent 11; from here on the same"
        );
        assert_eq!(
            told("fifo", 240).last().unwrap(),
            "chunk 7 (5.06 s): 21 left of 24 = recent 21; from here on the same"
        );
        assert_eq!(
            told("global", 240),
            ["chunk 0 (0 s): 3 = recent 3", "chunk 79 (59.06 s): 240 = recent 240"]
        );
        assert_eq!(told("sink", 3), ["chunk 0 (0 s): 3 = sink 3"]);
    }

    #[test]
    fn memories_and_frames_that_stand_for_others_are_told() {
        for (policy, expected) in [
            (
                "memrope",
                "chunk 4 (2.81 s): 12 left of 15 = sink 3 + memory 2 + recent 7; from here on the same",
            ),
            (
                "ema-sink",
                "chunk 3 (2.06 s): 9 left of 12 = sink 3 + recent 6; from here on the same",
            ),
            (
                "infinity-rope",
                "chunk 2 (1.31 s): 6 left of 9 = sink 1 + recent 5; from here on the same",
            ),
        ] {
            assert_eq!(told(policy, 240).last().unwrap(), expected, "{policy}");
        }
        let rolling = told("rolling-sink", 240);
        assert!(
            rolling.last().unwrap().contains("replaced 15 + recent 6"),
            "{rolling:?}"
        );
        let anew = told("id-forcing", 240);
        assert!(
            anew.last().unwrap().contains("12 = sink 3 + replaced 6 + recent 3"),
            "{anew:?}"
        );
    }

    #[test]
    fn switches_are_told() {
        let mut recipe = recipe("deep-forcing", 240);
        let span = |latent_frame, rule: SwitchRule| PromptSpan {
            text: "a".into(),
            latent_frame,
            seconds: 0.0,
            on_switch: rule.with_sink(RecacheSink::Encode),
        };
        recipe.prompts = vec![
            span(0, SwitchRule::Keep),
            span(60, SwitchRule::Recache),
            span(90, SwitchRule::Keep),
            span(120, SwitchRule::Flush),
        ];
        let told: Vec<_> = composition(&recipe).iter().map(ToString::to_string).collect();
        assert_eq!(
            told[4..],
            [
                "chunk 9 (6.56 s): 16 left of 22 = sink 10 + memory 2 + recent 4",
                "chunk 20 (14.81 s): new prompt, recache leaves 14; 17 = sink 10 + recent 7",
                "chunk 21 (15.56 s): 20 = sink 10 + recent 10",
                "chunk 22 (16.31 s): 16 left of 23 = sink 10 + memory 2 + recent 4",
                "chunk 23 (17.06 s): 19 = sink 10 + memory 2 + recent 7; from here on every 2 chunks again",
                "chunk 24 (17.81 s): 16 left of 22 = sink 10 + memory 2 + recent 4",
                "chunk 40 (29.81 s): new prompt, flush leaves 13; 16 = sink 10 + recent 6",
                "chunk 41 (30.56 s): 19 = sink 10 + recent 9",
                "chunk 42 (31.31 s): 16 left of 22 = sink 10 + memory 2 + recent 4; from here on every 2 chunks again",
                "chunk 43 (32.06 s): 19 = sink 10 + memory 2 + recent 7",
            ]
        );
    }

    #[test]
    fn never_more_than_the_window_is_held() {
        for policy in PolicyName::NAMES.iter().copied() {
            for budget in 14..=21 {
                let mut recipe = recipe(policy, 300);
                recipe.cache.budget = budget;
                recipe.cache = recipe.cache.policy.released().over(&recipe.cache);
                recipe.cache.heads = "1x4:5".parse().unwrap();
                let window = recipe.cache.resolve(3, 300).unwrap().window;
                let states = all_states(&recipe);
                assert_eq!(states.len(), 100);
                for state in states {
                    // While everything is in the sink, nothing else is recent.
                    let recent = state.recent >= 1 || state.held() <= recipe.cache.sink;
                    assert!(state.held() <= window && recent, "{policy}, budget {budget}: {state}");
                }
            }
        }
    }

    #[test]
    fn impossible_settings_have_no_states() {
        let mut recipe = recipe("deep-forcing", 240);
        recipe.cache.sink = 20;
        assert_eq!(composition(&recipe), []);
    }
}
