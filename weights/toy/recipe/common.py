"""Shared pieces of the training stages: two worker processes, time budget, checkpoints, data access.

Every stage is run as `torchrun --nproc_per_node 2 stage.py ...`: on a shared 2-core machine two single-threaded workers
that average gradients lose less time to waiting than two threads do.
"""

import glob
import json
import math
import os
import time

import numpy as np
import torch
import torch.distributed as dist

HELD_OUT = 100  # clips at the end of the data set that no stage trains on


def start_workers():
    """Join the worker group (or run alone); returns (rank, world size)."""
    torch.set_num_threads(1)
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


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


def load_specs(data):
    specs = []
    for path in sorted(glob.glob(f"{data}/meta*.json")):
        with open(path) as file:
            specs += json.load(file)
    return specs


class Clips:
    """Memory-mapped uint8 clips [81,64,64,3] of all shards."""

    def __init__(self, data):
        self.shards = [np.load(path, mmap_mode="r") for path in sorted(glob.glob(f"{data}/clips*.npy"))]
        self.per_shard = len(self.shards[0])

    def __len__(self):
        return self.per_shard * len(self.shards)

    def video(self, index, start=0, frames=81):
        """[3,frames,64,64] float in [-1,1]."""
        clip = self.shards[index // self.per_shard][index % self.per_shard][start:start + frames]
        return torch.from_numpy(np.array(clip)).permute(3, 0, 1, 2).float().div_(127.5).sub_(1)
