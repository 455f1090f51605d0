//! Properties of cache plans: for any legal parameters and any number of chunks, without tensors.

use deepforcing::cache::{
    CacheSettings, Placement, Plan, Policy, PolicyError, PolicyName, Positions, Selection, Slot,
    plan::{ChunkSpan, PlanError, reposition},
    score,
};
use proptest::prelude::*;

/// A legal run: parameters that [`CacheSettings::resolve`] takes, and the chunks of a video.
#[derive(Debug, Clone)]
struct Run {
    settings: CacheSettings,
    chunk: usize,
    per_frame: usize,
    first_alone: bool,
    chunks: usize,
    first_position: u64,
    preference: Preference,
    seed: u64,
}

/// Which candidates the scores prefer.
#[derive(Debug, Clone, Copy)]
enum Preference {
    Random,
    Oldest,
    Newest,
    None,
    /// Infinite and undefined scores among random ones.
    Broken,
}

impl Preference {
    fn scores(self, count: usize, seed: u64, start: u64) -> Vec<f32> {
        let random = score::random_scores(count, seed, 0, start);
        match self {
            Self::Random => random,
            Self::Oldest => (0..count).map(|i| -(i as f32)).collect(),
            Self::Newest => (0..count).map(|i| i as f32).collect(),
            Self::None => vec![0.5; count],
            Self::Broken => {
                let wild = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -f32::NAN];
                let pick = |(i, s): (usize, f32)| wild.get(i % 7).copied().unwrap_or(s);
                random.into_iter().enumerate().map(pick).collect()
            }
        }
    }
}

/// A policy, with positions and parameters that obey the rules for chunks of `chunk` frames.
fn legal_settings(chunk: usize) -> impl Strategy<Value = CacheSettings> {
    let policy = prop::sample::select(vec![
        PolicyName::Fifo,
        PolicyName::Sink,
        PolicyName::SinkRerope,
        PolicyName::DeepSink,
        PolicyName::DeepForcing,
        PolicyName::DeepForcing,
    ]);
    let positions = prop::sample::select(vec![Positions::Official, Positions::Paper]);
    let sink = (0..=20usize).prop_flat_map(move |room| (Just(chunk + room), 0..=room));
    let recent = sink.prop_flat_map(move |(window, sink)| (Just(window), Just(sink), chunk..=window - sink));
    let budget =
        recent.prop_flat_map(|(window, sink, recent)| (Just(window), Just(sink), Just(recent), sink + recent..=window));
    (policy, positions, budget, 0..=8u32).prop_map(
        |(policy, positions, (window, sink, recent, budget), reuse_limit)| CacheSettings {
            policy,
            window,
            sink,
            budget,
            recent,
            reuse_limit,
            positions,
            ..CacheSettings::default()
        },
    )
}

fn legal_run() -> impl Strategy<Value = Run> {
    let preference = prop::sample::select(vec![
        Preference::Random,
        Preference::Random,
        Preference::Oldest,
        Preference::Newest,
        Preference::None,
        Preference::Broken,
    ]);
    let first_position = prop::sample::select(vec![0, 7, 100_000]);
    let rest = (1..=6usize, any::<bool>(), 60..=90usize, preference, any::<u64>());
    (
        (1..=5usize).prop_flat_map(|chunk| (Just(chunk), legal_settings(chunk))),
        rest,
        first_position,
    )
        .prop_map(|((chunk, settings), rest, first_position)| {
            let (per_frame, first_alone, chunks, preference, seed) = rest;
            Run {
                settings,
                chunk,
                per_frame,
                first_alone,
                chunks,
                first_position,
                preference,
                seed,
            }
        })
}

/// The bookkeeping of one layer's cache.
#[derive(Debug, Clone, PartialEq)]
struct Cache {
    policy: Policy,
    per_frame: usize,
    slots: Vec<Slot>,
}

/// What happened when a chunk was written.
struct Step {
    start: u64,
    frames: usize,
    /// Slots before, the incoming chunk included.
    before: Vec<Slot>,
    /// The plan and the indices that were selected, when the chunk did not fit.
    event: Option<(Plan, Vec<usize>)>,
}

impl Cache {
    fn new(policy: Policy, per_frame: usize) -> Self {
        Self {
            policy,
            per_frame,
            slots: Vec::new(),
        }
    }

