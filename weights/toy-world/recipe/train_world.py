"""Train transformer and vision tower together: rectified flow, v = noise - x0, by teacher forcing.

Every step trains windows of 15 latent frames (noisy copies beside the clean one, one noise level per chunk, half of them exactly the
sampler's). In every second step a chunk sees the published window of 6 latent frames only, else all of its past, so that
the model can be run with either. The past that noisy chunks see is made imperfect, as it is in a rollout: slightly noisy, or replaced by
the model's own one-step estimates.

The schedule goes by steps: warm-up, constant, and down to nothing over the last quarter of `--steps`. A step draws the same whether or not the run
was stopped before it; `--minutes` and `--until` stop this call early, and the next call goes on.
"""

import argparse
import copy
import math
import os
import random

import torch

from sizes import CHUNK, LATENTS, LOCAL, PRESETS, SIGMAS
from walks import Latents
from network import ToyWorld, WorldBlock
from start import beginning
from common import Clock, Meter, autocast, load, save_atomic, start_workers
from model import mix, per_frame
from muon import Muon

MUON_LR, ADAM_LR = 0.02, 1.5e-3
FADE = 0.25          # share of the steps over which the learning rates go down


def rate(step, steps):
    """Factor on both learning rates."""
    return min(1, (step + 1) / 100) * min(1, (steps - step) / (FADE * steps))


def draw_sigmas(rows, chunks, sampler_share=0.5):
    """Noise levels [rows, 3*chunks]: the sampler's, or continuous with shift 3."""
    u = torch.rand(rows, chunks)
    levels = torch.tensor(SIGMAS)[torch.randint(0, len(SIGMAS), (rows, chunks))]
    return torch.where(torch.rand(rows, chunks) < sampler_share, levels, 3 * u / (1 + 2 * u)).clamp(0.02, 1).repeat_interleave(CHUNK, 1)


def imperfect_past(flow, x, own_estimates):
    """The past that teacher-forced chunks see: (latents like x [B,F,...], noise levels [B,F])."""
    rows, chunks = x.shape[0], x.shape[1] // CHUNK
    if not own_estimates:
        sigma = (torch.rand(rows, chunks) * 0.2 * (torch.rand(rows, chunks) < 0.5)).repeat_interleave(CHUNK, 1)
        return mix(x, torch.randn_like(x), sigma), sigma
    sigma = torch.tensor(SIGMAS[1:])[torch.randint(0, len(SIGMAS) - 1, (rows, chunks))].repeat_interleave(CHUNK, 1)
    noisy, clean = mix(x, torch.randn_like(x), sigma), torch.zeros(rows, CHUNK * chunks)
    with torch.no_grad():
        estimate = noisy - per_frame(sigma) * flow(x, clean, noisy, sigma)
    replaced = (torch.rand(rows, chunks) < 0.6).repeat_interleave(CHUNK, 1)
    return torch.where(per_frame(replaced), estimate, x), clean


def window_flow(network, batch, local):
    """Function (past, its noise levels, noisy, their noise levels) -> flow, for a batch of `Latents`."""
    _, condition, start, keys, mouse = batch

    def flow(past, past_sigma, noisy, sigma):
        with autocast():
            context = network.context(start)
            return network.model.window(past, past_sigma * 1000, noisy, sigma * 1000, condition, context, keys, mouse, local).float()
    return flow


def seeded(seed, step):
    """The step's own generator; also seeds torch's."""
    torch.manual_seed(seed * 1000003 + step)
    return random.Random(seed * 1000003 + step)


