"""Sampling: chunk by chunk with a key/value cache, FIFO, sinks or Deep Forcing, then the streaming decoder."""

from dataclasses import dataclass

import torch

from dit import CHUNK, WINDOW, attend, grid_positions, rope_table, rotate
from model import SAMPLER_SIGMAS


@dataclass
class Policy:
    """What the cache keeps. kind: fifo, sink (sink frames and the newest) or deep (Deep Forcing: sink + compression)."""
    kind: str = "deep"
    window: int = WINDOW
    sink: int = 10
    budget: int = 16
    recent: int = 4
    watched: tuple = ()        # (latent frame, row, column) of tokens whose fate is counted, for studies
    forced: bool = False       # compression chooses the watched tokens whatever their scores
    own_moments: bool = False  # chosen tokens keep their temporal positions, they are not moved next to the recent frames


POLICIES = dict(fifo=Policy("fifo"), sink3=Policy("sink", sink=3), sink10=Policy("sink"), deep=Policy("deep"), deep3=Policy("deep", sink=3))


class LayerCache:
    """Unrotated keys and values [B,n,H,hd] and positions [B,n] of one layer; keys are rotated at every use, so nothing accumulates."""

    def __init__(self, policy, h, w):
        self.policy, self.h, self.w = policy, h, w
        self.tokens = h * w
        self.k = self.v = self.positions = None
        self.turned = None  # the rotated keys of all but the chunk being made
        self.watched = None  # [B,n] whether a token is one of the policy's watched ones
        self.watched_left = []  # after every eviction, how many of them are left [B]
        self.query_sums = []  # per frame of every forward: rotated queries summed over its tokens [B,H,hd]

    def mix(self, q, k, v, start, first_step):
        """Attention of a chunk at frame `start`; the first step appends it to the cache, later ones overwrite it."""
        frames, n = q.shape[1] // self.tokens, q.shape[1]
        here = torch.stack(grid_positions(frames, self.h, self.w, start))
        if self.k is None:
            self.k, self.v, self.positions = k, v, here[:, None].expand(-1, len(q), -1)
        else:
            kept = self.k.shape[1] - (0 if first_step else n)
            self.k, self.v = torch.cat([self.k[:, :kept], k], 1), torch.cat([self.v[:, :kept], v], 1)
            if first_step:
                self.positions = torch.cat([self.positions, here[:, None].expand(-1, len(q), -1)], 2)
        if first_step and self.policy.watched:
            new = (here.T[:, None] == torch.tensor(self.policy.watched)).all(2).any(1).expand(len(q), -1)
            self.watched = new if self.watched is None else torch.cat([self.watched, new], 1)
        q = rotate(q, *rope_table(q.shape[-1], *here))
        self.query_sums = (self.query_sums + list(q.unflatten(1, (frames, -1)).sum(2).unbind(1)))[-self.policy.recent:]
        if first_step and self.k.shape[1] > self.policy.window * self.tokens:
            self.evict()
        if first_step:
            self.turned = self.rotated(0, self.k.shape[1] - n)
        return attend(q, torch.cat([self.turned, self.rotated(self.k.shape[1] - n, self.k.shape[1])], 1), self.v)

    def rotated(self, first, last):
        """Keys first .. last, rotated to their positions."""
        return rotate(self.k[:, first:last], *rope_table(self.k.shape[-1], *self.positions[:, :, first:last]))

    def kept(self):
        """Indices [B,m] of the tokens that stay."""
        p, n, (batch, total) = self.policy, self.tokens, self.k.shape[:2]
        span = lambda first, last: torch.arange(first, last).expand(batch, -1)
        if p.kind == "fifo":
            return span(total - p.window * n, total)
        if p.kind == "sink":
            return torch.cat([span(0, p.sink * n), span(total - (p.window - p.sink) * n, total)], 1)
        first, last = p.sink * n, total - p.recent * n
        scores = (self.rotated(first, last) * sum(self.query_sums)[:, None]).sum((2, 3))
        if p.forced:
            scores = scores.masked_fill(self.watched[:, first:last], torch.inf)
        best = scores.topk(min((p.budget - p.sink - p.recent) * n, last - first)).indices.sort(1).values + first
        return torch.cat([span(0, first), best, span(last, total)], 1)

    def evict(self):
        keep, p, n = self.kept(), self.policy, self.tokens
        take = lambda x: x.gather(1, keep[..., None, None].expand(-1, -1, *x.shape[2:]))
        self.k, self.v = take(self.k), take(self.v)
        t, row, column = (values.gather(1, keep) for values in self.positions)
        if self.watched is not None:
            self.watched = self.watched.gather(1, keep)
            self.watched_left.append(self.watched.sum(1))
        at = p.sink * n  # move everything before the recent frames next to them
        if p.kind == "deep":
            middle = keep.shape[1] - at - p.recent * n
            top = t[:, -p.recent * n, None] - (middle + n - 1) // n
            if not p.own_moments:
                t[:, at:at + middle] = top + torch.arange(middle) // n
        if p.kind != "fifo":
            t[:, :at] = t[:, at:].amin(1, keepdim=True) - p.sink + torch.arange(at) // n
        self.positions = torch.stack([t, row, column])


@torch.no_grad()
def rollout(model, ids, frames, policy, seeds, size, sigmas=SAMPLER_SIGMAS, later=None, opening=None, caches=None):
    """Latents [B,frames,16,size,size] for token ids [B,32], one noise seed each.

    later: (frame, ids) from which the prompt is another; opening: the first frames, given instead of made [B,n,16,size,size];
    caches: a list that gets the caches of the layers, to be looked into afterwards.
    """
    dit, context = model.dit, model.context(ids)
    generators = [torch.Generator(ids.device).manual_seed(seed) for seed in seeds]
    caches = [] if caches is None else caches
    caches += [LayerCache(policy, size // 2, size // 2) for _ in dit.blocks]
    noise = lambda: torch.stack([torch.randn(CHUNK, dit.channels, size, size, generator=generator) for generator in generators])
    chunks = []
    for start in range(0, frames, CHUNK):
        if later is not None and start == later[0]:
            context = model.context(later[1])
        forward = lambda x, sigma, first: dit.chunk(x, 1000 * sigma, context, [
            (lambda q, k, v, cache=cache: cache.mix(q, k, v, start, first)) for cache in caches]).float()
        if opening is not None and start < opening.shape[1]:
            chunks.append(opening[:, start:start + CHUNK])
            forward(chunks[-1], 0.0, True)
            continue
        x = noise()
        for i, sigma in enumerate(sigmas):
            x0 = x - sigma * forward(x, sigma, i == 0)
            if i + 1 < len(sigmas):
                x = (1 - sigmas[i + 1]) * x0 + sigmas[i + 1] * noise()
        forward(x0, 0.0, False)
        chunks.append(x0)
    return torch.cat(chunks, 1)


@torch.no_grad()
def pictures(vae, z, mean, scale):
    """Normalised latents [B,F,16,h,w] -> pictures [B,T,3,H,W] in [0,1] through the streaming decoder."""
    raw = z.transpose(1, 2) * scale + mean
    video = torch.cat(list(vae.decode_stream(raw)), 2).transpose(1, 2)
    return video.float().clamp(-1, 1) * 0.5 + 0.5
