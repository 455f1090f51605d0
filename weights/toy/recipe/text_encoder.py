"""UMT5 encoder at toy size, with the parameter names of `models_t5_umt5-xxl-enc-bf16.pth`."""

import math

import torch
import torch.nn as nn


class RMSNorm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        x = x.float()
        return self.weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6))


def relative_buckets(length, buckets=32, max_distance=128):
    """Bucket of every (query, key) pair: [length,length]."""
    relative = torch.arange(length)[None] - torch.arange(length)[:, None]
    half, exact = buckets // 2, buckets // 4
    distance = relative.abs()
    far = exact + (torch.log(distance.float().clamp(min=1) / exact) / math.log(max_distance / exact) * (half - exact)).long()
    return (relative > 0).long() * half + torch.where(distance < exact, distance, far.clamp(max=half - 1))


class PositionBias(nn.Module):
    def __init__(self, heads):
        super().__init__()
        self.embedding = nn.Embedding(32, heads)
        nn.init.normal_(self.embedding.weight, std=0.1)

    def forward(self, length):
        return self.embedding(relative_buckets(length)).permute(2, 0, 1)[None]


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim, bias=False) for _ in range(4))
        nn.init.normal_(self.q.weight, std=(dim * dim // heads) ** -0.5)
        for layer in (self.k, self.v, self.o):
            nn.init.normal_(layer.weight, std=dim ** -0.5)

    def forward(self, x, bias):
        b, n, d = x.shape
        q, k, v = (layer(x).view(b, n, self.heads, -1).transpose(1, 2) for layer in (self.q, self.k, self.v))
        scores = (q @ k.transpose(2, 3)).float() + bias  # no 1/sqrt(d) in T5
        y = torch.softmax(scores, -1).to(v.dtype) @ v
        return self.o(y.transpose(1, 2).reshape(b, n, d))


class FeedForward(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(dim, hidden, bias=False), nn.GELU(approximate="tanh"))
        self.fc1, self.fc2 = nn.Linear(dim, hidden, bias=False), nn.Linear(hidden, dim, bias=False)

    def forward(self, x):
        return self.fc2(self.fc1(x) * self.gate(x))


class Block(nn.Module):
    def __init__(self, dim, hidden, heads):
        super().__init__()
        self.norm1, self.attn, self.norm2, self.ffn = RMSNorm(dim), Attention(dim, heads), RMSNorm(dim), FeedForward(dim, hidden)
        self.pos_embedding = PositionBias(heads)

    def forward(self, x, mask):
        bias = torch.where(mask[:, None, None, :], self.pos_embedding(x.shape[1]), torch.finfo(torch.float32).min)
        x = x + self.attn(self.norm1(x), bias)
        return x + self.ffn(self.norm2(x))


class TextEncoder(nn.Module):
    """ids [B,L], 0 = padding -> [B,L,dim], rows of the padding are zero."""

    def __init__(self, vocab, dim=128, hidden=256, heads=4, layers=2):
        super().__init__()
        self.token_embedding = nn.Embedding(vocab, dim)
        self.blocks = nn.ModuleList([Block(dim, hidden, heads) for _ in range(layers)])
        self.norm = RMSNorm(dim)
        nn.init.normal_(self.token_embedding.weight)

    def forward(self, ids):
        mask = ids != 0
        x = self.token_embedding(ids)
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x) * mask[..., None]
