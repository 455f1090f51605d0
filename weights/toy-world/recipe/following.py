"""Does the picture do what the keys say? Camera motion is estimated from pictures and compared with the commanded one.

The estimator: optical flow of neighbouring pictures in a grid of cells (Lucas-Kanade at half size), and a linear map from it to the four
motions, fitted on rendered walks. Its own ceiling, on held-out rendered walks against their true motion, is stated beside what it
says of generated ones. Motions are summed over the four pictures of a latent frame.

    python following.py --data data --weights ../unfinished
"""

import argparse
import json

import numpy as np
import torch

from sizes import PRESETS
from sample_world import Player
from walker import DEGREES, SPEED, wrapped
from walks import Walks
from rollout import Policy

MOTIONS = ("forward", "right", "turn", "look")  # in steps of a picture: SPEED units, 2 degrees
CELLS = 6
STEP = 0.1 * DEGREES


def softened(pictures):
    """uint8 [n,96,96,3] -> f32 [n,48,48] brightness, lightly blurred."""
    grey = pictures.astype(np.float32).mean(-1) / 255
    half = grey.reshape(len(grey), 48, 2, 48, 2).mean((2, 4))
    for axis in (1, 2):
        half = (np.roll(half, 1, axis) + 2 * half + np.roll(half, -1, axis)) / 4
    return half


def flow(pictures):
    """Flow [n-1,CELLS*CELLS*2] between neighbours, in half-size pixels, and how sure it is of each cell [n-1,CELLS*CELLS]."""
    grey = softened(pictures)
    between, change = (grey[1:] + grey[:-1]) / 2, grey[1:] - grey[:-1]
    gy, gx = np.gradient(between, axis=(1, 2))
    side = 48 // CELLS
    pooled = lambda values: values.reshape(-1, CELLS, side, CELLS, side).mean((2, 4))
    xx, yy, xy, xt, yt = (pooled(a * b) for a, b in ((gx, gx), (gy, gy), (gx, gy), (gx, change), (gy, change)))
    damped = 1e-5
    xx, yy = xx + damped, yy + damped
    determinant = xx * yy - xy * xy
    u, v = (xy * yt - yy * xt) / determinant, (xy * xt - xx * yt) / determinant
    n = len(u)
    return np.clip(np.stack([u, v], -1), -3, 3).reshape(n, -1), np.sqrt(xx + yy).reshape(n, -1)


def features(pictures):
    """What the linear map reads, per picture but the first."""
    moved, sure = flow(pictures)
    weight = sure / (sure + .02)
    weighted = moved.reshape(len(moved), -1, 2) * weight[..., None]
    rows = weighted.reshape(len(moved), CELLS, CELLS, 2)
    mean = rows.sum(2) / (weight.reshape(len(moved), CELLS, CELLS, 1).sum(2) + .1)
    outward = (rows[..., 0] * np.linspace(-1, 1, CELLS)).sum(2) / (weight.reshape(len(moved), CELLS, CELLS).sum(2) + .1)
    return np.concatenate([weighted.reshape(len(moved), -1), mean.reshape(len(moved), -1), outward, np.ones((len(moved), 1))], 1)


def true_motion(poses):
    """Steps [n-1,4] between poses [n,4]."""
    dx, dz = wrapped(np.diff(poses[:, 0])), wrapped(np.diff(poses[:, 1]))
    turn = (np.diff(poses[:, 2]) + 180) % 360 - 180
    angle = np.radians(poses[:-1, 2] + turn / 2)
    return np.stack([(dx * np.sin(angle) + dz * np.cos(angle)) / SPEED, (dx * np.cos(angle) - dz * np.sin(angle)) / SPEED,
                     turn / STEP, np.diff(poses[:, 3]) / STEP], 1)


def per_latent(motion):
    """[...,4k,m] -> [...,k,m], sums of the pictures of a latent frame."""
    return motion.reshape(*motion.shape[:-2], -1, 4, motion.shape[-1]).sum(-2)


def fitted(shards, ridge=20.):
    """The linear map [features,4], from rendered shards."""
    gram, cross = 0., 0.
    for shard in shards:
        for pictures, poses in zip(shard["pictures"], shard["poses"]):
            x, y = features(pictures), true_motion(poses)
            gram, cross = gram + x.T @ x, cross + x.T @ y
    return np.linalg.solve(gram + ridge * np.eye(len(gram)), cross)


def correlations(estimated, commanded):
    """Of each motion, over all walks and latent frames [n,k,4]."""
    return {name: round(float(np.corrcoef(estimated[..., i].ravel(), commanded[..., i].ravel())[0, 1]), 3) for i, name in enumerate(MOTIONS)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="data")
    parser.add_argument("--weights", help="folder of exported files; without it only the ceiling is measured")
    parser.add_argument("--preset", default="cpu", choices=PRESETS)
    parser.add_argument("--shards", type=int, default=6, help="that the map is fitted on")
    parser.add_argument("--walks", type=int, default=24, help="held-out walks that are generated")
    parser.add_argument("--window", type=int, default=6)
    parser.add_argument("--euler", type=int, default=0, help="as in sample_world.py")
    parser.add_argument("--out", help="file for the numbers")
    args = parser.parse_args()
    weights = fitted(Walks(args.data, only=args.shards).shards)
    held = Walks(args.data, "held", only=1).shards[0]
    estimate = lambda pictures: per_latent(features(pictures) @ weights)
    truth = np.stack([per_latent(true_motion(poses)) for poses in held["poses"]])
    seen = np.stack([estimate(pictures) for pictures in held["pictures"]])
    result = dict(ceiling=correlations(seen, truth))
    if args.weights:
        player, made, decoded = Player(args.weights, args.preset), [], []
        how = dict(sigmas=[5 * u / (1 + 4 * u) for u in np.linspace(1, 0, args.euler + 1)[:-1]], euler=True) if args.euler else {}
        for at in range(0, args.walks, 8):
            part = slice(at, min(at + 8, args.walks))
            latents = player.latents(held["pictures"][part, 0], torch.from_numpy(held["keys"][part]), torch.from_numpy(held["mouse"][part]), at,
                                     Policy("fifo", window=args.window), **how)
            made += [estimate(pictures) for pictures in player.pictures(latents)]
        result["generated"] = correlations(np.stack(made), truth[:args.walks])
        result["share"] = {name: round(result["generated"][name] / result["ceiling"][name], 3) for name in MOTIONS}
    print(json.dumps(result))
    if args.out:
        with open(args.out, "w") as file:
            json.dump(result, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
