"""Renderer of the toy world: one subject with a periodic motion in front of a layered, periodic landscape.

Every motion is a closed formula of time, so a clip can be rendered for any duration. Pictures are float32 in [0, 1],
lengths are in units of the picture height, y grows downwards. Scenes (background x sky x layout) are few and cached.
"""

import functools
import math
import random

import numpy as np
import torch
import torch.nn.functional as F

import visitor
from grammar import COLORS, SIZES

PERIOD = 4.0          # width of a panorama, in picture heights
HORIZON = 0.74        # fixed point of the zoom
GROUND = 0.86         # where the subject touches the ground
RADIUS = 0.22         # of a medium subject
SKY_GRADIENT = dict(noon=[(58, 132, 232), (120, 186, 246), (196, 228, 250)],
                    cloudy=[(112, 132, 160), (158, 174, 194), (208, 216, 222)],
                    sunrise=[(104, 146, 214), (246, 178, 176), (255, 222, 170)],
                    sunset=[(70, 52, 128), (222, 92, 100), (255, 176, 84)],
                    night=[(8, 12, 40), (22, 28, 74), (52, 56, 112)])
# multiplier, haze amount, haze colour
TINT = dict(noon=((1, 1, 1), 0.0, (255, 255, 255)), cloudy=((.84, .87, .9), .12, (150, 160, 170)),
            sunrise=((1.0, .88, .86), .12, (250, 180, 160)), sunset=((.86, .62, .62), .18, (220, 90, 70)),
            night=((.30, .36, .58), .12, (20, 26, 70)))
CLOUDS = dict(noon=(5, (255, 255, 255), .95), cloudy=(16, (232, 236, 240), .9), sunrise=(7, (255, 226, 220), .8),
              sunset=(8, (255, 150, 120), .75), night=(3, (70, 78, 128), .5))


def rgb(color):
    return torch.tensor(color, dtype=torch.float32) / 255.0


def tinted(color, sky):
    multiplier, amount, haze = TINT[sky]
    return rgb(color) * torch.tensor(multiplier, dtype=torch.float32) * (1 - amount) + rgb(haze) * amount


def unit(x):
    return x.clamp(0, 1)


def over(image, color, alpha):
    return image * (1 - alpha) + color * alpha


def wave_ridge(rng, x, base, amplitude, f_min, f_max, count):
    """A smooth periodic ridge line y(x): a sum of sines."""
    y = torch.zeros_like(x)
    for _ in range(count):
        k = rng.randint(f_min, f_max)
        y = y + amplitude * (rng.random() * .6 + .4) / count ** .5 * torch.sin(
            2 * math.pi * k * x / PERIOD + rng.random() * 2 * math.pi) * (f_min / k)
    return base + y


def jagged_ridge(rng, x, base, amplitude, count):
    """A periodic zigzag of alternating peaks and valleys."""
    heights = torch.tensor([rng.random() for _ in range(count)])
    heights[::2] = heights[::2] * .45 + .55
    heights[1::2] *= .4
    u = (x / PERIOD * count) % count
    i = u.floor().long()
    f = u - i
    return base - amplitude * (heights[i % count] * (1 - f) + heights[(i + 1) % count] * f)


class Layer:
    """Premultiplied RGBA texture under construction: color [3,h,w], alpha [h,w]."""

    def __init__(self, y, x):
        self.y, self.x = y, x
        self.pixel = float(y[1] - y[0])
        self.color = torch.zeros(3, y.shape[0], x.shape[1])
        self.alpha = torch.zeros(y.shape[0], x.shape[1])

    def fill_below(self, ridge, color):
        mask = unit((self.y - ridge) / (self.pixel * 2) + .5)
        self.color = over(self.color, color if color.dim() == 3 else color[:, None, None], mask)
        self.alpha = torch.maximum(self.alpha, mask)

    def paint(self, color, mask):
        self.color = over(self.color, color if color.dim() == 3 else color[:, None, None], mask)

    def texture(self):
        return torch.cat([self.color * self.alpha, self.alpha[None]])[None]


def wrapped(d):
    return (d + PERIOD / 2) % PERIOD - PERIOD / 2


