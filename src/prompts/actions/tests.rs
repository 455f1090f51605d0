//! Tests of actions: what is written is read, and each way in which they can be wrong.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

mod random;

const UNIVERSAL: Controls = Controls::Universal;

fn plan(text: &str, controls: Controls) -> ActionPlan {
    ActionPlan::parse(text, controls).unwrap()
}

fn all(text: &str, controls: Controls) -> Trajectory {
    let plan = plan(text, controls);
    let pictures = plan.pictures().unwrap();
    plan.for_pictures(pictures).unwrap()
}

fn said(text: &str, controls: Controls) -> String {
    ActionPlan::parse(text, controls).unwrap_err().to_string()
}

/// The only row of an action.
fn row(text: &str, controls: Controls) -> (Vec<f32>, Option<[f32; 2]>) {
    let rows = all(&format!("{text}*1"), controls).rows(controls, 1).unwrap();
    (rows.keyboard()[0].clone(), rows.mouse().map(|mouse| mouse[0]))
}

#[test]
fn keys_are_those_of_the_published_tools() {
    let universal = |text: &str| row(text, UNIVERSAL);
    for (keys, columns) in [
        (["w", "forward"], [1.0, 0.0, 0.0, 0.0]),
        (["s", "back"], [0.0, 1.0, 0.0, 0.0]),
        (["a", "Left"], [0.0, 0.0, 1.0, 0.0]),
        (["D", "right"], [0.0, 0.0, 0.0, 1.0]),
        (["w+a", "forward_left"], [1.0, 0.0, 1.0, 0.0]),
        (["none", "Q + U"], [0.0; 4]),
    ] {
        for key in keys {
            assert_eq!(universal(key), (columns.to_vec(), Some([0.0, 0.0])), "{key}");
        }
    }
    // Section 1 of the page: the mouse moves 0.1 in a picture, up and to the right being positive.
    for (keys, mouse) in [
        (["i", "up"], [0.1, 0.0]),
        (["k", "camera_down"], [-0.1, 0.0]),
        (["j", "turn left"], [0.0, -0.1]),
        (["l", "camera_r"], [0.0, 0.1]),
        (["i+l", "camera_ur"], [0.1, 0.1]),
        (["camera_ul", "turn-left+up"], [0.1, -0.1]),
        (["camera_dr", "k+l"], [-0.1, 0.1]),
        (["camera_dl", "k+j+q"], [-0.1, -0.1]),
    ] {
        for key in keys {
            assert_eq!(universal(key), (vec![0.0; 4], Some(mouse)), "{key}");
        }
    }
    assert_eq!(row("w+a", Controls::GtaDrive), (vec![1.0, 0.0], Some([0.0, -0.1])));
    assert_eq!(row("s+right", Controls::GtaDrive), (vec![0.0, 1.0], Some([0.0, 0.1])));
    let temple = [
        "none",
        "jump",
        "slide",
        "turnleft",
        "turnright",
        "leftside",
        "rightside",
    ];
    let letters = ["q", "w", "s", "z", "c", "a", "d"];
    for (column, keys) in temple.into_iter().zip(letters).enumerate() {
        let mut columns = vec![0.0; 7];
        columns[column] = 1.0;
        for key in [keys.0, keys.1] {
            assert_eq!(row(key, Controls::Templerun), (columns.clone(), None), "{key}");
        }
    }
}

#[test]
fn every_name_of_a_key_is_one_key_and_every_effect_has_a_name() {
    for controls in Controls::ALL {
        let mut names = HashMap::new();
        for key in controls.scheme().keys {
            for name in key.all_names() {
                let flat = name.replace('-', "");
                assert_eq!(names.insert(flat, key.name()), None, "{name} of {controls}");
                assert_eq!(controls.key(name).unwrap().name(), key.name());
            }
        }
        assert_eq!(controls.text(controls.none()), "none");
        assert_eq!(controls.to_string().parse(), Ok(controls));
        assert_eq!(
            controls.columns(controls.none().keys).len(),
            controls.scheme().columns.len()
        );
    }
}

#[test]
fn a_text_is_a_list_of_actions_and_how_many_pictures_they_last() {
    let walk = all("w*48, w+left*24; none*48,\n W*1", UNIVERSAL);
    assert_eq!(walk.text(UNIVERSAL), "forward*48, forward+left*24, none*48, forward*1");
    assert_eq!((walk.pictures(), walk.runs().len()), (121, 4));
    // What is the same goes together.
    assert_eq!(all("w*2, forward*3", UNIVERSAL).text(UNIVERSAL), "forward*5");
    let weak = all("w + turn-left = 0.05*2, camera_ur=0.025*1", UNIVERSAL);
    assert_eq!(
        weak.text(UNIVERSAL),
        "forward+turn-left=0.05*2, up=0.025+turn-right=0.025*1"
    );
}

