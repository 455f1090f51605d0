//! `deepforcing bench`, and the flags that choose a device and its memory.

use serde_json::Value;

use crate::terminal::desk::{Desk, TOY};

const TINY: &[&str] = &["bench", "--random-weights", "--scale", "tiny", "--size", "64x48"];

fn tiny<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [TINY, more].concat()
}

fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().into_iter().flatten();
    list.map(|number| number.as_f64().unwrap()).collect()
}

#[test]
fn a_world_is_measured_without_any_files() {
    let desk = Desk::new();
    let world = [
        "--preset",
        "matrix-game-2",
        "--chunks",
        "3",
        "--vae",
        "none",
        "--stages-only",
        "--json",
    ];
    let report = desk.json(&tiny(&world));
    let chunks = report["chunks"].as_array().unwrap();
    // The trained window of 6 latent frames is full after two chunks.
    let attended: Vec<f64> = chunks.iter().map(|chunk| chunk["attended"].as_f64().unwrap()).collect();
    assert_eq!(attended, [3., 6., 6.]);
    assert_eq!(numbers(&chunks[0]["steps"]).len(), 3);
    assert_eq!(report["model"]["preset"], "matrix-game-2");
}

#[test]
fn every_stage_of_every_chunk_is_measured() {
    let desk = Desk::new();
    let report = desk.json(&tiny(&["--chunks", "11", "--vae", "tae", "--json"]));
    assert_eq!(
        (&report["format"], &report["device"]),
        (&Value::from(1), &Value::from("cpu"))
    );
    assert_eq!(report["model"]["random-weights"], true);
    assert_eq!(
        (&report["model"]["layers"], &report["video"]["tokens-per-frame"]),
        (&Value::from(3), &Value::from(12))
    );
    let chunks = report["chunks"].as_array().unwrap();
    assert_eq!(chunks.len(), 11);
    for chunk in chunks {
        let steps = numbers(&chunk["steps"]);
        assert_eq!(steps.len(), 4);
        assert!(steps.iter().all(|time| *time > 0.0), "{chunk}");
        for stage in ["cache-pass", "decode", "transfer", "tflops"] {
            assert!(chunk[stage].as_f64().unwrap() > 0.0, "{stage} of {chunk}");
        }
    }
    // Deep Forcing: the window of 21 frames overflows at chunk 7, and then at every second chunk.
    let events: Vec<usize> = (0..11).filter(|chunk| chunks[*chunk]["event"] == true).collect();
    assert_eq!(events, [7, 9]);
    let attended: Vec<f64> = chunks.iter().map(|chunk| chunk["attended"].as_f64().unwrap()).collect();
    assert_eq!(attended, [3., 6., 9., 12., 15., 18., 21., 16., 19., 16., 19.]);
    assert_eq!(
        (&chunks[0]["pictures"], &chunks[1]["pictures"]),
        (&Value::from(9), &Value::from(12))
    );
    assert_eq!(report["steady-from"], 8);
    for write in ["with-event", "without-event", "again"] {
        assert!(report["cache-writes"][write].as_f64().unwrap() > 0.0, "{write}");
    }
    for number in [
        "/ceiling/tflops",
        "/steady/fps",
        "/side-by-side/fps",
        "/memory/host-peak",
        "/cold-start/first-picture-seconds",
    ] {
        assert!(report.pointer(number).unwrap().as_f64().unwrap() > 0.0, "{number}");
    }
    assert_eq!(report.pointer("/side-by-side/pictures").unwrap(), 129);
}

#[test]
fn a_result_is_compared_with_an_earlier_one() {
    let desk = Desk::new();
    let flags = tiny(&["--chunks", "2", "--vae", "none", "--stages-only"]);
    let before = desk.stdout(&[&flags[..], &["--json"]].concat());
    let before: Value = serde_json::from_str(&before).unwrap();
    assert_eq!(
        (&before["side-by-side"], &before["chunks"][0]["decode"]),
        (&Value::Null, &Value::from(0.0))
    );
    desk.write("before.json", &before.to_string());
    let table = desk.stdout(&[&flags[..], &["--layers", "2", "--compare", "before.json"]].concat());
    for part in ["2 layers", "model was", "ratio", "transformer, TFLOP/s", "steady"] {
        assert!(table.contains(part), "{part} is not in {table}");
    }
    desk.write("other.json", "{\"format\": 1}");
    desk.refused(&tiny(&["--compare", "other.json"]), 2, &["other.json", "bench --json"]);
    desk.refused(&tiny(&["--compare", "missing.json"]), 2, &["missing.json"]);
    desk.refused(&tiny(&["--chunks", "1"]), 2, &["--chunks"]);
}

