"""Few-step stage: consistency distillation for the 4-step "x0, then fresh noise" sampler.

The teacher (the flow model, frozen) makes one Euler step down a fixed grid of noise levels; the student's x0 estimate
must equal that of its own moving average at the lower level. Plain flow matching sampled with 4 steps gives the blurry
mean of what is possible; afterwards the 4-step pictures are as sharp as many-step ones.
"""

import argparse
import copy
import os
import random

import torch

from common import HELD_OUT, Clock, Meter, agree, average_gradients, load_specs, save_atomic, start_workers
from dit import Block
from grammar import training_prompt
from model import SAMPLER_SIGMAS, Prompts, ToyModel, mix, per_frame

GRID = torch.tensor([1., .97, .9375, .89, .8333333, .74, .625, .45, .28, .12, 0.])
SAMPLER_ROWS = torch.tensor([0, 2, 4, 6])
WINDOWS, COPIES, FIRST = 2, 2, 24
LR = 4e-4


def draw_levels(rows, chunks, sampler_share):
    """Indices into GRID [rows, 3*chunks]."""
    any_level = torch.randint(0, len(GRID) - 1, (rows, chunks))
    sampler = SAMPLER_ROWS[torch.randint(0, 4, (rows, chunks))]
    return torch.where(torch.rand(rows, chunks) < sampler_share, sampler, any_level).repeat_interleave(3, 1)


def consistency_loss(student, teacher, average, x, level):
    """student/teacher/average: functions (noisy, sigma) -> flow. x, level [B,F,...]. Pseudo-Huber distance per frame."""
    sigma, lower = GRID[level], GRID[level + 1]
    noisy = mix(x, torch.randn_like(x), sigma)
    with torch.no_grad():
        stepped = noisy + per_frame(lower - sigma) * teacher(noisy, sigma)
        target = torch.where(per_frame(lower) <= 0, stepped, stepped - per_frame(lower) * average(stepped, lower))
    distance = noisy - per_frame(sigma) * student(noisy, sigma) - target
    return (distance.square().mean((2, 3, 4)) + 0.01).sqrt() - 0.1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="data")
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rank, workers = start_workers()
    path = f"{args.runs}/fewstep.pt"
    latents = torch.load(f"{args.runs}/latents.pt", mmap=True)
    z, full = latents["z"], latents["full"]
    specs, prompts = load_specs(args.data), Prompts(f"{args.runs}/tokenizer.json")
    count = len(specs) - HELD_OUT

    teacher = ToyModel(prompts.vocab).requires_grad_(False)
    teacher.load_state_dict(torch.load(f"{args.runs}/dit.pt")["ema"])
    model = copy.deepcopy(teacher).requires_grad_(True)
    average = copy.deepcopy(teacher)
    adam = torch.optim.AdamW(model.parameters(), lr=LR, betas=(.9, .97), weight_decay=0.)
    step, clock = 0, Clock()
    if os.path.exists(path):
        state = torch.load(path)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["ema"])
        adam.load_state_dict(state["adam"])
        step, clock = state["step"], Clock(state["seconds"])
    seed = args.seed * 1000 + rank + 7919 * step
    rng = random.Random(seed)
    torch.manual_seed(seed)
    params, meter = list(model.parameters()), Meter()
    saved = logged = clock.seconds()
    eager_window, compiled_window = Block.window, torch.compile(Block.window, dynamic=False)

    def draw(n, among):
        rows = [rng.randrange(among) for _ in range(n)]
        return rows, prompts.batch([training_prompt(specs[i], rng) for i in rows])

    def flows(ids, forward):
        """(student, teacher, average) as functions of (noisy, sigma); forward(model, noisy, sigma, context)."""
        def of(network, compiled):
            context = network.context(ids)

            def flow(noisy, sigma):
                Block.window = compiled_window if compiled else eager_window
                return forward(network, noisy, sigma, context).float()
            return flow
        return of(model, True), of(teacher, False), of(average, False)

    while True:
        progress = agree(clock.seconds() / (args.minutes * 60))
        if progress >= 1:
            break
        for group in adam.param_groups:
            group["lr"] = LR * min(1, (step + 1) / 30) * (1 - 0.85 * progress)
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rows, ids = draw(FIRST, count)
            first = consistency_loss(*flows(ids, lambda net, noisy, sigma, context: net.dit.first_chunk(noisy, sigma * 1000, context)),
                                     z[rows, :3].float(), draw_levels(FIRST, 1, 0.6)).mean()
            (0.35 * first).backward()
            rows, ids = draw(WINDOWS, full)
            x = z[rows].float()
            sigma = (torch.rand(WINDOWS, 7) * 0.1 * (torch.rand(WINDOWS, 7) < 0.5)).repeat_interleave(3, 1)
            past = mix(x, torch.randn_like(x), sigma)
            window = consistency_loss(*flows(ids, lambda net, noisy, level, context: net.dit.window(past, sigma * 1000, noisy, level * 1000, context)),
                                      x.repeat(COPIES, 1, 1, 1, 1), draw_levels(COPIES * WINDOWS, 7, 0.5)).mean()
            (0.65 * window).backward()
        average_gradients(params)
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        adam.step()
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), params, 0.03)
        meter.add(first=first.item(), window=window.item())
        if rank == 0 and clock.seconds() - logged > 20:
            logged = clock.seconds()
            print(f"step {step} {meter.line()} {logged:.0f} s", flush=True)
        if clock.seconds() - saved > 90:
            saved = clock.seconds()
            if rank == 0:
                save_atomic(dict(model=model.state_dict(), ema=average.state_dict(), adam=adam.state_dict(), step=step, seconds=saved), path)
    if rank == 0:
        save_atomic(dict(model=model.state_dict(), ema=average.state_dict(), adam=adam.state_dict(), step=step, seconds=clock.seconds()), path)
        print(f"done: {step} steps, {clock.seconds():.0f} s", flush=True)


if __name__ == "__main__":
    main()
