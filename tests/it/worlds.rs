//! Worlds: what a player does reaches the pictures when it should, caches of actions beside those of tokens, going on from
//! a snapshot, and the image of a world without an end.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use deepforcing::{
    Error,
    cache::{CacheSettings, Policy},
    checkpoint::Weights,
    rollout::{
        ActionRows, ActionRowsError, Ahead, ChunkLoop, Cue, Director, EncodedImage, ImageLatents, PromptChange,
        RecordedImage, Rollout, RolloutSettings, Script, SeededNoise, World, actions::pictures_of_chunk,
        sampler::SamplerSettings,
    },
    transformer::{CausalWan, FrameActions, PromptContext},
    vae::{WanEncoder, WanVaeConfig, pictures_of_latents},
};

use crate::tiny::{BESIDE, KEYS, Values, prompt, random, values, world};

const FRAMES: usize = 24;
const CHUNK: usize = 3;
const WINDOW: usize = 6;

fn settings(policy: Policy) -> RolloutSettings {
    RolloutSettings {
        frames: FRAMES,
        chunk: CHUNK,
        first_frame_alone: false,
        height: 2,
        width: 4,
        sampler: SamplerSettings {
            steps: vec![1000, 500],
            ..SamplerSettings::default()
        },
        policy,
        seed: 3,
        first_position: 0,
        fill_last: false,
    }
}

/// Something else in every picture, but the same thing from picture `still` on.
fn rows(pictures: usize, still: usize) -> ActionRows {
    let at = |picture: usize| picture.min(still) as f32;
    let keyboard = (0..pictures).map(|n| vec![(at(n) * 0.7).sin(), (at(n) * 1.3).cos(), 1.0]);
    let mouse = (0..pictures).map(|n| [(at(n) * 0.9).sin(), (at(n) * 0.4).cos()]);
    ActionRows::new(keyboard.collect(), Some(mouse.collect())).unwrap()
}

fn image() -> RecordedImage {
    RecordedImage(random(77, &[FRAMES, BESIDE, 2, 4], 1.0, 0.0))
}

fn rollout_of(model: &Arc<CausalWan>, settings: RolloutSettings, rows: ActionRows, action_window: usize) -> Rollout {
    let prompts = vec![PromptChange {
        frame: 0,
        context: prompt(model, 1),
    }];
    let script = Script::new(settings.frames, prompts).unwrap().with_actions(rows);
    let noise = Box::new(SeededNoise::new(settings.seed));
    let rollout = Rollout::directed(model.clone(), settings, Box::new(script), None, noise).unwrap();
    let world = World {
        image: Box::new(image()),
        action_window,
    };
    rollout.of_world(world).unwrap()
}

fn rollout(rows: ActionRows, policy: Policy, action_window: usize) -> Rollout {
    rollout_of(&world(), settings(policy), rows, action_window)
}

fn all_rows() -> ActionRows {
    rows(pictures_of_latents(FRAMES), usize::MAX)
}

fn rest(rollout: &mut Rollout) -> Vec<Values> {
    let mut chunks = Vec::new();
    while let Some(chunk) = rollout.next_chunk(&mut |_| ()).unwrap() {
        chunks.push(values(&chunk.latents));
    }
    chunks
}

fn deep() -> Policy {
    let settings = CacheSettings {
        window: 12,
        sink: 4,
        budget: 9,
        recent: 4,
        ..CacheSettings::default()
    };
    settings.resolve(CHUNK, FRAMES).unwrap()
}

#[test]
fn an_action_shows_in_its_chunk_and_not_before() {
    let usual = rest(&mut rollout(all_rows(), Policy::last(WINDOW), WINDOW));
    for chunk in 1..FRAMES / CHUNK {
        // The rows of this chunk and of those after it are those of its first picture.
        let first = pictures_of_chunk(chunk * CHUNK, CHUNK).start;
        let other = rest(&mut rollout(
            rows(pictures_of_latents(FRAMES), first),
            Policy::last(WINDOW),
            WINDOW,
        ));
        let changed = usual.iter().zip(&other).position(|(a, b)| a != b);
        assert_eq!(changed, Some(chunk));
    }
}

