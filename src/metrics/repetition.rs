//! Whether a video repeats itself or falls back to its beginning.
//!
//! Pictures are compared by 8×8 thumbnails: the root of the mean squared difference over cells and channels, in grey
//! levels. Kept for comparison are all pictures of the sink, and one every quarter of a second for two minutes.
//!
//! A picture **rolls back** to a kept one that is at least two seconds older if the video has been far from it in between
//! ([`FAR`] grey levels at least) and is now at most a quarter as far. So a scene that stands still never rolls back, and
//! neither does one that changes steadily; a loop, a sink that takes over, and a motion to and fro do.

use std::collections::VecDeque;

/// Cells of a thumbnail in each direction.
const CELLS: usize = 8;
/// Seconds between pictures that are compared.
pub(super) const GAP: f64 = 2.0;
/// Grey levels between which and less pictures count as alike.
const FAR: f32 = 8.0;
/// How much nearer than the farthest picture in between a roll-back is.
const NEARER: f32 = 4.0;
/// Kept pictures per second, besides the sink's.
const KEPT_PER_SECOND: f64 = 4.0;
/// Seconds for which they are kept.
const KEPT_FOR: f64 = 120.0;

type Thumbnail = [f32; CELLS * CELLS * 3];

/// What a picture has in common with earlier ones.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Echo {
    /// Highest similarity to a picture of the sink that is old enough.
    pub sink: Option<f64>,
    /// Highest similarity to any kept picture that is old enough.
    pub earlier: Option<f64>,
    /// Number of the picture that this one rolls back to, the most similar one.
    pub rolls_back_to: Option<u64>,
}

/// A picture that others are compared with.
struct Kept {
    picture: u64,
    thumbnail: Thumbnail,
    /// How far the video has been from it since.
    farthest: f32,
}

pub(super) struct Repetition {
    sink_pictures: u64,
    /// Pictures between those that are compared.
    gap: u64,
    /// Pictures between those that are kept.
    every: u64,
    most: usize,
    sink: Vec<Kept>,
    others: VecDeque<Kept>,
    next: u64,
}

impl Repetition {
    pub fn new(fps: f64, sink_pictures: u64) -> Self {
        Self {
            sink_pictures,
            gap: (GAP * fps).round().max(1.0) as u64,
            every: (fps / KEPT_PER_SECOND).round().max(1.0) as u64,
            most: (KEPT_PER_SECOND * KEPT_FOR) as usize,
            sink: Vec::new(),
            others: VecDeque::new(),
            next: 0,
        }
    }

    /// Takes the next picture, in RGB.
    pub fn push(&mut self, rgb: &[u8], width: usize) -> Echo {
        let thumbnail = thumbnail(rgb, width);
        let picture = self.next;
        self.next += 1;
        let (mut sink, mut earlier) = (f32::INFINITY, f32::INFINITY);
        let mut back: Option<(f32, u64)> = None;
        let in_sink = self.sink.len();
        for (at, kept) in self.sink.iter_mut().chain(&mut self.others).enumerate() {
            let distance = distance(&kept.thumbnail, &thumbnail);
            if kept.picture + self.gap <= picture {
                earlier = earlier.min(distance);
                if at < in_sink {
                    sink = sink.min(distance);
                }
                let returned = kept.farthest >= FAR && NEARER * distance <= kept.farthest;
                if returned && back.is_none_or(|(nearest, _)| distance < nearest) {
                    back = Some((distance, kept.picture));
                }
            }
            kept.farthest = kept.farthest.max(distance);
        }
        self.keep(picture, thumbnail);
        let similarity = |distance: f32| distance.is_finite().then(|| 1.0 - f64::from(distance) / 255.0);
        Echo {
            sink: similarity(sink),
            earlier: similarity(earlier),
            rolls_back_to: back.map(|(_, picture)| picture),
        }
    }

    fn keep(&mut self, picture: u64, thumbnail: Thumbnail) {
        let kept = Kept {
            picture,
            thumbnail,
            farthest: 0.0,
        };
        if picture < self.sink_pictures {
            self.sink.push(kept);
        } else if picture.is_multiple_of(self.every) {
            if self.others.len() == self.most {
                self.others.pop_front();
            }
            self.others.push_back(kept);
        }
    }
}

