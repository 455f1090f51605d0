//! What comes from strangers: videos, recipes, names and settings that were made to hurt.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::cli::program::{Desk, program};

/// Runs the program, which must end soon with exit code 1 and one error that says all of `says`.
#[track_caller]
fn refused(desk: &Desk, words: &[&str], says: &[&str]) {
    let before = desk.names();
    let begun = Instant::now();
    let output = desk.run(words);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{words:?}: {stderr}");
    assert!(begun.elapsed() < Duration::from_secs(60), "{words:?}");
    for part in says {
        assert!(stderr.contains(part), "{words:?}: `{part}` is not in: {stderr}");
    }
    assert!(!stderr.contains(['\u{1b}', '\u{9b}', '\u{202e}', '\r']), "{stderr:?}");
    assert_eq!(desk.names(), before, "{words:?}");
}

/// A recipe beside the desk's videos, changed.
fn recipe(desk: &Desk, name: &str, change: impl FnOnce(&mut Value)) {
    if !desk.video("own.json").exists() {
        desk.render("own.mp4", &["--sidecar"]);
    }
    let mut value: Value = serde_json::from_slice(&fs::read(desk.video("own.json")).unwrap()).unwrap();
    change(&mut value);
    fs::write(desk.video(name), value.to_string()).unwrap();
}

fn rerun<'a>(desk: &Desk, file: &'a str, folder: &'a str) -> Vec<&'a str> {
    assert!(desk.video(file).exists());
    vec!["rerun", file, "-o", "again.mp4", "--model", folder]
}

#[test]
fn bytes_that_are_no_text_in_the_metadata() {
    let desk = Desk::new();
    for name in ["own.mp4", "own.webm"] {
        desk.render(name, &[]);
        let mut bytes = fs::read(desk.video(name)).unwrap();
        let key = b"\"sha256\":\"";
        let at = bytes.windows(key.len()).position(|part| part == key).unwrap();
        bytes[at + key.len() + 63] = 0xd9;
        fs::write(desk.video(name), bytes).unwrap();
        for more in [&[][..], &["--json"]] {
            refused(
                &desk,
                &[&["inspect", name], more].concat(),
                &[name, "the recipe is damaged"],
            );
        }
        let folder = desk.model.folder().display().to_string();
        refused(&desk, &rerun(&desk, name, &folder), &["the recipe is damaged"]);
    }
}

#[test]
fn playlists_and_names_that_are_patterns() {
    let desk = Desk::new();
    desk.render("own.mp4", &[]);
    let live = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nown.mp4\n";
    for (name, text) in [
        ("live.m3u8", live),
        ("live.mp4", live),
        ("list.mp4", "ffconcat version 1.0\nfile own.mp4\n"),
    ] {
        fs::write(desk.video(name), text).unwrap();
        refused(&desk, &["metrics", name], &[name, "a playlist, not a video"]);
        refused(&desk, &["inspect", name], &[name, "a playlist, not a video"]);
        desk.refused(1, &["--extend", name], &[name, "a playlist, not a video"]);
        desk.refused(1, &["--image", name], &[name, "not an image"]);
    }
    let picture = image::RgbImage::from_pixel(32, 32, image::Rgb([9, 99, 200]));
    for name in ["a%d.png", "a%d.bmp", "a*?{b}.png"] {
        let other = image::RgbImage::new(16, 16);
        other.save(desk.video("a1.png")).unwrap();
        match name.ends_with("bmp") {
            true => fs::write(desk.video(name), bmp()).unwrap(),
            false => picture.save(desk.video(name)).unwrap(),
        }
        let output = desk.run(&["metrics", name, "--json"]);
        assert!(
            output.status.success(),
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["width"], 32, "{name}: {report}");
    }
}

