"""Train text encoder and transformer together: rectified flow, v = noise - x0.

Every step trains windows of 21 latent frames by teacher forcing (K = 2 noisy copies per clean copy, one noise level per
chunk, half of them exactly the sampler's) and, beside them, lone first chunks: the first chunk is image generation from
text, the hardest part, and only one of seven in a window. The context the noisy chunks see is made imperfect, as it is
in a rollout: slightly noisy, or replaced by the model's own one-step estimates.
"""

import argparse
import copy
import glob
import os
import random

import numpy as np
import torch

from common import HELD_OUT, Clock, Meter, agree, average_gradients, cosine, load_specs, save_atomic, start_workers
from dit import Block
from grammar import training_prompt
from model import SAMPLER_SIGMAS, Prompts, ToyModel, mix, per_frame
from muon import Muon

WINDOWS, COPIES, FIRST = 2, 2, 24   # per worker and step
MUON_LR, ADAM_LR = 0.02, 1.5e-3


def draw_sigmas(rows, chunks, sampler_share):
    """Noise levels [rows, 3*chunks]: the sampler's, or continuous with shift 3."""
    u = torch.rand(rows, chunks)
    levels = torch.tensor(SAMPLER_SIGMAS)[torch.randint(0, 4, (rows, chunks))]
    sigma = torch.where(torch.rand(rows, chunks) < sampler_share, levels, 3 * u / (1 + 2 * u)).clamp(0.02, 1)
    return sigma.repeat_interleave(3, 1)