def draw_clouds(rng, y, x, sky):
    count, color, opacity = CLOUDS[sky]
    layer = Layer(y, x)
    for i in range(count):
        cx = (i + rng.random() * .8) * PERIOD / count
        cy = .08 + .3 * rng.random()
        scale = (.6 + .8 * rng.random()) * (1.25 if sky == "cloudy" else .85)
        flat = .55 if sky in ("noon", "cloudy") else .3
        for j in range(5):
            dx = (j - 2) * .055 * scale + rng.uniform(-.01, .01)
            radius = (.075 - .016 * abs(j - 2)) * scale * rng.uniform(.85, 1.15)
            distance = torch.sqrt(wrapped(x - cx - dx) ** 2 + ((y - cy + radius * .25) / flat) ** 2) - radius
            puff = unit(.5 - distance / .035) * unit((cy + .03 * scale - y) / .02 + .5)
            layer.alpha = torch.maximum(layer.alpha, puff)
    layer.alpha = layer.alpha * opacity
    layer.color = rgb(color)[:, None, None].expand_as(layer.color)
    return layer.texture()


def draw_far(rng, y, x, bg, sky):
    layer = Layer(y, x)
    if bg == "hills":
        layer.fill_below(wave_ridge(rng, x, .60, .06, 3, 7, 3), tinted((110, 176, 120), sky))
        layer.fill_below(wave_ridge(rng, x, .67, .05, 4, 9, 3), tinted((88, 164, 88), sky))
    elif bg == "mountains":
        ridge = jagged_ridge(rng, x, .70, .42, 2 * rng.randint(5, 7))
        layer.fill_below(ridge, tinted((112, 118, 146), sky))
        snow = unit((ridge + .10 + .025 * torch.sin(40 * x) - y) / (layer.pixel * 3) + .5) * layer.alpha
        layer.paint(tinted((244, 248, 255), sky), snow)
    elif bg == "sea":
        layer.fill_below(wave_ridge(rng, x, .64, .05, 2, 5, 3), tinted((84, 128, 104), sky))
    elif bg == "desert":
        layer.fill_below(wave_ridge(rng, x, .62, .05, 2, 6, 3), tinted((226, 178, 112), sky))
        for _ in range(3):
            cx, height = rng.random() * PERIOD, rng.uniform(.12, .22)
            layer.fill_below(.68 - height + wrapped(x - cx).abs() * 1.1, tinted((208, 156, 92), sky))
    elif bg == "city":
        lit_sky = sky in ("night", "sunset")
        for color, tallest in (((136, 150, 180), .40), ((92, 104, 138), .30)):
            count = rng.randint(20, 24)
            width = PERIOD / count
            heights = torch.tensor([rng.uniform(.1, tallest) for _ in range(count)])
            ridge = .74 - heights[(x / width).floor().long() % count]
            layer.fill_below(ridge, tinted(color, sky))
            u, v = (x / width * 2) % 1, (y / .06) % 1
            window = ((u > .3) & (u < .75) & (v > .3) & (v < .75)).float()
            window = window * unit((y - ridge - .02) / .005) * unit((.74 - y) / .005)
            columns, rows = int(count * 2), 16
            lit = torch.tensor([[rng.random() < (.55 if lit_sky else .8) for _ in range(columns)] for _ in range(rows)]).float()
            lit = lit[(y / .06).floor().long() % rows, (x / width * 2).floor().long() % columns]
            layer.paint(rgb((255, 222, 120)) if lit_sky else tinted((190, 206, 226), sky), window * lit * .9)
    elif bg == "forest":
        layer.fill_below(wave_ridge(rng, x, .62, .03, 3, 7, 3), tinted((72, 120, 92), sky))
        for k in range(26):
            cx, height = (k + rng.random() * .7) * PERIOD / 26, rng.uniform(.2, .38)
            dx = wrapped(x - cx).abs()
            outline = .75 - height + dx * 3.2 - (.03 * ((y * 16) % 1)) * unit(dx * 20)
            layer.fill_below(outline, (tinted((38, 104, 66), sky) * rng.uniform(.85, 1.15)).clamp(0, 1))
    return layer.texture()