    fn write(&mut self, start: u64, frames: usize, scores: impl Fn(usize) -> Vec<f32>) -> Result<Step, PlanError> {
        let per_frame = self.per_frame;
        let plan = Plan::make(&self.policy, self.slots.len(), frames * per_frame, per_frame)?;
        for frame in start..start + frames as u64 {
            self.slots
                .extend((0..per_frame as u32).map(|column| Slot::of_frame(frame, 0, column)));
        }
        let before = self.slots.clone();
        let event = plan.map(|plan| {
            let selected = self.select(&plan, scores(plan.candidates.len()));
            self.slots = plan.kept(&selected).iter().map(|i| self.slots[*i]).collect();
            let span = ChunkSpan { start, frames };
            let (sink, count) = (plan.sink, selected.len());
            reposition(&self.policy, &mut self.slots, sink, count, span, per_frame);
            (plan, selected)
        });
        Ok(Step {
            start,
            frames,
            before,
            event,
        })
    }

    fn select(&mut self, plan: &Plan, scores: Vec<f32>) -> Vec<usize> {
        let Some(Selection { reuse_limit, .. }) = self.policy.selection else {
            return Vec::new();
        };
        let candidates = &self.slots[plan.candidates.clone()];
        let selected = score::choose(&scores, candidates, plan.candidates.start, plan.select, reuse_limit);
        for index in &selected {
            self.slots[*index].reuses += 1;
        }
        selected
    }
}

impl Run {
    fn policy(&self) -> Policy {
        self.settings.resolve(self.chunk, self.chunk * self.chunks).unwrap()
    }

    /// Writes all chunks and shows every step with the cache after it.
    fn each(&self, mut check: impl FnMut(&Step, &Cache) -> Result<(), TestCaseError>) -> Result<Cache, TestCaseError> {
        let mut cache = Cache::new(self.policy(), self.per_frame);
        let mut start = self.first_position;
        for index in 0..self.chunks {
            let frames = if self.first_alone && index == 0 { 1 } else { self.chunk };
            let scores = |count| self.preference.scores(count, self.seed, start);
            let step = cache.write(start, frames, scores).unwrap();
            check(&step, &cache)?;
            start += frames as u64;
        }
        Ok(cache)
    }
}

fn key(slot: &Slot) -> (u64, u32, u32) {
    (slot.frame, slot.row, slot.column)
}

/// Frame and column of every slot of whole frames.
fn whole(first: u64, frames: usize, per_frame: usize) -> Vec<(u64, u32, u32)> {
    let frames = first..first + frames as u64;
    frames
        .flat_map(|frame| (0..per_frame as u32).map(move |column| (frame, 0, column)))
        .collect()
}

fn keys(slots: &[Slot]) -> Vec<(u64, u32, u32)> {
    slots.iter().map(key).collect()
}

/// Sink whole and first, recent whole and last, in order of origin, nothing twice, never above the window.
fn check_content(run: &Run, step: &Step, cache: &Cache) -> Result<(), TestCaseError> {
    let (policy, n) = (&cache.policy, run.per_frame);
    let end = step.start + step.frames as u64;
    let written = (end - run.first_position) as usize;
    prop_assert!(cache.slots.len() <= policy.window * n, "window exceeded");
    prop_assert!(
        step.before.len() <= (policy.window + run.chunk) * n,
        "more than the buffers hold"
    );
    prop_assert!(
        cache.slots.windows(2).all(|pair| key(&pair[0]) < key(&pair[1])),
        "order of origin"
    );
    let sink = policy.sink.min(written);
    prop_assert_eq!(keys(&cache.slots[..sink * n]), whole(run.first_position, sink, n));
    let recent = policy
        .selection
        .map_or(policy.window - policy.sink, |selection| selection.recent);
    let recent = recent.min(written);
    let tail = &cache.slots[cache.slots.len() - recent * n..];
    prop_assert_eq!(keys(tail), whole(end - recent as u64, recent, n));
    match (&step.event, policy.selection) {
        (None, _) => prop_assert_eq!(&cache.slots, &step.before, "a chunk that fits changes nothing"),
        (Some(_), Some(Selection { budget, .. })) => prop_assert!(cache.slots.len() <= budget * n),
        (Some(_), None) => prop_assert_eq!(cache.slots.len(), policy.window * n),
    }
    prop_assert_eq!(step.event.is_some(), step.before.len() > policy.window * n);
    Ok(())
}