#[test]
fn only_what_has_no_number_lasts_to_the_end() {
    for text in ["w*3, none*", "w*3,none", "w*3; q *"] {
        let plan = plan(text, UNIVERSAL);
        assert_eq!(plan.pictures(), None);
        let filled = plan.clone().for_pictures(10).unwrap();
        assert_eq!(filled.text(UNIVERSAL), "forward*3, none*7", "{text}");
        assert_eq!(plan.clone().for_pictures(3).unwrap().text(UNIVERSAL), "forward*3");
        let many = plan.for_pictures(2).unwrap_err();
        assert_eq!(
            many,
            ActionError::Many {
                actions: 3,
                pictures: 2
            }
        );
    }
    let few = plan("w*48, none*12", UNIVERSAL).for_pictures(81).unwrap_err();
    assert_eq!(
        few,
        ActionError::Few {
            actions: 60,
            pictures: 81
        }
    );
    for part in ["60 pictures", "has 81", "21 are missing", "none*"] {
        assert!(few.to_string().contains(part), "{few}");
    }
    let many = plan("w*82", UNIVERSAL).for_pictures(81).unwrap_err().to_string();
    for part in ["82 pictures", "has 81", "1 too many", "--seconds"] {
        assert!(many.contains(part), "{many}");
    }
    let still = ActionPlan::still(Controls::Templerun).for_pictures(9).unwrap();
    assert_eq!(still.text(Controls::Templerun), "none*9");
}

#[test]
fn what_is_wrong_is_named() {
    let cases: &[(Controls, &str, &[&str])] = &[
        (UNIVERSAL, "", &["no action", "w*12"]),
        (UNIVERSAL, " , ;", &["no action"]),
        (
            UNIVERSAL,
            "w*3, x*4",
            &["number 2", "`x*4`", "unknown key `x`", "universal", "forward, back"],
        ),
        (UNIVERSAL, "foward*3", &["`foward`", "did you mean `forward`?"]),
        (
            UNIVERSAL,
            "jump*3",
            &["`jump` is a key of the controls templerun", "universal"],
        ),
        (Controls::Templerun, "jmp*3", &["did you mean `jump`?"]),
        (
            Controls::Templerun,
            "left*3",
            &["`left` is a key of the controls universal", "left-side"],
        ),
        (
            Controls::Templerun,
            "jump+slide*3",
            &["`jump` and `slide`", "one key at a time"],
        ),
        (
            Controls::GtaDrive,
            "j*3",
            &["`j` is a key of the controls universal", "gta_drive"],
        ),
        (UNIVERSAL, "w*0", &["`0`", "above 0"]),
        (UNIVERSAL, "w*-4", &["`-4`"]),
        (UNIVERSAL, "w*4.5", &["`4.5`", "whole number"]),
        (UNIVERSAL, "w*99999999999999999999", &["`99999999999999999999`"]),
        (UNIVERSAL, "w*99999999999", &["more than", "pictures"]),
        (UNIVERSAL, "w, a*3", &["`w` lasts to the end", "w*12"]),
        (UNIVERSAL, "up+down*3", &["`up` and `down`", "same line"]),
        (UNIVERSAL, "none+w*3", &["`none` and `w`", "nothing is done"]),
        (UNIVERSAL, "w=0.5*3", &["`w`", "no strength"]),
        (UNIVERSAL, "j=fast*3", &["`fast`", "`j`", "up to 0.1"]),
        (
            UNIVERSAL,
            "j=0.3*3",
            &["horizontal", "-0.3", "universal", "at most 0.1"],
        ),
        (UNIVERSAL, "i=inf*3", &["`inf`"]),
        (UNIVERSAL, "w++a*3", &["unknown key ``"]),
    ];
    for (controls, text, parts) in cases {
        let said = said(text, *controls);
        assert!(parts.iter().all(|part| said.contains(part)), "{text}: {said}");
    }
}

#[test]
fn rows_beyond_the_end_of_the_video_have_its_last_action() {
    // 10 pictures are 4 latent frames, whose last three pictures nobody sees.
    let walk = all("w*9, j*1", UNIVERSAL);
    let rows = walk.rows(UNIVERSAL, 4).unwrap();
    assert_eq!(rows.pictures(), 0..13);
    assert!(rows.keyboard()[..9].iter().all(|row| row[0] == 1.0));
    assert!(rows.mouse().unwrap()[9..].iter().all(|mouse| *mouse == [0.0, -0.1]));
    let temple = plan("none", Controls::Templerun).for_pictures(9).unwrap();
    let rows = temple.rows(Controls::Templerun, 3).unwrap();
    assert!(
        rows.keyboard()
            .iter()
            .all(|row| row[..] == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    );
    assert_eq!(rows.mouse(), None);
}

/// What a file of this name and content says.
fn file(name: &str, content: impl AsRef<[u8]>, controls: Controls) -> Result<ActionPlan, ActionError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(name), content).unwrap();
    ActionSource::new(name, folder.path()).read(controls)
}

