"""Who walks: poses, what an action does to them, and walls.

A pose is (x, z, yaw, pitch): place on the ground in units, degrees to the right of the z axis, degrees above the horizon.
Row i of the actions leads from picture i to picture i+1, so the twelve rows that a latent frame is shown
(`actions.windows`) hold every action that led to its pictures; the row of the last picture has no effect.

All poses are multiples of fixed fractions that doubles add exactly, so a step back undoes a step forward to the bit,
180 turns to the right are a full turn, and nothing adds up over a walk of any length.
"""

import math
from typing import NamedTuple

import numpy as np

PERIOD = 24.0         # units after which the ground and all that stands on it repeat
SPEED = 0.06          # units a picture
DEGREES = 20.0        # turned by one unit of the mouse: 2 degrees a picture at the published step of 0.1
PITCH_LIMIT = 20.0    # degrees
KEYS = ("forward", "back", "left", "right")  # the keyboard columns
GRID, ANGLE_GRID = 2.0 ** 32, 2.0 ** 12


class Pose(NamedTuple):
    x: float = 0.
    z: float = 0.
    yaw: float = 0.
    pitch: float = 0.


def on_grid(value, grid=GRID):
    return round(value * grid) / grid


def wrapped(value):
    """Shortest way around a world that repeats; works on arrays."""
    return (value + PERIOD / 2) % PERIOD - PERIOD / 2


class Walls:
    """Discs [n] that nobody enters: x, z and radius; they don't touch one another."""

    def __init__(self, x, z, radius):
        self.x, self.z, self.radius = (np.asarray(values, float) for values in (x, z, radius))

    def depth(self, x, z):
        """(how deep a point is in the disc that it is deepest in, negative outside; which disc that is)."""
        if not len(self.x):
            return -math.inf, None
        inside = self.radius - np.hypot(wrapped(self.x - x), wrapped(self.z - z))
        disc = int(inside.argmax())
        return inside[disc], disc

    def slide(self, x, z):
        """The point itself, or the nearest point outside the disc that it is in."""
        depth, disc = self.depth(x, z)
        if depth <= 0:
            return x, z
        dx, dz = wrapped(x - self.x[disc]), wrapped(z - self.z[disc])
        away = math.hypot(dx, dz)
        if away == 0:
            return x, z
        scale = self.radius[disc] / away - 1
        return on_grid(x + dx * scale), on_grid(z + dz * scale)


def step(pose, keys, mouse, walls=None):
    """The next pose. keys: four of 0 or 1 (forward, back, left, right); mouse: (up, right), 0.1 being one step."""
    turn = on_grid(float(mouse[1]) * DEGREES, ANGLE_GRID)
    between = (pose.yaw + turn / 2) % 360.0  # the direction of the step, so that the opposite action undoes it
    pitch = min(PITCH_LIMIT, max(-PITCH_LIMIT, on_grid(pose.pitch + float(mouse[0]) * DEGREES, ANGLE_GRID)))
    forward, right = float(keys[0]) - float(keys[1]), float(keys[3]) - float(keys[2])
    x, z = pose.x, pose.z
    if forward or right:
        pace, angle = SPEED / math.hypot(forward, right), math.radians(between)
        x += on_grid(pace * (forward * math.sin(angle) + right * math.cos(angle)))
        z += on_grid(pace * (forward * math.cos(angle) - right * math.sin(angle)))
        if walls is not None:
            x, z = walls.slide(x, z)
    return Pose(x % PERIOD, z % PERIOD, (pose.yaw + turn) % 360.0, pitch)


def walk(start, keys, mouse, walls=None):
    """Poses [n,4] of the pictures of n rows of actions, the first being the start."""
    poses = [Pose(*start)]
    for row in range(len(keys) - 1):
        poses.append(step(poses[-1], keys[row], mouse[row], walls))
    return np.array(poses)
