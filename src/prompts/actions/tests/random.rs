//! Random trajectories: those of their seed, in the published mixture.

use super::*;

#[test]
fn a_random_trajectory_is_that_of_its_seed() {
    for controls in Controls::ALL {
        let long = random(controls, 7, 597).unwrap();
        assert_eq!(long.pictures(), 597);
        assert_eq!(random(controls, 7, 597).unwrap(), long);
        assert_ne!(random(controls, 8, 597).unwrap(), long);
        // The first picture has an action of its own, then come runs of 12.
        let each = |trajectory: &Trajectory| -> Vec<Action> {
            let runs = trajectory.runs().iter();
            runs.flat_map(|run| std::iter::repeat_n(run.action, run.pictures))
                .collect()
        };
        let actions = each(&long);
        let changes = (1..597).filter(|at| actions[*at] != actions[at - 1]);
        assert!(changes.clone().count() > 30);
        assert!(changes.into_iter().all(|at| (at - 1) % 12 == 0));
        assert_eq!(each(&random(controls, 7, 100).unwrap()), actions[..100]);
    }
    // What this program draws for a seed stays.
    assert_eq!(random(UNIVERSAL, 1, 40).unwrap().text(UNIVERSAL), PINNED);
}

const PINNED: &str = "left*1, left+turn-left*12, left*12, forward+right*12, forward+right+turn-right*3";

#[test]
fn random_trajectories_have_the_published_mixture() {
    for controls in Controls::ALL {
        let mixture = controls.scheme().mixture;
        let sum: u32 = mixture.iter().map(|(_, weight)| weight).sum();
        let draws = 200 * sum as usize;
        let long = random(controls, 3, 12 * draws).unwrap();
        let mut counts: HashMap<String, usize> = HashMap::new();
        for run in long.runs() {
            *counts.entry(controls.text(run.action)).or_default() += run.pictures.div_ceil(12);
        }
        assert_eq!(counts.len(), mixture.len(), "{controls}");
        for (action, weight) in mixture {
            let (found, expected) = (counts[*action] as f64, 200.0 * f64::from(*weight));
            assert!(
                (found / expected - 1.0).abs() < 0.3,
                "{controls}: {action} {found} times, not {expected}"
            );
        }
    }
}