/// The best candidates of those below the reuse limit, in cache order, as many as there is room for.
fn check_selection(run: &Run, step: &Step, cache: &Cache) -> Result<(), TestCaseError> {
    let (Some((plan, selected)), limit) = (&step.event, run.settings.reuse_limit) else {
        return Ok(());
    };
    let kept = plan.kept(selected);
    prop_assert!(kept.windows(2).all(|pair| pair[0] < pair[1]), "cache order");
    if cache.policy.selection.is_none() {
        prop_assert_eq!((plan.select, selected.len()), (0, 0));
        return Ok(());
    }
    let scores = run.preference.scores(plan.candidates.len(), run.seed, step.start);
    let eligible: Vec<usize> = plan
        .candidates
        .clone()
        .filter(|i| limit == 0 || step.before[*i].reuses < limit)
        .collect();
    prop_assert_eq!(selected.len(), plan.select.min(eligible.len()));
    prop_assert!(selected.iter().all(|i| eligible.contains(i)));
    let score_of = |i: usize| scores[i - plan.candidates.start];
    let rejected = eligible.iter().filter(|i| !selected.contains(*i));
    let best_rejected = rejected.map(|i| score_of(*i)).max_by(f32::total_cmp);
    if let Some(best) = best_rejected {
        prop_assert!(selected.iter().all(|i| score_of(*i).total_cmp(&best).is_ge()));
    }
    for (slot, from) in cache.slots.iter().zip(&kept) {
        let chosen = u32::from(selected.contains(from));
        prop_assert_eq!(slot.reuses, step.before[*from].reuses + chosen);
        prop_assert!(limit == 0 || slot.reuses <= limit);
    }
    Ok(())
}

