"""Render the walks that are learned from, and those that are held out, to shards.

walksNNN.npz (heldNNN.npz): pictures uint8 [n,57,96,96,3], keys f32 [n,57,4], mouse f32 [n,57,2], poses f64 [n,57,4], and the places,
times of day and layouts [n]. A shard is written whole and finished ones are skipped, so the stage can be stopped at any time.
Every shard is drawn with a generator of its own number.
"""

import argparse
import os

import numpy as np

import trajectories
from places import PLACES, SKIES
from sizes import HELD_OUT_SEED, PICTURES, PRESETS
from walk_world import World
from walker import walk

PER_SHARD, PER_WORLD = 48, 8
HELD_OUT = 96  # walks, in layouts of their own


def render_shard(path, kind, number, count, layouts):
    rng = np.random.default_rng([("walks", "held").index(kind), number])
    places, skies = sorted(PLACES), sorted(SKIES)
    parts = dict(pictures=[], keys=[], mouse=[], poses=[], place=[], sky=[], layout=[])
    while len(parts["keys"]) < count:
        place, sky = places[rng.integers(len(places))], skies[rng.integers(len(skies))]
        layout = int(rng.integers(layouts)) + (HELD_OUT_SEED if kind == "held" else 0)
        world = World(place, sky, layout)
        for _ in range(min(PER_WORLD, count - len(parts["keys"]))):
            start = world.free_start(rng)
            keys, mouse = trajectories.turn_at_walls(rng, start, *trajectories.draw(rng, PICTURES), world.walls)
            poses = walk(start, keys, mouse, world.walls)
            for name, value in dict(pictures=world.pictures(poses), keys=keys, mouse=mouse, poses=poses, place=place, sky=sky, layout=layout).items():
                parts[name].append(value)
    with open(path + ".tmp", "wb") as file:
        np.savez(file, **{name: np.array(values) for name, values in parts.items()})
    os.replace(path + ".tmp", path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="data")
    parser.add_argument("--preset", default="cpu", choices=PRESETS)
    parser.add_argument("--worker", default="0/1", help="this worker's number and how many there are, as 0/4: shards are shared among them")
    args = parser.parse_args()
    preset, (worker, workers) = PRESETS[args.preset], map(int, args.worker.split("/"))
    os.makedirs(args.data, exist_ok=True)
    jobs = []
    for kind, total in (("held", min(HELD_OUT, preset.clips)), ("walks", preset.clips)):
        jobs += [(kind, at // PER_SHARD, min(PER_SHARD, total - at)) for at in range(0, total, PER_SHARD)]
    for kind, number, count in jobs[worker::workers]:
        path = f"{args.data}/{kind}{number:03d}.npz"
        if not os.path.exists(path):
            render_shard(path, kind, number, count, preset.layouts)
            print(kind, number, flush=True)


if __name__ == "__main__":
    main()
