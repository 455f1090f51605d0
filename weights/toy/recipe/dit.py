"""The causal Wan diffusion transformer at toy size, with the parameter names of the published checkpoints.

Latents are [B,F,16,h,w]; one latent frame is S = (h/2)(w/2) tokens; a chunk is 3 frames. Two ways to run it:
`window` (training): clean copies and K noisy copies of whole windows at once, noisy chunk c attends to clean chunks < c
and to itself; `chunk` (sampling): one chunk against cached keys and values. Both give the same numbers.
"""


import torch
import torch.nn as nn
import torch.nn.functional as F

CHUNK = 3
EPS = 1e-6


def rope_frequencies(head_dim):
    """Per-axis angular frequencies (time, row, column)."""
    pairs = head_dim // 2
    third = pairs // 3
    return [10000.0 ** (-torch.arange(n, dtype=torch.float64) / n) for n in (pairs - 2 * third, third, third)]


def rope_table(head_dim, t, row, column):
    """(cos, sin), each [...,head_dim/2] f32, for token positions t, row, column [...]."""
    ft, fh, fw = rope_frequencies(head_dim)
    angle = torch.cat([t.double()[..., None] * ft, row.double()[..., None] * fh, column.double()[..., None] * fw], -1)
    return angle.cos().float(), angle.sin().float()


def grid_positions(frames, h, w, first=0):
    """Positions (t, row, column) [frames*h*w] of a token grid, frame by frame, row by row."""
    t = first + torch.arange(frames).repeat_interleave(h * w)
    row = torch.arange(h).repeat_interleave(w).repeat(frames)
    column = torch.arange(w).repeat(h * frames)
    return t, row, column


def rotate(x, cos, sin):
    """Rotate adjacent channel pairs; x [B,n,H,hd], cos/sin [n,hd/2] or [B,n,hd/2]."""
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2).to(x.dtype)


class RMSNorm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        y = x.float()
        return (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + EPS) * self.weight).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))
        self.norm_q, self.norm_k = RMSNorm(dim), RMSNorm(dim)

    def split(self, x):
        return x.unflatten(-1, (self.heads, -1))

    def queries(self, x):
        return self.split(self.norm_q(self.q(x)))

    def keys_values(self, x):
        return self.split(self.norm_k(self.k(x))), self.split(self.v(x))


def attend(q, k, v, bias=None):
    """Plain attention; q [B,n,H,hd], k/v [B,m,H,hd] -> [B,n,H*hd]."""
    scores = (q.transpose(1, 2) * q.shape[-1] ** -0.5) @ k.permute(0, 2, 3, 1)
    if bias is not None:
        scores = scores + bias
    return (torch.softmax(scores, -1, dtype=scores.dtype) @ v.transpose(1, 2)).transpose(1, 2).flatten(2)