def draw_near(rng, y, x, bg, sky):
    layer = Layer(y, x)
    ground = tinted(dict(hills=(92, 188, 72), mountains=(122, 178, 96), sea=(40, 118, 196), desert=(240, 200, 124),
                         city=(116, 150, 104), forest=(86, 142, 66))[bg], sky)
    base, amplitude = (.64 if bg == "sea" else .73), (0. if bg in ("sea", "city") else .018)
    ridge = wave_ridge(rng, x, base, amplitude, 2, 5, 3)
    depth = unit((y - ridge) / .3)
    layer.fill_below(ridge, ground[:, None, None] * (1 - depth) + (ground * .72)[:, None, None] * depth)
    px = layer.pixel
    if bg == "sea":
        sparkle = torch.sin(2 * math.pi * x * 2 * rng.randint(7, 9) / PERIOD + 14 * torch.log((y - base + .03).clamp(min=.01)))
        sparkle = sparkle * torch.sin(2 * math.pi * x * rng.randint(3, 6) / PERIOD + 60 * y)
        layer.paint(rgb(SKY_GRADIENT[sky][2]), unit(sparkle * 1.6 - .5) * .4)
    elif bg == "city":
        layer.paint(tinted((86, 88, 98), sky), unit((y - .80) / px) * unit((.93 - y) / px))
        dash = unit((y - .855) / px) * unit((.88 - y) / px) * (((x / PERIOD * 20) % 1) < .55).float()
        layer.paint(tinted((240, 232, 190), sky), dash)
    elif bg == "desert":
        layer.paint((ground * 1.08).clamp(0, 1), unit(torch.sin(2 * math.pi * x * 6 / PERIOD + 70 * (y - ridge))) * .5)
    else:
        stripes = torch.sin(2 * math.pi * x * 8 / PERIOD + 3 * torch.sin(2 * math.pi * x * 3 / PERIOD) + 38 * (y - ridge))
        layer.paint((ground * 1.12).clamp(0, 1), unit(stripes) * .35)
        if bg in ("hills", "mountains"):
            flower = tinted(rng.choice([(255, 240, 120), (255, 255, 255), (255, 150, 180)]), sky)
            for _ in range(18):
                cx, cy = rng.random() * PERIOD, rng.uniform(.79, .98)
                distance = torch.sqrt(wrapped(x - cx) ** 2 + (y - cy) ** 2) - .014 * (.6 + 1.2 * (cy - .75) / .2)
                layer.paint(flower, unit(.5 - distance / px / 2))
    return layer.texture()


@functools.lru_cache(maxsize=256)
def scene(bg, sky, layout, height):
    """Static parts of a scene: (backdrop [3,H,H], stars [3,H,H,3 params] list, clouds, far, near textures [1,4,2H,8H])."""
    supersample = 3
    h = height * supersample
    y = ((torch.arange(h) + .5) / h)[:, None]
    x = ((torch.arange(int(height * PERIOD) * supersample) + .5) / h)[None, :]
    area = lambda texture: F.interpolate(texture, scale_factor=2. / supersample, mode="area")
    clouds = area(draw_clouds(random.Random(f"clouds {layout}"), y, x, sky))
    far = area(draw_far(random.Random(f"far {layout} {bg}"), y, x, bg, sky))
    near = area(draw_near(random.Random(f"near {layout} {bg}"), y, x, bg, sky))
    backdrop, stars = draw_backdrop(random.Random(f"sky {layout}"), sky, height)
    return backdrop, stars, clouds, far, near


def draw_backdrop(rng, sky, height):
    """Gradient, sun or moon: [3,H,H]; and the stars as (row, column, brightness, phase)."""
    size = height
    y = ((torch.arange(size) + .5) / size)[:, None]
    x = ((torch.arange(size) + .5) / size)[None, :]
    top, middle, bottom = [rgb(c)[:, None, None] for c in SKY_GRADIENT[sky]]
    ramp = (y / .72).clamp(0, 1)[None]
    image = torch.where(ramp < .5, top + (middle - top) * ramp * 2, middle + (bottom - middle) * (ramp * 2 - 1)).expand(3, size, size)
    sun_x = rng.uniform(.15, .85)
    sun_y = dict(noon=.14, cloudy=.14, sunrise=.52, sunset=.54, night=.16)[sky] + rng.uniform(-.03, .03)
    radius = dict(noon=.085, cloudy=0., sunrise=.12, sunset=.13, night=.08)[sky]
    stars = []
    for _ in range(18):
        star = (rng.random() * .98 * size, rng.random() * .55 * size, rng.uniform(.6, 1.), rng.random() * 2 * math.pi)
        if sky == "night":
            stars.append(star)
    if radius > 0:
        distance = torch.sqrt((x - sun_x) ** 2 + (y - sun_y) ** 2)
        color = rgb(dict(noon=(255, 246, 190), sunrise=(255, 214, 120), sunset=(255, 120, 60), night=(240, 240, 220))[sky])[:, None, None]
        image = over(image, color, torch.exp(-(distance / radius - 1).clamp(min=0) * 1.1) * .45)
        disc = unit(.5 - (distance - radius) * size)
        image = over(image, color, disc)
        if sky == "night":
            shade = torch.sqrt((x - sun_x - .03) ** 2 + (y - sun_y + .02) ** 2)
            image = over(image, rgb(SKY_GRADIENT["night"][0])[:, None, None], disc * unit(.5 - (shade - radius * .85) * size) * .85)
    return image, stars