/// The last row of a chunk is seen by the next one.
#[test]
fn the_window_of_rows_ends_one_early() {
    let usual = rest(&mut rollout(all_rows(), Policy::last(WINDOW), WINDOW));
    let last = pictures_of_chunk(0, CHUNK).end - 1;
    let mut keyboard = all_rows().keyboard().to_vec();
    keyboard[last][1] += 1.0;
    let mouse = all_rows().mouse().map(<[_]>::to_vec);
    let other = rest(&mut rollout(
        ActionRows::new(keyboard, mouse).unwrap(),
        Policy::last(WINDOW),
        WINDOW,
    ));
    assert!(usual[0] == other[0] && usual[1] != other[1]);
}

#[test]
fn actions_are_remembered_as_long_as_they_were_trained_whatever_the_tokens_are() {
    for policy in [Policy::last(WINDOW), Policy::last(9), deep()] {
        let mut made = rollout(all_rows(), policy, WINDOW);
        rest(&mut made);
        made.write_back(&mut |_| ()).unwrap();
        for layer in 0..2 {
            let windows = made.cache().frame_windows(layer);
            assert_eq!(windows.len(), 2);
            for window in windows {
                assert_eq!(window.view().unwrap().0.dim(0).unwrap(), WINDOW);
            }
        }
    }
    // How long that is changes the video.
    let [short, long] = [3, WINDOW].map(|window| rest(&mut rollout(all_rows(), Policy::last(WINDOW), window)));
    assert!(short[0] == long[0] && short[1] != long[1]);
}

#[test]
fn a_world_goes_on_from_a_snapshot_to_the_bit() {
    for policy in [Policy::last(WINDOW), deep()] {
        let whole = rest(&mut rollout(all_rows(), policy, WINDOW));
        for stop in [1, 2, 5] {
            let mut first = rollout(all_rows(), policy, WINDOW);
            for _ in 0..stop {
                first.next_chunk(&mut |_| ()).unwrap();
            }
            let snapshot = first.snapshot().unwrap();
            let rows = snapshot.actions.as_ref().unwrap();
            assert!(rows.pictures().len() <= 12, "{:?}", rows.pictures());
            let mut second = rollout(all_rows(), policy, WINDOW);
            second.restore(&snapshot).unwrap();
            assert!(rest(&mut second)[..] == whole[stop..], "after {stop} chunks");
        }
    }
}

#[test]
fn snapshots_without_what_a_world_needs_are_refused() {
    let mut first = rollout(all_rows(), Policy::last(WINDOW), WINDOW);
    first.next_chunk(&mut |_| ()).unwrap();
    let good = first.snapshot().unwrap();
    let mut without = good.clone();
    without.actions = None;
    let mut others = good.clone();
    others.actions = Some(rows(20, usize::MAX));
    let mut bare = good.clone();
    bare.cache.frames.clear();
    for snapshot in [without, others, bare] {
        let error = rollout(all_rows(), Policy::last(WINDOW), WINDOW).restore(&snapshot);
        assert!(matches!(error, Err(Error::Snapshot { .. })), "{error:?}");
    }
    let mut narrower = rollout(all_rows(), Policy::last(WINDOW), 3);
    first.next_chunk(&mut |_| ()).unwrap();
    assert!(narrower.restore(&first.snapshot().unwrap()).is_err());
}

