"""What stands where: the six places, the five times of day, and the things that one walks around.

Lengths are in units; the eye is one unit above the ground. Colours are RGB in 0..1.
"""

import math
from typing import NamedTuple

import numpy as np


class Sky(NamedTuple):
    zenith: tuple
    horizon: tuple
    light: float      # factor on everything that does not glow
    sun: float | None  # tangent of its elevation; None: no sun
    stars: bool = False


class Kind(NamedTuple):
    """A kind of thing: a picture that stands upright and faces the eye, and a disc on the ground that nobody enters."""
    width: float
    height: float
    radius: float      # 0: one walks through it


class Place(NamedTuple):
    ground: tuple      # two colours
    specks: tuple      # (colour, how many, smallest radius, largest radius)
    things: tuple      # (kind, how many)
    far: tuple         # colour of what is at the horizon
    far_height: float  # tangent of its mean elevation, times .75
    pattern: str = ""  # "ripples" or "paving"


SKIES = {
    "day": Sky((.33, .60, .95), (.80, .92, 1.0), 1.0, .80),
    "cloudy": Sky((.55, .60, .66), (.78, .80, .83), .86, None),
    "sunrise": Sky((.45, .55, .85), (1.0, .80, .55), .92, .13),
    "sunset": Sky((.30, .20, .45), (1.0, .50, .35), .80, .10),
    "night": Sky((.02, .03, .12), (.10, .12, .26), .42, None, stars=True),
}

PLACES = {
    "hills": Place(((.40, .70, .30), (.25, .52, .20)), (((.17, .40, .14), 420, .10, .26), ((.62, .84, .40), 300, .08, .20), ((.98, .95, .80), 120, .05, .09)),
                   (("tree", 14), ("bush", 14), ("flower", 30)), (.42, .62, .42), .12),
    "desert": Place(((.93, .78, .50), (.78, .60, .36)), (((.58, .42, .27), 240, .08, .22), ((.98, .90, .68), 160, .10, .24)),
                    (("cactus", 16), ("rock", 14)), (.80, .58, .40), .09, "ripples"),
    "forest": Place(((.26, .46, .22), (.15, .29, .13)), (((.42, .30, .16), 460, .08, .22), ((.38, .56, .24), 360, .08, .22)),
                    (("fir", 50), ("bush", 12)), (.14, .32, .20), .18),
    "snow": Place(((.97, .98, 1.0), (.78, .85, .95)), (((.62, .72, .88), 360, .08, .22), ((1.0, 1.0, 1.0), 200, .10, .24)),
                  (("fir", 16), ("rock", 12)), (.66, .75, .90), .26),
    "city": Place(((.50, .50, .53), (.36, .36, .40)), (((.26, .26, .29), 200, .08, .20), ((.62, .61, .58), 160, .08, .20)),
                  (("house", 26), ("lamp", 16)), (.38, .40, .50), .16, "paving"),
    "beach": Place(((.95, .87, .64), (.80, .69, .46)), (((.64, .53, .36), 260, .08, .20), ((1.0, .97, .88), 240, .06, .18)),
                   (("palm", 16), ("rock", 9), ("hut", 6)), (.25, .52, .72), .07, "ripples"),
}

KINDS = {
    "tree": Kind(1.5, 1.9, .40), "bush": Kind(.9, .62, .45), "fir": Kind(1.3, 2.4, .45), "cactus": Kind(1.0, 1.5, .45), "rock": Kind(.95, .60, .50),
    "flower": Kind(.25, .35, 0.), "house": Kind(1.8, 2.6, 1.0), "hut": Kind(1.6, 1.3, .85), "lamp": Kind(.5, 1.5, .35), "palm": Kind(1.7, 2.2, .40),
}
HUES = (.1, .5, .9)
SIDE = 128  # of a drawn thing
WALLS = ((.78, .36, .30), (.85, .76, .55), (.45, .58, .75))
PETALS = ((1, .3, .3), (1, .9, .3), (.9, .5, .95))
PANE, LANTERN = (.98, .92, .60), (1, .95, .6)


class Canvas:
    """An RGBA picture [SIDE,SIDE] in which shapes are put on one another; x goes right, y up, both 0..1."""

    def __init__(self):
        row, column = np.mgrid[0:SIDE, 0:SIDE]
        self.x, self.y = (column + .5) / SIDE, 1 - (row + .5) / SIDE
        self.rgb, self.alpha, self.glow = np.zeros((SIDE, SIDE, 3)), np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE))

    def put(self, inside, colour, glow=0.):
        self.rgb[inside], self.alpha[inside], self.glow[inside] = colour, 1, glow

    def box(self, centre, half, bottom, top, colour):
        self.put((abs(self.x - centre) < half) & (self.y > bottom) & (self.y < top), colour)

    def ellipse(self, cx, cy, rx, ry, colour, glow=0.):
        self.put(((self.x - cx) / rx) ** 2 + ((self.y - cy) / ry) ** 2 < 1, colour, glow)


