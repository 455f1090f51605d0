//! Tests of prompt files: what they may hold, and each way in which they can be wrong.

use std::{io::Cursor, path::PathBuf};

use proptest::prelude::*;

use super::*;
use crate::prompts::{Moment, MomentError};

fn read(bytes: impl AsRef<[u8]>, format: Format) -> Result<Vec<Scene>, PromptError> {
    read_prompts_from(
        Cursor::new(bytes.as_ref()),
        "prompt file `p`",
        format,
        Path::new("lists"),
    )
}

fn jsonl(line: &str) -> Result<Scene, PromptError> {
    read(line, Format::JsonLines).map(|mut scenes| scenes.remove(0))
}

fn problem(bytes: impl AsRef<[u8]>, format: Format) -> (usize, LineProblem) {
    match read(bytes, format) {
        Err(PromptError::Line { line, problem, .. }) => (line, problem),
        other => panic!("{other:?}"),
    }
}

fn message(line: &str) -> String {
    jsonl(line).unwrap_err().to_string()
}

fn titles(scenes: &[Scene]) -> Vec<(&str, usize)> {
    scenes
        .iter()
        .map(|scene| (scene.title(), scene.line.unwrap()))
        .collect()
}

#[test]
fn text_files_are_one_prompt_per_line() {
    let text = "\u{feff}# fruit\r\n\r\n  a red apple \r\n#\r\nein süßer Apfel\r\nlast without an end";
    let scenes = read(text, Format::Text).unwrap();
    assert_eq!(
        titles(&scenes),
        [("a red apple", 3), ("ein süßer Apfel", 5), ("last without an end", 6)]
    );
    assert_eq!(read(text, Format::Detect).unwrap(), scenes);
    assert_eq!(read("{curly} hair", Format::Text).unwrap()[0].title(), "{curly} hair");
}

#[test]
fn json_lines_hold_everything_about_a_video() {
    let line = r#"{"prompts": ["calm", "storm", "night"], "switch": [12, "1:30"], "seed": 18446744073709551615,
        "id": "sea", "seconds": 120.5, "image": "sea.png"}"#
        .replace('\n', " ");
    let scene = jsonl(&line).unwrap();
    let starts: Vec<_> = scene.segments.iter().map(|s| (s.text.as_str(), s.start)).collect();
    assert_eq!(
        starts,
        [
            ("calm", Moment::START),
            ("storm", Moment::Seconds(12.0)),
            ("night", Moment::Seconds(90.0))
        ]
    );
    assert_eq!(scene.seed, Some(u64::MAX));
    assert_eq!((scene.id.as_deref(), scene.seconds), (Some("sea"), Some(120.5)));
    assert_eq!(scene.image, Some(PathBuf::from("lists/sea.png")));
    assert_eq!(read(&line, Format::Detect).unwrap(), [scene]);
}