/// Temporal positions, from the rules as written in docs/algorithms/deep_forcing.md sections 1 to 3.
fn check_positions(run: &Run, step: &Step, cache: &Cache) -> Result<(), TestCaseError> {
    let n = run.per_frame;
    let end = (step.start as usize + step.frames) as i64;
    prop_assert!(
        cache.slots.iter().all(|slot| slot.position < end),
        "nothing lies in the future"
    );
    let Some((plan, selected)) = &step.event else {
        return Ok(());
    };
    let (sink, rest) = cache.slots.split_at(plan.sink);
    let (start, sink_frames) = (step.start as i64, cache.policy.sink as i64);
    let at_origin = |slots: &[Slot]| slots.iter().all(|slot| slot.position == slot.frame as i64);
    let frames_from = |slots: &[Slot], first: i64| {
        let expected = |i: usize| first + (i / n) as i64;
        slots.iter().enumerate().all(|(i, slot)| slot.position == expected(i))
    };
    match (cache.policy.placement, cache.policy.selection) {
        (Placement::Origin, _) => prop_assert!(at_origin(&cache.slots)),
        (Placement::Consecutive, None) => {
            // Everything that is left occupies consecutive positions up to the end of the chunk.
            prop_assert!(at_origin(rest));
            prop_assert!(frames_from(&cache.slots, end - (cache.slots.len() / n) as i64));
        }
        (Placement::Official { .. }, None) => {
            prop_assert!(at_origin(rest));
            prop_assert!(frames_from(sink, start - cache.policy.window as i64));
        }
        (Placement::Consecutive, Some(Selection { recent, .. })) => {
            let (top, recent_slots) = rest.split_at(selected.len());
            let first_recent = end - recent as i64;
            let first_top = first_recent - top.len().div_ceil(n) as i64;
            prop_assert!(at_origin(recent_slots) && frames_from(recent_slots, first_recent));
            prop_assert!(frames_from(top, first_top));
            prop_assert!(frames_from(sink, first_top - sink_frames));
        }
        (Placement::Official { .. }, Some(_)) => {
            prop_assert!(at_origin(rest));
            let tail = (rest.len() / n) as i64;
            prop_assert!(frames_from(sink, start - tail - sink_frames));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_right_tokens_stay(run in legal_run()) {
        run.each(|step, cache| check_content(&run, step, cache))?;
    }

    #[test]
    fn the_best_candidates_are_selected_and_none_too_often(run in legal_run()) {
        run.each(|step, cache| check_selection(&run, step, cache))?;
    }

    #[test]
    fn positions_are_those_of_the_rule(run in legal_run()) {
        run.each(|step, cache| check_positions(&run, step, cache))?;
    }

    /// Only differences of positions matter: a video that starts elsewhere is the same video.
    #[test]
    fn a_shifted_video_has_shifted_positions(run in legal_run(), shift in 1..1_000_000u64) {
        let there = Run { first_position: run.first_position + shift, preference: Preference::Newest, ..run.clone() };
        let here = Run { preference: Preference::Newest, ..run };
        let (here, mut there) = (here.each(|_, _| Ok(()))?, there.each(|_, _| Ok(()))?);
        for slot in &mut there.slots {
            slot.frame -= shift;
            slot.position -= shift as i64;
        }
        prop_assert_eq!(here.slots, there.slots);
    }

    #[test]
    fn the_same_run_gives_the_same_cache(run in legal_run()) {
        prop_assert_eq!(run.each(|_, _| Ok(()))?, run.each(|_, _| Ok(()))?);
    }

    /// Ten times the length: never more slots than the buffers were made for.
    #[test]
    fn memory_does_not_grow_with_length(run in legal_run()) {
        let run = Run { chunks: 10 * run.chunks, ..run };
        let capacity = (run.policy().window + run.chunk) * run.per_frame;
        run.each(|step, cache| {
            prop_assert!(step.before.len() <= capacity && cache.slots.len() <= capacity);
            Ok(())
        })?;
    }

    #[test]
    fn a_global_cache_keeps_everything_and_ends_with_an_error(chunk in 1..=5usize, chunks in 1..=30usize, n in 1..=6usize) {
        let settings = CacheSettings { policy: PolicyName::Global, ..CacheSettings::default() };
        let frames = chunk * chunks;
        let mut cache = Cache::new(settings.resolve(chunk, frames).unwrap(), n);
        for index in 0..chunks {
            let step = cache.write((index * chunk) as u64, chunk, |_| Vec::new()).unwrap();
            prop_assert!(step.event.is_none());
        }
        prop_assert_eq!(keys(&cache.slots), whole(0, frames, n));
        let error = cache.write(frames as u64, chunk, |_| Vec::new()).err();
        prop_assert_eq!(error, Some(PlanError::Full { capacity: frames }));
    }

    /// Settings are taken if and only if no rule is broken, and the rule that is named is one that is broken.
    #[test]
    fn illegal_settings_are_refused_by_a_rule_they_break(
        policy in prop::sample::select(PolicyName::NAMES),
        chunk in 0..=6usize,
        sizes in prop::array::uniform4(size()),
    ) {
        let [window, sink, budget, recent] = sizes;
        let policy: PolicyName = policy.parse().unwrap();
        let settings = CacheSettings { policy, window, sink, budget, recent, ..CacheSettings::default() };
        let wide = |a: usize, b: usize| a as u128 + b as u128;
        let has = |name: &str| policy.parameters().any(|parameter| parameter.name == name);
        let (bounded, has_sink, compresses) = (has("window"), has("sink"), has("budget"));
        let broken = [
            chunk == 0,
            bounded && window > 4096,
            bounded && window < chunk,
            has_sink && bounded && wide(sink, chunk) > window as u128,
            compresses && recent < chunk,
            compresses && budget > window,
            compresses && wide(sink, recent) > budget as u128,
        ];
        match settings.resolve(chunk, 240) {
            Ok(_) => prop_assert_eq!(broken, [false; 7]),
            // The others have rules of their own, and sizes that follow from others.
            Err(_) if !FIRST_POLICIES.contains(&policy.to_string().as_str()) => {}
            Err(error) => {
                let named = match error {
                    PolicyError::EmptyChunk => 0,
                    PolicyError::WindowTooLarge { .. } => 1,
                    PolicyError::WindowBelowChunk { .. } => 2,
                    PolicyError::SinkAboveWindow { .. } => 3,
                    PolicyError::RecentBelowChunk { .. } => 4,
                    PolicyError::BudgetAboveWindow { .. } => 5,
                    PolicyError::SinkAndRecentAboveBudget { .. } => 6,
                    // Rules of a policy of its own, which the checks above say nothing of.
                    own => {
                        prop_assert!(!FIRST_POLICIES.contains(&policy.to_string().as_str()), "{own}");
                        return Ok(());
                    }
                };
                prop_assert!(broken[named], "{error}");
            }
        }
    }
}

/// Policies that have no other rules than those above.
const FIRST_POLICIES: [&str; 6] = ["global", "fifo", "sink", "sink-rerope", "deep-sink", "deep-forcing"];

/// Mostly sizes near the rules' limits, sometimes absurd ones.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        12 => 0..=24usize,
        1 => Just(4096usize),
        1 => Just(4097usize),
        1 => Just(usize::MAX),
    ]
}