def view(texture, size, shift, zoom, parallax, wobble=None):
    """Look at a panorama [1,4,2H,8H] through the camera; shift, zoom [T] -> [T,4,size,size]."""
    grid = (torch.arange(size) + .5) / size
    scale = (1 + (zoom - 1) * (.3 + .7 * parallax))[:, None, None]
    gy = (grid[None, :, None] - HORIZON) / scale + HORIZON
    gx = (grid[None, None, :] - .5) / scale + .5 + shift[:, None, None]
    gy, gx = torch.broadcast_tensors(gy, gx)
    if wobble is not None:
        gx = gx + wobble(gy)
    width = texture.shape[-1]
    padded = torch.cat([texture, texture[..., :2]], -1)
    u = (gx % PERIOD) / PERIOD * width
    u = torch.where(u < .5, u + width, u)
    where = torch.stack([2 * u / (width + 2) - 1, gy * 2 - 1], -1)
    return F.grid_sample(padded.expand(len(shift), -1, -1, -1), where, mode="bilinear", padding_mode="border", align_corners=False)


def signed_distance(shape, x, y):
    """Signed distance (roughly) to a shape of radius 1 around the origin."""
    if shape == "ball":
        return torch.sqrt(x * x + y * y) - 1
    if shape == "balloon":
        return (torch.sqrt((x * 1.12) ** 2 + (y * .90) ** 2) - 1) * .95
    if shape == "cube":
        qx, qy = x.abs() - .70, y.abs() - .70
        return torch.sqrt(qx.clamp(min=0) ** 2 + qy.clamp(min=0) ** 2) + torch.maximum(qx, qy).clamp(max=0) - .14
    if shape == "triangle":
        y = .22 - y
        return torch.maximum(x.abs() * math.sqrt(3) / 2 + y / 2, -y) - .66
    if shape == "star":
        sector = 2 * math.pi / 5
        angle = (torch.atan2(x, -y) + sector / 2) % sector - sector / 2
        radius = torch.sqrt(x * x + y * y)
        px, py = radius * torch.sin(angle.abs()), radius * torch.cos(angle)
        tip, inner_x, inner_y = 1.2, .55 * math.sin(math.pi / 5), .55 * math.cos(math.pi / 5)
        ex, ey = inner_x, inner_y - tip
        return (px * (-ey) + (py - tip) * ex) / math.hypot(ex, ey)
    if shape == "heart":
        x, y = x.abs(), .05 - y
        lobe = torch.sqrt((x - .46) ** 2 + (y - .34) ** 2) - .56
        point = torch.maximum(x * .72 - y * .70 - .66, (y + .45 * x - .35) / 1.1)
        return torch.minimum(lobe, point)
    raise KeyError(shape)


