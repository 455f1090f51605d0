"""The world to walk through, rendered exactly for any pose.

A flat ground in perspective, things that stand on it, and a sky with what is at the horizon, infinitely far away. All of it repeats after
PERIOD units and a full turn, so a walk of any length has a ground truth. The lens is shifted, not tilted, to look up and down:
what is upright stays upright, every row of the ground has one depth, and every column of the sky one direction.

    python walk_world.py forest sunset 'w*48, w+left*24, none*48' walk.png
"""

import math
import sys
import time

import numpy as np

from places import HUES, KINDS, PLACES, SKIES, drawn
from trajectories import parse
from walker import PERIOD, Pose, Walls, walk, wrapped

SIZE = 96              # pixels of a picture's side
FINE = 2               # rendered at this multiple and averaged
SPAN = SIZE * FINE
FOCAL = SPAN / 2 / math.tan(math.radians(75) / 2)
TEXELS = 512           # of the ground's side, a power of two
LEVELS = 6             # the ground at 512, 256, ... texels
SKY_WIDTH, SKY_HEIGHT, SKY_TOP = 1600, 320, 1.2   # panorama: full turn, tangent of elevation 0 to SKY_TOP
NEAR, FOG = .35, 16.0
GAP = .6               # at least so much room between solid things
TURN = 2 * math.pi


def around(angle):
    """An angle in -pi..pi."""
    return (angle + math.pi) % TURN - math.pi


def blend(below, above, share):
    """`above` over `below`; colours [...,3], share [...]."""
    return below + (np.asarray(above) - below) * share[..., None]


def smooth_field(rng):
    """A smooth periodic pattern [TEXELS,TEXELS] in 0..1."""
    t = np.arange(TEXELS) / TEXELS * TURN
    field = np.zeros((TEXELS, TEXELS))
    for i in range(1, 9):
        for j in range(1, 9):
            if rng.random() < .5:
                field += np.outer(np.sin(i * t + rng.uniform(0, TURN)), np.sin(j * t + rng.uniform(0, TURN))) / (i * j) ** .3
    return (field - field.min()) / np.ptp(field)


def disc_share(x, z, radius, soft):
    """How much of each texel near a disc it covers: (rows, columns, share)."""
    texel = PERIOD / TEXELS
    reach = int((radius + soft) / texel) + 2
    rows, columns = (int(at / texel) + np.arange(-reach, reach + 1) for at in (x, z))
    distance = np.hypot(((rows + .5) * texel - x)[:, None], ((columns + .5) * texel - z)[None])
    return rows % TEXELS, columns % TEXELS, np.clip((radius - distance) / soft + .5, 0, 1)


def put_disc(ground, x, z, radius, colour, soft=PERIOD / TEXELS, strength=1.):
    rows, columns, share = disc_share(x, z, radius, soft)
    at = np.ix_(rows, columns)
    ground[at] = blend(ground[at], colour, share * strength)


def smaller(levels, picture):
    """The picture [n,n,c] and its halvings."""
    out = [picture]
    for _ in range(levels - 1):
        n = out[-1].shape[0] // 2
        out.append(out[-1].reshape(n, 2, n, 2, -1).mean((1, 3)).astype(np.float32))
    return out


def sampled(picture, at, axis):
    """Linear interpolation along an axis at positions `at` (centre of the first entry 0.5), transparent outside."""
    at = at - .5
    low = np.floor(at).astype(int)
    share = (at - low).astype(np.float32).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    return picture.take(low + 1, axis) * (1 - share) + picture.take(low + 2, axis) * share


class Things:
    """What stands on the ground: positions [n], kinds and looks; solid ones keep their distance."""

    def __init__(self, wanted, light, rng):
        looks = {}
        self.x, self.z, self.kind, self.look = [], [], [], []
        for name, count in wanted:
            for _ in range(count):
                hue = HUES[rng.integers(len(HUES))]
                if (name, hue) not in looks:
                    looks[name, hue] = [np.pad(level, ((1, 2), (1, 2), (0, 0))) for level in smaller(5, drawn(name, hue, light))]
                x, z = self.free_spot(KINDS[name].radius, rng)
                for column, value in zip((self.x, self.z, self.kind, self.look), (x, z, KINDS[name], looks[name, hue])):
                    column.append(value)
        self.x, self.z = np.array(self.x), np.array(self.z)
        solid = [i for i, kind in enumerate(self.kind) if kind.radius]
        self.walls = Walls(self.x[solid], self.z[solid], [self.kind[i].radius for i in solid])

    def free_spot(self, radius, rng):
        while True:
            x, z = rng.uniform(0, PERIOD, 2)
            if not radius or all(not kind.radius or math.hypot(wrapped(x - ox), wrapped(z - oz)) > radius + kind.radius + GAP
                                 for ox, oz, kind in zip(self.x, self.z, self.kind)):
                return x, z