#[test]
fn files_say_the_same_as_text() {
    let expected = plan("w*2, w+left*1, turn-left=0.05*3", UNIVERSAL);
    for (name, content) in [
        ("a.txt", "\u{feff}# a walk\r\nw*2,w+left*1\r\n# and a turn\nj=0.05*3\n"),
        (
            "a.jsonl",
            "{\"action\": \"w\"}\n\n# again\n{\"action\": \"forward\"}\n{\"action\": \"w+a\", \"frames\": 1}\n\
             {\"keyboard\": [0, 0, 0, 0.0], \"mouse\": [0, -0.05], \"frames\": 3}\n",
        ),
        ("a.csv", "frames,action\n2,w\n1,w+left\n3,turn-left=0.05\n"),
        ("A.CSV", "Action;Frames\nw;\nw;\nW+A;1.0\nj=0.05;3\n"),
        (
            "b.csv",
            "frames,keyboard,mouse\n2,\"[1,0,0,0]\",\n,\"[1,0,1,0]\",\"[0,0]\"\n3,\"[0,0,0,0]\",\"[0,-0.05]\"\n",
        ),
    ] {
        assert_eq!(file(name, content, UNIVERSAL).unwrap(), expected, "{name}");
    }
    let open = file("a.txt", "w*2\nnone*\n", UNIVERSAL).unwrap();
    assert_eq!(open, plan("w*2, none", UNIVERSAL));
    assert_eq!(
        ActionSource::new("w*48", Path::new("x")),
        ActionSource::Text("w*48".into())
    );
}

#[test]
fn what_is_wrong_in_a_file_is_named_with_its_line() {
    let temple = Controls::Templerun;
    let cases: &[(&str, &[u8], Controls, &[&str])] = &[
        (
            "a.txt",
            b"w*3\nx*2\n",
            UNIVERSAL,
            &["a.txt`", "number 2", "unknown key `x`"],
        ),
        ("a.txt", b"# nothing\n", UNIVERSAL, &["no action"]),
        ("a.txt", b"w*3\xff", UNIVERSAL, &["cannot read", "UTF-8"]),
        (
            "a.jsonl",
            b"\n{\"action\": \"jump\"}\n",
            UNIVERSAL,
            &["line 2", "templerun"],
        ),
        (
            "a.jsonl",
            b"{\"actoin\": \"w\"}",
            UNIVERSAL,
            &["line 1", "unknown field `actoin`", "`action`"],
        ),
        (
            "a.jsonl",
            b"{\"frames\": 3}",
            UNIVERSAL,
            &["line 1", "neither `action` nor `keyboard`"],
        ),
        (
            "a.jsonl",
            b"{\"action\": \"w\", \"frames\": 0}",
            UNIVERSAL,
            &["`0`", "above 0"],
        ),
        (
            "a.jsonl",
            b"{\"action\": \"w\", \"frames\": 2.5}",
            UNIVERSAL,
            &["`2.5`"],
        ),
        (
            "a.jsonl",
            b"{\"action\": \"w\", \"mouse\": [0, 0]}",
            UNIVERSAL,
            &["`action` and `mouse`"],
        ),
        (
            "a.jsonl",
            b"{\"action\": \"w\", \"keyboard\": [0]}",
            UNIVERSAL,
            &["`action` and `keyboard`"],
        ),
        (
            "a.jsonl",
            b"{\"keyboard\": [1, 0]}",
            UNIVERSAL,
            &["2 columns", "has 4", "forward, back"],
        ),
        (
            "a.jsonl",
            b"{\"keyboard\": [1, 0, 0.5, 0]}",
            UNIVERSAL,
            &["column 2", "0.5"],
        ),
        (
            "a.jsonl",
            b"{\"keyboard\": [1, 0, 0, 0], \"mouse\": [0, 0.2]}",
            UNIVERSAL,
            &["horizontal", "0.2", "at most 0.1"],
        ),
        (
            "a.jsonl",
            b"{\"keyboard\": [1, 0], \"mouse\": [0.1, 0]}",
            Controls::GtaDrive,
            &["vertical", "gta_drive", "at most 0 either"],
        ),
        (
            "a.jsonl",
            b"{\"keyboard\": [0, 0, 0, 0, 0, 0, 0]}",
            temple,
            &["0 columns", "always one", "[1, 0, 0, 0, 0, 0, 0]", "`none`"],
        ),
        (
            "a.jsonl",
            b"{\"keyboard\": [1, 1, 0, 0, 0, 0, 0]}",
            temple,
            &["2 columns", "always one"],
        ),
        (
            "a.jsonl",
            b"{\"keyboard\": [1, 0, 0, 0, 0, 0, 0], \"mouse\": [0, 0.1]}",
            temple,
            &["no mouse"],
        ),
        (
            "a.jsonl",
            b"{\"action\": \"w\"\0}",
            UNIVERSAL,
            &["line 1", "NUL", "file of actions"],
        ),
        ("a.jsonl", b"", UNIVERSAL, &["no action"]),
        (
            "a.csv",
            b"action,seconds\nw,3\n",
            UNIVERSAL,
            &["unknown key `seconds`", "`frames`"],
        ),
        ("a.csv", b"action,frames\nw,3,4\n", UNIVERSAL, &["line 2", "3 cells"]),
    ];
    for (name, content, controls, parts) in cases {
        let said = file(name, content, *controls).unwrap_err().to_string();
        let content = String::from_utf8_lossy(content);
        assert!(parts.iter().all(|part| said.contains(part)), "{content}: {said}");
    }
    let missing = ActionSource::new("none.csv", Path::new("nowhere")).read(UNIVERSAL);
    let missing = missing.unwrap_err();
    assert!(missing.to_string().contains("nowhere/none.csv") && !missing.is_usage());
}

