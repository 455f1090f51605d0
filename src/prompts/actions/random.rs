//! Random trajectories of the published mixture (docs/algorithms/world_actions.md section 4).

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::{Action, ActionProblem, Controls, Trajectory, grammar};

/// Pictures of one action.
const RUN: usize = 12;
/// Stream of the generator: the noise of a video has others, so that one seed can serve both.
const STREAM: u64 = u64::MAX;

/// A trajectory of `pictures` pictures: the first picture has an action of its own, then runs of 12 pictures with one
/// action each, the last one cut. Every action is drawn with its weight in the controls' mixture.
///
/// The draws are those of ChaCha12 with the seed in stream 2⁶⁴ − 1: the action in whose interval of the weights laid end to
/// end `⌊draw · sum / 2³²⌋` lies, `draw` being the next 32 bits. A longer trajectory begins with the shorter one of the
/// same seed.
///
/// # Errors
/// When there are more pictures than any video has.
pub fn random(controls: Controls, seed: u64, pictures: usize) -> Result<Trajectory, ActionProblem> {
    let mixture = mixture(controls)?;
    let mut generator = ChaCha12Rng::seed_from_u64(seed);
    generator.set_stream(STREAM);
    let mut trajectory = Trajectory::default();
    while trajectory.pictures() < pictures {
        let action = drawn(&mixture, controls.none(), generator.next_u32());
        let run = if trajectory.pictures() == 0 { 1 } else { RUN };
        trajectory.push(action, run.min(pictures - trajectory.pictures()))?;
    }
    Ok(trajectory)
}

fn mixture(controls: Controls) -> Result<Vec<(Action, u32)>, ActionProblem> {
    let rows = controls.scheme().mixture.iter();
    rows.map(|(text, weight)| Ok((grammar::action(text, controls)?, *weight)))
        .collect()
}

/// The action that a random number stands for; `none` where there is nothing to choose from.
fn drawn(mixture: &[(Action, u32)], none: Action, number: u32) -> Action {
    let sum: u64 = mixture.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let mut at = (u64::from(number) * sum) >> 32;
    for (action, weight) in mixture {
        match at.checked_sub(u64::from(*weight)) {
            None => return *action,
            Some(left) => at = left,
        }
    }
    none
}
