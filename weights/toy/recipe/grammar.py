"""What a toy-world prompt can say, and the many ways of saying it.

A *spec* is a dict: color, shape, motion, bg, sky, cam, size (words of the tables below), layout (which of the
few scenes a background has) and seed (phases, speeds and the subject's start); in some also bird (its colour, which no prompt
names) and first (the chunk of its first visit), see visitor.py.
"""

import random

import visitor

COLORS = dict(red=(228, 48, 44), orange=(250, 140, 30), yellow=(252, 216, 48), green=(58, 186, 78),
              blue=(46, 108, 236), purple=(150, 68, 212), pink=(250, 120, 182), white=(246, 246, 246))
SHAPES = ["ball", "cube", "star", "triangle", "heart", "balloon"]
MOTIONS = ["bouncing", "rolling", "floating", "spinning", "circling", "swinging"]
BACKGROUNDS = ["hills", "mountains", "sea", "desert", "city", "forest"]
SKIES = ["noon", "cloudy", "sunrise", "sunset", "night"]
CAMERAS = ["static", "left", "right", "zoom"]
SIZES = dict(small=0.82, medium=1.0, big=1.18)
LAYOUTS = 3

COLOR_WORDS = {name: [name] for name in COLORS}
COLOR_WORDS["red"] += ["crimson", "scarlet"]
COLOR_WORDS["yellow"] += ["golden"]
COLOR_WORDS["blue"] += ["azure"]
COLOR_WORDS["purple"] += ["violet"]
COLOR_WORDS["pink"] += ["magenta"]
COLOR_WORDS["green"] += ["emerald"]
SHAPE_WORDS = dict(ball=["ball", "ball", "sphere", "beach ball"], cube=["cube", "box", "block"], star=["star"],
                   triangle=["triangle", "pyramid"], heart=["heart"], balloon=["balloon"])
MOTION_WORDS = dict(
    bouncing=["bouncing", "bouncing up and down", "jumping", "hopping"],
    rolling=["rolling", "rolling back and forth", "sliding side to side"],
    floating=["floating", "hovering", "drifting gently"],
    spinning=["spinning", "rotating", "turning in place"],
    circling=["circling", "flying in circles", "looping"],
    swinging=["swinging", "swinging on a rope", "swaying like a pendulum"])
BACKGROUND_WORDS = dict(
    hills=["over green hills", "in a meadow", "above rolling hills", "in the countryside"],
    mountains=["in front of snowy mountains", "near the mountains", "by snowy peaks"],
    sea=["over the sea", "above the ocean", "by a calm blue sea"],
    desert=["in the desert", "over sand dunes", "in a golden desert"],
    city=["in front of a city skyline", "in the city", "above a town"],
    forest=["in a forest", "in front of pine trees", "in the woods"])
SKY_WORDS = dict(noon=["on a sunny day", "under a clear blue sky", "at noon", ""],
                 cloudy=["under a cloudy sky", "on an overcast day", "with many clouds"],
                 sunrise=["at sunrise", "at dawn", "in the early morning"],
                 sunset=["at sunset", "at dusk", "in the evening"],
                 night=["at night", "under the stars", "in the moonlight"])
CAMERA_WORDS = dict(static=["", "", "static camera", "the camera is still"],
                    left=["camera panning left", "the camera pans to the left", "camera moving left"],
                    right=["camera panning right", "the camera pans to the right", "camera moving right"],
                    zoom=["camera zooming in and out", "the camera slowly zooms", "camera zooming"])
BIRD_WORDS = ["a bird flying by", "and a bird", "with a bird"]
SIZE_WORDS = dict(small=["small", "little", "tiny"], medium=[""], big=["big", "large", "huge"])
WORD_TABLES = [COLOR_WORDS, SHAPE_WORDS, MOTION_WORDS, BACKGROUND_WORDS, SKY_WORDS, CAMERA_WORDS, SIZE_WORDS]

FILLERS = ["beautiful", "cinematic", "video of", "a clip showing", "cute", "shiny", "4k", "high quality", "cartoon",
           "there is", "slow motion", "we see", "colourful", "wonderful", "old", "animation", "please", "footage of"]


def sample_spec(rng):
    """Draw a spec; the camera is still in 70 % of them."""
    cam = "static" if rng.random() < 0.7 else rng.choice(CAMERAS[1:])
    return dict(color=rng.choice(list(COLORS)), shape=rng.choice(SHAPES), motion=rng.choice(MOTIONS),
                bg=rng.choice(BACKGROUNDS), sky=rng.choice(SKIES), cam=cam,
                size=rng.choice(["small", "medium", "medium", "big"]), layout=rng.randrange(LAYOUTS),
                seed=rng.randrange(1 << 30))


def sample_visited_spec(rng):
    """Draw a spec with a bird: by day, the camera still."""
    spec = dict(sample_spec(rng), cam="static", sky=rng.choice(visitor.SKIES))
    return dict(spec, bird=rng.choice(list(visitor.COLORS)), first=rng.randrange(visitor.FIRST_CHUNKS))


def prompt_of(spec, rng=None):
    """A sentence for the spec: a random paraphrase with `rng`, the plain one without."""
    pick = rng.choice if rng is not None else (lambda words: words[0])
    size, color, shape = pick(SIZE_WORDS[spec["size"]]), pick(COLOR_WORDS[spec["color"]]), pick(SHAPE_WORDS[spec["shape"]])
    motion, place = pick(MOTION_WORDS[spec["motion"]]), pick(BACKGROUND_WORDS[spec["bg"]])
    sky, cam = pick(SKY_WORDS[spec["sky"]]), pick(CAMERA_WORDS[spec["cam"]])
    style = rng.random() if rng is not None else 0.0
    subject = " ".join(word for word in (size, color, shape) if word)
    article = pick(["a", "a", "the", "one"])
    if article == "a" and subject[0] in "aeiou":
        article = "an"
    if style < 0.6:
        text = f"{article} {subject} {motion} {place} {sky}"
    elif style < 0.8:
        text = f"{sky}, {article} {subject} {motion} {place}" if sky else f"{article} {subject} {motion} {place}"
    else:
        text = f"{article} {subject} is {motion} {place} {sky}"
    parts = [" ".join(text.split()), cam, pick(BIRD_WORDS) if "bird" in spec else ""]
    return ", ".join(part for part in parts if part)


def training_prompt(spec, rng, null_rate=0.08):
    """A paraphrase as a user might type it: sometimes capitalised, with a full stop, with words the world does not know.

    With probability `null_rate` the empty prompt, which trains the unconditional model.
    """
    if rng.random() < null_rate:
        return ""
    text = prompt_of(spec, rng)
    if rng.random() < 0.10:
        words = text.split(" ")
        filler = rng.choice(FILLERS) if rng.random() < 0.7 else "".join(
            rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(2, 8)))
        words.insert(rng.randint(0, len(words)), filler)
        text = " ".join(words)
    if rng.random() < 0.2:
        text = text[0].upper() + text[1:]
    if rng.random() < 0.2:
        text += "."
    return text


if __name__ == "__main__":
    generator = random.Random(0)
    for _ in range(10):
        print(training_prompt(sample_spec(generator), generator))