#[test]
fn a_hostile_file_does_not_take_all_memory() {
    let huge = format!("{{\"action\": \"w\", \"frames\": {}}}\n", MOST_PICTURES);
    let said = file("a.jsonl", huge.repeat(2), UNIVERSAL).unwrap_err().to_string();
    assert!(said.contains("line 2") && said.contains("more than"), "{said}");
    let long = format!("{{\"action\": \"{}\"}}", "w".repeat(1 << 20));
    let said = file("a.jsonl", long, UNIVERSAL).unwrap_err().to_string();
    assert!(said.contains("bytes") && !said.contains("512 tokens"), "{said}");
}

fn any_controls() -> impl Strategy<Value = Controls> {
    prop::sample::select(Controls::ALL.to_vec())
}

fn any_action(controls: Controls) -> BoxedStrategy<Action> {
    let scheme = controls.scheme();
    let columns = scheme.columns.len();
    let keys = if scheme.one_key {
        (0..columns).prop_map(|column| 1u8 << column).boxed()
    } else {
        (0..1u8 << columns).boxed()
    };
    let most = scheme.mouse.as_ref().map_or([0.0; 2], |mouse| mouse.most);
    let along = |most: f32| {
        if most == 0.0 {
            return Just(0.0).boxed();
        }
        prop_oneof![Just(0.0), Just(most), Just(-most), -most..=most].boxed()
    };
    (keys, along(most[0]), along(most[1]))
        // Zero has no sign.
        .prop_map(|(keys, up, right)| Action {
            keys,
            mouse: [up + 0.0, right + 0.0],
        })
        .boxed()
}

fn any_trajectory() -> impl Strategy<Value = (Controls, Trajectory)> {
    any_controls().prop_flat_map(|controls| {
        let runs = prop::collection::vec((any_action(controls), 1usize..50), 1..20);
        runs.prop_map(move |runs| {
            let mut trajectory = Trajectory::default();
            for (action, pictures) in runs {
                trajectory.push(action, pictures).unwrap();
            }
            (controls, trajectory)
        })
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_as_it_was((controls, trajectory) in any_trajectory()) {
        prop_assert_eq!(&all(&trajectory.text(controls), controls), &trajectory);
        let lines = file("a.jsonl", trajectory.json_lines(controls), controls).unwrap();
        prop_assert_eq!(&lines.for_pictures(trajectory.pictures()).unwrap(), &trajectory);
        let record = ActionRecord { controls, trajectory };
        let json = serde_json::to_string(&record).unwrap();
        prop_assert_eq!(serde_json::from_str::<ActionRecord>(&json).unwrap(), record);
    }

    #[test]
    fn any_text_is_taken_or_refused(text in ".{0,200}", controls in any_controls()) {
        if let Ok(plan) = ActionPlan::parse(&text, controls) {
            prop_assert!(plan.pictures() != Some(0));
        }
    }

    #[test]
    fn any_file_is_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), controls in any_controls()) {
        for name in ["a.txt", "a.jsonl", "a.csv"] {
            file(name, &bytes, controls).ok();
        }
    }
}