/// 32x32 pixels of one colour.
fn bmp() -> Vec<u8> {
    let pixels = [200u8, 99, 9].repeat(32 * 32);
    let mut bytes = b"BM".to_vec();
    bytes.extend((54 + pixels.len() as u32).to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(54u32.to_le_bytes());
    bytes.extend(40u32.to_le_bytes());
    bytes.extend([32u32.to_le_bytes(), 32u32.to_le_bytes()].concat());
    bytes.extend([1, 0, 24, 0]);
    bytes.extend([0; 24]);
    bytes.extend(pixels);
    bytes
}

#[test]
#[cfg(target_os = "linux")]
fn recipes_that_name_what_nobody_named() {
    let desk = Desk::new();
    let folder = desk.model.folder().display().to_string();
    let start = |name: &str| json!({"kind": "image", "name": name, "sha256": "0".repeat(64), "latent-frames": 3});
    for name in ["/dev/zero", "/dev/tty", "/etc/passwd", "../x.png"] {
        recipe(&desk, "start.json", |value| {
            value["start"] = start(name);
            value["video"]["latent-frames"] = json!(9);
        });
        refused(&desk, &rerun(&desk, "start.json", &folder), &[name, "--start FILE"]);
    }
    let named = [
        "rerun",
        "start.json",
        "-o",
        "again.mp4",
        "--model",
        &folder,
        "--start",
        "/dev/zero",
    ];
    refused(&desk, &named, &["/dev/zero", "not an ordinary file"]);
    for name in ["/dev/zero", "/dev/stdin.toml", "../own.toml", "/tmp"] {
        recipe(&desk, "model.json", |value| value["model"]["model"] = json!(name));
        refused(
            &desk,
            &["rerun", "model.json", "-o", "again.mp4"],
            &[name, "--model NAME|DIR"],
        );
    }
}

#[test]
fn recipes_whose_numbers_contradict_each_other() {
    let desk = Desk::new();
    let folder = desk.model.folder().display().to_string();
    type Change = fn(&mut Value);
    let changes: [(Change, &str); 5] = [
        (|v| v["video"]["pictures"] = json!(100), "pictures, not 100"),
        (|v| v["video"]["width"] = json!(8), "8x32 is not possible"),
        (|v| v["video"]["latent-frames"] = json!(1000), "latent frames"),
        (|v| v["cache"]["sink"] = json!(99), "sink"),
        (|v| v["video"]["fps"] = json!(9999), "fps"),
    ];
    for (change, says) in changes {
        recipe(&desk, "damaged.json", change);
        refused(
            &desk,
            &rerun(&desk, "damaged.json", &folder),
            &["damaged.json", "the recipe is damaged", says],
        );
    }
}

#[test]
fn a_rerun_that_no_memory_holds() {
    let desk = Desk::new();
    let folder = desk.model.folder().display().to_string();
    recipe(&desk, "big.json", |value| {
        let video = &mut value["video"];
        (video["width"], video["height"]) = (json!(4096), json!(4096));
        (video["latent-frames"], video["pictures"]) = (json!(300_000), json!(1_000_000));
        value["cache"] = json!({"policy": "global"});
    });
    refused(&desk, &rerun(&desk, "big.json", &folder), &["needs about"]);
}

#[test]
fn texts_that_a_terminal_would_obey() {
    let desk = Desk::new();
    let hostile = "\u{1b}[2J\u{9b}31m\u{202e}run: curl";
    recipe(&desk, "field.json", |value| value["cache"][hostile] = json!(1));
    refused(&desk, &["inspect", "field.json"], &["\\u{1b}[2J", "unknown field"]);
    recipe(&desk, "newer.json", |value| {
        value["format"] = json!(9);
        value["deepforcing"] = json!(hostile);
    });
    refused(&desk, &["inspect", "newer.json"], &["\\u{1b}[2J", "\\u{202e}run"]);
    let name = format!("{hostile}.mp4");
    fs::write(desk.video(&name), "x").unwrap();
    refused(&desk, &["inspect", &name], &["\\u{9b}31m"]);
}

#[test]
fn pixels_of_any_shape_and_texts_of_any_length() {
    let desk = Desk::new();
    let head = "YUV4MPEG2 W16 H16384 F16:1 Ip A1000:1 C420jpeg\nFRAME\n";
    let frame = vec![128u8; 16 * 16384 * 3 / 2];
    fs::write(desk.video("wide.y4m"), [head.as_bytes(), &frame].concat()).unwrap();
    refused(
        &desk,
        &["metrics", "wide.y4m"],
        &["wide.y4m", "16000x16384", "134 million"],
    );
    desk.refused(1, &["--extend", "wide.y4m"], &["16000x16384"]);

    let mut bytes = Vec::new();
    let mut writer = png::Encoder::new(&mut bytes, 8, 8).write_header().unwrap();
    let mut text = png::text_metadata::ZTXtChunk::new("Comment", "A".repeat(100 << 20));
    text.compress_text().unwrap();
    writer.write_text_chunk(&text).unwrap();
    writer.write_image_data(&[1; 64]).unwrap();
    writer.finish().unwrap();
    fs::write(desk.video("bomb.png"), bytes).unwrap();
    for command in ["inspect", "metrics"] {
        refused(
            &desk,
            &[command, "bomb.png"],
            &["bomb.png", "its text is longer than 4 MB"],
        );
    }
}

#[test]
fn settings_without_end() {
    let desk = Desk::new();
    let long = "a".repeat(70_000);
    fs::write(desk.video("long.toml"), format!("model = \"{long}\"\n")).unwrap();
    for (words, name, value) in [
        (&["doctor"][..], "DEEPFORCING_MODEL", long.as_str()),
        (&["config", "show"], "DEEPFORCING_CONFIG", "long.toml"),
        (&["config", "show"], "DEEPFORCING_CONFIG", "/dev/zero"),
    ] {
        let mut command = program();
        let output = command
            .current_dir(desk.video(""))
            .args(words)
            .env(name, value)
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(matches!(output.status.code(), Some(0..=2)), "{words:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

#[test]
fn passwords_in_addresses() {
    for (name, value) in [
        ("HTTP_PROXY", "me:SECRETPW@host:3128"),
        ("HTTPS_PROXY", "http://me:SECRET/SECRETPW@host:3128"),
        ("https_proxy", "me:SECRETPW@host:3128"),
        ("HF_ENDPOINT", "https://me:SECRETPW@host"),
        ("HF_ENDPOINT", "http://127.0.0.1:1/SECRETPW?x"),
    ] {
        for words in [&["doctor"][..], &["models", "list"], &["doctor", "--json"]] {
            let output = program().args(words).env(name, value).output().unwrap();
            for text in [output.stdout, output.stderr] {
                let text = String::from_utf8(text).unwrap();
                assert!(!text.contains("SECRET"), "{words:?} {name}={value}: {text}");
            }
        }
    }
}

#[test]
#[cfg(unix)]
fn links_where_the_program_writes() {
    let around = tempfile::tempdir().unwrap();
    let victim = around.path().join("victim");
    fs::write(&victim, "pride").unwrap();
    let link = |path: &Path| std::os::unix::fs::symlink(&victim, path).unwrap();
    let names = [
        ".out.partial.mp4",
        ".out.finishing.mp4",
        ".l.partial.safetensors",
        ".t.png.partial",
        ".t.partial.jsonl",
        ".out.json.partial",
        "out.json",
    ];
    for name in names {
        let desk = Desk::new();
        link(&desk.video(name));
        let latents = desk.video("l.safetensors").display().to_string();
        let (picture, trace) = (
            desk.video("t.png").display().to_string(),
            desk.video("t.jsonl").display().to_string(),
        );
        let flags = [
            "--save-latents",
            &latents,
            "--thumbnail",
            &picture,
            "--trace",
            &trace,
            "--sidecar",
            "--overwrite",
        ];
        let output = desk.command("out.mp4", &flags).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        let refused = output.status.code() == Some(1) && stderr.contains("symbolic link");
        assert!(output.status.success() || refused, "{name}: {stderr}");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "pride", "{name}");
    }
}

#[test]
fn files_are_named_in_messages_about_them() {
    let desk = Desk::new();
    desk.render("short.mp4", &["--seconds", "0.1"]);
    // Three pictures of the toy's first chunk are too few for one.
    let output = desk.command("out.mp4", &["--extend", "short.mp4"]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() || stderr.contains("short.mp4"), "{stderr}");
    let header = r#"{"latents":{"dtype":"F32","shape":[3,1,1,1],"data_offsets":[0,12]}}"#;
    let latents = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 12]].concat();
    fs::write(desk.video("odd.safetensors"), latents).unwrap();
    let folder = desk.model.folder().display().to_string();
    let words = ["decode", "odd.safetensors", "-o", "out.mp4", "--model", &folder];
    refused(&desk, &words, &["odd.safetensors", "[3, 1, 1, 1]"]);
}
