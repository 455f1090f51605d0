"""The causal transformer of Matrix-Game 2.0 at toy size, with the parameter names of the published checkpoints.

Built on the text toy's (../../toy/recipe/dit.py): 36 input channels (16 noisy, 4 mask, 16 of the start picture), image tokens in
place of text, and an action module in the first half of the blocks, between cross-attention and the feed-forward layers.
Latents here are [B,F,C,h,w].
"""

import torch
import torch.nn as nn

from action_module import ActionCache, ActionModule, windows
from sizes import CHUNK, SIGMAS
from vision import VisionTower
from dit import Block, CausalDiT, attend_window, rotate
from rollout import LayerCache


class WorldBlock(Block):
    def __init__(self, dim, hidden, heads, action=None):
        super().__init__(dim, hidden, heads)
        if action is not None:
            self.action_model = action
        self.acts = action is not None

    def window(self, x, e, context, cos, sin, biases, keys, mouse):
        e = self.modulation[:, None] + e
        y = self.modulate(x, e, 0, 1)
        q = self.self_attn.queries(y)
        k, v = self.self_attn.keys_values(y)
        q, k = rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype)
        block = CHUNK * x.shape[1] // e.shape[1]
        x = x + self.gate(self.self_attn.o(attend_window(q, k, v, len(context), block, *biases)), e, 2)
        x = x + self.cross(x, context)
        if self.acts:
            x = self.action_model.window(x, keys, mouse)
        return x + self.gate(self.ffn(self.modulate(x, e, 3, 4)), e, 5)

    def chunk(self, x, e, context, mixer, keys, mouse, cache, start, first_step):
        e = self.modulation[:, None] + e
        y = self.modulate(x, e, 0, 1)
        q = self.self_attn.queries(y)
        k, v = self.self_attn.keys_values(y)
        x = x + self.gate(self.self_attn.o(mixer(q, k, v)), e, 2)
        x = x + self.cross(x, context)
        if self.acts:
            x = self.action_model.chunk(x, keys, mouse, cache, start, first_step)
        return x + self.gate(self.ffn(self.modulate(x, e, 3, 4)), e, 5)


