"""Render training and held-out clips to shards: clipsNNN.npy uint8 [n,81,64,64,3], masksNNN.npy f16 [n,21,8,8], metaNNN.json.

masks: share of each latent cell that the subject covers (mean over the frames of the latent), a loss weight later.
Run several processes with different --first; finished shards are skipped.
"""

import argparse
import json
import os
import random

import numpy as np
import torch
import torch.nn.functional as F

import grammar
import world


def latent_mask(coverage):
    """[81,64,64] -> [21,8,8]: first frame alone, then groups of four."""
    small = F.avg_pool2d(coverage[:, None], 8)[:, 0]
    return torch.cat([small[:1], small[1:].unflatten(0, (20, 4)).mean(1)])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="data")
    parser.add_argument("--first", type=int, default=0, help="first shard")
    parser.add_argument("--count", type=int, default=41, help="shards; the last one of the set is held out")
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--per-shard", type=int, default=100)
    args = parser.parse_args()
    torch.set_num_threads(1)
    os.makedirs(args.data, exist_ok=True)
    for shard in range(args.first, args.count, args.step):
        path = f"{args.data}/clips{shard:03d}.npy"
        if os.path.exists(path):
            continue
        rng = random.Random(1000 + shard)
        clips = np.zeros((args.per_shard, 81, 64, 64, 3), np.uint8)
        masks = np.zeros((args.per_shard, 21, 8, 8), np.float16)
        specs = [grammar.sample_spec(rng) for _ in range(args.per_shard)]
        for i, spec in enumerate(specs):
            video, coverage = world.render(spec, with_mask=True)
            clips[i] = (video.permute(0, 2, 3, 1).numpy() * 255 + .5).astype(np.uint8)
            masks[i] = latent_mask(coverage).numpy()
        with open(f"{args.data}/meta{shard:03d}.json", "w") as file:
            json.dump(specs, file)
        np.save(f"{args.data}/masks{shard:03d}.npy", masks)
        np.save(f"{args.data}/partial{shard:03d}.npy", clips)
        os.rename(f"{args.data}/partial{shard:03d}.npy", path)
        print(shard, flush=True)


if __name__ == "__main__":
    main()
