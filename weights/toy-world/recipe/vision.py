"""The CLIP vision tower that turns the start picture into tokens, with the names of the published file (prefix `visual.`).

All transformer layers but the last are run; that one, `post_norm` and `head` are in the file as they are in the published one, unused.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
EPS = 1e-5


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.to_qkv, self.proj = heads, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        q, k, v = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
        return self.proj((torch.softmax(scores, -1).to(v.dtype) @ v).transpose(1, 2).flatten(2))


class Layer(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.norm1, self.attn, self.norm2 = nn.LayerNorm(dim, eps=EPS), Attention(dim, heads), nn.LayerNorm(dim, eps=EPS)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTower(nn.Module):
    def __init__(self, side=84, patch=14, dim=80, heads=1, layers=2, out=64):
        super().__init__()
        self.side = side
        self.patch_embedding = nn.Conv2d(3, dim, patch, patch, bias=False)
        self.cls_embedding = nn.Parameter(torch.randn(1, 1, dim) / dim ** 0.5)
        self.pos_embedding = nn.Parameter(torch.randn(1, 1 + (side // patch) ** 2, dim) / dim ** 0.5)
        self.pre_norm, self.post_norm = nn.LayerNorm(dim, eps=EPS), nn.LayerNorm(dim, eps=EPS)
        self.transformer = nn.Sequential(*(Layer(dim, heads) for _ in range(layers)))
        self.head = nn.Parameter(torch.randn(dim, out) / dim ** 0.5)
        for unused in (*self.transformer[-1].parameters(), *self.post_norm.parameters(), self.head):
            unused.requires_grad_(False)

    def prepared(self, picture):
        """[B,3,h,w] in -1..1 -> [B,3,side,side] as CLIP wants it."""
        resized = F.interpolate(picture.float(), (self.side, self.side), mode="bicubic", align_corners=False)
        return ((resized * 0.5 + 0.5) - picture.new_tensor(MEAN).view(3, 1, 1)) / picture.new_tensor(STD).view(3, 1, 1)

    def forward(self, picture):
        """[B,3,h,w] in -1..1 -> tokens [B,1+patches,dim], the class token first."""
        x = self.patch_embedding(self.prepared(picture)).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_embedding.expand(len(x), -1, -1).to(x.dtype), x], 1) + self.pos_embedding
        return self.transformer[:-1](self.pre_norm(x))
