//! Tests of prompt files: what they may hold, and each way in which they can be wrong.

use std::{io::Cursor, path::PathBuf};

use proptest::prelude::*;

use super::*;
use crate::prompts::{Moment, MomentError};

fn read(bytes: impl AsRef<[u8]>, format: Format) -> Result<Vec<Scene>, PromptError> {
    list(bytes, format).map(|list| list.scenes)
}

fn list(bytes: impl AsRef<[u8]>, format: Format) -> Result<PromptList, PromptError> {
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
fn lines_end_as_on_any_system() {
    for text in [
        "a red ball\ra blue cube\ra green heart",
        "a red ball\ra blue cube\na green heart\r\n",
        "a red ball\r\na blue cube\r\na green heart\r",
        "\u{feff}a red ball\ra blue cube\ra green heart\r",
    ] {
        let scenes = read(text, Format::Text).unwrap();
        assert_eq!(
            titles(&scenes),
            [("a red ball", 1), ("a blue cube", 2), ("a green heart", 3)],
            "{text:?}"
        );
        let table = format!("prompt\r{text}").replace("\r\n", "\r").replace('\n', "\r");
        let scenes = read(table.replace('\u{feff}', ""), Format::Table).unwrap();
        assert_eq!(
            titles(&scenes),
            [("a red ball", 2), ("a blue cube", 3), ("a green heart", 4)]
        );
    }
    let found = problem(
        "{\"prompt\": \"a\"}\r{\"prompt\": \"b\", \"sede\": 1}\r",
        Format::JsonLines,
    );
    assert_eq!(found.0, 2);
    let nul = problem(b"a\rtw\0o\r", Format::Text);
    assert_eq!(nul, (2, LineProblem::Nul { byte: 3, offset: 4 }));
    assert_eq!(problem(b"prompt\rtw\0o\r", Format::Table).0, 2);
    // At the end of a buffer of the reader, too.
    let long = format!("{}\r\nlast", "a".repeat((8 << 10) - 1));
    assert_eq!(read(long, Format::Text).unwrap()[1].line, Some(2));
}

#[test]
fn comments_are_counted() {
    let comments = |text: &str, format| list(text, format).unwrap().comments;
    assert_eq!(comments("#1 fan of the sea\na red ball\n # x\n", Format::Text), 2);
    assert_eq!(comments("# x\n{\"prompt\": \"# a\"}\n", Format::JsonLines), 1);
    let table = "# \"one, two\nprompt,seed\n#1 fan,\"x\n\n\"#1 fan, of the sea\",7\na red ball,1\r\n# end";
    let found = list(table, Format::Table).unwrap();
    assert_eq!(found.comments, 3);
    assert_eq!(titles(&found.scenes), [("#1 fan, of the sea", 5), ("a red ball", 6)]);
    let note = found.note().unwrap();
    assert!(note.starts_with("3 lines that begin with # are left out"), "{note}");
    assert_eq!(list("a red ball", Format::Text).unwrap().note(), None);
}

#[test]
fn tables_of_spreadsheets_are_read() {
    let seeds = |text: &str| -> Vec<(String, Option<u64>, Option<f64>)> {
        let scenes = read(text, Format::Table).unwrap();
        let of = |scene: &Scene| (scene.title().to_owned(), scene.seed, scene.seconds);
        scenes.iter().map(of).collect()
    };
    for text in [
        "prompt,seed,,\na red ball,1,,\na blue cube,,,\n,,,\n",
        "prompt;seed\r\na red ball;1\r\na blue cube;\r\n",
        "Prompt\tSEED\na red ball\t1.0\na blue cube\t\n",
        "\u{feff}sep=;\r\n\"Prompt\";seed;\r\na red ball;1;;\r\na blue cube;;\r\n",
        "# list\n\nprompt|seed|\na red ball|1\na blue cube||",
    ] {
        let expected = [("a red ball".into(), Some(1), None), ("a blue cube".into(), None, None)];
        assert_eq!(seeds(text), expected, "{text:?}");
    }
    let found = seeds("prompt;seconds\n\"a; b\";2,5\nc, d;1:30\n");
    assert_eq!(
        found,
        [("a; b".into(), None, Some(2.5)), ("c, d".into(), None, Some(90.0))]
    );
    assert_eq!(seeds("prompt\na red ball")[0].0, "a red ball");
}

#[test]
fn mistakes_of_tables_are_told_with_their_line() {
    let unnamed = problem("prompt,\na,\nb,x\n", Format::Table);
    assert_eq!(unnamed, (3, LineProblem::UnnamedColumn { column: 2 }));
    let (line, unknown) = problem("# x\nprompt;sede\na;1\n", Format::Table);
    assert!(line == 2 && unknown.to_string().contains("`sede`; did you mean `seed`?"));
    let (line, twice) = problem("prompt,Prompt\na,b\n", Format::Table);
    assert!(line == 1 && matches!(twice, LineProblem::RepeatedColumn { .. }));
    for text in [
        "sep=;\nprompt;seed\na;1;2\n",
        "prompt,seed\n\na, b, 1\n",
        "seed,prompt\r\n7,b\r\n8\r\n",
    ] {
        let (line, cells) = problem(text, Format::Table);
        assert!(
            line == 3 && cells.to_string().contains("cells where the first line has 2"),
            "{text:?}: {cells}"
        );
    }
}

#[test]
fn seeds_are_drawn_on_demand() {
    for text in [
        "{\"prompt\": \"a\", \"seed\": -1}",
        "{\"prompt\": \"a\", \"seed\": \"random\"}",
    ] {
        let scene = jsonl(text).unwrap();
        assert!(scene.seed_drawn && scene.seed.is_some_and(|seed| seed <= u32::MAX.into()));
    }
    let drawn: Vec<_> = (0..4)
        .map(|_| jsonl("{\"prompt\": \"a\", \"seed\": -1}").unwrap().seed)
        .collect();
    assert!(drawn.iter().any(|seed| *seed != drawn[0]), "{drawn:?}");
    let table = read("prompt,seed\na,-1\nb,random\nc,3\n", Format::Table).unwrap();
    let drawn: Vec<_> = table.iter().map(|scene| scene.seed_drawn).collect();
    assert_eq!(drawn, [true, true, false]);
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
            r#"{"prompt": "a", "seed": -2}"#,
            "`seed` is -2, expected a whole number from 0 to 18446744073709551615, or -1",
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
    let scenes = read_prompts(&list).unwrap().scenes;
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
