"""The causal transformer of `cargo bench --bench networks` (mid size) in PyTorch, to compare with it.

Random weights, f32, CPU. One chunk (3 latent frames of 64 tokens) against a key/value cache of 21 latent frames, and a
whole chunk: four denoising steps and the pass that writes it into the cache, the window moving by one chunk. Keys are
cached rotated, keys and values of the prompt are computed once.

    python3 benches/compare_transformer.py [--threads 2] [--rounds 5] [--repeats 20] [--ours target/release/deps/networks-HASH]

With `--ours` the benchmark binary runs after each round of PyTorch on as many threads, so that both see the same
machine. Prints the fastest and the median time in milliseconds.
"""

import argparse
import os
import re
import statistics
import subprocess
import time

import torch
import torch.nn.functional as F
from torch import nn

DIM, HEADS, LAYERS, FFN, TEXT = 256, 4, 8, 1024, 512
CHUNK, WINDOW, HEIGHT, WIDTH = 3, 21, 16, 16
PER_FRAME = HEIGHT * WIDTH // 4
STEPS = 4


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(DIM, DIM) for _ in range(4))
        self.norm_q, self.norm_k = nn.RMSNorm(DIM, eps=1e-6), nn.RMSNorm(DIM, eps=1e-6)

    def attend(self, q, k, v):
        by_head = lambda t: t.view(1, -1, HEADS, DIM // HEADS).transpose(1, 2)
        out = F.scaled_dot_product_attention(by_head(q), by_head(k), by_head(v))
        return self.o(out.transpose(1, 2).reshape(-1, DIM))


def rotate(x, angles):
    """Adjacent channels (2i, 2i+1) as complex numbers."""
    pairs = torch.view_as_complex(x.view(-1, HEADS, DIM // HEADS // 2, 2))
    return torch.view_as_real(pairs * angles[:, None]).reshape(-1, DIM)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.modulation = nn.Parameter(torch.randn(1, 6, DIM) / 16)
        self.self_attn, self.cross_attn = Attention(), Attention()
        self.norm3 = nn.LayerNorm(DIM, eps=1e-6)
        self.ffn = nn.Sequential(nn.Linear(DIM, FFN), nn.GELU(approximate="tanh"), nn.Linear(FFN, DIM))
        self.keys, self.values = torch.zeros(WINDOW * PER_FRAME, DIM), torch.zeros(WINDOW * PER_FRAME, DIM)

    def prompt(self, text):
        cross = self.cross_attn
        self.prompt_keys, self.prompt_values = cross.norm_k(cross.k(text)), cross.v(text)

    def make_room(self):
        """First in, first out."""
        for buffer in (self.keys, self.values):
            buffer[: -CHUNK * PER_FRAME] = buffer[CHUNK * PER_FRAME :].clone()

    def forward(self, x, e0, angles):
        m = (self.modulation + e0).unbind(1)
        attn, tokens = self.self_attn, x.shape[0]
        z = F.layer_norm(x, (DIM,), eps=1e-6) * (1 + m[1]) + m[0]
        q, k = attn.norm_q(attn.q(z)), attn.norm_k(attn.k(z))
        self.keys[-tokens:] = rotate(k, angles)
        self.values[-tokens:] = attn.v(z)
        x = x + m[2] * attn.attend(rotate(q, angles), self.keys, self.values)
        cross = self.cross_attn
        x = x + cross.attend(cross.norm_q(cross.q(self.norm3(x))), self.prompt_keys, self.prompt_values)
        z = F.layer_norm(x, (DIM,), eps=1e-6) * (1 + m[4]) + m[3]
        return x + m[5] * self.ffn(z)


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch = nn.Linear(64, DIM)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.head = nn.Linear(DIM, 64)
        self.head_modulation = nn.Parameter(torch.randn(1, 2, DIM) / 16)
        text = torch.randn(TEXT, DIM)
        for block in self.blocks:
            block.prompt(text)

    def forward(self, latents, e, e0, angles):
        x = latents.view(CHUNK, 16, HEIGHT // 2, 2, WIDTH // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(-1, 64)
        x = self.patch(x)
        for block in self.blocks:
            x = block(x, e0, angles)
        m = (self.head_modulation + e).unbind(1)
        x = self.head(F.layer_norm(x, (DIM,), eps=1e-6) * (1 + m[1]) + m[0])
        x = x.view(CHUNK, HEIGHT // 2, WIDTH // 2, 2, 2, 16).permute(0, 5, 1, 3, 2, 4)
        return x.reshape(CHUNK, 16, HEIGHT, WIDTH)


class Chunk:
    """The state in which chunks are denoised: the window is full."""

    def __init__(self):
        self.model = Transformer().eval()
        self.e, self.e0 = torch.randn(1, 1, DIM), torch.randn(1, 6, DIM) / 16
        self.angles = torch.polar(torch.ones(CHUNK * PER_FRAME, 32), torch.randn(CHUNK * PER_FRAME, 32))
        for block in self.model.blocks:
            block.keys.normal_()
            block.values.normal_()

    def forward(self, latents):
        return self.model(latents, self.e, self.e0, self.angles)

    def whole(self):
        for block in self.model.blocks:
            block.make_room()
        noisy = torch.randn(CHUNK, 16, HEIGHT, WIDTH)
        for step in range(STEPS):
            sigma = 1 - step / STEPS
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


def milliseconds(run, repeats):
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run()
        times.append((time.perf_counter() - begin) * 1e3)
    return times


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--ours", help="the benchmark binary, to run in turns")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    chunk, latents = Chunk(), torch.randn(CHUNK, 16, HEIGHT, WIDTH)
    times = {"torch forward": [], "torch whole chunk": []}
    medians = {name: [] for name in times}
    milliseconds(lambda: chunk.forward(latents), 5)
    for _ in range(options.rounds):
        for name, run in (("torch forward", lambda: chunk.forward(latents)), ("torch whole chunk", chunk.whole)):
            values = milliseconds(run, options.repeats)
            times[name] += values
            medians[name].append(statistics.median(values))
        if options.ours:
            for name, (fastest, median) in ours(options.ours, options.threads).items():
                times.setdefault(f"ours {name}", []).append(fastest)
                medians.setdefault(f"ours {name}", []).append(median)
    print(f"PyTorch {torch.__version__}, {options.threads} threads, {options.rounds} rounds")
    for name, values in times.items():
        print(f"{name:30} fastest {min(values):8.2f} ms   median {statistics.median(medians[name]):8.2f} ms")


if __name__ == "__main__":
    main()
