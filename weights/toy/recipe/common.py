"""Shared pieces of the training stages: arguments, workers and device, time budget, checkpoints, data access.

On a CPU every stage is run as `torchrun --nproc_per_node 2 stage.py ...`: on a shared 2-core machine two single-threaded
workers that average gradients lose less time to waiting than two threads do. On a GPU it is run as one process with
`--device cuda`; new tensors are then made there.
"""

import argparse
import glob
import json
import math
import os
import time

import numpy as np
import torch
import torch.distributed as dist

from presets import FIRST_LATENTS, LATENT_FRAMES, PRESETS, SHORT_WINDOW


def stage_arguments(description, minutes=None, seed=0):
    """Parser with the arguments that all stages share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", default="data", help="folder of the rendered clips")
    parser.add_argument("--runs", default="runs", help="folder of checkpoints")
    parser.add_argument("--preset", default="cpu96", choices=PRESETS)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--seed", type=int, default=seed)
    if minutes is not None:
        parser.add_argument("--minutes", type=float, default=minutes, help="training time, restarts included")
    return parser


def start_workers(device="cpu"):
    """Join the worker group (or run alone) and make `device` the default one; returns (rank, world size)."""
    torch.set_default_device(device)
    if device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        return 0, 1
    torch.set_num_threads(1)
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def autocast():
    """bfloat16 arithmetic on the default device."""
    return torch.autocast(torch.get_default_device().type, dtype=torch.bfloat16)


def average_gradients(params):
    """Average gradients over the workers in place (one flat all-reduce)."""
    if not dist.is_initialized():
        return
    grads = [p.grad for p in params if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in grads])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    at = 0
    for g in grads:
        g.copy_(flat[at:at + g.numel()].view_as(g))
        at += g.numel()


def agree(value):
    """The first worker's number, on every worker."""
    if not dist.is_initialized():
        return value
    box = torch.tensor([value], dtype=torch.float64)
    dist.broadcast(box, 0)
    return box.item()


def cosine(progress, floor=0.0):
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


class Clock:
    """Training seconds, carried across restarts."""

    def __init__(self, spent=0.0):
        self.spent, self.began = spent, time.time()

    def seconds(self):
        return self.spent + time.time() - self.began


class Meter:
    """Running means between log lines."""

    def __init__(self):
        self.sums = {}

    def add(self, **values):
        for name, value in values.items():
            total, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = (total + float(value), count + 1)

    def line(self):
        text = " ".join(f"{name} {total / count:.4f}" for name, (total, count) in sorted(self.sums.items()))
        self.sums = {}
        return text


def save_atomic(state, path):
    torch.save(state, path + ".tmp")
    os.replace(path + ".tmp", path)


def load(path):
    """A checkpoint, on the default device."""
    return torch.load(path, map_location=torch.get_default_device(), weights_only=True)


def shards(data, pattern):
    paths = sorted(glob.glob(f"{data}/{pattern}"))
    if not paths:
        raise FileNotFoundError(f"no {pattern} in {data}: run render_clips.py first")
    return paths


def load_specs(data, kind="clips"):
    """Specs of all rendered clips, in order."""
    specs = []
    for path in shards(data, f"{kind}[0-9]*.json"):
        with open(path) as file:
            specs += json.load(file)
    return specs


def load_masks(data, kind="clips"):
    """Subject coverage of all latent cells: f16 [n,frames,h,w]."""
    return torch.from_numpy(np.concatenate([np.load(path) for path in shards(data, f"{kind}_masks[0-9]*.npy")])).to(torch.get_default_device())


class Clips:
    """Memory-mapped uint8 videos [frames,side,side,3] of all shards of a kind: clips (81 pictures) or starts (9)."""

    def __init__(self, data, kind="clips"):
        self.shards = [np.load(path, mmap_mode="r") for path in shards(data, f"{kind}[0-9]*.npy")]
        self.per_shard = len(self.shards[0])

    def __len__(self):
        return sum(map(len, self.shards))

    def video(self, index, start=0, frames=None, row=0, column=0, side=None):
        """[3,frames,side,side] float in [-1,1]: a crop in time and space, or all of it."""
        time_span = slice(start, None if frames is None else start + frames)
        rows, columns = (slice(at, None if side is None else at + side) for at in (row, column))
        clip = self.shards[index // self.per_shard][index % self.per_shard][time_span, rows, columns]
        video = torch.from_numpy(np.array(clip)).to(torch.get_default_device())
        return video.permute(3, 0, 1, 2).float().div_(127.5).sub_(1)


class TransformerData:
    """Latents, subject weights and specs of whole clips, with and without a bird, and of first chunks (those of the whole clips included)."""

    def __init__(self, args, preset):
        latents, counts = load(f"{args.runs}/latents.pt"), dict(clips=preset.whole, starts=preset.starts, visits=preset.visits)
        self.values = {kind: latents[kind][:count] for kind, count in counts.items()}
        self.masks = {kind: load_masks(args.data, kind)[:count] for kind, count in counts.items()}
        self.specs = {kind: load_specs(args.data, kind)[:count] for kind, count in counts.items()}
        for table in (self.values, self.masks):
            table["starts"] = torch.cat([table[kind][:, :FIRST_LATENTS] for kind in counts])
        self.specs["starts"] = [spec for kind in counts for spec in self.specs[kind]]

    def draw(self, rng, count, kind):
        """(latents f32 [n,F,16,h,w], subject weight [n,F,1,h,w], specs) of random clips, visits or first chunks."""
        rows = [rng.randrange(len(self.specs[kind])) for _ in range(count)]
        return self.values[kind][rows].float(), self.masks[kind][rows].float()[:, :, None], [self.specs[kind][row] for row in rows]

    def draw_windows(self, rng, count, step):
        """As `draw`: windows cut to their first SHORT_WINDOW frames, which is cheaper, and in every second step whole ones.

        A bird comes twice in whole windows only, so most of these have one.
        """
        whole = step % 2 == 1
        kinds = ["visits" if rng.random() < (0.8 if whole else 0.1) else "clips" for _ in range(count)]
        values, masks, specs = zip(*(self.draw(rng, 1, kind) for kind in kinds))
        length = LATENT_FRAMES if whole else SHORT_WINDOW
        return torch.cat(values)[:, :length], torch.cat(masks)[:, :length], [spec for one in specs for spec in one]
