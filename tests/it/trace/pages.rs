//! The page that draws a trace.

use std::{fs, path::Path};

use deepforcing::trace::Trace;
use serde_json::Value;

use crate::trace::{SMALL_CACHE, program::Desk};

/// The block of data in a page, as a browser would find it.
fn data(html: &str) -> Value {
    let (_, rest) = html.split_once("id=\"trace-data\">").unwrap();
    let (json, _) = rest.split_once("</script").unwrap();
    serde_json::from_str(json).unwrap()
}

fn recorded(desk: &Desk, more: &[&str]) {
    let trace = desk.video("run.jsonl").display().to_string();
    let flags = [
        &SMALL_CACHE[..],
        &["--seconds", "4", "--vae", "tae", "--trace", &trace],
        more,
    ]
    .concat();
    desk.render("run.mp4", &flags);
}

/// Draws and gives stderr and the page.
#[track_caller]
fn drawn(desk: &Desk, words: &[&str]) -> (String, String) {
    let output = desk.run(&[&["trace", "run.jsonl", "-o", "page.html", "--overwrite"], words].concat());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "page.html\n");
    (stderr, fs::read_to_string(desk.video("page.html")).unwrap())
}

fn cut(path: &Path, bytes: usize) {
    let text = fs::read(path).unwrap();
    fs::write(path, &text[..bytes]).unwrap();
}

#[test]
fn a_page_holds_what_the_trace_says() {
    let desk = Desk::new();
    recorded(&desk, &["--attention", "0"]);
    let (stderr, html) = drawn(&desk, &[]);
    assert_eq!(stderr, "");
    let (data, trace) = (data(&html), Trace::read(&desk.video("run.jsonl")).unwrap());
    assert_eq!(data["chunks"], serde_json::to_value(&trace.chunks).unwrap());
    assert_eq!(data["events"], serde_json::to_value(&trace.events).unwrap());
    assert_eq!(data["attention"], serde_json::to_value(&trace.attention).unwrap());
    assert_eq!(data["prompts"][0]["text"], "a red ball");
    assert_eq!(data["notes"], serde_json::json!([]));
    // Every frame that tokens come from has its picture.
    let pictures = data["pictures"].as_object().unwrap();
    for selected in trace.events.iter().flat_map(|event| &event.selected) {
        let picture = pictures[&selected.frame.to_string()].as_str().unwrap();
        assert!(picture.starts_with("data:image/jpeg;base64,"));
    }
    // Nothing is fetched from anywhere.
    assert!(html.contains("default-src 'none'"));
    assert!(!html.contains("src=\"") && !html.contains("href="));
}

#[test]
fn layers_are_chosen() {
    let desk = Desk::new();
    recorded(&desk, &["--attention", "all"]);
    let (_, html) = drawn(&desk, &["--layer", "1"]);
    let data = data(&html);
    assert_eq!(data["layers"], serde_json::json!([1]));
    for kind in ["events", "attention"] {
        let lines = data[kind].as_array().unwrap();
        assert!(!lines.is_empty() && lines.iter().all(|line| line["layer"] == 1));
    }
    let chunks = data["chunks"].as_array().unwrap();
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["layers"].as_array().unwrap().len() == 1)
    );
}

#[test]
fn a_prompt_cannot_end_the_block_of_data() {
    let desk = Desk::new();
    let prompt = "</script><script>alert('1')</script><!-- & {{script}}";
    recorded(&desk, &["--prompt-given", prompt]);
    let (_, html) = drawn(&desk, &[]);
    assert_eq!(
        html.matches("</script").count(),
        2,
        "the ends of the two scripts of the page"
    );
    assert_eq!(html.matches("<script").count(), 2);
    assert_eq!(data(&html)["prompts"][0]["text"], prompt);
    assert!(html.contains("<title>Cache of “&#60;/script&#62;"));
}