#[test]
fn what_cannot_steer_is_refused() {
    let refused = |rows: ActionRows| match rollout(rows, Policy::last(WINDOW), WINDOW).next_chunk(&mut |_| ()) {
        Err(Error::Actions(error)) => error,
        other => panic!("{:?}", other.map(|_| ())),
    };
    let keys = |columns: usize, mouse: bool| {
        let pictures = pictures_of_latents(FRAMES);
        ActionRows::new(
            vec![vec![0.0; columns]; pictures],
            mouse.then(|| vec![[0.0; 2]; pictures]),
        )
        .unwrap()
    };
    assert_eq!(
        refused(keys(KEYS + 1, true)),
        ActionRowsError::Keys {
            found: KEYS + 1,
            expected: KEYS
        }
    );
    assert_eq!(refused(keys(KEYS, false)), ActionRowsError::NoMouse { expected: true });
    assert!(matches!(
        refused(rows(5, usize::MAX)),
        ActionRowsError::Missing { picture: 5, .. }
    ));
    // Without a world, and with a window that a chunk does not fit into.
    let model = world();
    let begin = || {
        let prompts = vec![PromptChange {
            frame: 0,
            context: prompt(&model, 1),
        }];
        let noise = Box::new(SeededNoise::new(0));
        Rollout::new(model.clone(), settings(Policy::last(WINDOW)), prompts, None, noise).unwrap()
    };
    assert!(matches!(begin().next_chunk(&mut |_| ()), Err(Error::NoActions)));
    let narrow = World {
        image: Box::new(image()),
        action_window: 2,
    };
    assert!(matches!(
        begin().of_world(narrow),
        Err(Error::FrameWindow { window: 2, frames: 3 })
    ));
    let unsteered = World {
        image: Box::new(image()),
        action_window: WINDOW,
    };
    let silent = begin().of_world(unsteered).unwrap().next_chunk(&mut |_| ());
    assert!(matches!(silent, Err(Error::NoActions)));
}

/// Presses a key by the number of the chunk, and never ends.
struct Player {
    context: Arc<PromptContext>,
}

impl Director for Player {
    fn direct(&mut self, _: Ahead) -> deepforcing::Result<Option<Cue>> {
        Ok(Some(Cue {
            number: 0,
            context: self.context.clone(),
            on_switch: Default::default(),
        }))
    }

    fn actions(&mut self, ahead: Ahead) -> deepforcing::Result<Option<ActionRows>> {
        let pictures = pictures_of_chunk(ahead.start, ahead.frames);
        let row = vec![ahead.chunk as f32 % 2.0, 0.0, 1.0];
        let count = pictures.len();
        let rows = ActionRows::starting_at(pictures.start, vec![row; count], Some(vec![[0.1, 0.0]; count]))?;
        Ok(Some(rows))
    }
}

/// An image that is the same for ever.
struct Still(Tensor);

impl ImageLatents for Still {
    fn frames(&mut self, _: usize, frames: usize) -> deepforcing::Result<Tensor> {
        Ok(self.0.narrow(0, 0, frames)?)
    }
}

/// A world that is played has no end, and positions beyond any table are computed as well as the first.
#[test]
fn a_world_is_played_without_an_end() {
    let model = world();
    let begin = |first_position: u64| {
        let settings = RolloutSettings {
            first_position,
            ..settings(Policy::last(WINDOW))
        };
        let player = Box::new(Player {
            context: prompt(&model, 1),
        });
        let rollout = Rollout::directed(model.clone(), settings, player, None, Box::new(SeededNoise::new(1))).unwrap();
        let world = World {
            image: Box::new(Still(random(7, &[CHUNK, BESIDE, 2, 4], 1.0, 0.0))),
            action_window: WINDOW,
        };
        rollout.of_world(world).unwrap()
    };
    let (mut near, mut far) = (begin(0), begin(1 << 20));
    for chunk in 0..40 {
        let [near, far] = [&mut near, &mut far].map(|rollout| {
            let chunk = rollout.next_chunk(&mut |_| ()).unwrap().unwrap();
            values(&chunk.latents)
        });
        let worst = near.iter().zip(&far).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-3, "chunk {chunk}: {worst}");
    }
}