@torch.no_grad()
def held_out_loss(network, latents, picks):
    """Mean square error of the flow at the sampler's noise levels on held-out walks, clean past, always the same noise: [3 levels]."""
    torch.manual_seed(0)  # every step of the training seeds anew
    losses = []
    for sigma in SIGMAS:
        total = 0.0
        for at in range(0, len(picks), 4):
            batch = latents.batch(picks[at:at + 4], LATENTS)
            x = batch[0]
            noise, level = torch.randn_like(x), torch.full(x.shape[:2], sigma)
            error = window_flow(network, batch, LOCAL)(x, torch.zeros_like(level), mix(x, noise, level), level) - (noise - x)
            total += error.square().mean().item() * len(x)
        losses.append(total / len(picks))
    return losses


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--preset", default="cpu", choices=PRESETS)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=12000)
    parser.add_argument("--until", type=int, default=math.inf, help="stop this call at this step; the schedule stays that of --steps")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop this call after so many")
    parser.add_argument("--begin-from", default="toy", help="'toy': the text toy's weights; 'nothing'; or a folder of exported files of this model")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    preset = PRESETS[args.preset]
    start_workers(args.device)
    torch.set_num_threads(args.threads)
    path = f"{args.runs}/world.pt"
    latents, held = Latents(args.runs), Latents(args.runs, "held")
    judged = [(0, row) for row in range(0, len(held.parts[0]["clean"]), 6)]

    torch.manual_seed(args.seed)
    network = beginning(ToyWorld(preset), args.begin_from)
    ema = copy.deepcopy(network).requires_grad_(False)
    params = [p for p in network.parameters() if p.requires_grad]
    matrices = [p for p in network.model.blocks.parameters() if p.dim() == 2 and p.requires_grad]
    chosen = set(map(id, matrices))
    muon = Muon(matrices)
    adam = torch.optim.AdamW([p for p in params if id(p) not in chosen], lr=ADAM_LR, betas=(.9, .97), weight_decay=0.01)
    step, clock = 0, Clock()
    if os.path.exists(path):
        state = load(path)
        network.load_state_dict(state["model"])
        ema.load_state_dict(state["ema"])
        muon.load_state_dict(state["muon"])
        adam.load_state_dict(state["adam"])
        step, clock = state["step"], Clock(state["seconds"])
    began = saved = logged = clock.seconds()
    meter = Meter()
    eager_window, compiled_window = WorldBlock.window, torch.compile(WorldBlock.window, dynamic=False)
    torch._dynamo.config.cache_size_limit = 32

    def eager(flow):
        def run(*inputs):
            WorldBlock.window = eager_window
            out = flow(*inputs)
            WorldBlock.window = compiled_window
            return out
        return run

    def save():
        save_atomic(dict(model=network.state_dict(), ema=ema.state_dict(), muon=muon.state_dict(), adam=adam.state_dict(), step=step,
                         seconds=clock.seconds()), path)

    WorldBlock.window = compiled_window
    while step < min(args.steps, args.until) and clock.seconds() - began < args.minutes * 60:
        rng = seeded(args.seed, step)
        factor = rate(step, args.steps)
        muon.lr = MUON_LR * factor
        for group in adam.param_groups:
            group["lr"] = ADAM_LR * factor
        local = LOCAL if step % 2 else LATENTS
        batch = latents.draw(rng, preset.windows, LATENTS)
        x = batch[0]
        flow = window_flow(network, batch, local)
        past, past_sigma = imperfect_past(eager(flow), x, own_estimates=step // 2 % 4 == 0)
        target = x.repeat(preset.copies, 1, 1, 1, 1)
        noise, sigma = torch.randn_like(target), draw_sigmas(len(target), LATENTS // CHUNK)
        error = (flow(past, past_sigma, mix(target, noise, sigma), sigma) - (noise - target)).square()
        for p in params:
            p.grad = None
        error.mean().backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        adam.step()
        muon.step()
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(list(ema.parameters()), list(network.parameters()), 1 - min(0.998, (1 + step) / (20 + step)))
            meter.add(loss=error.mean().item())
            per_chunk = error.mean((2, 3, 4))
            for name, level in zip(("v1", "v.91", "v.71"), SIGMAS):
                hit = (sigma[:, CHUNK:] - level).abs() < 1e-4
                if hit.any():
                    meter.add(**{name: per_chunk[:, CHUNK:][hit].mean().item()})
        if clock.seconds() - logged > 30:
            logged = clock.seconds()
            print(f"step {step} {meter.line()} {logged:.0f} s", flush=True)
        if clock.seconds() - saved > 300:
            saved = clock.seconds()
            save()
            latents.refresh()
            WorldBlock.window = eager_window
            print("held out, at the sampler's noise levels:", " ".join(f"{loss:.4f}" for loss in held_out_loss(ema, held, judged)), flush=True)
            WorldBlock.window = compiled_window
    save()
    print(f"{'done' if step >= args.steps else 'stopped'}: {step} steps, {clock.seconds():.0f} s", flush=True)


if __name__ == "__main__":
    main()
