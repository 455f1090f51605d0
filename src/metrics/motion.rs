//! How far the parts of a picture have moved since the one before: block matching.
//!
//! Squares of 8×8 pixels of luma are looked for in the picture before, from coarse to fine (three levels, each half the
//! size of the last), then between pixels by a straight-line fit of the differences. Vectors are tried in a fixed order
//! and longer ones cost more, so that a flat area stands still. Motion of up to about 20 pixels of the finest level is
//! found. At the edge where a pan brings in what was not there, nothing matches, and the square counts as still.

/// Rows and columns of a square.
const BLOCK: usize = 8;
/// Levels of the search.
const LEVELS: usize = 3;
/// Steps in each direction that are tried at the coarsest level.
const COARSE_REACH: i32 = 4;
/// What a step costs, in the sum of the 64 differences.
const STEP_COST: u32 = 16;

/// A motion in pixels: columns, rows.
type Vector = (i32, i32);

/// A picture's luma at each level, finest first.
#[derive(Debug)]
pub(super) struct Pyramid(Vec<Plane>);

#[derive(Debug)]
struct Plane {
    width: usize,
    height: usize,
    luma: Vec<u8>,
}

impl Plane {
    /// Half the size; a row or column too many is left out.
    fn halved(&self) -> Self {
        let (width, height) = (self.width / 2, self.height / 2);
        let mut luma = Vec::with_capacity(width * height);
        for rows in self.luma.chunks_exact(2 * self.width) {
            let (above, below) = rows.split_at(self.width);
            let pairs = above.chunks_exact(2).zip(below.chunks_exact(2));
            luma.extend(pairs.map(|(a, b)| {
                let sum: u16 = [a[0], a[1], b[0], b[1]].map(u16::from).iter().sum();
                ((sum + 2) / 4) as u8
            }));
        }
        Self { width, height, luma }
    }

    fn columns(&self) -> usize {
        self.width / BLOCK
    }

    fn rows(&self) -> usize {
        self.height / BLOCK
    }

    /// Sum of absolute differences of the square at (x, y) and the one that lies `vector` away in `before`; none if that
    /// is not wholly inside.
    fn difference(&self, before: &Self, (x, y): (usize, usize), (dx, dy): Vector) -> Option<u32> {
        let inside = |from: usize, by: i32, size: usize| {
            let from = usize::try_from(from as i32 - by).ok()?;
            (from + BLOCK <= size).then_some(from)
        };
        let (from_x, from_y) = (inside(x, dx, self.width)?, inside(y, dy, self.height)?);
        let mut sum = 0;
        for row in 0..BLOCK {
            let own = &self.luma[(y + row) * self.width + x..][..BLOCK];
            let other = &before.luma[(from_y + row) * self.width + from_x..][..BLOCK];
            sum += own
                .iter()
                .zip(other)
                .map(|(a, b)| (i32::from(*a) - i32::from(*b)).unsigned_abs())
                .sum::<u32>();
        }
        Some(sum)
    }
}

impl Pyramid {
    /// Of a luma plane.
    pub fn new(width: usize, height: usize, luma: Vec<u8>) -> Self {
        let mut levels = vec![Plane { width, height, luma }];
        while levels.len() < LEVELS {
            let coarser = levels[levels.len() - 1].halved();
            if coarser.width < BLOCK || coarser.height < BLOCK {
                break;
            }
            levels.push(coarser);
        }
        Self(levels)
    }

    /// Mean length of the motion from `before` to this picture over all squares, in pixels; none if there is no square.
    pub fn motion_since(&self, before: &Self) -> Option<f64> {
        let mut coarser: Option<(&Plane, Vec<Vector>)> = None;
        for (plane, before) in self.0.iter().zip(&before.0).rev() {
            let vectors = search(plane, before, coarser.as_ref());
            coarser = Some((plane, vectors));
        }
        let (plane, vectors) = coarser?;
        let before = &before.0[0];
        let lengths = squares(plane).zip(&vectors).map(|(at, &vector)| {
            let (x, y) = between_pixels(plane, before, at, vector);
            x.hypot(y)
        });
        (!vectors.is_empty()).then(|| lengths.sum::<f64>() / vectors.len() as f64)
    }
}

/// Where the squares of a plane begin, row by row.
fn squares(plane: &Plane) -> impl Iterator<Item = (usize, usize)> {
    let columns = plane.columns();
    (0..plane.rows()).flat_map(move |row| (0..columns).map(move |column| (column * BLOCK, row * BLOCK)))
}

/// The best vector of a square so far.
struct Best<'a> {
    plane: &'a Plane,
    before: &'a Plane,
    at: (usize, usize),
    vector: Vector,
    cost: u32,
}

impl Best<'_> {
    fn attempt(&mut self, vector: Vector) {
        if vector == self.vector {
            return;
        }
        let Some(difference) = self.plane.difference(self.before, self.at, vector) else {
            return;
        };
        let cost = difference + STEP_COST * (vector.0.unsigned_abs() + vector.1.unsigned_abs());
        if cost < self.cost {
            (self.vector, self.cost) = (vector, cost);
        }
    }
}

/// Whether a vector explains a square well enough: if not, as in noise or where something new comes in, it stands still.
/// One of less than two pixels can lie half a pixel beside the true one, which costs much of what it explains.
fn is_match(best: &Best, still: u32) -> bool {
    let (x, y) = (best.vector.0.unsigned_abs(), best.vector.1.unsigned_abs());
    let unexplained = best.cost - STEP_COST * (x + y);
    match x.max(y) {
        0 | 1 => 5 * unexplained <= 4 * still,
        _ => 5 * unexplained <= 2 * still,
    }
}

