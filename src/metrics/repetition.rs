//! Whether a video falls back to its beginning, or to anything that it has shown before.
//!
//! Pictures are compared by 8×8 thumbnails: `d` is the root of the mean squared difference over cells and channels, in
//! grey levels. Kept for comparison are all pictures of the sink, and one every quarter of a second for two minutes.
//!
//! A picture has **returned** to a kept one that is at least two seconds older if the whole picture had changed in
//! between (half of the cells at once, by [`FAR`] grey levels or more) and `d` is now a quarter of its largest value in
//! between, or less. Pictures that have returned one after the other (gaps of a quarter of a second left aside) are a **roll-back** if they make a chunk or more and
//! the first of them came there
//!
//! * by a jump: `d` to the kept picture fell from half of its largest value to a quarter from one picture to the next, and
//!   that step is 1.5 times the largest of the second before, or more; or
//! * by a fade: within three seconds, over pictures that were new. What lies halfway (the last picture at half of the
//!   largest `d`) is unlike (`d` above 0.15 of the largest, and above 0.6 of its own step) all that was shown before the
//!   return began.
//!
//! So a still scene and a steady change never roll back, neither does what moves before a background, and neither does a
//! motion to and fro of the whole picture, which returns over what it has shown on its way out, nor a pattern that comes
//! round again and again within three seconds. A loop rolls back, a cut back and a sink that takes over, at once or faded.
//! Counted as well, as nothing tells them apart by these means: what changes the whole picture and comes round in a full
//! circle that takes longer than that, and a light that goes off and on at once.

use std::collections::VecDeque;

use multiversion::multiversion;

/// Rows and columns of a thumbnail.
const CELLS: usize = 8;
/// Cells of a thumbnail.
const AREA: usize = CELLS * CELLS;
/// Seconds that a picture must be older to be compared with.
const GAP: f64 = 2.0;
/// Grey levels from which on a cell, or a picture, is another one.
const FAR: f32 = 8.0;
/// Cells that have to be other ones at once for the whole picture to have changed.
const CHANGED: u32 = AREA as u32 / 2;
/// How much nearer than the farthest picture in between a picture is that has returned.
const NEARER: f32 = 4.0;
/// Seconds that a fade takes at most.
const FADE: f64 = 3.0;
/// Share of the largest distance at which a return begins.
const BEGIN: f32 = 0.75;
/// Share of the largest distance that is halfway.
const HALFWAY: f32 = 0.5;
/// Share of the largest distance up to which pictures look like what is halfway.
const ALIKE: f32 = 0.15;
/// The same in steps from one picture to the next, where these are large.
const ALIKE_STEPS: f32 = 0.6;
/// The same of pictures of which only one every quarter of a second is kept.
const ALIKE_KEPT: f32 = 0.35;
const ALIKE_KEPT_STEPS: f32 = 2.2;
/// How much larger than the steps of the second before a jump is.
const JUMP: f32 = 1.5;
/// Kept pictures per second, besides the sink's.
const KEPT_PER_SECOND: f64 = 4.0;
/// Seconds for which they are kept.
const KEPT_FOR: f64 = 120.0;

/// Means of the cells, channel by channel.
type Thumbnail = [f32; AREA * 3];

/// What a picture has in common with earlier ones.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Echo {
    /// Highest similarity to a picture of the sink that is old enough.
    pub sink: Option<f64>,
    /// Highest similarity to any kept picture that is old enough.
    pub earlier: Option<f64>,
}

/// Pictures that are rolled back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// Number of the first of them.
    pub from: u64,
    /// Number of the one after the last of them.
    pub end: u64,
    /// Number of the picture that the first one is most like.
    pub to: u64,
}

/// A picture that others are compared with.
struct Kept {
    picture: u64,
    thumbnail: Thumbnail,
    /// How far the video has been from it since.
    farthest: f32,
    /// How many cells have been other ones at once.
    changed: u32,
}

/// One of the last pictures.
struct Recent {
    thumbnail: Thumbnail,
    /// Distance from the one before it.
    step: f32,
}

/// Pictures that have returned one after the other.
struct Returned {
    /// Number of the newest one.
    newest: u64,
    /// Number of the first one that came there by a jump or a fade, and of the one that it is like.
    rolled_back: Option<(u64, u64)>,
}