def attend_window(q, k, v, clean, block, bias_clean, bias_noisy):
    """Teacher-forced attention over rows [clean copies | noisy copies, copy-major]; q,k,v [clean*(1+K),L,H,hd].

    block: tokens of a chunk; bias_clean [L,L]: 0 where the key's chunk <= the query's; bias_noisy [L,L]: 0 where it is <; very negative elsewhere.
    """
    rows, length, heads, hd = q.shape
    copies = rows // clean - 1
    out_clean = attend(q[:clean], k[:clean], v[:clean], bias_clean)
    kc, vc = k[:clean].permute(0, 2, 3, 1), v[:clean].transpose(1, 2)
    qn = (q[clean:] * hd ** -0.5).view(copies, clean, length, heads, hd).permute(1, 3, 0, 2, 4)           # [B,H,K,L,hd]
    chunks = lambda x: x[clean:].view(copies, clean, length // block, block, heads, hd).permute(1, 4, 0, 2, 3, 5)
    kn, vn = chunks(k), chunks(v)                                                                       # [B,H,K,C,block,hd]
    past = (qn.reshape(clean, heads, copies * length, hd) @ kc).view(clean, heads, copies, length, length) + bias_noisy
    own = qn.unflatten(3, (-1, block)) @ kn.transpose(-1, -2)                                            # [B,H,K,C,block,block]
    weights = torch.cat([past, own.flatten(3, 4)], -1)
    weights = torch.softmax(weights, -1, dtype=weights.dtype)
    out = (weights[..., :length].reshape(clean, heads, copies * length, length) @ vc).view(clean, heads, copies, length, hd)
    out = out + (weights[..., length:].unflatten(3, (-1, block)) @ vn).flatten(3, 4)
    out_noisy = out.permute(2, 0, 3, 1, 4).reshape(rows - clean, length, heads * hd)
    return torch.cat([out_clean, out_noisy])


def window_biases(frames, tokens, dtype):
    """The two biases of `attend_window` for windows of `frames` frames."""
    chunk = torch.arange(frames * tokens) // (CHUNK * tokens)
    blocked = torch.tensor(-1e4, dtype=dtype)
    zero = torch.tensor(0.0, dtype=dtype)
    return (torch.where(chunk[:, None] >= chunk[None], zero, blocked), torch.where(chunk[:, None] > chunk[None], zero, blocked))


class Block(nn.Module):
    def __init__(self, dim, hidden, heads):
        super().__init__()
        self.self_attn, self.cross_attn = Attention(dim, heads), Attention(dim, heads)
        self.norm3 = nn.LayerNorm(dim, eps=EPS)
        self.ffn = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, dim))
        self.modulation = nn.Parameter(torch.randn(1, 6, dim) / dim ** 0.5)

    def modulate(self, x, e, shift, scale):
        """LayerNorm without weights, then the frame's scale and shift; x [B,L,d], e [B,F,6,d]."""
        y = F.layer_norm(x.float(), x.shape[-1:], eps=EPS).unflatten(1, (e.shape[1], -1))
        return (y * (1 + e[:, :, scale, None]) + e[:, :, shift, None]).flatten(1, 2)

    def gate(self, y, e, index):
        return (y.unflatten(1, (e.shape[1], -1)) * e[:, :, index, None]).flatten(1, 2)

    def cross(self, x, context):
        """x [R*B,L,d] (copy-major), context [B,n,d]."""
        y = self.norm3(x)
        k, v = self.cross_attn.keys_values(context)
        q = self.cross_attn.queries(y)
        rows, length = q.shape[:2]
        copies = rows // k.shape[0]
        if copies > 1:
            q = q.unflatten(0, (copies, -1)).transpose(0, 1).flatten(1, 2)
        out = attend(q, k.to(q.dtype), v.to(q.dtype))
        if copies > 1:
            out = out.unflatten(1, (copies, length)).transpose(0, 1).flatten(0, 1)
        return self.cross_attn.o(out)

    def window(self, x, e, context, cos, sin, bias_clean, bias_noisy):
        """Training on whole windows, or (biases None) on lone first chunks."""
        e = self.modulation[:, None] + e
        y = self.modulate(x, e, 0, 1)
        q = self.self_attn.queries(y)
        k, v = self.self_attn.keys_values(y)
        q, k = rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype)
        if bias_clean is None:
            y = attend(q, k, v)
        else:
            block = CHUNK * x.shape[1] // e.shape[1]
            y = attend_window(q, k, v, context.shape[0], block, bias_clean, bias_noisy)
        x = x + self.gate(self.self_attn.o(y), e, 2)
        x = x + self.cross(x, context)
        return x + self.gate(self.ffn(self.modulate(x, e, 3, 4)), e, 5)

    def chunk(self, x, e, context, mixer):
        """Sampling: `mixer(q, k, v)` gets the chunk's unrotated q, k, v [B,n,H,hd] and answers the attention output."""
        e = self.modulation[:, None] + e
        y = self.modulate(x, e, 0, 1)
        q = self.self_attn.queries(y)
        k, v = self.self_attn.keys_values(y)
        x = x + self.gate(self.self_attn.o(mixer(q, k, v)), e, 2)
        x = x + self.cross(x, context)
        return x + self.gate(self.ffn(self.modulate(x, e, 3, 4)), e, 5)


class Head(nn.Module):
    def __init__(self, dim, out):
        super().__init__()
        self.head = nn.Linear(dim, out)
        self.modulation = nn.Parameter(torch.randn(1, 2, dim) / dim ** 0.5)


WINDOW = 21