#[test]
fn a_pass_reads_the_actions_of_its_frames_alone() {
    let model = world();
    let shape = model.cache_shape(2, 4, CHUNK);
    let mut cache = deepforcing::cache::KvCache::new(Policy::last(WINDOW), shape, 0, DType::F32, &Device::Cpu).unwrap();
    model.add_action_windows(&mut cache, WINDOW).unwrap();
    let wrong = FrameActions {
        keyboard: Tensor::zeros((CHUNK, 12, KEYS + 1), DType::F32, &Device::Cpu).unwrap(),
        mouse: None,
    };
    let conditions = deepforcing::transformer::FrameConditions {
        latents: Some(random(1, &[CHUNK, BESIDE, 2, 4], 1.0, 0.0)),
        actions: Some(wrong),
    };
    let time = model.time_embedding(&[500.0]).unwrap();
    let noisy = random(2, &[CHUNK, 4, 2, 4], 1.0, 0.0);
    let mut silent = deepforcing::transformer::Observer::silent();
    let context = prompt(&model, 1).of_frames(conditions);
    let error = model.forward(&noisy, &time, &context, 0, &mut cache, &mut silent);
    assert!(matches!(error, Err(Error::ActionShape { .. })), "{error:?}");
}

/// The encoder's latents of an image and grey, asked for in any order, are those of the whole clip; once they have
/// settled they stay to the bit.
#[test]
fn the_image_of_a_world_is_encoded_until_it_settles() {
    let config = WanVaeConfig {
        dim: 4,
        dim_mult: vec![1, 2, 2, 2],
        num_res_blocks: 1,
        temporal_downsample: vec![false, true, true],
    };
    let tensors = config
        .expected_tensors()
        .unwrap()
        .into_iter()
        .enumerate()
        .map(|(i, spec)| {
            let inputs = spec.shape.iter().skip(1).product::<usize>().max(1) as f32;
            let gain = if spec.name.ends_with("gamma") { 1.0 } else { 0.0 };
            let scale = if spec.shape.len() > 1 && gain == 0.0 {
                1.0 / inputs.sqrt()
            } else {
                0.1
            };
            (spec.name, random(i as u64, &spec.shape, scale, gain))
        });
    let weights = Weights::from_tensors(tensors.collect(), DType::F32, &Device::Cpu);
    let encoder = Arc::new(WanEncoder::with_config(&config, &weights).unwrap());
    let picture = random(99, &[1, 3, 16, 24], 0.5, 0.0);
    let settled = encoder.settles_after();
    let frames = settled + 4;
    let grey = Tensor::zeros((4 * (frames - 1), 3, 16, 24), DType::F32, &Device::Cpu).unwrap();
    let clip = Tensor::cat(&[&picture, &grey], 0).unwrap();
    let expected = encoder.encode(&clip).unwrap();
    let mut image = EncodedImage::new(encoder, picture);
    let late = image.frames(frames - 3, 3).unwrap();
    let all = image.frames(0, frames).unwrap();
    assert_eq!(
        values(&all.narrow(0, frames - 3, 3).unwrap().contiguous().unwrap()),
        values(&late)
    );
    let latents = all.narrow(1, 4, 16).unwrap().contiguous().unwrap();
    assert_eq!(values(&latents), values(&expected));
    let at = |frame: usize| values(&expected.get(frame).unwrap());
    assert_eq!(at(settled), at(frames - 1));
    assert_ne!(at(1), at(settled));
    let mask: Values = values(&all.narrow(1, 0, 4).unwrap().contiguous().unwrap());
    assert!(mask[..24].iter().all(|m| *m == 1.0) && mask[24..].iter().all(|m| *m == 0.0));
    // Far beyond what was encoded.
    let far = image.frames(1_000_000, 2).unwrap();
    assert_eq!(values(&far.get(1).unwrap()), values(&all.get(frames - 1).unwrap()));
}