pub(super) struct Repetition {
    sink_pictures: u64,
    /// Pictures that a roll-back has at least.
    chunk: u64,
    /// Pictures between those that are compared.
    gap: u64,
    /// Pictures between those that are kept.
    every: u64,
    most: usize,
    sink: Vec<Kept>,
    others: VecDeque<Kept>,
    /// Those of the last seconds, as many as a fade can have.
    recent: VecDeque<Recent>,
    fade: usize,
    second: usize,
    next: u64,
    returned: Option<Returned>,
    stretches: Vec<Stretch>,
}

impl Repetition {
    /// For `fps` pictures in a second, chunks of `chunk` pictures and a sink of `sink_pictures`.
    pub fn new(fps: f64, chunk: u64, sink_pictures: u64) -> Self {
        let pictures = |seconds: f64| (seconds * fps).round().max(1.0);
        Self {
            sink_pictures,
            chunk,
            gap: pictures(GAP) as u64,
            every: pictures(1.0 / KEPT_PER_SECOND) as u64,
            most: (KEPT_PER_SECOND * KEPT_FOR) as usize,
            sink: Vec::new(),
            others: VecDeque::new(),
            recent: VecDeque::new(),
            fade: pictures(FADE) as usize,
            second: pictures(1.0) as usize,
            next: 0,
            returned: None,
            stretches: Vec::new(),
        }
    }

    /// Takes the next picture, in RGB.
    pub fn push(&mut self, rgb: &[u8], width: usize) -> Echo {
        let thumbnail = thumbnail(rgb, width);
        let picture = self.next;
        self.next += 1;
        let (mut sink, mut earlier) = (f32::INFINITY, f32::INFINITY);
        let mut nearest: Option<(f32, usize)> = None;
        let in_sink = self.sink.len();
        for (at, kept) in self.sink.iter_mut().chain(&mut self.others).enumerate() {
            let (distance, changed) = compare(&kept.thumbnail, &thumbnail);
            if kept.picture + self.gap <= picture {
                earlier = earlier.min(distance);
                if at < in_sink {
                    sink = sink.min(distance);
                }
                let left = kept.changed >= CHANGED && kept.farthest >= FAR;
                let returned = left && NEARER * distance <= kept.farthest;
                if returned && nearest.is_none_or(|(nearest, _)| distance < nearest) {
                    nearest = Some((distance, at));
                }
            }
            kept.farthest = kept.farthest.max(distance);
            kept.changed = kept.changed.max(changed);
        }
        let step = self
            .recent
            .back()
            .map_or(0.0, |last| compare(&last.thumbnail, &thumbnail).0);
        self.follow(picture, nearest.map(|(_, at)| at), step);
        self.keep(picture, thumbnail, step);
        let similarity = |distance: f32| distance.is_finite().then(|| 1.0 - f64::from(distance) / 255.0);
        Echo {
            sink: similarity(sink),
            earlier: similarity(earlier),
        }
    }

    /// Takes note of what the newest picture has returned to, if it has.
    fn follow(&mut self, picture: u64, to: Option<usize>, step: f32) {
        let Some(kept) = to.and_then(|at| self.sink.iter().chain(&self.others).nth(at)) else {
            // What is like a picture between two that are kept can be unlike both.
            let is_over = |returned: &Returned| picture - returned.newest > self.every;
            if self.returned.as_ref().is_some_and(is_over) {
                self.close();
            }
            return;
        };
        let earlier = self.returned.as_ref().and_then(|returned| returned.rolled_back);
        let rolled_back = earlier.or_else(|| {
            let came = self.jumped(kept, step) || (self.returned.is_none() && self.faded(kept));
            came.then_some((picture, kept.picture))
        });
        let newest = picture;
        self.returned = Some(Returned { newest, rolled_back });
    }

    /// Whether the newest picture, a `step` from the one before, came to one that it has returned to by a jump.
    fn jumped(&self, to: &Kept, step: f32) -> bool {
        let Some(last) = self.recent.back() else { return false };
        let (last, _) = compare(&to.thumbnail, &last.thumbnail);
        let before = self.recent.iter().rev().take(self.second);
        let largest = before.map(|recent| recent.step).fold(0.0, f32::max);
        last >= HALFWAY * to.farthest && step >= JUMP * largest
    }

    /// Whether the newest picture came to one that it has returned to by a fade.
    fn faded(&self, to: &Kept) -> bool {
        let distances: Vec<f32> = self
            .recent
            .iter()
            .map(|recent| compare(&to.thumbnail, &recent.thumbnail).0)
            .collect();
        let last_at = |share: f32| distances.iter().rposition(|distance| *distance >= share * to.farthest);
        let (Some(begin), Some(halfway)) = (last_at(BEGIN), last_at(HALFWAY)) else {
            return false;
        };
        !self.shown_before(begin, halfway, to.farthest)
    }