class World:
    """A place at a time of day. The layout depends on place and seed only."""

    def __init__(self, place, sky, seed=0):
        rng = np.random.default_rng([seed, sorted(PLACES).index(place)])
        self.place, self.sky = PLACES[place], SKIES[sky]
        self.things = Things(self.place.things, self.sky.light, rng)
        self.walls = self.things.walls
        ground = self.draw_ground(rng) * self.sky.light
        self.ground = [level.reshape(-1, 3) for level in smaller(LEVELS, ground.astype(np.float32))]
        self.mean = self.ground[-1].mean(0)
        self.far = (np.array(self.place.far) * .7 + np.array(self.sky.horizon) * .3) * self.sky.light
        self.panorama = self.draw_panorama(rng)
        self.haze = (np.array(self.sky.horizon) * .75 + self.far * .25).astype(np.float32)

    def draw_ground(self, rng):
        """Colours [TEXELS,TEXELS,3] without light: patches, a pattern, specks that show motion, and shadows."""
        a, b = map(np.array, self.place.ground)
        field = smooth_field(rng)
        mix = np.clip((field - .5) * 8 + .5, 0, 1) * .6 + field * .4
        at = np.arange(TEXELS) / TEXELS
        if self.place.pattern == "ripples":
            wave = np.sin(TURN * (at[:, None] * 34 + 3 * field)) * .5 + .5
            mix = mix * .65 + wave * .35
        elif self.place.pattern == "paving":
            tile = (at * 16).astype(int)
            mix = rng.random((16, 16))[np.ix_(tile, tile)] * .9 + .1 * mix
        ground = blend(np.broadcast_to(b, (TEXELS, TEXELS, 3)), a, mix)
        if self.place.pattern == "paving":
            line = (at * 16 % 1 < .07)
            ground[line[:, None] | line[None]] = b * .62
        for colour, count, small, large in self.place.specks:
            for _ in range(count):
                put_disc(ground, *rng.uniform(0, PERIOD, 2), rng.uniform(small, large), colour, strength=.85)
        for x, z, kind in zip(self.things.x, self.things.z, self.things.kind):
            put_disc(ground, x, z, kind.width * .36, (0, 0, 0), soft=kind.width * .3, strength=.45)
        return ground

    def draw_panorama(self, rng):
        """Colours [SKY_HEIGHT,SKY_WIDTH,3], lowest row first: gradient, sun or moon and stars, clouds, the horizon's silhouette."""
        azimuth = ((np.arange(SKY_WIDTH) + .5) / SKY_WIDTH * TURN)[None]
        height = ((np.arange(SKY_HEIGHT) + .5) / SKY_HEIGHT * SKY_TOP)[:, None]
        zenith, horizon, light = np.array(self.sky.zenith), np.array(self.sky.horizon), self.sky.light
        image = blend(np.broadcast_to(horizon, (SKY_HEIGHT, SKY_WIDTH, 3)), zenith, np.broadcast_to(np.clip(height / 1.1, 0, 1), (SKY_HEIGHT, SKY_WIDTH)))
        sun = rng.uniform(0, TURN)
        stars, clouds = rng.uniform((0, .08), (TURN, 1.15), (110, 2)), rng.uniform((0, .28), (TURN, .75), (9, 2))

        def put(colour, a, h, reach, share):
            """Put a colour near (a, h), with a share of the differences in azimuth and height."""
            columns = np.flatnonzero(abs(around(azimuth[0] - a)) < reach)
            rows = np.flatnonzero(abs(height[:, 0] - h) < reach)
            at = np.ix_(rows, columns)
            image[at] = blend(image[at], colour, share(around(azimuth[:, columns] - a), height[rows] - h))

        if self.sky.sun is not None:
            put((1, .9, .6), sun, self.sky.sun, TURN, lambda da, dh: .35 * np.exp(-np.hypot(da, dh) * 4))
            put((1, .95, .75), sun, self.sky.sun, .12, lambda da, dh: np.clip((.11 - np.hypot(da, dh)) / .02, 0, 1))
        if self.sky.stars:
            for a, h in stars:
                put((.9, .9, .9), a, h, .015, lambda da, dh: np.clip((.014 - np.hypot(da, dh)) / .006, 0, 1))
            put((.95, .95, .85), sun, .5, .1, lambda da, dh: np.clip((.09 - np.hypot(da, dh)) / .01, 0, 1))
        else:
            for a, h in clouds:
                put((min(1, light + .05),) * 3, a, h, .34, lambda da, dh: np.clip(1.4 - (da / .28) ** 2 - (dh / .08) ** 2, 0, 1) * .8)
        phases = rng.uniform(0, TURN, 8)
        ridge = sum(np.sin(k * azimuth + phase) / k ** .7 for k, phase in zip((2, 3, 5, 7, 11, 13, 17, 23), phases))
        image = blend(image, self.far, np.clip((self.place.far_height * (.75 + .22 * ridge) - height) / .008 + .5, 0, 1))
        return np.concatenate([image, image[:, :1]], 1).astype(np.float32)

    def free_start(self, rng, room=.3):
        """A pose with free ground around it."""
        while True:
            x, z = (round(v * 4096) / 4096 for v in rng.uniform(0, PERIOD, 2))
            if self.walls.depth(x, z)[0] < -room:
                return Pose(x, z, 2.0 * int(rng.integers(180)), 0.)

    def picture(self, x, z, yaw, pitch):
        """uint8 [SIZE,SIZE,3] seen from a pose (degrees)."""
        horizon = SPAN / 2 + FOCAL * math.tan(math.radians(pitch))
        split = min(SPAN, max(0, math.ceil(horizon)))  # rows before it show the sky
        image = np.empty((SPAN, SPAN, 3), np.float32)
        lens = (np.arange(SPAN) + .5 - SPAN / 2) / FOCAL
        if split:
            image[:split] = self.see_sky(horizon - np.arange(split) - .5, math.radians(yaw) + np.arctan(lens))
        if split < SPAN:
            image[split:] = self.see_ground(np.arange(split, SPAN) + .5 - horizon, lens, x, z, math.radians(yaw))
        self.see_things(image, horizon, x, z, math.radians(yaw))
        return (image.reshape(SIZE, FINE, SIZE, FINE, 3).mean((1, 3)) * 255 + .5).clip(0, 255).astype(np.uint8)

    def pictures(self, poses):
        """uint8 [n,SIZE,SIZE,3]."""
        return np.stack([self.picture(*pose) for pose in poses])

    def see_sky(self, above, azimuth):
        """Rows `above` the horizon (fine pixels), columns in some directions."""
        at = azimuth / TURN * SKY_WIDTH - .5
        low = np.floor(at).astype(int)
        share = (at - low).astype(np.float32)[:, None]
        rows = np.clip(above / FOCAL / SKY_TOP * SKY_HEIGHT - .5, 0, SKY_HEIGHT - 1.001)
        floor = rows.astype(int)
        first, last = floor[-1], floor[0] + 2
        low = low % SKY_WIDTH
        part = self.panorama[first:last]
        part = part[:, low] * (1 - share) + part[:, low + 1] * share
        height = (rows - floor).astype(np.float32)[:, None, None]
        return part[floor - first] * (1 - height) + part[floor - first + 1] * height

    def see_ground(self, below, lens, x, z, yaw):
        """Rows `below` the horizon (fine pixels); each has one depth and one fineness of the ground."""
        depth = FOCAL / np.maximum(below, .5)
        level = np.clip(np.log2(depth ** 1.5 / FOCAL / (PERIOD / TEXELS)), 0, LEVELS - 1.001)
        side = depth[:, None] * lens
        gx = ((x + math.cos(yaw) * side + math.sin(yaw) * depth[:, None]) * (TEXELS / PERIOD)).astype(np.float32)
        gz = ((z - math.sin(yaw) * side + math.cos(yaw) * depth[:, None]) * (TEXELS / PERIOD)).astype(np.float32)
        colour = np.empty((len(below), SPAN, 3), np.float32)
        whole, part = level.astype(int), (level % 1).astype(np.float32)
        for fine in range(LEVELS - 1):
            rows = np.flatnonzero(whole == fine)
            if len(rows):
                rows = slice(rows[0], rows[-1] + 1)
                colour[rows] = self.texture(fine, gx[rows], gz[rows])
                if part[rows].any():
                    colour[rows] += (self.texture(fine + 1, gx[rows], gz[rows]) - colour[rows]) * part[rows, None, None]
        far = np.clip(depth / 14, 0, 1).astype(np.float32)[:, None, None] ** 2
        fog = ((1 - np.exp(-depth / FOG)) * .75).astype(np.float32)[:, None, None]
        return (colour * (1 - far) + self.mean * far) * (1 - fog) + self.haze * fog

    def texture(self, level, gx, gz):
        """The ground at some fineness, interpolated; gx, gz in texels of the finest."""
        n = TEXELS >> level
        scale = np.float32(1 / (1 << level))
        px, pz = gx * scale - np.float32(.5), gz * scale - np.float32(.5)
        i, j = np.floor(px), np.floor(pz)
        fx, fz = (px - i)[..., None], (pz - j)[..., None]
        i, j = i.astype(np.int32) & (n - 1), j.astype(np.int32) & (n - 1)
        i1, j1, ground = (i + 1) & (n - 1), (j + 1) & (n - 1), self.ground[level]
        i, i1 = i * n, i1 * n
        near = ground.take(i + j, 0)
        near += (ground.take(i1 + j, 0) - near) * fx
        beside = ground.take(i + j1, 0)
        beside += (ground.take(i1 + j1, 0) - beside) * fx
        near += (beside - near) * fz
        return near

    def see_things(self, image, horizon, x, z, yaw):
        """Draw what stands around, far to near, in the one copy of the repeating world that is nearest to the eye."""
        things, c, s = self.things, math.cos(yaw), math.sin(yaw)
        dx, dz = wrapped(things.x - x), wrapped(things.z - z)
        side, depth = dx * c - dz * s, dx * s + dz * c
        shown = np.clip((PERIOD / 2 - np.maximum(abs(dx), abs(dz))) / 2, 0, 1) * np.clip((depth - NEAR) / .4, 0, 1)
        visible = np.flatnonzero((shown > 0) & (abs(side) < depth * (SPAN / 2 / FOCAL) + 1))
        for i in visible[np.argsort(-depth[visible], kind="stable")]:
            fog = (1 - math.exp(-depth[i] / FOG)) * .75
            self.see_thing(image, things.kind[i], things.look[i], horizon, side[i], FOCAL / depth[i], shown[i], fog)

    def see_thing(self, image, kind, look, horizon, side, scale, shown, fog):
        """Draw one thing; scale in fine pixels a unit."""
        left, bottom = SPAN / 2 + (side - kind.width / 2) * scale, horizon + scale
        top, width, height = bottom - kind.height * scale, kind.width * scale, kind.height * scale
        first, last = max(0, math.floor(left)), min(SPAN, math.ceil(left + width))
        upper, lower = max(0, math.floor(top)), min(SPAN, math.ceil(bottom))
        if first >= last or upper >= lower:
            return
        texels = look[0].shape[0] - 3
        level = min(len(look) - 1, max(0, math.floor(math.log2(max(1., texels / max(width, height))))))
        texels >>= level
        rows = np.clip((np.arange(upper, lower) + .5 - top) * (texels / height), -.49, texels + .49)
        columns = np.clip((np.arange(first, last) + .5 - left) * (texels / width), -.49, texels + .49)
        patch = sampled(sampled(look[level], rows, 0), columns, 1)
        alpha = patch[..., 3:] * np.float32(shown)
        colour = patch[..., :3] * np.float32(shown * (1 - fog)) + alpha * (np.array(self.sky.horizon) * fog).astype(np.float32)
        image[upper:lower, first:last] *= 1 - alpha
        image[upper:lower, first:last] += colour


def main():
    place, sky, actions, out = sys.argv[1:5]
    keys, mouse = parse(actions)
    begin = time.time()
    world = World(place, sky, 1)
    made = time.time()
    frames = world.pictures(walk(world.free_start(np.random.default_rng(0)), keys, mouse, world.walls))
    print(f"{made - begin:.2f} s for the world; {len(frames)} pictures, {(time.time() - made) / len(frames) * 1e3:.1f} ms each")
    from PIL import Image
    picked = frames[np.linspace(0, len(frames) - 1, 8).astype(int)]
    Image.fromarray(np.concatenate(picked, 1)).resize((SIZE * 16, SIZE * 2), 0).save(out)


if __name__ == "__main__":
    main()
