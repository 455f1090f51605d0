//! Discontinuity at the seams between chunks, and where they are.

use serde::{Deserialize, Serialize};

/// Pictures of the chunks that a video was made of. Three latent frames give 9 pictures at the beginning and 12 later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunks {
    /// Pictures of the first chunk.
    pub first: u64,
    /// Pictures of every other chunk.
    pub rest: u64,
}

impl Default for Chunks {
    fn default() -> Self {
        Self { first: 9, rest: 12 }
    }
}

impl Chunks {
    /// Seams within the first `pictures` pictures.
    pub fn seams(self, pictures: u64) -> u64 {
        match pictures > self.first {
            true => (pictures - self.first).div_ceil(self.rest),
            false => 0,
        }
    }

    /// Seams between pictures of which `before` come earlier and that end before picture `end`.
    pub(super) fn seams_within(self, before: u64, end: u64) -> u64 {
        self.seams(end) - self.seams(before + 1)
    }
}

/// Mean of the `seams` largest motions over the mean of all; none without motion or seams.
pub(super) fn discontinuity(motions: &[f64], seams: u64) -> Option<f64> {
    let seams = usize::try_from(seams).unwrap_or(usize::MAX).min(motions.len());
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    if seams == 0 || mean(motions) == 0.0 {
        return None;
    }
    let mut sorted = motions.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    Some(mean(&sorted[..seams]) / mean(motions))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn seams_lie_after_nine_and_then_every_twelve_pictures() {
        let chunks = Chunks::default();
        let found: Vec<_> = [0, 1, 9, 10, 21, 22, 33, 34, 81]
            .map(|pictures| chunks.seams(pictures))
            .into();
        assert_eq!(found, [0, 0, 0, 1, 1, 2, 2, 3, 6]);
        assert_eq!(chunks.seams_within(0, 81), 6);
        // Pictures 9 to 20 are one chunk.
        assert_eq!(chunks.seams_within(9, 21), 0);
        assert_eq!(chunks.seams_within(8, 22), 2);
    }

    #[test]
    fn the_largest_motions_are_set_against_all() {
        assert_eq!(discontinuity(&[1.0, 5.0, 1.0, 1.0], 1), Some(2.5));
        assert_eq!(discontinuity(&[2.0; 7], 3), Some(1.0));
        assert_eq!(discontinuity(&[0.0; 7], 3), None);
        assert_eq!(discontinuity(&[1.0; 7], 0), None);
        assert_eq!(discontinuity(&[], 3), None);
        assert_eq!(discontinuity(&[3.0], 9), Some(1.0));
    }

    proptest! {
        /// It is 1 at least, and does not depend on the unit of motion.
        #[test]
        fn it_has_no_unit(motions in prop::collection::vec(0.01f64..9.0, 1..99), seams in 1u64..99, scale in 0.5f64..8.0) {
            let found = discontinuity(&motions, seams).unwrap();
            let scaled: Vec<_> = motions.iter().map(|motion| motion * scale).collect();
            prop_assert!(found >= 1.0 - 1e-9);
            prop_assert!((discontinuity(&scaled, seams).unwrap() - found).abs() < 1e-9);
        }
    }
}