#[test]
fn real_weights_are_measured_too() {
    let desk = Desk::new();
    let table = desk.stdout(&[
        "bench",
        "--model",
        TOY,
        "--chunks",
        "2",
        "--size",
        "32x32",
        "--stages-only",
    ]);
    for part in ["weights from files", "vae wan", "cold start", "milliseconds"] {
        assert!(table.contains(part), "{part} is not in {table}");
    }
}

#[test]
fn the_cpu_is_on_a_par_with_itself() {
    let parity = Desk::new().json(&["bench", "--parity", "--json"]);
    assert_eq!(numbers(&parity["latents"]), [0.0; 12]);
    assert!(numbers(&parity["kept"]).iter().all(|share| *share == 1.0));
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_gpu_is_refused_by_a_build_without_cuda() {
    let desk = Desk::new();
    let says = [
        "built without CUDA",
        "`cuda:1`",
        "--features cuda,cudnn",
        "--device cpu",
    ];
    let generate = ["generate", "a", "--model-dir", TOY, "--device"];
    desk.refused(&[&generate[..], &["cuda:1"]].concat(), 2, &says);
    desk.refused(&tiny(&["--device", "cuda:1"]), 2, &says);
    let by_variable = Desk::new().with("DEEPFORCING_DEVICE", "cuda:1");
    by_variable.refused(&generate[..4], 2, &says);
    desk.refused(
        &[&generate[..], &["cpu", "--dtype", "bf16"]].concat(),
        2,
        &["bf16", "--dtype f32"],
    );
    desk.refused(&[&generate[..], &["gpu"]].concat(), 2, &["cuda:N"]);
    let said = by_variable.run(&["doctor", "--json"]);
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((said.code, &report["device"]["used"]), (Some(1), &Value::from("none")));
    let report = desk.json(&["doctor", "--json"]);
    assert_eq!(report["device"]["used"], "cpu, f32");
}

/// A plan of the default model, whose files are not there.
fn plan(desk: &Desk, more: &[&str]) -> (String, String) {
    let words = [
        "generate",
        "a storm",
        "--model",
        "deep-forcing",
        "--seconds",
        "60",
        "--dry-run",
        // Whatever memory this machine has.
        "--no-memory-check",
    ];
    let said = desk.run(&[&words[..], more].concat());
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    (said.stdout, said.stderr)
}

#[test]
fn a_limit_of_gpu_memory_chooses_settings() {
    let desk = Desk::new();
    let (large, said) = plan(&desk, &["--max-vram", "24GB"]);
    assert!(said.contains("fits into 24.00 GB as it is"), "{said}");
    assert!(large.contains("GPU memory") && large.contains("of 24.00 GB"), "{large}");
    let (small, said) = plan(&desk, &["--max-vram", "12GB"]);
    assert!(said.contains("--vae tae") && said.contains("--window 12"), "{said}");
    assert!(small.contains("window 12, sink 6, budget 12"), "{small}");
    let (_, said) = plan(
        &desk,
        &[
            "--max-vram",
            "12GB",
            "--window",
            "21",
            "--vae",
            "wan",
            "--size",
            "832x480",
        ],
    );
    assert!(
        said.contains("no known settings fit") && said.contains("the cache"),
        "{said}"
    );
    let (plain, _) = plan(&desk, &[]);
    assert!(
        plain.contains("memory        about") && !plain.contains("GPU memory"),
        "{plain}"
    );
    desk.refused(&["generate", "a", "--model-dir", TOY, "--max-vram", "12"], 2, &["12GB"]);
}
