//! Metrics: what one picture costs, `cargo bench --bench metrics`.

use deepforcing::metrics::{Metrics, Options};
use divan::{Bencher, counter::ItemsCount};

fn main() {
    divan::main();
}

/// Pictures of a moving texture.
fn pictures(width: usize, height: usize) -> Vec<Vec<u8>> {
    let grey = |x: usize, y: usize| {
        let (x, y) = (x as f64, y as f64);
        (128.0 + 40.0 * ((x * 0.21 + y * 0.11).sin() + (y * 0.17 - x * 0.05).sin())) as u8
    };
    let picture = |at: usize| {
        (0..height)
            .flat_map(|y| (0..width).flat_map(move |x| [grey(x + at, y), grey(x + 9, y + at), 90]))
            .collect()
    };
    (0..16).map(picture).collect()
}

/// One picture of a running video of 60 s, whose list of pictures to compare with is full.
#[divan::bench(args = [(64, 64), (96, 96), (832, 480)], max_time = 4)]
fn push(bencher: Bencher, (width, height): (usize, usize)) {
    let pictures = pictures(width, height);
    let mut metrics = Metrics::new(width, height, 16.0, Options::default()).unwrap();
    for at in 0..if width < 128 { 960 } else { 96 } {
        metrics.push(&pictures[at % 16]).unwrap();
    }
    let mut at = 0;
    bencher.counter(ItemsCount::new(1usize)).bench_local(|| {
        at += 1;
        metrics.push(&pictures[at % 16]).unwrap();
    });
}
