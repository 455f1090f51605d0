//! Worlds: a folder of a checkpoint that is recognised by its tensors, steered by actions, and no text encoder anywhere.

use std::{fs, path::PathBuf, process::Output, time::Duration};

use image::{ImageBuffer, Rgb};
use tempfile::{TempDir, tempdir};

use crate::cli::{
    model::{IMAGE_ENCODER, Model, TRANSFORMER},
    program::{process, program},
};

const UNIVERSAL: &str = "base_distill.safetensors";
const TEMPLE: &str = "templerun_7dim_onlykey.safetensors";
const PICTURE: usize = 32 * 32 * 3;

/// A world and a folder with an image.
struct World {
    model: Model,
    folder: TempDir,
}

impl World {
    fn new(file: &str, keys: usize, mouse: bool) -> Self {
        let world = Self {
            model: Model::world(file, keys, mouse),
            folder: tempdir().unwrap(),
        };
        let colour = |x: u32, y: u32| Rgb([(x * 5) as u8, (y * 7) as u8, 90]);
        let image = ImageBuffer::from_fn(50, 40, colour);
        image.save(world.path("start.png")).unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The words of a `generate` of 32×32 from the image; `more` come last.
    fn words(&self, output: &str, more: &[&str]) -> Vec<String> {
        let model = self.model.folder().display().to_string();
        let output = if output == "-" {
            "-".into()
        } else {
            self.path(output).display().to_string()
        };
        let image = self.path("start.png").display().to_string();
        let words = [
            "generate", "--model", &model, "--size", "32x32", "--image", &image, "-o", &output,
        ];
        words.iter().chain(more).map(|word| (*word).to_owned()).collect()
    }

    fn run(&self, output: &str, more: &[&str]) -> Output {
        let words = self.words(output, more);
        program().current_dir(self.folder.path()).args(words).output().unwrap()
    }

    /// All pictures, exactly as they were made.
    fn pixels(&self, more: &[&str]) -> Vec<u8> {
        let output = self.run("-", &[more, &["--format", "rgb"]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    #[track_caller]
    fn refused(&self, code: i32, more: &[&str], says: &[&str]) {
        let output = self.run("out.mp4", more);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{more:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
        for part in says {
            assert!(stderr.contains(part), "{more:?}: `{part}` is not in: {stderr}");
        }
    }

    fn recipe(&self, name: &str) -> serde_json::Value {
        let path = self.path(name).display().to_string();
        let output = program().args(["inspect", &path, "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

#[test]
fn a_world_is_recognised_walked_through_and_made_again() {
    let world = World::new(UNIVERSAL, 4, true);
    let walk = ["--actions", "w*9, w+turn-left*12, none*"];
    let walked = world.pixels(&[&walk[..], &["--seconds", "2.75"]].concat());
    assert_eq!(walked.len(), 33 * PICTURE);
    let other = world.pixels(&["--actions", "w*9, s*", "--seconds", "2.75"]);
    // Row 8 is the last of the first chunk, which ends one row before its last picture.
    assert!(
        walked[..9 * PICTURE] == other[..9 * PICTURE],
        "an action is seen before it is done"
    );
    assert!(walked[9 * PICTURE..] != other[9 * PICTURE..], "actions change nothing");
    let still = world.pixels(&["--seconds", "2.75"]);
    assert!(still[..9 * PICTURE] != walked[..9 * PICTURE]);
    // The recipe has it all.
    let output = world.run("walk.mp4", &[&walk[..], &["--seconds", "2.75"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let recipe = world.recipe("walk.mp4");
    let recipe = recipe.get("recipe").unwrap_or(&recipe);
    assert_eq!(recipe["model"]["preset"], "matrix-game-2");
    assert_eq!(recipe["rollout"]["action-window"], 6);
    let (video, folder) = (
        world.path("walk.mp4").display().to_string(),
        world.model.folder().display().to_string(),
    );
    let rerun = program()
        .args(["rerun", &video, "-o", "-", "--format", "rgb", "--model", &folder])
        .output()
        .unwrap();
    assert!(rerun.status.success(), "{}", String::from_utf8_lossy(&rerun.stderr));
    assert!(rerun.stdout == walked, "made again it is another video");
}

#[test]
fn a_world_without_a_mouse_is_recognised_too() {
    let world = World::new(TEMPLE, 7, false);
    let output = world.run("run.mp4", &["--actions", "jump*9, none*", "--seconds", "1.75"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let recipe = world.recipe("run.mp4");
    let recipe = recipe.get("recipe").unwrap_or(&recipe);
    assert_eq!(recipe["model"]["preset"], "matrix-game-2-temple");
    // Standing still is a key of its own there.
    let still = world.pixels(&["--seconds", "1.75"]);
    assert!(still == world.pixels(&["--actions", "none*", "--seconds", "1.75"]));
}

#[test]
fn deep_forcing_keeps_the_action_window() {
    let world = World::new(UNIVERSAL, 4, true);
    let deep = ["--preset", "matrix-game-2-deep", "--actions", "w*"];
    let long = world.pixels(&[&deep[..], &["--seconds", "8"]].concat());
    let plain = world.pixels(&["--actions", "w*", "--seconds", "8"]);
    assert_eq!(long.len(), plain.len());
    // The window of 6 latent frames holds two chunks: the third one differs.
    assert!(long[..21 * PICTURE] == plain[..21 * PICTURE]);
    assert!(long[21 * PICTURE..] != plain[21 * PICTURE..]);
}

/// Killed at any moment, the world goes on where it was: with the caches of its actions, and the image encoded again.
#[cfg(unix)]
#[test]
fn a_killed_world_is_continued() {
    let world = World::new(UNIVERSAL, 4, true);
    let walk = ["--actions", "w*30, a+turn-right*40, none*", "--seconds", "20"];
    let whole = world.run("whole.mp4", &walk);
    assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));
    let mut resumed = 0;
    for wait in [150, 250, 400] {
        let there = world.path(".out.mp4.state").exists();
        resumed += usize::from(there);
        let last = if there { "--resume" } else { "--overwrite" };
        let words = world.words("out.mp4", &[&walk[..], &[last]].concat());
        let mut child = process(&words).current_dir(world.folder.path()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        child.kill().ok();
        child.wait().unwrap();
    }
    let there = world.path(".out.mp4.state").exists();
    let last = if there { "--resume" } else { "--overwrite" };
    let output = world.run("out.mp4", &[&walk[..], &[last]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |name: &str| fs::read(world.path(name)).unwrap();
    assert!(read("out.mp4") == read("whole.mp4"), "{resumed} times resumed");
}

#[test]
fn what_does_not_go_together_is_refused() {
    let world = World::new(TRANSFORMER, 4, true);
    world.refused(
        1,
        &["--preset", "matrix-game-2-temple"],
        &["4 keys and a mouse", "7 keys", "--preset matrix-game-2"],
    );
    world.refused(2, &["--window", "2"], &["window"]);
    world.refused(2, &["--window", "5"], &["action window holds 6 latent frames", "5"]);
    world.model.remove(IMAGE_ENCODER);
    world.refused(1, &[], &["the image encoder is missing", IMAGE_ENCODER]);
}
