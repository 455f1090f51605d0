//! Pictures and folders for the tests.

use std::{fs, path::Path};

use deepforcing::video::{Form, Target, VideoSettings, VideoWriter};
use tempfile::TempDir;

pub const WIDTH: u32 = 96;
pub const HEIGHT: u32 = 64;

/// A picture of one colour with a brighter column that moves with time.
pub fn frame(at: u32, colour: [u8; 3]) -> Vec<u8> {
    let pixel = |x: u32| {
        if x == at % WIDTH {
            colour.map(|part| part.saturating_add(60))
        } else {
            colour
        }
    };
    (0..HEIGHT).flat_map(|_| (0..WIDTH).flat_map(pixel)).collect()
}

/// Frame `at` of a video whose colour changes from frame to frame.
pub fn changing(at: u32) -> Vec<u8> {
    colour_at(at).repeat((WIDTH * HEIGHT) as usize)
}

pub fn colour_at(at: u32) -> [u8; 3] {
    [(40 + at * 6) as u8, 120, (200 - at * 4) as u8]
}

pub fn settings() -> VideoSettings {
    VideoSettings::new(WIDTH, HEIGHT)
}

/// Names in a folder, sorted.
pub fn names(folder: &TempDir) -> Vec<String> {
    names_in(folder.path())
}

pub fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A target in `folder`, one for each form.
pub fn target(folder: &Path, form: Form) -> Target {
    let name = match form {
        Form::Png => "clip_%03d.png".to_owned(),
        form => format!("clip.{form}"),
    };
    Target::parse(folder.join(name), None).unwrap()
}

/// Pushes `frames` frames whose colour changes.
pub fn push(writer: &mut VideoWriter, frames: u32) {
    for at in 0..frames {
        writer.push(&changing(at)).unwrap();
    }
}

/// The largest difference of a channel between `pixels` and a colour.
pub fn worst(pixels: &[u8], colour: [u8; 3]) -> u8 {
    let each = pixels.iter().zip(colour.iter().cycle());
    each.map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}
