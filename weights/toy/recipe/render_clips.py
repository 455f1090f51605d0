"""Render the training and held-out videos to shards.

clipsNNN.npy uint8 [n,81,side,side,3], visitsNNN.npy the same with a bird (visitor.py) and startsNNN.npy [n,9,side,side,3] (first chunks only), each with a .json of specs
and *_masksNNN.npy f16 [n,frames,side/8,side/8]: the share of each latent cell that the subject covers (mean over the
frames of the latent), a loss weight later. Finished shards are skipped; workers share the shards among them.
"""

import json
import os
import random

import numpy as np
import torch
import torch.nn.functional as F

import grammar
import world
from common import stage_arguments, start_workers
from presets import FIRST_PICTURES, PRESETS

PER_SHARD = dict(clips=100, starts=500, visits=100)
SPECS = dict(clips=grammar.sample_spec, starts=grammar.sample_spec, visits=grammar.sample_visited_spec)


def latent_mask(coverage):
    """[4k+1,side,side] -> [k+1,side/8,side/8]: first frame alone, then groups of four."""
    small = F.avg_pool2d(coverage[:, None], 8)[:, 0]
    return torch.cat([small[:1], small[1:].unflatten(0, (-1, 4)).mean(1)])


def render_shard(data, kind, number, count, size, frames):
    """Render one shard; the clips file appears last, complete."""
    rng = random.Random(f"{kind} {number}")
    specs = [SPECS[kind](rng) for _ in range(count)]
    clips = np.zeros((count, frames, size, size, 3), np.uint8)
    masks = np.zeros((count, frames // 4 + 1, size // 8, size // 8), np.float16)
    for i, spec in enumerate(specs):
        video, coverage = world.render(spec, frames=frames, size=size, with_mask=True)
        clips[i] = (video.permute(0, 2, 3, 1) * 255 + .5).to(torch.uint8).cpu().numpy()
        masks[i] = latent_mask(coverage).cpu().numpy()
    with open(f"{data}/{kind}{number:03d}.json", "w") as file:
        json.dump(specs, file)
    np.save(f"{data}/{kind}_masks{number:03d}.npy", masks)
    np.save(f"{data}/partial_{kind}{number:03d}.npy", clips)
    os.replace(f"{data}/partial_{kind}{number:03d}.npy", f"{data}/{kind}{number:03d}.npy")


def main():
    parser = stage_arguments(__doc__.split("\n")[0])
    parser.add_argument("--kinds", default="clips,starts,visits")
    args = parser.parse_args()
    preset = PRESETS[args.preset]
    rank, workers = start_workers(args.device)
    os.makedirs(args.data, exist_ok=True)
    jobs = []
    wanted = dict(clips=(preset.clips, 81), starts=(preset.starts, FIRST_PICTURES), visits=(preset.visits, 81))
    for kind in args.kinds.split(","):
        total, frames = wanted[kind]
        size = min(total, PER_SHARD[kind])
        jobs += [(kind, number, min(size, total - number * size), preset.size, frames) for number in range((total + size - 1) // size)]
    for kind, number, *rest in jobs[rank::workers]:
        if not os.path.exists(f"{args.data}/{kind}{number:03d}.npy"):
            render_shard(args.data, kind, number, *rest)
            print(kind, number, flush=True)


if __name__ == "__main__":
    main()
