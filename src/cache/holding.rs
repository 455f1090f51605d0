//! How many tokens the cache holds, chunk by chunk and over changes of the prompt: counts alone, without slots.

use super::{Plan, Policy, RecacheSink, knobs::Ends, plan::PlanError};

/// What a change of the prompt does to the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// Its whole frames are encoded again; chosen tokens and memories are dropped.
    Recache(RecacheSink),
    /// All but the sink and the last so many latent frames is dropped, or but what the policy says that a flush keeps.
    Flush { frames: usize },
}

/// Queries and keys of self-attention, in tokens.
pub type AttentionSize = (usize, usize);

/// What a cache holds, in tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holding {
    total: usize,
    /// Tokens that Participative Compression has chosen, or of a memory; they lie behind the sink.
    chosen: usize,
    /// Whether frames between the sink and the others were dropped.
    gap: bool,
}

impl Holding {
    /// All tokens.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Chosen tokens, or those of a memory.
    pub fn chosen(&self) -> usize {
        self.chosen
    }

    /// Tokens of the sink, at `per_frame` tokens per latent frame.
    pub fn sink(&self, policy: &Policy, per_frame: usize) -> usize {
        (policy.sink * per_frame).min(self.total)
    }

    /// Takes a chunk of `incoming` tokens; true when room was made for it.
    ///
    /// # Errors
    /// [`PlanError::Full`], and the cache is as before.
    pub fn take(&mut self, policy: &Policy, incoming: usize, per_frame: usize) -> Result<bool, PlanError> {
        let plan = Plan::make(policy, self.total, incoming, per_frame)?;
        self.total += incoming;
        let Some(plan) = plan else { return Ok(false) };
        // Fewer are chosen only where choices are limited and most were made.
        let selected = plan.select.min(plan.candidates.len());
        let dropped = plan.candidates.len() - selected;
        self.total -= dropped;
        self.gap |= dropped > 0 && plan.sink > 0;
        self.chosen = match policy.selection {
            Some(_) => selected,
            None => policy.memory() * per_frame,
        };
        Ok(true)
    }

    /// Leaves no more than `tokens`, of chunks that were made anew.
    pub fn cap(&mut self, tokens: usize) {
        self.total = self.total.min(tokens);
        self.chosen = self.chosen.min(tokens);
    }

    /// Changes the prompt; the size of the attention of the pass that this takes, if it takes one
    /// ([`super::Rewrite`]).
    pub fn switch(&mut self, policy: &Policy, switch: Switch, per_frame: usize) -> Option<AttentionSize> {
        match switch {
            Switch::Recache(sink) => self.recache(policy, sink, per_frame),
            Switch::Flush { frames } => {
                let Ends { first, last } = policy.flush.unwrap_or(Ends {
                    first: policy.sink,
                    last: frames,
                });
                let sink = (first * per_frame).min(self.total);
                let tail = self.total.saturating_sub(last * per_frame).max(sink);
                if sink < tail {
                    (self.total, self.chosen) = (sink + self.total - tail, 0);
                    self.gap |= sink > 0;
                }
                None
            }
        }
    }

    fn recache(&mut self, policy: &Policy, sink: RecacheSink, per_frame: usize) -> Option<AttentionSize> {
        let whole = self.total - self.chosen;
        let kept = match sink {
            RecacheSink::Keep if self.gap => (policy.sink * per_frame).min(whole),
            RecacheSink::Keep | RecacheSink::Encode | RecacheSink::Renew => 0,
        };
        if whole == kept {
            return None;
        }
        (self.total, self.chosen) = (whole, 0);
        self.gap &= sink != RecacheSink::Renew;
        Some((whole - kept, whole))
    }
}

