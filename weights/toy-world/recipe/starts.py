"""Draw the start pictures, PLACE-TIME.png: every place at every time of day, from one spot of a layout that is learned from.

    python starts.py --out ../starts
"""

import argparse
import os

import numpy as np
from PIL import Image

from places import PLACES, SKIES
from walk_world import World

LAYOUT, SEEN_FROM = 0, 60


def sights(world, pose):
    """How much stands in view, from two to eight units away: things near the middle and near the eye count more."""
    things, yaw = world.things, np.radians(pose.yaw)
    dx, dz = things.x - pose.x, things.z - pose.z
    side, depth = dx * np.cos(yaw) - dz * np.sin(yaw), dx * np.sin(yaw) + dz * np.cos(yaw)
    height = np.array([kind.height for kind in things.kind])
    seen = (depth > 2) & (depth < 8) & (abs(side) < .7 * depth)
    return (seen * height / depth).sum()


def best_start(world):
    """Of some free places to stand, the one with most in view."""
    rng = np.random.default_rng(0)
    return max((world.free_start(rng, room=1.0) for _ in range(SEEN_FROM)), key=lambda pose: sights(world, pose))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="../starts")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    for place in PLACES:
        pose = None
        for sky in SKIES:
            world = World(place, sky, LAYOUT)
            pose = pose or best_start(world)
            Image.fromarray(world.picture(*pose)).save(f"{args.out}/{place}-{sky}.png", optimize=True)
        print(place, pose)


if __name__ == "__main__":
    main()
