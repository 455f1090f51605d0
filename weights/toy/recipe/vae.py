"""The Wan 2.1 video autoencoder at toy size: same layers, same names, same arithmetic.

Videos are [B,3,T,H,W] in [-1,1] with T = 4k+1, latents [B,16,k+1,H/8,W/8]. `encode` and `decode` process whole
sequences (training); `decode_stream` goes one latent frame at a time with per-layer history and gives the same
pictures (that is how programs that load the exported file decode).
"""

import torch
import torch.nn as nn
import torch.nn.functional as F

# Latent normalisation that every program applies around this autoencoder.
WAN_MEAN = [-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
            0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921]
WAN_STD = [2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
           3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160]

TOY_CONFIG = dict(dim=8, dim_mult=(1, 3, 6, 8), num_res_blocks=1, z_dim=16, temporal=(False, True, True))
WAN_CONFIG = dict(dim=96, dim_mult=(1, 2, 4, 4), num_res_blocks=2, z_dim=16, temporal=(False, True, True))


class Norm(nn.Module):
    """Channel-wise L2 norm times sqrt(C) times gamma; x [B,C,T,H,W] or [N,C,H,W]."""

    def __init__(self, dim, images=False):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim, 1, 1) if images else torch.ones(dim, 1, 1, 1))

    def forward(self, x):
        squares = (x * x).sum(1, keepdim=True, dtype=torch.float32)
        scale = torch.rsqrt(squares.clamp_min(1e-24)) * x.shape[1] ** 0.5
        return x * scale.to(x.dtype) * self.gamma.to(x.dtype)


def norm_silu_rows(rows, gamma):
    """The norm and SiLU on rows [N,C], in f32; compiled by `compile_norms`."""
    x = rows.float()
    x = x * torch.rsqrt((x * x).mean(1, keepdim=True).clamp_min(1e-24)) * gamma
    return (x * torch.sigmoid(x)).to(rows.dtype)


_compiled_rows = None


def compile_norms():
    """Fuse norm + SiLU in the residual blocks with torch.compile (training speed; same arithmetic)."""
    global _compiled_rows
    _compiled_rows = torch.compile(norm_silu_rows)


def norm_silu(norm, x):
    """silu(norm(x)) for x [B,C,T,H,W]."""
    if _compiled_rows is None:
        return F.silu(norm(x))
    b, c, t, h, w = x.shape
    rows = x.permute(0, 2, 3, 4, 1).reshape(-1, c)
    torch._dynamo.mark_dynamic(rows, 0)
    return _compiled_rows(rows, norm.gamma.flatten()).view(b, t, h, w, c).permute(0, 4, 1, 2, 3)


