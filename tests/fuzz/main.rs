//! Mutated inputs for every reader of files that come from others.
//!
//! Each target takes a file made of a seed by a few random changes. Whatever it is, reading it must
//!
//! * not panic, abort or take longer than five seconds,
//! * take no more memory than 64 MB and eight times the file (of what Rust hands out; FFmpeg has limits of its own),
//! * say in its error which file it was.
//!
//! Part of the tests for a second per target; `make fuzz` goes on for `DEEPFORCING_FUZZ_SECONDS` each (an hour if it does
//! not say). The seed of the numbers is printed with a failure, and `DEEPFORCING_FUZZ_SEED` repeats it; the input is kept
//! in the folder for temporary files.
#![cfg(feature = "ffmpeg")]

mod counted;
mod mutate;
mod seeds;
mod targets;

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use counted::Counted;
use mutate::Mutator;
use targets::{TARGETS, Target};

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// Longest time for one input.
const LONGEST: Duration = Duration::from_secs(5);
/// Memory for any input, and for each of its bytes.
const MEMORY: (usize, usize) = (64 << 20, 8);

fn number(name: &str) -> Option<f64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Tries one input; says what is wrong.
fn tried(target: &Target, path: &std::path::Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).unwrap();
    let (begun, before) = (Instant::now(), counted::begin());
    let read = catch_unwind(AssertUnwindSafe(|| (target.read)(path)));
    let (took, peak) = (begun.elapsed(), counted::peak().saturating_sub(before));
    // An image may have 134 million pixels, however small its file is.
    let pictures = if target.name == "image" { 1200 << 20 } else { 0 };
    let most = MEMORY.0 + MEMORY.1 * bytes.len() + pictures;
    match read {
        Err(_) => return Err("it panicked".into()),
        Ok(_) if took > LONGEST => return Err(format!("it took {took:?}")),
        Ok(_) if peak > most => return Err(format!("it took {peak} bytes of memory, {most} are allowed")),
        Ok(Err(error)) => {
            let name = path.file_name().unwrap().to_str().unwrap();
            if !error.contains(name) {
                return Err(format!("its error does not name the file: {error}"));
            }
            if error.len() > 20_000 {
                return Err(format!("its error has {} bytes", error.len()));
            }
        }
        Ok(Ok(())) => {}
    }
    Ok(())
}

fn fuzz(target: &Target) {
    let seconds = number("DEEPFORCING_FUZZ_SECONDS").unwrap_or(1.0);
    let seed = number("DEEPFORCING_FUZZ_SEED").unwrap_or(1.0) as u64;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("input.{}", target.extension));
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty());
    for good in &seeds {
        // What is no good to begin with finds nothing.
        fs::write(&path, good).unwrap();
        (target.read)(&path).unwrap_or_else(|error| panic!("{}: a seed is refused: {error}", target.name));
    }
    let mut mutator = Mutator::new(seed);
    let begun = Instant::now();
    let mut inputs = 0u64;
    while begun.elapsed().as_secs_f64() < seconds {
        let bytes = mutator.mutated(&seeds);
        inputs += 1;
        if let Err(problem) = tried(target, &path, &bytes) {
            let kept = std::env::temp_dir().join(format!("fuzz-{}.{}", target.name, target.extension));
            fs::write(&kept, &bytes).unwrap();
            panic!(
                "{}, seed {seed}, input {inputs}, kept as {}: {problem}",
                target.name,
                kept.display()
            );
        }
    }
    println!("{}: {inputs} inputs, seed {seed}", target.name);
}

#[test]
fn readers_survive_any_file() {
    // One after the other: memory is counted for the whole process.
    let wanted = std::env::var("DEEPFORCING_FUZZ_TARGET").ok();
    let chosen = TARGETS
        .iter()
        .filter(|target| wanted.as_deref().is_none_or(|name| name == target.name));
    chosen.for_each(fuzz);
}