class CausalDiT(nn.Module):
    def __init__(self, dim=192, layers=6, heads=3, hidden=768, channels=16, text_dim=128, freq_dim=256):
        super().__init__()
        self.dim, self.heads, self.channels, self.freq_dim = dim, heads, channels, freq_dim
        gelu = lambda: nn.GELU(approximate="tanh")
        self.patch_embedding = nn.Conv3d(channels, dim, (1, 2, 2), (1, 2, 2))
        self.text_embedding = nn.Sequential(nn.Linear(text_dim, dim), gelu(), nn.Linear(dim, dim))
        self.time_embedding = nn.Sequential(nn.Linear(freq_dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.blocks = nn.ModuleList([Block(dim, hidden, heads) for _ in range(layers)])
        self.head = Head(dim, 4 * channels)
        self.biases = {}
        for module in [*self.blocks.modules(), *self.text_embedding]:
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for module in [*self.time_embedding, *self.time_projection]:
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
        nn.init.xavier_uniform_(self.patch_embedding.weight.data.flatten(1))
        nn.init.zeros_(self.head.head.weight)
        nn.init.zeros_(self.head.head.bias)

    def embed(self, x):
        """[B,F,16,h,w] -> tokens [B,F*(h/2)*(w/2),d]; the patch is read channel, row, column."""
        b, f, c, h, w = x.shape
        patches = x.view(b, f, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4, 6).reshape(b, -1, c * 4)
        return F.linear(patches, self.patch_embedding.weight.flatten(1), self.patch_embedding.bias)

    def time(self, t):
        """Timesteps [B,F] in 0..1000 -> e [B,F,d], e0 [B,F,6,d]."""
        half = self.freq_dim // 2
        angle = t.double()[..., None] * 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
        e = self.time_embedding(torch.cat([angle.cos(), angle.sin()], -1).float())
        return e, self.time_projection(e).unflatten(-1, (6, self.dim))

    def finish(self, x, e, frames, h, w):
        """Tokens -> flow [B,F,16,h,w]; the patch is written row, column, channel."""
        shift, scale = (self.head.modulation[:, None] + e[:, :, None]).unbind(2)
        y = F.layer_norm(x.float(), x.shape[-1:], eps=EPS).unflatten(1, (frames, -1))
        y = self.head.head((y * (1 + scale[:, :, None]) + shift[:, :, None]).flatten(1, 2))
        y = y.view(x.shape[0], frames, h // 2, w // 2, 2, 2, self.channels)
        return y.permute(0, 1, 6, 2, 4, 3, 5).reshape(x.shape[0], frames, self.channels, h, w)

    def window(self, clean, t_clean, noisy, t_noisy, context):
        """Flow of noisy windows [K*B,F,16,h,w] given clean ones [B,F,...], both from frame 0, and embedded text [B,32,d]."""
        b, f, _, h, w = clean.shape
        x = self.embed(torch.cat([clean, noisy]))
        e, e0 = self.time(torch.cat([t_clean, t_noisy]))
        cos, sin = self.rope(f, h, w)
        key = (f, h, w)
        if key not in self.biases:
            self.biases[key] = window_biases(f, h * w // 4, torch.bfloat16 if torch.is_autocast_enabled(clean.device.type) else torch.float32)
        for block in self.blocks:
            x = block.window(x, e0, context, cos, sin, *self.biases[key])
        return self.finish(x[b:], e[b:], f, h, w)

    def first_chunk(self, noisy, t, context):
        """Flow of lone first chunks [B,3,16,h,w]."""
        _, f, _, h, w = noisy.shape
        x, (e, e0), (cos, sin) = self.embed(noisy), self.time(t), self.rope(f, h, w)
        for block in self.blocks:
            x = block.window(x, e0, context, cos, sin, None, None)
        return self.finish(x, e, f, h, w)

    def rope(self, frames, h, w):
        key = ("rope", frames, h, w)
        if key not in self.biases:
            self.biases[key] = rope_table(self.dim // self.heads, *grid_positions(frames, h // 2, w // 2))
        return self.biases[key]

    def chunk(self, x, t, context, mixers):
        """Flow of one chunk [B,f,16,h,w] at timestep t; mixers: per layer the cached attention (see rollout.py)."""
        _, f, _, h, w = x.shape
        tokens = self.embed(x)
        e, e0 = self.time(torch.full((x.shape[0], f), float(t)))
        for block, mixer in zip(self.blocks, mixers):
            tokens = block.chunk(tokens, e0, context, mixer)
        return self.finish(tokens, e, f, h, w)
