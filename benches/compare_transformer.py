"""The causal transformer in PyTorch, to compare with `deepforcing bench` and `cargo bench --bench networks`.

Random weights; one chunk of latent frames against a key/value cache of a window of latent frames, and a whole chunk: four
denoising steps and the pass that writes it into the cache, the window moving by one chunk. Keys are cached rotated, keys
and values of the prompt are computed once.

    python3 benches/compare_transformer.py [--threads 2] [--rounds 5] [--repeats 20] [--ours target/release/deps/networks-HASH]
    python3 benches/compare_transformer.py --size full --device cuda --dtype bf16 --compile --json torch.json

Sizes: `mid` is the mid size of `cargo bench --bench networks`, `tiny` that of `deepforcing bench --scale tiny` (160x96
pixels), `full` Wan2.1-T2V-1.3B at 480x832. With `--ours` (mid size, CPU) the benchmark binary runs after each round of
PyTorch on as many threads, so that both see the same machine. Prints the fastest and the median time in milliseconds;
`--json FILE` writes them with what they were measured on.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import time
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Size:
    dim: int
    heads: int
    layers: int
    ffn: int
    text: int
    height: int
    width: int
    chunk: int = 3
    steps: int = 4

    @property
    def per_frame(self):
        return self.height * self.width // 4

    @property
    def head_dim(self):
        return self.dim // self.heads

    def tflop(self, frames):
        """Of a forward pass, as `src/bench/flops.rs` counts them."""
        queries = self.chunk * self.per_frame
        linear = 2 * (6 * self.dim**2 + 2 * self.dim * self.ffn)
        attention = 4 * (frames * self.per_frame + self.text) * self.dim
        return queries * self.layers * (linear + attention) / 1e12


SIZES = {
    "mid": Size(256, 4, 8, 1024, 512, 16, 16),
    "tiny": Size(128, 2, 3, 256, 16, 12, 20),
    "full": Size(1536, 12, 30, 8960, 512, 60, 104),
}


class Attention(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.heads, self.head_dim = size.heads, size.head_dim
        self.q, self.k, self.v, self.o = (nn.Linear(size.dim, size.dim) for _ in range(4))
        self.norm_q, self.norm_k = nn.RMSNorm(size.dim, eps=1e-6), nn.RMSNorm(size.dim, eps=1e-6)

    def attend(self, q, k, v):
        by_head = lambda t: t.view(1, -1, self.heads, self.head_dim).transpose(1, 2)
        out = F.scaled_dot_product_attention(by_head(q), by_head(k), by_head(v))
        return self.o(out.transpose(1, 2).reshape(q.shape))


def rotate(x, cos, sin, heads):
    """Adjacent channels (2i, 2i+1) turned by an angle of each token, in f32."""
    pairs = x.view(x.shape[0], heads, -1, 2).float()
    cos, sin = cos[:, None], sin[:, None]
    if torch.compiler.is_compiling():
        even, odd = pairs[..., 0], pairs[..., 1]
        turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1)
    else:
        # The compiler does not know complex numbers; without it they are faster.
        turned = torch.view_as_real(torch.view_as_complex(pairs) * torch.complex(cos, sin))
    return turned.reshape(x.shape).to(x.dtype)


class Block(nn.Module):
    def __init__(self, size, window):
        super().__init__()
        dim = size.dim
        self.size = size
        self.modulation = nn.Parameter(torch.randn(1, 6, dim) / 16)
        self.self_attn, self.cross_attn = Attention(size), Attention(size)
        self.norm3 = nn.LayerNorm(dim, eps=1e-6)
        self.ffn = nn.Sequential(nn.Linear(dim, size.ffn), nn.GELU(approximate="tanh"), nn.Linear(size.ffn, dim))
        tokens = window * size.per_frame
        self.register_buffer("keys", torch.randn(tokens, dim))
        self.register_buffer("values", torch.randn(tokens, dim))
        self.register_buffer("prompt_keys", torch.zeros(size.text, dim))
        self.register_buffer("prompt_values", torch.zeros(size.text, dim))

    def prompt(self, text):
        cross = self.cross_attn
        self.prompt_keys.copy_(cross.norm_k(cross.k(text)))
        self.prompt_values.copy_(cross.v(text))

    def make_room(self):
        """First in, first out."""
        moved = self.size.chunk * self.size.per_frame
        for buffer in (self.keys, self.values):
            buffer[:-moved] = buffer[moved:].clone()

    def forward(self, x, e0, cos, sin):
        m = (self.modulation + e0).unbind(1)
        attn, tokens, dim = self.self_attn, x.shape[0], x.shape[1]
        z = F.layer_norm(x, (dim,), eps=1e-6) * (1 + m[1]) + m[0]
        q, k = attn.norm_q(attn.q(z)), attn.norm_k(attn.k(z))
        self.keys[-tokens:] = rotate(k, cos, sin, attn.heads)
        self.values[-tokens:] = attn.v(z)
        x = x + m[2] * attn.attend(rotate(q, cos, sin, attn.heads), self.keys, self.values)
        cross = self.cross_attn
        x = x + cross.attend(cross.norm_q(cross.q(self.norm3(x))), self.prompt_keys, self.prompt_values)
        z = F.layer_norm(x, (dim,), eps=1e-6) * (1 + m[4]) + m[3]
        return x + m[5] * self.ffn(z)


class Transformer(nn.Module):
    def __init__(self, size, window):
        super().__init__()
        self.size = size
        self.patch = nn.Linear(64, size.dim)
        self.blocks = nn.ModuleList(Block(size, window) for _ in range(size.layers))
        self.head = nn.Linear(size.dim, 64)
        self.head_modulation = nn.Parameter(torch.randn(1, 2, size.dim) / 16)

    def prompt(self):
        text = torch.randn(self.size.text, self.size.dim).to(self.head.weight)
        for block in self.blocks:
            block.prompt(text)

    def forward(self, latents, e, e0, cos, sin):
        chunk, height, width = self.size.chunk, self.size.height, self.size.width
        x = latents.view(chunk, 16, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(-1, 64)
        x = self.patch(x.to(self.patch.weight.dtype))
        for block in self.blocks:
            x = block(x, e0, cos, sin)
        m = (self.head_modulation + e).unbind(1)
        x = self.head(F.layer_norm(x, (self.size.dim,), eps=1e-6) * (1 + m[1]) + m[0])
        x = x.view(chunk, height // 2, width // 2, 2, 2, 16).permute(0, 5, 1, 3, 2, 4)
        return x.reshape(chunk, 16, height, width).float()


class Chunk:
    """The state in which chunks are denoised: the window is full."""

    def __init__(self, size, window, device, dtype, compile):
        self.size, self.device = size, device
        with torch.device(device):
            self.model = Transformer(size, window).eval().to(dtype)
            self.model.prompt()
            self.e, self.e0 = torch.randn(1, 1, size.dim).to(dtype), (torch.randn(1, 6, size.dim) / 16).to(dtype)
            angles = torch.randn(size.chunk * size.per_frame, size.head_dim // 2)
            self.cos, self.sin = angles.cos(), angles.sin()
        if compile:
            # One block is compiled and serves as all of them: the whole network takes minutes.
            for block in self.model.blocks:
                block.compile()

    def noise(self):
        return torch.randn(self.size.chunk, 16, self.size.height, self.size.width, device=self.device)

    def forward(self, latents):
        return self.model(latents, self.e, self.e0, self.cos, self.sin)

    def whole(self):
        for block in self.model.blocks:
            block.make_room()
        noisy = self.noise()
        for step in range(self.size.steps):
            sigma = 1 - step / self.size.steps
            clean = (noisy.double() - sigma * self.forward(noisy).double()).float()
            noisy = (1 - sigma) * clean + sigma * torch.randn_like(clean)
        return self.forward(clean)


UNITS = {"ns": 1e-6, "µs": 1e-3, "ms": 1.0, "s": 1e3}


def ours(binary, threads):
    """Fastest and median of the mid-size benchmarks, in ms, by name."""
    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads), "CANDLE_NUM_THREADS": str(threads)}
    command = [binary, "--bench", "forward_full_window", "whole_chunk", "--max-time", "2"]
    text = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    found, group = {}, ""
    for line in text.splitlines():
        name = re.match(r"[│\s]*[├╰]─ (\S+)", line)
        if not name:
            continue
        numbers = re.findall(r"([\d.]+) (ns|µs|ms|s)\b", line)
        if not numbers:
            group = f"{group.split('/')[0]}/{name[1]}" if name[1] in ("0", "1") else name[1]
        elif name[1] == "Mid":
            times = [float(value) * UNITS[unit] for value, unit in numbers]
            found[group] = (times[0], times[2])
    return found


def milliseconds(run, repeats, device):
    synchronize = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    times = []
    for _ in range(repeats):
        synchronize()
        begin = time.perf_counter()
        run()
        synchronize()
        times.append((time.perf_counter() - begin) * 1e3)
    return times


def make(size, options):
    """The chunk, compiled where that works, and whether it is."""
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[options.dtype]
    if options.compile:
        try:
            chunk = Chunk(size, options.window, options.device, dtype, True)
            chunk.forward(chunk.noise())
            return chunk, True
        except Exception as error:  # whatever the compiler raises: it may lack a C compiler, Triton, a cache folder
            print(f"torch.compile does not work here: {type(error).__name__}: {str(error).splitlines()[0][:200]}")
    return Chunk(size, options.window, options.device, dtype, False), False


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="mid")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--window", type=int, default=21, help="latent frames attended to")
    parser.add_argument("--compile", action="store_true", help="torch.compile, where it works")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--ours", help="the benchmark binary, to run in turns (size mid)")
    parser.add_argument("--json", help="file for the result")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    size = SIZES[options.size]
    chunk, compiled = make(size, options)
    latents = chunk.noise()
    runs = {"torch forward": lambda: chunk.forward(latents), "torch whole chunk": chunk.whole}
    times = {name: [] for name in runs}
    medians = {name: [] for name in runs}
    for run in runs.values():
        milliseconds(run, 3, options.device)
    for _ in range(options.rounds):
        for name, run in runs.items():
            values = milliseconds(run, options.repeats, options.device)
            times[name] += values
            medians[name].append(statistics.median(values))
        if options.ours:
            for name, (fastest, median) in ours(options.ours, options.threads).items():
                times.setdefault(f"ours {name}", []).append(fastest)
                medians.setdefault(f"ours {name}", []).append(median)
    how = "compiled" if compiled else "not compiled"
    place = torch.cuda.get_device_name() if options.device.startswith("cuda") else f"{options.threads} threads"
    print(f"PyTorch {torch.__version__}, {place}, {options.dtype}, {how}, size {options.size}, {options.rounds} rounds")
    for name, values in times.items():
        print(f"{name:30} fastest {min(values):8.2f} ms   median {statistics.median(medians[name]):8.2f} ms")
    if options.json:
        result = {
            "torch": torch.__version__,
            "device": place,
            "dtype": options.dtype,
            "compiled": compiled,
            "size": asdict(size),
            "attended": options.window,
            "tflop-of-a-forward": size.tflop(options.window),
            "milliseconds": {
                name: {"fastest": min(values), "median": statistics.median(medians[name])}
                for name, values in times.items()
            },
        }
        with open(options.json, "w") as file:
            json.dump(result, file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main()
