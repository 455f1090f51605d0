"""Actions: how they are written, and the mixture of walks that the model learns from.

One row of keys [n,4] (forward, back, left, right) and one of the mouse [n,2] (up, right) a picture, as the published model gets them.
"""

import numpy as np

from walker import Pose, step

MOUSE_STEP = 0.1
LATENTS_PER_CHUNK, PICTURES_PER_LATENT = 3, 4
MOVES = {"w": (1, 0, 0, 0), "s": (0, 1, 0, 0), "a": (0, 0, 1, 0), "d": (0, 0, 0, 1)}
TURNS = {"up": (1, 0), "down": (-1, 0), "left": (0, -1), "right": (0, 1)}


def rows_of(action, count=1):
    """(keys [count,4], mouse [count,2]) of an action such as 'w+a+left' or 'none'."""
    keys, mouse = np.zeros(4, np.float32), np.zeros(2)
    for part in action.split("+"):
        if part in MOVES:
            keys = np.maximum(keys, np.array(MOVES[part], np.float32))
        elif part in TURNS:
            mouse = mouse + TURNS[part]
        elif part != "none":
            raise ValueError(f"unknown action '{part}' in '{action}': expected some of {', '.join([*MOVES, *TURNS])}, or none")
    return np.tile(keys, (count, 1)), np.tile((mouse * MOUSE_STEP).astype(np.float32), (count, 1))


def joined(parts):
    keys, mouse = zip(*parts)
    return np.concatenate(keys), np.concatenate(mouse)


def parse(text):
    """Rows of 'w*48, w+left*24, none*48'."""
    parts = []
    for part in text.split(","):
        action, _, count = part.strip().partition("*")
        parts.append(rows_of(action.strip(), int(count or 1)))
    return joined(parts)


SINGLE, DOUBLE, CAMERA = ("w", "a", "d"), ("w+a", "w+d"), ("left", "right")
PUBLISHED = [*(5 * [*SINGLE, *DOUBLE, *CAMERA]), *(f"{move}+{turn}" for move in SINGLE + DOUBLE for turn in CAMERA)]
MOVEMENT = ("none", "none", "w", "w", "w", "s", "a", "d", "w+a", "w+d", "s+a", "s+d")
LOOK = ("none", "none", "left", "right", "left", "right", "up", "down", "up+left", "up+right", "down+left", "down+right")


def runs(first, length, count, draw):
    """Rows of a first action for `first` pictures, then others for `length()` pictures each, cut to fit."""
    parts, left = [rows_of(draw(), min(first, count))], count - min(first, count)
    while left > 0:
        parts.append(rows_of(draw(), min(left, length())))
        left -= len(parts[-1][0])
    return joined(parts)


def published(rng, count):
    """The published bench: one row of one action, then runs of 12."""
    return runs(1, lambda: 12, count, lambda: PUBLISHED[rng.integers(len(PUBLISHED))])


def any_action(rng):
    return f"{MOVEMENT[rng.integers(len(MOVEMENT))]}+{LOOK[rng.integers(len(LOOK))]}"


def played(rng, count):
    """One action a chunk, as when someone plays: 9 rows, then runs of 12."""
    return runs(9, lambda: 12, count, lambda: any_action(rng))


def wandering(rng, count):
    """Actions of 2 to 30 pictures each."""
    return runs(int(rng.integers(2, 31)), lambda: int(rng.integers(2, 31)), count, lambda: any_action(rng))


def held(rng, count):
    """One action all the time."""
    return rows_of(any_action(rng), count)


def there_and_back(rng, count):
    """An action, and its opposite for as long: what was seen must come back."""
    opposite = dict(w="s", s="w", a="d", d="a", left="right", right="left", up="down", down="up", none="none")
    length, parts, left = int(rng.integers(6, 24)), [], count
    while left > 0:
        action = any_action(rng)
        for one in (action, "+".join(opposite[part] for part in action.split("+"))):
            parts.append(rows_of(one, min(length, left)))
            left -= len(parts[-1][0])
    return joined(parts)


def still(rng, count):
    return rows_of("none", count)


MIXTURE = ((.30, published), (.25, played), (.20, wandering), (.10, held), (.10, there_and_back), (.05, still))


def draw(rng, count):
    """Rows of a random walk of the mixture, for `count` pictures."""
    share = rng.random()
    for weight, make in MIXTURE:
        share -= weight
        if share < 0:
            return make(rng, count)
    return MIXTURE[0][1](rng, count)


def turn_at_walls(rng, start, keys, mouse, walls):
    """As the rows, but who has walked against a wall for three pictures turns away for twelve, standing: a person would not go on pushing."""
    keys, mouse, pose, stuck, row = keys.copy(), mouse.copy(), Pose(*start), 0, 0
    while row < len(keys):
        following = step(pose, keys[row], mouse[row], walls)
        free = step(pose, keys[row], mouse[row])
        stuck = stuck + 1 if (following.x, following.z) != (free.x, free.z) else 0
        if stuck == 3:
            turn = rows_of(("left", "right")[rng.integers(2)], 12)
            keys[row + 1:row + 13], mouse[row + 1:row + 13] = (part[:len(keys) - row - 1] for part in turn)
            stuck = 0
        pose, row = following, row + 1
    return keys, mouse