/// The vector of every square of a level, from those of the coarser one.
fn search(plane: &Plane, before: &Plane, coarser: Option<&(&Plane, Vec<Vector>)>) -> Vec<Vector> {
    squares(plane)
        .map(|at| {
            let still = plane.difference(before, at, (0, 0)).unwrap_or(0);
            let mut best = Best {
                plane,
                before,
                at,
                vector: (0, 0),
                cost: still,
            };
            if still == 0 {
                return (0, 0);
            }
            match coarser {
                None => try_all(&mut best),
                Some((parents, vectors)) => try_parents(&mut best, parents, vectors),
            }
            if is_match(&best, still) { best.vector } else { (0, 0) }
        })
        .collect()
}

fn try_all(best: &mut Best) {
    for y in -COARSE_REACH..=COARSE_REACH {
        for x in -COARSE_REACH..=COARSE_REACH {
            best.attempt((x, y));
        }
    }
}

/// Tries what the square around this one at the coarser level found, and its neighbours, then steps downhill.
fn try_parents(best: &mut Best, parents: &Plane, vectors: &[Vector]) {
    /// Steps from the best of them.
    const STEPS: usize = 3;
    let (columns, rows) = (parents.columns(), parents.rows());
    let column = (best.at.0 / 2 / BLOCK).min(columns - 1);
    let row = (best.at.1 / 2 / BLOCK).min(rows - 1);
    for row in row.saturating_sub(1)..=(row + 1).min(rows - 1) {
        for column in column.saturating_sub(1)..=(column + 1).min(columns - 1) {
            let (x, y) = vectors[row * columns + column];
            best.attempt((2 * x, 2 * y));
        }
    }
    for _ in 0..STEPS {
        let (x, y) = best.vector;
        for (dx, dy) in [(0, -1), (-1, 0), (1, 0), (0, 1), (-1, -1), (1, -1), (-1, 1), (1, 1)] {
            best.attempt((x + dx, y + dy));
        }
        if best.vector == (x, y) {
            return;
        }
    }
}

/// Refines a vector by what the squares beside its end differ.
fn between_pixels(plane: &Plane, before: &Plane, at: (usize, usize), (x, y): Vector) -> (f64, f64) {
    let (whole_x, whole_y) = (f64::from(x), f64::from(y));
    let difference = |x, y| plane.difference(before, at, (x, y)).map(f64::from);
    let Some(here) = difference(x, y).filter(|here| *here > 0.0) else {
        return (whole_x, whole_y);
    };
    let offset = |less: Option<f64>, more: Option<f64>| {
        let (Some(less), Some(more)) = (less, more) else {
            return 0.0;
        };
        let rise = less.max(more) - here;
        // Where all differences are alike, as in noise, there is nothing to fit.
        if rise < here / 2.0 + 64.0 {
            return 0.0;
        }
        ((less - more) / (2.0 * rise)).clamp(-0.75, 0.75)
    };
    (
        whole_x + offset(difference(x - 1, y), difference(x + 1, y)),
        whole_y + offset(difference(x, y - 1), difference(x, y + 1)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 96;

    /// A smooth texture that does not repeat, seen from (x, y).
    fn seen_from(x: f64, y: f64) -> Pyramid {
        let grey = |column: f64, row: f64| {
            let waves =
                (column * 0.31 + row * 0.11).sin() + (row * 0.27 - column * 0.05).sin() + (column * row * 0.004).sin();
            (128.0 + 40.0 * waves) as u8
        };
        let luma = (0..SIZE * SIZE)
            .map(|at| grey((at % SIZE) as f64 + x, (at / SIZE) as f64 + y))
            .collect();
        Pyramid::new(SIZE, SIZE, luma)
    }

    #[track_caller]
    fn moved(x: f64, y: f64) -> f64 {
        seen_from(x + 20.0, y + 20.0)
            .motion_since(&seen_from(20.0, 20.0))
            .unwrap()
    }

    #[test]
    fn a_still_picture_does_not_move() {
        assert_eq!(moved(0.0, 0.0), 0.0);
    }

    #[test]
    fn a_pan_has_its_length() {
        for (x, y) in [(1.0, 0.0), (0.0, -2.0), (3.0, 4.0), (-6.0, 0.0), (0.5, 0.0), (0.0, 1.5)] {
            let (found, expected) = (moved(x, y), f64::hypot(x, y));
            // A row of squares at the edge has nothing to match.
            assert!((0.8 * expected..1.1 * expected).contains(&found), "({x}, {y}): {found}");
        }
    }

    #[test]
    fn noise_and_a_change_of_light_hardly_move() {
        let noise = |seed: u32| {
            let mut state = seed;
            let luma = (0..SIZE * SIZE)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                })
                .collect();
            Pyramid::new(SIZE, SIZE, luma)
        };
        let found = noise(2).motion_since(&noise(1)).unwrap();
        assert!(found < 0.3, "{found}");
        let flat = |grey| Pyramid::new(SIZE, SIZE, vec![grey; SIZE * SIZE]);
        assert_eq!(flat(90).motion_since(&flat(80)), Some(0.0));
    }

    #[test]
    fn pictures_of_any_size_are_taken() {
        for (width, height) in [(1, 1), (7, 99), (8, 8), (9, 17), (15, 31), (33, 16)] {
            let picture = |grey| Pyramid::new(width, height, vec![grey; width * height]);
            let motion = picture(3).motion_since(&picture(9));
            assert_eq!(motion.is_some(), width >= BLOCK && height >= BLOCK, "{width}x{height}");
        }
    }
}