#[test]
fn a_trace_that_breaks_off_is_drawn_as_far_as_it_goes() {
    let desk = Desk::new();
    recorded(&desk, &[]);
    let path = desk.video("run.jsonl");
    let whole = fs::read_to_string(&path).unwrap();
    let chunks = Trace::read(&path).unwrap().chunks.len();

    // Killed between two chunks: whole lines, no last one.
    let end = whole.trim_end().rfind('\n').unwrap() + 1;
    cut(&path, end);
    let (stderr, html) = drawn(&desk, &[]);
    assert!(
        stderr.contains(&format!(
            "The trace has no end: the run was killed, or is going on. Its first {chunks} chunks"
        )),
        "{stderr}"
    );
    assert_eq!(data(&html)["complete"], Value::Null);

    // In the middle of a line.
    cut(&path, end - 30);
    let (stderr, html) = drawn(&desk, &[]);
    let lines = whole.lines().count() - 1;
    let says = format!(
        "damaged at line {lines} (it is cut off); its first {} chunks are shown",
        chunks - 1
    );
    assert!(stderr.contains(&says), "{stderr}");
    assert_eq!(data(&html)["chunks"].as_array().unwrap().len(), chunks - 1);
    let last = chunks as u64 - 1;
    assert!(
        data(&html)["events"]
            .as_array()
            .unwrap()
            .iter()
            .all(|event| event["chunk"].as_u64() < Some(last))
    );

    // Values that do not go together are as bad as no JSON.
    for (from, to) in [
        ("\"layer\":1", "\"layer\":9"),
        ("\"kept\":", "\"kept\":7"),
        ("\"kind\":\"chunk\"", "\"kind\":8"),
    ] {
        fs::write(&path, whole.replace(from, to)).unwrap();
        let trace = Trace::read(&path);
        assert!(!matches!(&trace, Ok(trace) if trace.damage.is_none()), "{from}");
    }
    // What a later program may add is left out.
    fs::write(&path, whole.replacen('\n', "\n{\"kind\":\"weather\"}\n", 1)).unwrap();
    assert_eq!(Trace::read(&path).unwrap().damage, None);
}

#[test]
fn without_its_video_a_page_has_grids_and_says_so() {
    let desk = Desk::new();
    recorded(&desk, &[]);
    fs::create_dir(desk.video("moved")).unwrap();
    for name in ["run.mp4", "run.jsonl"] {
        fs::rename(desk.video(name), desk.video("moved").join(name)).unwrap();
    }
    // Beside the trace it is found.
    let output = desk.run(&["trace", "moved/run.jsonl"]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "moved/run.html\n");
    assert!(
        fs::read_to_string(desk.video("moved/run.html"))
            .unwrap()
            .contains("data:image/jpeg")
    );

    fs::rename(desk.video("moved/run.mp4"), desk.video("ball.mp4")).unwrap();
    let output = desk.run(&["trace", "moved/run.jsonl", "--overwrite", "-o", "-"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("There are grids in place of pictures"));
    assert!(!String::from_utf8_lossy(&output.stdout).contains("data:image/jpeg"));
    let output = desk.run(&["trace", "moved/run.jsonl", "--video", "ball.mp4", "-o", "-"]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(String::from_utf8_lossy(&output.stdout).contains("data:image/jpeg"));
}

/// The bundled model for long enough to make room: the default cache, as users have it.
#[test]
fn the_toy_model_has_a_page() {
    let desk = Desk::new();
    let toy = concat!(env!("CARGO_MANIFEST_DIR"), "/weights/toy");
    let words = [
        "generate",
        "a red ball",
        "--model",
        toy,
        "--size",
        "64x64",
        "--seconds",
        "7",
        "--trace",
        "run.jsonl",
        "-o",
        "run.mp4",
    ];
    let output = desk.run(&words);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (stderr, html) = drawn(&desk, &[]);
    assert_eq!(stderr, "");
    let data = data(&html);
    let events = data["events"].as_array().unwrap();
    assert_eq!(events.len() % 6, 0);
    // Sink 10, budget 16, recent 4: two frames' worth of tokens.
    assert!(
        !events.is_empty()
            && events
                .iter()
                .all(|event| event["select"] == 2 * 16 && event["kept"] == 16 * 16)
    );
}