class Track:
    """Where the subject is: position, rotation and squash [T] (before the camera's zoom)."""

    def __init__(self, spec, t):
        rng = random.Random(spec["seed"])
        motion, self.radius = spec["motion"], RADIUS * SIZES[spec["size"]]
        phase, speed, cx = rng.random() * 2 * math.pi, rng.uniform(.9, 1.1), .5 + rng.uniform(-.04, .04)
        self.drift = rng.uniform(.20, .26)
        zero = torch.zeros_like(t)
        self.angle, self.squash, self.rope = zero, zero + 1, None
        if motion == "bouncing":
            height = torch.sin(math.pi * speed * t + phase).abs()
            self.x = cx + .12 * torch.sin(.6 * speed * t + phase)
            self.y = GROUND - self.radius - (.82 - 2 * self.radius) * height
            self.squash = 1 + (1 - height / .25).clamp(0, 1) * .2
            self.angle = .25 * torch.sin(.6 * speed * t)
        elif motion == "rolling":
            self.x, self.y = cx + .25 * torch.sin(1.1 * speed * t + phase), zero + GROUND - self.radius
            free = spec["shape"] in ("ball", "cube", "star", "triangle")
            self.angle = (self.x - cx) / self.radius if free else .25 * torch.cos(1.1 * speed * t + phase)
        elif motion == "floating":
            self.x, self.y = cx + .07 * torch.sin(.7 * speed * t + phase), .42 + .08 * torch.sin(1.6 * speed * t + phase * 2)
            self.angle = .18 * torch.sin(1.1 * speed * t + phase)
        elif motion == "spinning":
            self.x, self.y, self.angle = zero + cx, zero + .46, 2.2 * speed * t + phase
        elif motion == "circling":
            turn = 1.7 * speed * t + phase
            self.x, self.y, self.angle = cx + .22 * torch.cos(turn), .44 + .18 * torch.sin(turn), .3 * torch.sin(turn)
        elif motion == "swinging":
            swing, length = .45 * torch.sin(1.9 * speed * t + phase), .54
            self.x, self.y, self.angle, self.rope = cx + length * torch.sin(swing), -.04 + length * torch.cos(swing), -swing, (cx, -.06)
        else:
            raise KeyError(motion)


def draw_line(image, x0, y0, x1, y1, gx, gy, pixel):
    """A thin dark line per frame between two points [T]; image [T,3,H,W]."""
    e = lambda v: v[:, None, None]
    dx, dy = e(x1 - x0), e(y1 - y0)
    u = (((gx - e(x0)) * dx + (gy - e(y0)) * dy) / (dx * dx + dy * dy + 1e-6)).clamp(0, 1)
    distance = torch.sqrt((gx - e(x0) - u * dx) ** 2 + (gy - e(y0) - u * dy) ** 2)
    return over(image, rgb((70, 56, 48))[None, :, None, None], unit(1.25 - distance / pixel)[:, None] * .9)