def draw_tree(c, hue):
    c.box(.5, .07, 0, .45, (.42, .28, .16))
    c.ellipse(.5, .66, .33, .33, (.18 + .1 * hue, .52, .20))
    c.ellipse(.38, .76, .15, .15, (.34 + .1 * hue, .66, .30))


def draw_bush(c, hue):
    c.ellipse(.5, .42, .46, .50, (.18 + .1 * hue, .50, .20))
    c.ellipse(.36, .58, .18, .20, (.34 + .1 * hue, .66, .30))


def draw_fir(c, hue):
    c.box(.5, .06, 0, .15, (.36, .24, .14))
    for base, top, width in ((.12, .55, .42), (.35, .78, .33), (.58, 1.0, .24)):
        c.put((c.y > base) & (c.y < top) & (abs(c.x - .5) < width * (top - c.y) / (top - base)), (.10, .36 + .12 * hue, .20))


def draw_cactus(c, hue):
    green = (.20, .50 + .1 * hue, .26)
    c.box(.5, .10, 0, .95, green)
    for centre, bottom, top, low, high in ((.24, .35, .75, .2, .5), (.76, .50, .85, .5, .8)):
        c.box(centre, .07, bottom, top, green)
        c.put((abs(c.y - bottom - .03) < .06) & (c.x > low) & (c.x < high), green)


def draw_rock(c, hue):
    c.ellipse(.5, .0, .47, .80, (.44 + .08 * hue, .45, .46))
    c.ellipse(.38, .42, .18, .20, (.62, .60, .58))


def draw_flower(c, hue):
    c.box(.5, .05, 0, .6, (.2, .5, .2))
    c.ellipse(.5, .7, .23, .23, PETALS[HUES.index(hue)])


def draw_house(c, hue):
    c.box(.5, .46, 0, .97, WALLS[HUES.index(hue)])
    panes = (abs(c.x - .5) < .40) & (c.y < .92) & (c.y > .18) & ((c.x * 4.6 + .45) % 1 < .5) & ((c.y * 4.6 + .2) % 1 < .5)
    c.put(panes, PANE, .9)
    c.box(.5, .09, 0, .16, (.25, .17, .12))


def draw_hut(c, hue):
    c.box(.5, .42, 0, .6, (.62, .44, .26))
    c.put((c.y >= .55) & (abs(c.x - .5) < 1.1 * (1 - c.y)), (.80, .60 + .1 * hue, .36))
    c.box(.5, .10, 0, .36, (.25, .17, .12))


def draw_lamp(c, hue):
    c.box(.5, .06, 0, .85, (.2, .2, .24))
    c.ellipse(.5, .88, .20, .10, LANTERN, 1.)


def draw_palm(c, hue):
    c.put(abs(c.x - .45 - .1 * c.y * c.y) < .05 * (c.y < .76), (.55, .40, .24))
    for angle in np.linspace(-.4, math.pi + .4, 6):
        dx, dy = c.x - .53, c.y - .76
        along, across = dx * math.cos(angle) + dy * math.sin(angle), -dx * math.sin(angle) + dy * math.cos(angle)
        c.put((along > 0) & (along < .42) & (abs(across + .6 * along * along) < .08 * (1 - along / .45)), (.16, .50 + .1 * hue, .22))


DRAW = {name[5:]: function for name, function in list(globals().items()) if name.startswith("draw_")}


def drawn(kind, hue, light):
    """A thing under some light as RGBA [SIDE,SIDE,4], colours times alpha; dark at its edge, which reads better in small pictures."""
    canvas = Canvas()
    DRAW[kind](canvas, hue)
    inner = canvas.alpha
    for _ in range(2):
        padded = np.pad(inner, 1)
        inner = np.minimum.reduce([padded[1:-1, 1:-1], padded[2:, 1:-1], padded[:-2, 1:-1], padded[1:-1, 2:], padded[1:-1, :-2]])
    rgb = canvas.rgb * np.where(inner > 0, 1, .55)[..., None] * np.maximum(canvas.glow, light)[..., None]
    return np.concatenate([rgb * canvas.alpha[..., None], canvas.alpha[..., None]], -1).astype(np.float32)
