//! The table of control schemes (docs/algorithms/world_actions.md section 1): columns, keys and mixtures as Matrix-Game
//! 2.0 publishes them, for its three models.

use super::controls::{
    Effect::{self, Press, Turn},
    Key, Mouse, Rest, Scheme,
};

/// Movement of the mouse in one picture, in all published actions.
const STEP: f32 = 0.1;

const fn key(letter: &'static str, names: &'static [&'static str], effect: Effect) -> Key {
    Key { letter, names, effect }
}

pub(super) static UNIVERSAL: Scheme = Scheme {
    name: "universal",
    about: "walking and looking around",
    columns: &["forward", "back", "left", "right"],
    none: 0,
    one_key: false,
    mouse: Some(Mouse {
        step: STEP,
        most: [STEP, STEP],
    }),
    keys: &[
        key("w", &["forward"], Press(1)),
        key("s", &["back", "backward"], Press(1 << 1)),
        key("a", &["left"], Press(1 << 2)),
        key("d", &["right"], Press(1 << 3)),
        key("", &["forward-left"], Press(1 | (1 << 2))),
        key("", &["forward-right"], Press(1 | (1 << 3))),
        key("", &["back-left"], Press((1 << 1) | (1 << 2))),
        key("", &["back-right"], Press((1 << 1) | (1 << 3))),
        key("i", &["up", "look-up", "camera-up"], Turn([1, 0])),
        key("k", &["down", "look-down", "camera-down"], Turn([-1, 0])),
        key(
            "j",
            &["turn-left", "look-left", "camera-left", "camera-l"],
            Turn([0, -1]),
        ),
        key(
            "l",
            &["turn-right", "look-right", "camera-right", "camera-r"],
            Turn([0, 1]),
        ),
        key("", &["camera-ul"], Turn([1, -1])),
        key("", &["camera-ur"], Turn([1, 1])),
        key("", &["camera-dl"], Turn([-1, -1])),
        key("", &["camera-dr"], Turn([-1, 1])),
        key("q", &["no-move"], Effect::Rest(Rest::Keyboard)),
        key("u", &["no-turn"], Effect::Rest(Rest::Mouse)),
        key("", &["none"], Effect::Rest(Rest::Both)),
    ],
    mixture: &[
        ("forward", 5),
        ("left", 5),
        ("right", 5),
        ("forward+left", 5),
        ("forward+right", 5),
        ("turn-left", 5),
        ("turn-right", 5),
        ("forward+turn-left", 1),
        ("forward+turn-right", 1),
        ("left+turn-left", 1),
        ("left+turn-right", 1),
        ("right+turn-left", 1),
        ("right+turn-right", 1),
        ("forward+left+turn-left", 1),
        ("forward+left+turn-right", 1),
        ("forward+right+turn-left", 1),
        ("forward+right+turn-right", 1),
    ],
};

pub(super) static GTA_DRIVE: Scheme = Scheme {
    name: "gta_drive",
    about: "driving a car",
    columns: &["forward", "back"],
    none: 0,
    one_key: false,
    mouse: Some(Mouse {
        step: STEP,
        most: [0.0, STEP],
    }),
    keys: &[
        key("w", &["forward"], Press(1)),
        key("s", &["back", "backward"], Press(1 << 1)),
        key("a", &["left", "turn-left", "camera-left", "camera-l"], Turn([0, -1])),
        key("d", &["right", "turn-right", "camera-right", "camera-r"], Turn([0, 1])),
        key("q", &["no-move"], Effect::Rest(Rest::Both)),
        key("", &["none"], Effect::Rest(Rest::Both)),
    ],
    mixture: &[
        ("left", 2),
        ("right", 2),
        ("forward", 2),
        ("back", 2),
        ("forward+left", 1),
        ("forward+right", 1),
        ("back+left", 1),
        ("back+right", 1),
    ],
};

pub(super) static TEMPLERUN: Scheme = Scheme {
    name: "templerun",
    about: "running along a track",
    columns: &[
        "no move",
        "jump",
        "slide",
        "turn left",
        "turn right",
        "left side",
        "right side",
    ],
    none: 1,
    one_key: true,
    mouse: None,
    keys: &[
        key("w", &["jump"], Press(1 << 1)),
        key("s", &["slide"], Press(1 << 2)),
        key("z", &["turn-left"], Press(1 << 3)),
        key("c", &["turn-right"], Press(1 << 4)),
        key("a", &["left-side"], Press(1 << 5)),
        key("d", &["right-side"], Press(1 << 6)),
        key("q", &["none", "no-move"], Effect::Rest(Rest::Both)),
    ],
    mixture: &[
        ("none", 1),
        ("jump", 1),
        ("slide", 1),
        ("turn-left", 1),
        ("turn-right", 1),
        ("left-side", 1),
        ("right-side", 1),
    ],
};