#[test]
fn the_form_of_longlive_is_read() {
    let parts = |line| -> Vec<Moment> { jsonl(line).unwrap().segments.iter().map(|s| s.start).collect() };
    let share = |part| Moment::Share { part, parts: 3 };
    assert_eq!(
        parts(r#"{"prompts": ["a", "b", "c"]}"#),
        [Moment::START, share(1), share(2)]
    );
    let frame = Moment::LatentFrame;
    assert_eq!(
        parts(r#"{"prompts": ["a", "b", "c"], "switch_frame_indices": [40, 80]}"#),
        [frame(0), frame(40), frame(80)]
    );
    assert_eq!(
        parts(r#"{"prompts": ["a", "b"], "switch": ["40f"]}"#),
        [frame(0), frame(40)]
    );
    assert_eq!(parts(r#"{"prompt": "a", "seed": null, "switch": []}"#), [frame(0)]);
    assert_eq!(jsonl(r#"{"prompt": "a", "id": 7}"#).unwrap().id.as_deref(), Some("7"));
}

#[test]
fn unknown_keys_are_refused_with_the_nearest() {
    let error = message(r#"{"prompt": "a", "secnods": 3}"#);
    assert_eq!(
        error,
        "prompt file `p`, line 1: unknown key `secnods`; did you mean `seconds`?"
    );
    let error = message(r#"{"prompt": "a", "width": 3}"#);
    assert!(error.contains("known are `prompt`, `prompts`, `switch`"), "{error}");
    let error = message(r#"{"prompt": "a", "seed": 1, "seed": 2}"#);
    assert!(error.contains("the key `seed` stands there twice"), "{error}");
}

#[test]
fn values_of_the_wrong_kind_are_named() {
    for (line, part) in [
        (r#"{"prompt": 3}"#, "`prompt` is 3, expected a text"),
        (r#"{"prompt": ["a"]}"#, "a list belongs to `prompts`"),
        (r#"{"prompts": "a"}"#, "`prompts` is \"a\", expected a list"),
        (r#"{"prompts": []}"#, "`prompts` is an empty list"),
        (r#"{"prompts": ["a", 3]}"#, "`prompts` is 3"),
        (r#"{"prompts": ["a", " "]}"#, "prompt 2 is empty"),
        (r#"{"prompt": "a\u0000b"}"#, "NUL"),
        (
            r#"{"prompt": "a", "prompts": ["a"]}"#,
            "`prompt` and `prompts` mean the same",
        ),
        (r#"{"seed": 3}"#, "there is no prompt"),
        (
            r#"{"prompt": "a", "seed": -1}"#,
            "`seed` is -1, expected a whole number",
        ),
        (r#"{"prompt": "a", "seed": 1.5}"#, "`seed` is 1.5"),
        (r#"{"prompt": "a", "seed": "7"}"#, "`seed` is \"7\""),
        (
            r#"{"prompt": "a", "seed": 18446744073709551616}"#,
            "`seed` is 1.8446744073709552e+19",
        ),
        (
            r#"{"prompt": "a", "seconds": 0}"#,
            "`seconds` is 0, expected a number above 0",
        ),
        (r#"{"prompt": "a", "seconds": "5"}"#, "`seconds` is \"5\""),
        (r#"{"prompt": "a", "id": ""}"#, "`id` is an empty text"),
        (
            r#"{"prompt": "a", "id": true}"#,
            "`id` is true, expected a text or a whole number",
        ),
        (r#"{"prompt": "a", "image": {}}"#, "`image` is an object"),
        (
            r#"{"prompts": ["a", "b"], "switch": 12}"#,
            "`switch` is 12, expected a list",
        ),
        (r#"{"prompts": ["a", "b"], "switch": [-2]}"#, "`switch` is -2"),
        (r#"{"prompts": ["a", "b"], "switch": ["12"]}"#, "write 12s for seconds"),
        (
            r#"{"prompts": ["a", "b"], "switch_frame_indices": [4.5]}"#,
            "4.5, expected latent frames",
        ),
        ("[1, 2]", "expected an object in braces"),
        (r#"{"prompt": "a""#, "not a JSON object: EOF"),
        (r#"{"prompt": "a"} {"prompt": "b"}"#, "trailing characters at byte 17"),
        ("a red balloon", "not a JSON object"),
    ] {
        let message = message(line);
        assert!(
            message.contains(part) && message.contains("line 1"),
            "{line}: {message}"
        );
    }
}

#[test]
fn switches_must_be_one_fewer_than_prompts() {
    let error = message(r#"{"prompts": ["a", "b"], "switch": [1, 2]}"#);
    assert!(
        error.contains("`switch` has 2 entries, but 2 prompts need 1"),
        "{error}"
    );
    let error = message(r#"{"prompt": "a", "switch_frame_indices": [40]}"#);
    assert!(error.contains("1 entry, but 1 prompt needs 0"), "{error}");
    let (_, problem) = problem(r#"{"prompts": ["a", "b"], "switch": [1e300]}"#, Format::JsonLines);
    assert!(
        matches!(&problem, LineProblem::Moment { source: MomentError::TooLarge { text }, .. } if text == "1e+300"),
        "{problem:?}"
    );
}

#[test]
fn bytes_that_are_no_text_are_named_with_their_place() {
    let nul = problem(b"one\ntw\0o\n", Format::Text);
    assert_eq!(nul, (2, LineProblem::Nul { byte: 3, offset: 6 }));
    let (line, invalid) = problem(b"one\r\n\xc3\xa4\xe4b\n", Format::Text);
    assert_eq!(
        (line, invalid),
        (
            2,
            LineProblem::NotUtf8 {
                byte: 3,
                value: 0xe4,
                offset: 7
            }
        )
    );
    assert!(matches!(
        problem(b"cut \xe2\x82", Format::Text),
        (1, LineProblem::NotUtf8 { byte: 5, .. })
    ));
    assert_eq!(problem(b"\xff\xfeo\0n\0", Format::Text), (1, LineProblem::Utf16));
}

#[test]
fn long_lines_are_taken_up_to_a_limit() {
    let words = "balloon ".repeat(10_000);
    assert_eq!(read(&words, Format::Text).unwrap()[0].title(), words.trim());
    let longest = format!("\u{feff}{}\r\nnext", "a".repeat(LONGEST_LINE));
    assert_eq!(read(&longest, Format::Text).unwrap()[1].title(), "next");
    for text in ["a".repeat(LONGEST_LINE + 1), "a".repeat(1 << 20), "é".repeat(1 << 19)] {
        for end in ["", "\n"] {
            let found = problem(format!("first\n{text}{end}"), Format::Text);
            assert_eq!(found, (2, LineProblem::TooLong { limit: LONGEST_LINE }));
        }
    }
}

#[test]
fn endless_input_ends() {
    let endless = std::iter::repeat_n(b"a red balloon\n".as_slice(), MOST_SCENES + 1).flatten();
    let bytes: Vec<u8> = endless.copied().collect();
    assert!(matches!(read(bytes, Format::Text), Err(PromptError::TooMany { .. })));
    let zeros = read_prompts_from(io::repeat(0), "standard input", Format::Detect, Path::new(""));
    assert!(matches!(zeros, Err(PromptError::Line { line: 1, .. })));
}

#[test]
fn files_without_prompts_are_refused() {
    for text in ["", "\u{feff}", "\n\r\n  \n", "# only a remark"] {
        let error = read(text, Format::Detect).unwrap_err();
        assert!(matches!(error, PromptError::Empty { .. }), "{text:?}: {error}");
    }
    // Web entities are text before they are decoded, and nothing after.
    assert_eq!(
        problem("a\n&nbsp;\n", Format::Text),
        (2, LineProblem::EmptyPrompt { number: 1 })
    );
}

#[test]
fn an_id_stands_in_one_line_only() {
    let text = "{\"prompt\": \"a\", \"id\": \"x\"}\n\n{\"prompt\": \"b\", \"id\": \"x\"}\n";
    let error = read(text, Format::JsonLines).unwrap_err().to_string();
    assert!(error.contains("`x` stands in line 1 and again in line 3"), "{error}");
}

#[test]
fn paths_that_are_no_prompt_file_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(read_prompts(folder.path()), Err(PromptError::Folder { .. })));
    let missing = folder.path().join("no.txt");
    let error = read_prompts(&missing).unwrap_err();
    assert!(
        matches!(&error, PromptError::Unreadable { path, .. } if *path == missing),
        "{error}"
    );
    let table = folder.path().join("prompts.docx");
    std::fs::write(&table, "a").unwrap();
    assert!(matches!(read_prompts(&table), Err(PromptError::Extension { .. })));
    let list = folder.path().join("list.JSONL");
    std::fs::write(&list, r#"{"prompt": "a", "image": "a.png"}"#).unwrap();
    let scenes = read_prompts(&list).unwrap();
    assert_eq!(scenes[0].image, Some(folder.path().join("a.png")));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for format in [Format::Text, Format::JsonLines, Format::Detect] {
            if let Ok(scenes) = read(&bytes, format) {
                prop_assert!(!scenes.is_empty());
            }
        }
    }

    #[test]
    fn prompts_survive_as_json(prompts in proptest::collection::vec("[a-z\"\\\\é ]{0,9}x", 1..5), seed: u64) {
        let line = serde_json::json!({"prompts": prompts, "seed": seed}).to_string();
        let scene = jsonl(&line).unwrap();
        let texts: Vec<_> = scene.segments.iter().map(|s| s.text.clone()).collect();
        prop_assert_eq!(texts, prompts);
        prop_assert_eq!(scene.seed, Some(seed));
    }
}