def window_biases(frames, tokens, dtype, local):
    """For `attend_window`: a chunk sees the clean chunks less than `local` latent frames back, itself counted (noisy copies: see themselves)."""
    chunk = torch.arange(frames * tokens) // (CHUNK * tokens)
    back = chunk[:, None] - chunk[None]
    blocked, zero = torch.tensor(-1e4, dtype=dtype), torch.tensor(0.0, dtype=dtype)
    return tuple(torch.where((back >= nearest) & (back < local // CHUNK), zero, blocked) for nearest in (0, 1))


class ImageEmbedding(nn.Module):
    def __init__(self, width, dim):
        super().__init__()
        self.proj = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, dim), nn.LayerNorm(dim))

    def forward(self, x):
        return self.proj(x)


class WorldDiT(CausalDiT):
    def __init__(self, dim=192, layers=5, heads=3, hidden=576, actions=2, action_heads=2, key_width=16, keys=4, vision=80, channels=16, freq_dim=256):
        super().__init__(dim, 0, heads, hidden, channels, 1, freq_dim)
        del self.text_embedding
        self.img_emb = ImageEmbedding(vision, dim)
        self.patch_embedding = nn.Conv3d(2 * channels + 4, dim, (1, 2, 2), (1, 2, 2))
        self.blocks = nn.ModuleList([
            WorldBlock(dim, hidden, heads, ActionModule(dim, keys, action_heads, key_width) if layer < actions else None) for layer in range(layers)])
        for name, module in self.blocks.named_modules():
            if isinstance(module, nn.Linear) and ".proj_" not in name and ".mouse_mlp" not in name:
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.patch_embedding.weight.data.flatten(1))
        nn.init.zeros_(self.patch_embedding.bias)

    def window(self, clean, t_clean, noisy, t_noisy, condition, context, keys, mouse, local):
        """Flow of noisy windows [K*B,F,16,h,w] given clean ones [B,F,16,h,w], both from latent frame 0.

        condition [B,F,20,h,w], context [B,n,d], keys [B,N,4] and mouse [B,N,2] (a row a picture), local: latent frames that are seen.
        """
        b, f, _, h, w = clean.shape
        copies = len(noisy) // b
        x = self.embed(torch.cat([torch.cat([clean, noisy]), condition.repeat(1 + copies, 1, 1, 1, 1)], 2))
        e, e0 = self.time(torch.cat([t_clean, t_noisy]))
        cos, sin = self.rope(f, h, w)
        dtype = torch.bfloat16 if torch.is_autocast_enabled(clean.device.type) else torch.float32
        key = ("window", f, h, w, local, dtype)
        if key not in self.biases:
            self.biases[key] = window_biases(f, h * w // 4, dtype, local)
        keys, mouse = windows(keys, f), windows(mouse, f)
        for block in self.blocks:
            x = block.window(x, e0, context, cos, sin, self.biases[key], keys, mouse)
        return self.finish(x[b:], e[b:], f, h, w)

    def chunk(self, x, t, condition, context, keys, mouse, caches, start, first_step):
        """Flow of one chunk [B,f,16,h,w] at latent frame `start`; keys [B,f,12,4], mouse [B,f,12,2]; caches: see `Caches`."""
        b, f, _, h, w = x.shape
        tokens = self.embed(torch.cat([x, condition], 2))
        e, e0 = self.time(t if torch.is_tensor(t) else torch.full((b, f), float(t)))
        for block, tokens_cache, actions_cache in zip(self.blocks, caches.tokens, caches.actions):
            mixer = lambda q, k, v: tokens_cache.mix(q, k, v, start, first_step)
            tokens = block.chunk(tokens, e0, context, mixer, keys, mouse, actions_cache, start, first_step)
        return self.finish(tokens, e, f, h, w)


class Caches:
    """Of all blocks: tokens by a policy of ../../toy/recipe/rollout.py, actions first in, first out."""

    def __init__(self, blocks, policy, h, w, action_window):
        self.tokens = [LayerCache(policy, h // 2, w // 2) for _ in blocks]
        self.actions = [ActionCache(action_window) for _ in blocks]


class ToyWorld(nn.Module):
    """Transformer (`model.`) and vision tower (`visual.`), trained together."""

    def __init__(self, preset):
        super().__init__()
        self.model = WorldDiT(preset.dim, preset.layers, preset.heads, preset.hidden, preset.actions, preset.action_heads, preset.key_width,
                              vision=preset.vision["dim"])
        self.visual = VisionTower(**preset.vision)

    def context(self, picture):
        """Start pictures [B,3,h,w] in -1..1 -> image tokens [B,n,d]."""
        return self.model.img_emb(self.visual(picture))


@torch.no_grad()
def rollout(model, condition, context, keys, mouse, policy, noise, sigmas=SIGMAS, action_window=6, given=None, euler=False):
    """Latents [B,F,16,h,w], chunk by chunk.

    condition: function (first, last latent frame) -> [B,f,20,h,w]; keys [B,N,4], mouse [B,N,2] with N = 1 + 4(F-1); noise: function () -> [B,3,16,h,w].
    given: latents [B,n,16,h,w] that are not made but taken as the beginning. euler: steps of the flow instead of "x0, then fresh noise".
    """
    dit, frames = model, (keys.shape[1] - 1) // 4 + 1
    rows = windows(keys, frames), windows(mouse, frames)
    caches, chunks = None, []
    for start in range(0, frames, CHUNK):
        span = slice(start, start + CHUNK)
        own = condition(start, start + CHUNK)
        if caches is None:
            caches = Caches(dit.blocks, policy, *own.shape[-2:], action_window)
        forward = lambda x, sigma, first: dit.chunk(x, 1000 * sigma, own, context, rows[0][:, span], rows[1][:, span], caches, start, first).float()
        if given is not None and start < given.shape[1]:
            x0 = given[:, span]
            forward(x0, 0.0, True)
            chunks.append(x0)
            continue
        x = noise()
        for i, sigma in enumerate(sigmas):
            flow = forward(x, sigma, i == 0)
            x0 = x - sigma * flow
            if i + 1 < len(sigmas):
                x = x + (sigmas[i + 1] - sigma) * flow if euler else (1 - sigmas[i + 1]) * x0 + sigmas[i + 1] * noise()
        forward(x0, 0.0, False)
        chunks.append(x0)
    return torch.cat(chunks, 1)