class CausalConv(nn.Conv3d):
    """3x3x3 (or 3x1x1) convolution that sees the present and two past frames, zeros before the first.

    `history` (a dict) makes it stream: it keeps the last two input frames between calls.
    """

    def __init__(self, cin, cout, kernel=(3, 3, 3)):
        super().__init__(cin, cout, kernel, padding=(0, kernel[1] // 2, kernel[2] // 2))

    def forward(self, x, history=None):
        past = None if history is None else history.get(self)
        if past is None:
            past = x.new_zeros(x.shape[0], x.shape[1], 2, *x.shape[3:])
        if history is None and x.shape[2] == 1:  # a single picture only meets the last temporal tap
            return F.conv2d(x[:, :, 0], self.weight[:, :, 2], self.bias, padding=self.padding[1:])[:, :, None]
        x = torch.cat([past, x], 2)
        if history is not None:
            history[self] = x[:, :, -2:]
        return super().forward(x)


class ResidualBlock(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.residual = nn.Sequential(Norm(cin), nn.SiLU(), CausalConv(cin, cout), Norm(cout), nn.SiLU(), nn.Dropout(0.), CausalConv(cout, cout))
        self.shortcut = nn.Conv3d(cin, cout, 1) if cin != cout else nn.Identity()

    def forward(self, x, history=None):
        r = self.residual
        h = r[2](norm_silu(r[0], x), history)
        return self.shortcut(x) + r[6](norm_silu(r[3], h), history)


class AttentionBlock(nn.Module):
    """Single-head attention over the positions of each frame."""

    def __init__(self, dim):
        super().__init__()
        self.norm, self.to_qkv, self.proj = Norm(dim, images=True), nn.Conv2d(dim, 3 * dim, 1), nn.Conv2d(dim, dim, 1)

    def forward(self, x, history=None):
        b, c, t, h, w = x.shape
        y = x.transpose(1, 2).reshape(b * t, c, h, w)
        q, k, v = self.to_qkv(self.norm(y)).flatten(2).transpose(1, 2).chunk(3, -1)
        y = torch.softmax(q @ k.transpose(1, 2) * c ** -0.5, -1) @ v
        y = self.proj(y.transpose(1, 2).reshape(b * t, c, h, w))
        return x + y.view(b, t, c, h, w).transpose(1, 2)


def per_frame(layer, x):
    """Apply a 2D layer to every frame of [B,C,T,H,W]."""
    b, c, t, h, w = x.shape
    y = layer(x.transpose(1, 2).reshape(b * t, c, h, w))
    return y.view(b, t, *y.shape[1:]).transpose(1, 2)


class Upsample(nn.Module):
    """Double the size and halve the channels; `temporal` also doubles the frames (all but the first)."""

    def __init__(self, dim, temporal):
        super().__init__()
        self.resample = nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(dim, dim // 2, 3, padding=1))
        self.time_conv = CausalConv(dim, 2 * dim, (3, 1, 1)) if temporal else None

    def forward(self, x, history=None):
        if self.time_conv is not None:
            first, rest = x[:, :, :1], x[:, :, 1:]
            if history is not None:
                seen = history.setdefault((self, "started"), False)
                history[(self, "started")] = True
                first, rest = (x[:, :, :0], x) if seen else (first, rest)
            if rest.shape[2]:
                b, c, t, h, w = rest.shape
                grown = self.time_conv(rest, history).view(b, 2, c, t, h, w)
                rest = grown.permute(0, 2, 3, 1, 4, 5).reshape(b, c, 2 * t, h, w)
            x = torch.cat([first, rest], 2)
        return per_frame(self.resample, x)


class Downsample(nn.Module):
    """Halve the size; `temporal` also halves the frames (all but the first)."""

    def __init__(self, dim, temporal):
        super().__init__()
        self.resample = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(dim, dim, 3, stride=2))
        self.time_conv = nn.Conv3d(dim, dim, (3, 1, 1), stride=(2, 1, 1)) if temporal else None

    def forward(self, x, history=None):
        x = per_frame(self.resample, x)
        if self.time_conv is not None and x.shape[2] > 1:
            x = torch.cat([x[:, :, :1], self.time_conv(x)], 2)
        return x


def middle(dim):
    return nn.Sequential(ResidualBlock(dim, dim), AttentionBlock(dim), ResidualBlock(dim, dim))


def run(layers, x, history):
    for layer in layers:
        x = layer(x, history)
    return x


class Encoder(nn.Module):
    def __init__(self, dim, dim_mult, num_res_blocks, z_dim, temporal):
        super().__init__()
        widths = [dim] + [dim * m for m in dim_mult]
        layers = []
        for i, (cin, cout) in enumerate(zip(widths[:-1], widths[1:])):
            for _ in range(num_res_blocks):
                layers.append(ResidualBlock(cin, cout))
                cin = cout
            if i + 1 < len(dim_mult):
                layers.append(Downsample(cout, temporal[i]))
        self.conv1, self.downsamples, self.middle = CausalConv(3, dim), nn.Sequential(*layers), middle(widths[-1])
        self.head = nn.Sequential(Norm(widths[-1]), nn.SiLU(), CausalConv(widths[-1], 2 * z_dim))

    def forward(self, x):
        x = run(self.middle, run(self.downsamples, self.conv1(x), None), None)
        return self.head[2](norm_silu(self.head[0], x))


class Decoder(nn.Module):
    def __init__(self, dim, dim_mult, num_res_blocks, z_dim, temporal):
        super().__init__()
        widths = [dim * m for m in (dim_mult[-1], *reversed(dim_mult))]
        growth = list(reversed(temporal))
        layers = []
        for i, (cin, cout) in enumerate(zip(widths[:-1], widths[1:])):
            cin = cin // 2 if i else cin
            for _ in range(num_res_blocks + 1):
                layers.append(ResidualBlock(cin, cout))
                cin = cout
            if i + 1 < len(dim_mult):
                layers.append(Upsample(cout, growth[i]))
        self.conv1, self.middle, self.upsamples = CausalConv(z_dim, widths[0]), middle(widths[0]), nn.Sequential(*layers)
        self.head = nn.Sequential(Norm(widths[-1]), nn.SiLU(), CausalConv(widths[-1], 3))

    def forward(self, z, history=None):
        x = run(self.upsamples, run(self.middle, self.conv1(z, history), history), history)
        return self.head[2](norm_silu(self.head[0], x), history)


class WanVAE(nn.Module):
    def __init__(self, dim=8, dim_mult=(1, 3, 6, 8), num_res_blocks=1, z_dim=16, temporal=(False, True, True)):
        super().__init__()
        self.z_dim = z_dim
        args = (dim, tuple(dim_mult), num_res_blocks, z_dim, tuple(temporal))
        self.encoder, self.conv1 = Encoder(*args), nn.Conv3d(2 * z_dim, 2 * z_dim, 1)
        self.conv2, self.decoder = nn.Conv3d(z_dim, z_dim, 1), Decoder(*args)

    def encode(self, video):
        """[B,3,T,H,W] -> raw latent mean [B,16,t,h,w], before any normalisation."""
        return self.conv1(self.encoder(video))[:, :self.z_dim]

    def decode(self, z):
        """Raw latent [B,16,t,h,w] -> video [B,3,T,H,W], not clamped."""
        return self.decoder(self.conv2(z))

    def decode_stream(self, z):
        """As `decode`, one latent frame at a time; yields [B,3,1 or 4,H,W]."""
        history = {}
        z = self.conv2(z)
        for i in range(z.shape[2]):
            yield self.decoder(z[:, :, i:i + 1], history)


def wan_constants(device="cpu"):
    """The published per-channel (mean, std), each [1,16,1,1,1]."""
    shape = (1, -1, 1, 1, 1)
    return torch.tensor(WAN_MEAN, device=device).view(shape), torch.tensor(WAN_STD, device=device).view(shape)
