//! Videos whose measures are known.

use deepforcing::metrics::{Metrics, Options, Report};

pub const WIDTH: usize = 96;
pub const HEIGHT: usize = 64;
pub const FPS: f64 = 16.0;

/// The measures of pictures of 96×64 pixels, 16 in a second.
pub fn measure(pictures: impl IntoIterator<Item = Vec<u8>>) -> Report {
    let mut metrics = Metrics::new(WIDTH, HEIGHT, FPS, Options::default()).unwrap();
    for picture in pictures {
        metrics.push(&picture).unwrap();
    }
    metrics.finish().unwrap()
}

fn picture(width: usize, height: usize, pixel: impl Fn(usize, usize) -> [u8; 3]) -> Vec<u8> {
    let pixel = &pixel;
    (0..height)
        .flat_map(|y| (0..width).flat_map(move |x| pixel(x, y)))
        .collect()
}

/// A smooth coloured texture that does not repeat, seen from column `at`.
pub fn scene(at: f64) -> Vec<u8> {
    picture(WIDTH, HEIGHT, |x, y| {
        let (x, y) = (x as f64 + at, y as f64);
        let wave = (x * 0.31 + y * 0.11).sin() + (y * 0.27 - x * 0.05).sin() + (x * 0.013 + y * 0.5).cos();
        let grey = 128.0 + 36.0 * wave;
        let tint = 20.0 * (x * 0.02).sin();
        [(grey + tint) as u8, grey as u8, (grey - tint) as u8]
    })
}

/// A scene that has nothing to do with [`scene`].
pub fn other_scene() -> Vec<u8> {
    picture(WIDTH, HEIGHT, |x, y| {
        [(x * 255 / WIDTH) as u8, 30, (y * 255 / HEIGHT) as u8]
    })
}

pub fn flat(colour: [u8; 3]) -> Vec<u8> {
    picture(WIDTH, HEIGHT, |_, _| colour)
}

/// `picture` with all values multiplied.
pub fn dimmed(picture: &[u8], by: f64) -> Vec<u8> {
    picture
        .iter()
        .map(|&byte| (f64::from(byte) * by).round() as u8)
        .collect()
}

/// Random pixels, other ones for each `seed`.
pub fn noise(seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..WIDTH * HEIGHT * 3)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 24) as u8
        })
        .collect()
}

/// The same integers as `clip` in `reference.py`.
pub fn reference(width: usize, height: usize, t: usize) -> Vec<u8> {
    picture(width, height, |x, y| {
        [0, 1, 2].map(|c| ((x * x * 3 + y * y * 5 + x * y * (2 + c) + t * (11 + 3 * c)) % 256 * (64 - t) / 64) as u8)
    })
}