def imperfect_context(eager, x, context, own_estimates):
    """Context for teacher forcing: (latents [B,21,...], sigmas [B,21])."""
    rows = x.shape[0]
    if not own_estimates:
        sigma = (torch.rand(rows, 7) * 0.2 * (torch.rand(rows, 7) < 0.5)).repeat_interleave(3, 1)
        return mix(x, torch.randn_like(x), sigma), sigma
    sigma = torch.tensor(SAMPLER_SIGMAS)[torch.randint(2, 4, (rows, 7))].repeat_interleave(3, 1)
    noisy = mix(x, torch.randn_like(x), sigma)
    with torch.no_grad():
        flow = eager(x, torch.zeros(rows, 21), noisy, sigma * 1000, context.detach()).float()
    replaced = (torch.rand(rows, 7) < 0.6).repeat_interleave(3, 1)
    return torch.where(per_frame(replaced), noisy - per_frame(sigma) * flow, x), torch.zeros(rows, 21)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="data")
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--minutes", type=float, default=46)
    parser.add_argument("--first-minutes", type=float, default=9, help="opening phase on first chunks only")
    parser.add_argument("--begin-from", help="checkpoint whose averaged weights a new run starts from, with a new warm-up and decay")
    parser.add_argument("--peak", type=float, default=1, help="factor on both peak learning rates")
    parser.add_argument("--subject", type=float, default=1, help="factor on the extra weight of the subject (losses are logged with 1)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rank, workers = start_workers()
    path = f"{args.runs}/dit.pt"
    latents = torch.load(f"{args.runs}/latents.pt", mmap=True)
    z, full = latents["z"], latents["full"]
    weight = torch.from_numpy(np.concatenate([np.load(p) for p in sorted(glob.glob(f"{args.data}/masks*.npy"))]))
    specs, prompts = load_specs(args.data), Prompts(f"{args.runs}/tokenizer.json")
    count = len(specs) - HELD_OUT

    torch.manual_seed(args.seed)
    model = ToyModel(prompts.vocab)
    ema = copy.deepcopy(model).requires_grad_(False)
    eager_window = Block.window
    compiled_window = torch.compile(Block.window, dynamic=False)
    matrices = [p for n, p in model.dit.blocks.named_parameters() if p.dim() == 2]
    chosen = set(map(id, matrices))
    muon = Muon(matrices)
    adam = torch.optim.AdamW([p for p in model.parameters() if id(p) not in chosen], lr=ADAM_LR, betas=(.9, .97), weight_decay=0.01)
    step, clock = 0, Clock()
    if os.path.exists(path):
        state = torch.load(path)
        model.load_state_dict(state["model"])
        ema.load_state_dict(state["ema"])
        muon.load_state_dict(state["muon"])
        adam.load_state_dict(state["adam"])
        step, clock = state["step"], Clock(state["seconds"])
    elif args.begin_from:
        state = torch.load(args.begin_from)
        model.load_state_dict(state["ema"])
        ema.load_state_dict(state["ema"])
        muon.load_state_dict(state["muon"])
        adam.load_state_dict(state["adam"])
    warm_up = 30 if args.begin_from else 100
    seed = args.seed * 1000 + rank + 7919 * step
    rng = random.Random(seed)
    torch.manual_seed(seed)
    params, meter, sigmas = list(model.parameters()), Meter(), torch.tensor(SAMPLER_SIGMAS)
    saved = logged = clock.seconds()

    def eager(*inputs):
        Block.window = eager_window
        out = model.dit.window(*inputs)
        Block.window = compiled_window
        return out

    def draw(n, among):
        rows = [rng.randrange(among) for _ in range(n)]
        return rows, prompts.batch([training_prompt(specs[i], rng) for i in rows])

    def save():
        if rank == 0:
            save_atomic(dict(model=model.state_dict(), ema=ema.state_dict(), muon=muon.state_dict(), adam=adam.state_dict(), step=step, seconds=clock.seconds()), path)

    Block.window = compiled_window
    while True:
        seconds = agree(clock.seconds())
        progress = seconds / (args.minutes * 60)
        if progress >= 1:
            break
        scale = args.peak * min(1, (step + 1) / warm_up) * cosine(progress, 0 if args.begin_from else 0.02)
        muon.lr = MUON_LR * scale
        for group in adam.param_groups:
            group["lr"] = ADAM_LR * scale
        model.zero_grad()

        rows, ids = draw(FIRST, count)
        x, noise = z[rows, :3].float(), torch.randn(FIRST, 3, 16, 8, 8)
        sigma = draw_sigmas(FIRST, 1, 0.6)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            flow = model.dit.first_chunk(mix(x, noise, sigma), sigma * 1000, model.context(ids))
        error, subject = (flow.float() - (noise - x)).square(), weight[rows, :3, None].float()
        first_loss = (error * (1 + args.subject * subject)).mean()
        meter.add(first=(error * (1 + subject)).mean().item())
        opening = seconds < args.first_minutes * 60
        (first_loss * (1.0 if opening else 0.35)).backward()

        if not opening or step % 10 == 0:
            rows, ids = draw(WINDOWS, full)
            x = z[rows].float()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                context = model.context(ids)
                own = rng.random() < 0.5 and progress > 0.35
                past, past_sigma = imperfect_context(eager, x, context, own)
                target = x.repeat(COPIES, 1, 1, 1, 1)
                noise, sigma = torch.randn_like(target), draw_sigmas(COPIES * WINDOWS, 7, 0.5)
                flow = model.dit.window(past, past_sigma * 1000, mix(target, noise, sigma), sigma * 1000, context)
            error, subject = (flow.float() - (noise - target)).square(), weight[rows].float().repeat(COPIES, 1, 1, 1)[:, :, None]
            ((error * (1 + args.subject * subject)).mean() * 0.65).backward()
            with torch.no_grad():
                error = error * (1 + subject)
                meter.add(window=error.mean().item())
                x0_error = error.mean((2, 3, 4))[:, 3:] * sigma[:, 3:] ** 2
                for name, level in zip(("x1", "x.94", "x.83", "x.62"), sigmas):
                    hit = (sigma[:, 3:] - level).abs() < 1e-4
                    if hit.any():
                        meter.add(**{name: x0_error[hit].mean().item()})
        average_gradients(params)
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        adam.step()
        muon.step()
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(list(ema.parameters()), params, 1 - min(0.998, (1 + step) / (20 + step)))
        if rank == 0 and clock.seconds() - logged > 30:
            logged = clock.seconds()
            print(f"step {step} {meter.line()} {logged:.0f} s", flush=True)
        if clock.seconds() - saved > 120:
            saved = clock.seconds()
            save()
    save()
    if rank == 0:
        print(f"done: {step} steps, {clock.seconds():.0f} s", flush=True)


if __name__ == "__main__":
    main()