/// The sizes of self-attention over chunks of so many latent frames, each with what the prompt's change before it does,
/// each size once: what a device can prepare for. Chunks after a full `global` cache are left out.
pub fn attention_sizes(
    policy: &Policy,
    per_frame: usize,
    chunks: impl IntoIterator<Item = (usize, Option<Switch>)>,
) -> Vec<AttentionSize> {
    let (mut sizes, mut holding) = (Vec::new(), Holding::default());
    let mut note = |size| {
        if !sizes.contains(&size) {
            sizes.push(size);
        }
    };
    for (frames, switch) in chunks {
        let pass = switch.and_then(|switch| holding.switch(policy, switch, per_frame));
        pass.into_iter().for_each(&mut note);
        let incoming = frames * per_frame;
        if holding.take(policy, incoming, per_frame).is_err() {
            break;
        }
        note((incoming, holding.total()));
    }
    sizes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{
        CacheSettings, PolicyName, Rewrite, Slot,
        edit::{Scene, edits},
        plan::{ChunkSpan, Made},
    };
    use super::*;

    fn policy(name: &str) -> Policy {
        let settings = CacheSettings {
            policy: name.parse().unwrap(),
            ..CacheSettings::default()
        };
        settings.resolve(3, 240).unwrap()
    }

    fn sizes(name: &str, chunks: &[(usize, Option<Switch>)]) -> Vec<AttentionSize> {
        attention_sizes(&policy(name), 10, chunks.iter().copied())
    }

    #[test]
    fn attention_sizes_are_those_of_the_whole_video() {
        let chunks = [(3, None); 80];
        let mut growing: Vec<_> = (1..=7).map(|chunk| (30, 30 * chunk)).collect();
        assert_eq!(sizes("fifo", &chunks), growing);
        growing.extend([(30, 160), (30, 190)]);
        assert_eq!(sizes("deep-forcing", &chunks), growing);
    }

    #[test]
    fn a_switch_has_a_size_of_its_own() {
        let mut chunks = [(3, None); 20];
        chunks[12].1 = Some(Switch::Recache(RecacheSink::Keep));
        // 21 frames, of which the sink of 10 stays.
        assert_eq!(sizes("sink", &chunks).last(), Some(&(110, 210)));
        chunks[12].1 = Some(Switch::Recache(RecacheSink::Encode));
        // Sink 10 + recent 4, without the 2 chosen ones; then 3 more.
        let found = sizes("deep-forcing", &chunks);
        assert!(found.contains(&(140, 140)) && found.contains(&(30, 170)), "{found:?}");
        chunks[12].1 = Some(Switch::Flush { frames: 3 });
        let found = sizes("fifo", &chunks);
        assert_eq!(found, sizes("fifo", &[(3, None); 20]));
    }

    /// The cache as slots, at two tokens per latent frame.
    struct Slots {
        slots: Vec<Slot>,
        frame: u64,
    }

    const PER_FRAME: usize = 2;

    impl Slots {
        fn take(&mut self, policy: &Policy, frames: usize) {
            let plan = Plan::make(policy, self.slots.len(), frames * PER_FRAME, PER_FRAME).unwrap();
            let span = ChunkSpan {
                start: self.frame,
                frames,
            };
            for at in 0..frames * PER_FRAME {
                let frame = self.frame + (at / PER_FRAME) as u64;
                self.slots.push(Slot::of_frame(frame, 0, (at % PER_FRAME) as u32));
            }
            self.frame += frames as u64;
            if let Some(plan) = plan {
                let scene = Scene {
                    slots: &self.slots.clone(),
                    stored: &[],
                    origin: 0,
                    chunk: span,
                    per_frame: PER_FRAME,
                };
                for edit in edits(policy, &plan, scene) {
                    edit.note(&mut self.slots);
                }
                let selected: Vec<usize> = plan.candidates.clone().take(plan.select).collect();
                self.slots = plan.carry_out(policy, &self.slots, &selected, span, PER_FRAME).slots;
            }
        }

        fn recache(&mut self, policy: &Policy, sink: RecacheSink) -> Option<AttentionSize> {
            let rewrite = Rewrite::plan(policy, &self.slots, PER_FRAME, sink)?;
            let queries = rewrite.places.len() * PER_FRAME;
            self.slots = rewrite.carry_out(&self.slots, 1, PER_FRAME as u32);
            Some((queries, self.slots.len()))
        }
    }

    fn sinks() -> impl Strategy<Value = Option<RecacheSink>> {
        prop_oneof![
            3 => Just(None),
            1 => Just(Some(RecacheSink::Keep)),
            1 => Just(Some(RecacheSink::Renew)),
            1 => Just(Some(RecacheSink::Encode)),
        ]
    }

    proptest! {
        #[test]
        fn counts_are_those_of_the_slots(
            name in prop::sample::select(PolicyName::NAMES),
            sink in 0usize..12,
            switches in prop::collection::vec(sinks(), 1..40),
        ) {
            let name: PolicyName = name.parse().unwrap();
            let heads = "1x4:5".parse().unwrap();
            let settings = CacheSettings { policy: name, sink, heads, ..CacheSettings::default() };
            // Some allow but few sinks.
            let policy = settings.resolve(3, 240);
            let policy = policy.or_else(|_| name.released().over(&settings).resolve(3, 240)).unwrap();
            let mut slots = Slots { slots: Vec::new(), frame: 0 };
            let mut holding = Holding::default();
            for switch in switches {
                if let Some(sink) = switch {
                    let expected = slots.recache(&policy, sink);
                    prop_assert_eq!(holding.switch(&policy, Switch::Recache(sink), PER_FRAME), expected);
                }
                slots.take(&policy, 3);
                holding.take(&policy, 3 * PER_FRAME, PER_FRAME).unwrap();
                prop_assert_eq!(holding.total(), slots.slots.len());
                let chosen = slots.slots.iter().filter(|slot| slot.reuses > 0 || matches!(slot.made, Made::Memory(_))).count();
                prop_assert_eq!(holding.chosen(), chosen);
            }
        }
    }
}