    /// Whether the recent picture number `halfway` was shown before: by one before number `begin`, or by one after which
    /// came something else. `far` is the largest distance.
    fn shown_before(&self, begin: usize, halfway: usize, far: f32) -> bool {
        let Recent { thumbnail, step } = &self.recent[halfway];
        // A fast motion goes back between the places that were shown on its way out.
        let alike = f32::max(ALIKE * far, ALIKE_STEPS * step);
        let is_alike = |at: &usize| compare(&self.recent[*at].thumbnail, thumbnail).0 <= alike;
        let own = (0..halfway).rev().take_while(is_alike).count();
        if (0..begin.max(halfway - own)).any(|at| is_alike(&at)) {
            return true;
        }
        // Of those before, not every picture is kept.
        let alike = alike.max(f32::min(ALIKE_KEPT * far, ALIKE_KEPT_STEPS * step));
        let oldest = self.next - 1 - self.recent.len() as u64;
        let kept = self.sink.iter().chain(&self.others);
        let mut kept = kept.filter(|kept| kept.picture < oldest);
        kept.any(|kept| compare(&kept.thumbnail, thumbnail).0 <= alike)
    }

    /// Ends what has returned.
    fn close(&mut self) {
        let Some(returned) = self.returned.take() else { return };
        let Some((from, to)) = returned.rolled_back else { return };
        let end = returned.newest + 1;
        if end - from >= self.chunk {
            self.stretches.push(Stretch { from, end, to });
        }
    }

    fn keep(&mut self, picture: u64, thumbnail: Thumbnail, step: f32) {
        if self.recent.len() == self.fade {
            self.recent.pop_front();
        }
        self.recent.push_back(Recent { thumbnail, step });
        let kept = Kept {
            picture,
            thumbnail,
            farthest: 0.0,
            changed: 0,
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

    /// What is rolled back in the whole video.
    pub fn finish(mut self) -> RolledBack {
        self.close();
        RolledBack {
            gap: self.gap,
            stretches: self.stretches,
        }
    }
}

/// What of a video is rolled back.
#[derive(Debug)]
pub(super) struct RolledBack {
    /// Pictures before this one are compared with none.
    gap: u64,
    /// In their order.
    pub stretches: Vec<Stretch>,
}

impl RolledBack {
    /// The share of the pictures from `from` to before `end`, of those that are compared at all.
    pub fn share(&self, from: u64, end: u64) -> Option<f64> {
        let from = from.max(self.gap);
        let within = |stretch: &Stretch| stretch.end.min(end).saturating_sub(stretch.from.max(from));
        let rolled: u64 = self.stretches.iter().map(within).sum();
        (from < end).then(|| rolled as f64 / (end - from) as f64)
    }

    /// The picture that the first of those from `from` to before `end` rolls back to.
    pub fn first_within(&self, from: u64, end: u64) -> Option<u64> {
        let within = |stretch: &&Stretch| stretch.from < end && stretch.end > from;
        self.stretches.iter().find(within).map(|stretch| stretch.to)
    }
}

/// Means of the cells of a picture; a picture smaller than the cells has pixels in several of them.
fn thumbnail(rgb: &[u8], width: usize) -> Thumbnail {
    let height = rgb.len() / 3 / width;
    let mut cells = [0.0; AREA * 3];
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
                cells[channel * AREA + row * CELLS + column] = sum as f32 / area;
            }
        }
    }
    cells
}

/// Root of the mean squared difference, and how many cells differ by [`FAR`] or more.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx2", "x86_64+avx2"))]
fn compare(a: &Thumbnail, b: &Thumbnail) -> (f32, u32) {
    const LANES: usize = 16;
    let mut sums = [0f32; LANES];
    let mut changed = [0u32; LANES];
    for from in (0..AREA).step_by(LANES) {
        for at in 0..LANES {
            let difference = |channel: usize| a[channel * AREA + from + at] - b[channel * AREA + from + at];
            let [red, green, blue] = [difference(0), difference(1), difference(2)];
            let square = red * red + green * green + blue * blue;
            sums[at] += square;
            changed[at] += u32::from(square >= 3.0 * FAR * FAR);
        }
    }
    let mean = sums.iter().sum::<f32>() / (AREA * 3) as f32;
    (mean.sqrt(), changed.iter().sum())
}

#[cfg(test)]
mod tests;