def render(spec, frames=81, size=64, fps=16.0, start=0.0, with_mask=False):
    """Render a clip: [T,3,size,size] in [0,1]; with_mask also returns the coverage [T,size,size] by the subject (and the bird)."""
    t = torch.arange(frames, dtype=torch.float32) / fps + start
    backdrop, stars, clouds, far, near = scene(spec["bg"], spec["sky"], spec["layout"], size)
    track = Track(spec, t)
    pan = {"left": -track.drift, "right": track.drift}.get(spec["cam"], 0.) * t + 1.3 * spec["layout"]
    zoom = 1 + .10 * (1 - torch.cos(2 * math.pi * t / 6.0)) if spec["cam"] == "zoom" else torch.ones_like(t)
    still = spec["cam"] == "static"
    gy, gx = ((torch.arange(size) + .5) / size)[None, :, None], ((torch.arange(size) + .5) / size)[None, None, :]
    pixel = 1. / size

    image = backdrop[None].expand(frames, -1, -1, -1).clone()
    for sx, sy, brightness, phase in stars:
        twinkle = brightness * (.75 + .25 * torch.sin(2.2 * t + phase))
        i, j = int(sx), int(sy)
        for dj, di, weight in ((0, 0, (1 - sx + i) * (1 - sy + j)), (0, 1, (sx - i) * (1 - sy + j)), (1, 0, (1 - sx + i) * (sy - j)), (1, 1, (sx - i) * (sy - j))):
            if i + di < size and j + dj < size:
                image[:, :, j + dj, i + di] += (twinkle * weight * 1.5)[:, None] * torch.tensor([.85, .9, 1.])
    image.clamp_(0, 1)
    wobble = None
    if spec["bg"] == "sea":
        wobble = lambda y: .012 * torch.sin(40 * y + 2.5 * t[:, None, None]) * (y > .64)
    for texture, parallax, ripple, wind in ((clouds, .10, None, .018), (far, .35, None, 0.), (near, 1.0, wobble, 0.)):
        fixed = still and wind == 0 and ripple is None
        shift = pan * parallax + wind * t
        seen = view(texture, size, shift[:1] if fixed else shift, zoom[:1] if fixed else zoom, parallax, ripple)
        image = image * (1 - seen[:, 3:]) + seen[:, :3]

    x, y, radius = (track.x - .5) * zoom + .5, (track.y - HORIZON) * zoom + HORIZON, track.radius * zoom
    e = lambda v: v[:, None, None]
    ground = (GROUND - HORIZON) * zoom + HORIZON
    lift = ((ground - y) / .5).clamp(0, 1)
    width = radius * (1.0 - .35 * lift)
    shadow = torch.sqrt(((gx - e(x)) / e(width)) ** 2 + ((gy - e(ground)) / e(width * .28)) ** 2)
    image = over(image, torch.zeros(1, 3, 1, 1), (unit((1.15 - shadow) * 2.2) * e(.38 * (1 - .7 * lift)))[:, None])
    if track.rope is not None:
        image = draw_line(image, (torch.full_like(x, track.rope[0]) - .5) * zoom + .5, (track.rope[1] - HORIZON) * zoom + HORIZON, x, y, gx, gy, pixel)
    elif spec["shape"] == "balloon":
        image = draw_line(image, x, y + radius * .9, x + radius * .25 * torch.sin(2 * t), y + radius * 2.1, gx, gy, pixel)

    u, v = (gx - e(x)) / e(radius), (gy - e(y)) / e(radius)
    squash = e(track.squash)
    u, v = u / squash, v * squash - (squash - 1) * .6
    cos, sin = e(torch.cos(track.angle)), e(torch.sin(track.angle))
    ru, rv = u * cos + v * sin, v * cos - u * sin
    distance, soft = signed_distance(spec["shape"], ru, rv), e(pixel / radius)
    coverage = unit(.5 - distance / soft)
    ambient = dict(noon=1., cloudy=.95, sunrise=.98, sunset=.92, night=.86)[spec["sky"]]
    light = (.82 - .30 * (u * .45 + v * .75)).clamp(.45, 1.15)[:, None]
    body = rgb(COLORS[spec["color"]]) * ambient
    color = body[None, :, None, None] * light
    if spec["shape"] == "ball":
        stripe = torch.ones(3) if spec["color"] != "white" else rgb((120, 170, 250))
        color = over(color, (stripe * ambient)[None, :, None, None] * light, unit((.30 - ru.abs()) / soft + .5)[:, None] * .92)
    if spec["shape"] == "cube":
        inner = unit((.5 - torch.maximum(ru.abs(), rv.abs())) / soft + .5)
        color = over(color, (body + .22).clamp(0, 1)[None, :, None, None], inner[:, None] * .55)
    highlight = torch.exp(-((u + .36) ** 2 + (v + .42) ** 2) / .05)
    color = over(color, torch.ones(1, 3, 1, 1), (highlight * .6 * ambient)[:, None])
    color = color * (1 - unit((distance + .14) / soft * .8)[:, None] * .42)
    image = over(image, color, coverage[:, None]).clamp(0, 1)
    if "bird" in spec:
        image, bird = visitor.draw_bird(image, spec["bird"], spec["first"], t * fps)
        coverage = torch.maximum(coverage, bird)
    return (image, coverage) if with_mask else image


def sheet(frames, columns, path, scale=2):
    """Save pictures [3,H,W] in [0,1] as a contact sheet PNG."""
    from PIL import Image
    h, w = frames[0].shape[1:]
    rows = (len(frames) + columns - 1) // columns
    out = np.zeros((rows * (h + 2), columns * (w + 2), 3), np.uint8)
    for i, frame in enumerate(frames):
        r, c = divmod(i, columns)
        out[r * (h + 2):r * (h + 2) + h, c * (w + 2):c * (w + 2) + w] = (frame.permute(1, 2, 0).clamp(0, 1).cpu().numpy() * 255 + .5).astype(np.uint8)
    image = Image.fromarray(out)
    if scale != 1:
        image = image.resize((int(image.width * scale), int(image.height * scale)), Image.NEAREST)
    image.save(path)