/// Means of the cells of a picture; a picture smaller than the cells has pixels in several of them.
fn thumbnail(rgb: &[u8], width: usize) -> Thumbnail {
    let height = rgb.len() / 3 / width;
    let mut cells = [0.0; CELLS * CELLS * 3];
    let bounds = |cell: usize, size: usize| {
        let from = (cell * size / CELLS).min(size - 1);
        from..((cell + 1) * size / CELLS).max(from + 1)
    };
    for row in 0..CELLS {
        let rows = bounds(row, height);
        for column in 0..CELLS {
            let columns = bounds(column, width);
            let mut sums = [0u32; 3];
            for y in rows.clone() {
                let line = &rgb[(y * width + columns.start) * 3..(y * width + columns.end) * 3];
                for pixel in line.chunks_exact(3) {
                    for (sum, &byte) in sums.iter_mut().zip(pixel) {
                        *sum += u32::from(byte);
                    }
                }
            }
            let area = (rows.len() * columns.len()) as f32;
            for (channel, sum) in sums.into_iter().enumerate() {
                cells[(row * CELLS + column) * 3 + channel] = sum as f32 / area;
            }
        }
    }
    cells
}

/// Root of the mean squared difference.
fn distance(a: &Thumbnail, b: &Thumbnail) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0f32; LANES];
    let (a, b) = (a.as_chunks::<LANES>().0, b.as_chunks::<LANES>().0);
    for (a, b) in a.iter().zip(b) {
        for at in 0..LANES {
            sums[at] += (a[at] - b[at]) * (a[at] - b[at]);
        }
    }
    (sums.iter().sum::<f32>() / (CELLS * CELLS * 3) as f32).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FPS: f64 = 8.0;

    /// What a video of one-pixel pictures has in common with itself.
    fn echoes(greys: impl IntoIterator<Item = u8>, sink: u64) -> Vec<Echo> {
        let mut repetition = Repetition::new(FPS, sink);
        greys.into_iter().map(|grey| repetition.push(&[grey; 3], 1)).collect()
    }

    fn backs(echoes: &[Echo]) -> Vec<(usize, u64)> {
        let back = |(at, echo): (usize, &Echo)| Some((at, echo.rolls_back_to?));
        echoes.iter().enumerate().filter_map(back).collect()
    }

    #[test]
    fn still_and_steady_videos_do_not_roll_back() {
        let still = echoes([100; 80], 4);
        assert_eq!(backs(&still), []);
        assert_eq!(still[15], Echo::default());
        assert_eq!((still[16].sink, still[16].earlier), (Some(1.0), Some(1.0)));
        assert_eq!(backs(&echoes(0..160, 4)), []);
        // To and fro by less than anybody sees.
        assert_eq!(backs(&echoes((0..80).map(|at| 100 + at % 24 / 4), 4)), []);
    }

    #[test]
    fn a_loop_rolls_back_from_its_second_round_on() {
        let found = backs(&echoes((0..60).map(|at| (at % 24 * 8) as u8), 4));
        assert_eq!(found.first(), Some(&(24, 0)));
        assert_eq!(found.len(), 60 - 24);
    }

    #[test]
    fn a_return_to_the_sink_is_told_from_one_to_later_pictures() {
        let ramp = (0..40).map(|at| 3 * at as u8);
        let sink = echoes(ramp.clone().chain([1; 3]), 4);
        assert_eq!(backs(&sink), [(40, 0), (41, 0), (42, 0)]);
        assert!(sink[40].sink.unwrap() > 0.99);
        let later = echoes(ramp.chain([60; 3]), 4);
        assert_eq!(backs(&later)[0], (40, 20));
        assert!(later[40].sink.unwrap() < 0.9);
        assert_eq!(later[40].earlier, Some(1.0));
    }

    #[test]
    fn memory_is_bounded() {
        let mut repetition = Repetition::new(4.0, 5);
        for _ in 0..2000 {
            repetition.push(&[0; 3], 1);
        }
        assert_eq!((repetition.sink.len(), repetition.others.len()), (5, 480));
    }

    #[test]
    fn thumbnails_are_means_of_cells() {
        let rgb: Vec<u8> = (0..16 * 24)
            .flat_map(|at| [(at % 16) as u8, (at / 16) as u8, 7])
            .collect();
        let cells = thumbnail(&rgb, 16);
        assert_eq!(cells[..6], [0.5, 1.0, 7.0, 2.5, 1.0, 7.0]);
        assert_eq!(cells[CELLS * CELLS * 3 - 3..], [14.5, 22.0, 7.0]);
    }
}
