"""Sampling: chunk by chunk with a key/value cache, FIFO, Deep Sink or Deep Forcing, then the streaming decoder."""

from dataclasses import dataclass

import torch

from dit import CHUNK, WINDOW, attend, grid_positions, rope_table, rotate
from model import SAMPLER_SIGMAS


@dataclass
class Policy:
    """What the cache keeps. kind: fifo, sink (Deep Sink) or deep (Deep Forcing: sink + compression)."""
    kind: str = "deep"
    window: int = WINDOW
    sink: int = 10
    budget: int = 16
    recent: int = 4


class LayerCache:
    """Unrotated keys, values and positions of one layer; keys are rotated at every use, so nothing accumulates."""

    def __init__(self, policy, h, w):
        self.policy, self.h, self.w = policy, h, w
        self.tokens = h * w
        self.k = self.v = None
        self.t = self.row = self.column = torch.zeros(0, dtype=torch.long)
        self.query_sums = []  # per frame of every forward: rotated queries summed over its tokens [H,hd]

    def mix(self, q, k, v, start, first_step):
        """Attention of a chunk at frame `start`; the first step appends it to the cache, later ones overwrite it."""
        frames, n = q.shape[1] // self.tokens, q.shape[1]
        t, row, column = grid_positions(frames, self.h, self.w, start)
        if first_step and self.k is not None:
            self.k, self.v = torch.cat([self.k, k], 1), torch.cat([self.v, v], 1)
        elif self.k is None:
            self.k, self.v = k, v
        else:
            self.k, self.v = torch.cat([self.k[:, :-n], k], 1), torch.cat([self.v[:, :-n], v], 1)
        if first_step:
            self.t, self.row, self.column = torch.cat([self.t, t]), torch.cat([self.row, row]), torch.cat([self.column, column])
        q = rotate(q, *rope_table(q.shape[-1], t, row, column))
        self.query_sums = (self.query_sums + list(q[0].unflatten(0, (frames, -1)).sum(1)))[-self.policy.recent:]
        if first_step and self.k.shape[1] > self.policy.window * self.tokens:
            self.evict()
        return attend(q, self.rotated(), self.v)

    def rotated(self):
        return rotate(self.k, *rope_table(self.k.shape[-1], self.t, self.row, self.column))

    def evict(self):
        p, n, total = self.policy, self.tokens, self.k.shape[1]
        if p.kind == "fifo":
            keep = torch.arange(total - p.window * n, total)
        elif p.kind == "sink":
            keep = torch.cat([torch.arange(p.sink * n), torch.arange(total - (p.window - p.sink) * n, total)])
        else:
            candidates = torch.arange(p.sink * n, total - p.recent * n)
            scores = (self.rotated()[0, candidates] * sum(self.query_sums)).sum((1, 2))
            best = candidates[scores.topk(min((p.budget - p.sink - p.recent) * n, len(candidates))).indices].sort().values
            keep = torch.cat([torch.arange(p.sink * n), best, torch.arange(total - p.recent * n, total)])
        self.k, self.v = self.k[:, keep], self.v[:, keep]
        self.t, self.row, self.column = self.t[keep], self.row[keep], self.column[keep]
        if p.kind == "fifo":
            return
        at = p.sink * n  # move everything before the recent frames next to them
        if p.kind == "deep":
            middle = len(keep) - at - p.recent * n
            top = int(self.t[-p.recent * n]) - (middle + n - 1) // n
            self.t[at:at + middle] = top + torch.arange(middle) // n
        self.t[:at] = int(self.t[at]) - p.sink + torch.arange(at) // n


@torch.no_grad()
def rollout(model, ids, frames, policy, seed=0, size=8, sigmas=SAMPLER_SIGMAS, prefix=None):
    """Latents [1,frames,16,size,size] for token ids [1,32]; `prefix` latents are given, not generated."""
    dit, context = model.dit, model.context(ids)
    generator = torch.Generator().manual_seed(seed)
    caches = [LayerCache(policy, size // 2, size // 2) for _ in dit.blocks]
    given = 0 if prefix is None else prefix.shape[1]
    chunks = []
    for start in range(0, frames, CHUNK):
        noise = lambda: torch.randn(1, CHUNK, dit.channels, size, size, generator=generator)
        forward = lambda x, sigma, first: dit.chunk(x, 1000 * sigma, context, [
            (lambda q, k, v, cache=cache: cache.mix(q, k, v, start, first)) for cache in caches]).float()
        if start < given:
            x0, first_step = prefix[:, start:start + CHUNK], True
        else:
            x = noise()
            for i, sigma in enumerate(sigmas):
                x0 = x - sigma * forward(x, sigma, i == 0)
                if i + 1 < len(sigmas):
                    x = (1 - sigmas[i + 1]) * x0 + sigmas[i + 1] * noise()
            first_step = False
        forward(x0, 0.0, first_step)
        chunks.append(x0)
    return torch.cat(chunks, 1)


@torch.no_grad()
def pictures(vae, z, mean, scale):
    """Normalised latents [1,F,16,h,w] -> pictures [T,3,H,W] in [0,1] through the streaming decoder."""
    raw = z.transpose(1, 2) * scale + mean
    video = torch.cat(list(vae.decode_stream(raw)), 2)[0].transpose(0, 1)
    return video.clamp(-1, 1) * 0.5 + 0.5
