"""The action module of Matrix-Game 2.0 with its parameter names: what mouse and keyboard do to the tokens of a block.

Mouse: every position of the picture attends along time to itself, hidden state and mouse rows together. Keyboard: every token attends
to the embedded rows of keys. Both see the last LOCAL latent frames, the chunk's own included, and a chunk's frames see one another. Like the
rest of the network it runs on whole windows (training) or on one chunk with a cache (sampling); both give the same numbers.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F

from sizes import CHUNK, LOCAL

ROWS = 12             # of actions that a latent frame is shown
TURNED, THETA = 8, 256.0  # channels of a head that are rotated, by the latent frame alone
HEAD = 64


def windows(rows, frames):
    """Rows [B,N,c], one a picture -> [B,F,12,c]: latent frame t is shown rows 4t-12 .. 4t-1, row 0 standing for earlier ones."""
    index = (4 * torch.arange(frames)[:, None] + torch.arange(-ROWS, 0)).clamp_min(0)
    return rows[:, index]


def normed(x):
    """RMS norm of a head's channels, in f32; the published modules have weights for it and never use them."""
    x = x.float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


def turned(x, frames):
    """Rotate the first TURNED channels of [B,F,...,64] by their latent frames [F]."""
    angle = frames.float()[:, None] * THETA ** (-2 * torch.arange(TURNED // 2) / TURNED)
    shape = (1, len(frames)) + (1,) * (x.dim() - 3) + (TURNED // 2,)
    cos, sin = angle.cos().view(shape), angle.sin().view(shape)
    a, b = x[..., :TURNED].unflatten(-1, (-1, 2)).unbind(-1)
    return torch.cat([torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2), x[..., TURNED:]], -1)


def attend(q, k, v, bias=None):
    """Softmax attention over the last but one axis: q [...,n,64], k and v [...,m,64]."""
    scores = (q @ k.transpose(-1, -2)).float() * HEAD ** -0.5
    if bias is not None:
        scores = scores + bias
    return torch.softmax(scores, -1).to(v.dtype) @ v


class UnusedNorm(nn.Module):
    """A weight that the published files have and nothing reads."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(HEAD), requires_grad=False)


class ActionModule(nn.Module):
    def __init__(self, dim, keys=4, heads=2, key_width=16):
        super().__init__()
        inner = heads * HEAD
        self.dim, self.heads = dim, heads
        self.keyboard_embed = nn.Sequential(nn.Linear(keys, key_width), nn.SiLU(), nn.Linear(key_width, key_width))
        self.mouse_mlp = nn.Sequential(nn.Linear(dim + 2 * ROWS, inner), nn.GELU(approximate="tanh"), nn.Linear(inner, inner), nn.LayerNorm(inner))
        self.t_qkv = nn.Linear(inner, 3 * inner, bias=False)
        self.img_attn_q_norm, self.img_attn_k_norm = UnusedNorm(), UnusedNorm()
        self.proj_mouse = nn.Linear(inner, dim, bias=False)
        self.key_attn_q_norm, self.key_attn_k_norm = UnusedNorm(), UnusedNorm()
        self.mouse_attn_q = nn.Linear(dim, inner, bias=False)  # the keyboard branch's queries, in spite of the name
        self.keyboard_attn_kv = nn.Linear(ROWS * key_width, 2 * inner, bias=False)
        self.proj_keyboard = nn.Linear(inner, dim, bias=False)
        nn.init.zeros_(self.proj_mouse.weight)
        nn.init.zeros_(self.proj_keyboard.weight)
        with torch.no_grad():  # a step of the mouse is 0.1: let it count as much as a channel of the hidden state
            self.mouse_mlp[0].weight[:, dim:] *= 10

    def mouse_heads(self, x, mouse, frames):
        """x [R,F,S,d], mouse [R,F,12,2], latent frames [F] -> q, k, v [R,F,S,H,64]; q and k normed and turned."""
        first = self.mouse_mlp[0]
        hidden = F.linear(x, first.weight[:, :self.dim], first.bias) + F.linear(mouse.flatten(2), first.weight[:, self.dim:])[:, :, None]
        q, k, v = self.t_qkv(self.mouse_mlp[1:](hidden)).unflatten(-1, (3, self.heads, HEAD)).unbind(-3)
        return turned(normed(q), frames).to(v.dtype), turned(normed(k), frames).to(v.dtype), v

    def key_heads(self, keys, frames):
        """keys [B,F,12,4] -> k, v [B,F,H,64]."""
        k, v = self.keyboard_attn_kv(self.keyboard_embed(keys).flatten(2)).unflatten(-1, (2, self.heads, HEAD)).unbind(-3)
        return turned(normed(k), frames).to(v.dtype), v

    def queries(self, x, frames):
        """Of the keyboard branch: x [R,F,S,d] -> [R,F,S,H,64]."""
        q = self.mouse_attn_q(x)
        return turned(normed(q.unflatten(-1, (self.heads, HEAD))), frames).to(q.dtype)

    def window(self, x, keys, mouse):
        """Training: rows [clean B | noisy copies, copy-major] x [R,L,d], keys [B,F,12,4], mouse [B,F,12,2]; the past is the clean one."""
        clean, frames = keys.shape[:2]
        copies, at = len(x) // clean, torch.arange(frames)
        x = x.unflatten(1, (frames, -1))
        chunked = lambda y: y.unflatten(1, (-1, CHUNK))
        past = lambda y: F.pad(y[:clean, :-1], (0, 0) * (y.dim() - 2) + (1, 0)).repeat(len(y) // clean, *[1] * (y.dim() - 1))
        with_past = lambda y: torch.cat([past(y), y], 2)  # of every chunk: the clean one before it, then its own frames
        bias = torch.zeros(frames // CHUNK, 1, 1, 1, 2 * CHUNK)
        bias[0, ..., :CHUNK] = -1e4  # nothing is before the first chunk
        q, k, v = (chunked(y) for y in self.mouse_heads(x, mouse.repeat(copies, 1, 1, 1), at))       # [R,C,3,S,H,64]
        q, k, v = (y.permute(0, 1, 3, 4, 2, 5) for y in (q, with_past(k), with_past(v)))             # [R,C,S,H,3 or 6,64]
        out = attend(q, k, v, bias)
        x = x + self.proj_mouse(out.permute(0, 1, 4, 2, 3, 5).flatten(1, 2).flatten(3))
        k, v = (with_past(chunked(y)).transpose(2, 3).repeat(copies, 1, 1, 1, 1) for y in self.key_heads(keys, at))  # [R,C,H,6,64]
        q = chunked(self.queries(x, at)).flatten(2, 3).transpose(2, 3)                               # [R,C,H,3S,64]
        out = attend(q, k, v, bias[:, 0])
        x = x + self.proj_keyboard(out.transpose(2, 3).reshape(*x.shape[:3], -1))
        return x.flatten(1, 2)

    def chunk(self, x, keys, mouse, cache, start, first_step):
        """Sampling: x [B,f*S,d], keys [B,f,12,4] and mouse [B,f,12,2] of the chunk at latent frame `start`."""
        frames = keys.shape[1]
        x, at = x.unflatten(1, (frames, -1)), start + torch.arange(frames)
        q, k, v = self.mouse_heads(x, mouse, at)
        k, v = cache.put("mouse", k, v, first_step)
        out = attend(*(y.permute(0, 2, 3, 1, 4) for y in (q, k, v)))                                 # [B,S,H,f,64]
        x = x + self.proj_mouse(out.permute(0, 3, 1, 2, 4).flatten(3))
        k, v = cache.put("keys", *self.key_heads(keys, at), first_step)
        q = self.queries(x, at).flatten(1, 2).transpose(1, 2)                                        # [B,H,f*S,64]
        out = attend(q, k.transpose(1, 2), v.transpose(1, 2))
        x = x + self.proj_keyboard(out.transpose(1, 2).reshape(*x.shape[:3], -1))
        return x.flatten(1, 2)


class ActionCache:
    """Keys and values of the last latent frames, frame by frame; a chunk's later steps overwrite what its first one wrote."""

    def __init__(self, window=LOCAL):
        self.window, self.kept = window, {}

    def put(self, branch, k, v, first_step):
        if branch in self.kept:
            before = self.kept[branch][0].shape[1] - (0 if first_step else k.shape[1])
            k, v = (torch.cat([old[:, :before], new], 1) for old, new in zip(self.kept[branch], (k, v)))
        self.kept[branch] = k[:, -self.window:], v[:, -self.window:]
        return self.kept[branch]
