"""Few-step stage: consistency distillation for the sampler's three "x0, then fresh noise" steps (1000, 666, 333; shift 5).

The teacher (the flow model, frozen; no guidance, there is nothing to leave out) makes one Euler step down a fixed grid of noise levels; the
student's estimate of x0 must equal that of its own moving average at the lower level. Schedule and restarts as in train_world.py.
"""

import argparse
import copy
import math
import os

import torch

from sizes import CHUNK, LATENTS, LOCAL, PRESETS, SIGMAS
from walks import Latents
from network import ToyWorld, WorldBlock
from export_world import exported_world
from train_world import rate, seeded, window_flow
from common import Clock, Meter, load, save_atomic, start_workers
from model import mix, per_frame

GRID = (SIGMAS[0], .97, .94, SIGMAS[1], .86, .79, SIGMAS[2], .55, .36, .17, 0.)
SAMPLER_ROWS = (0, 3, 6)
LR = 4e-4


def draw_levels(rows, chunks, sampler_share=0.6):
    """Indices into GRID [rows, 3*chunks]."""
    any_level = torch.randint(0, len(GRID) - 1, (rows, chunks))
    sampler = torch.tensor(SAMPLER_ROWS)[torch.randint(0, len(SAMPLER_ROWS), (rows, chunks))]
    return torch.where(torch.rand(rows, chunks) < sampler_share, sampler, any_level).repeat_interleave(CHUNK, 1)


def consistency_loss(student, teacher, average, x, level):
    """Pseudo-Huber distance per frame; student, teacher, average: functions (noisy, sigma) -> flow; x and level [B,F,...]."""
    grid = torch.tensor(GRID)
    sigma, lower = grid[level], grid[level + 1]
    noisy = mix(x, torch.randn_like(x), sigma)
    with torch.no_grad():
        stepped = noisy + per_frame(lower - sigma) * teacher(noisy, sigma)
        target = torch.where(per_frame(lower) <= 0, stepped, stepped - per_frame(lower) * average(stepped, lower))
    distance = noisy - per_frame(sigma) * student(noisy, sigma) - target
    return (distance.square().mean((2, 3, 4)) + 0.01).sqrt() - 0.1


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--preset", default="cpu", choices=PRESETS)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--until", type=int, default=math.inf, help="stop this call at this step; the schedule stays that of --steps")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop this call after so many")
    parser.add_argument("--begin-from", help="folder of exported few-step files that a new student starts from, in place of the teacher")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    preset = PRESETS[args.preset]
    start_workers(args.device)
    torch.set_num_threads(args.threads)
    path = f"{args.runs}/fewstep.pt"
    latents = Latents(args.runs)

    teacher = ToyWorld(preset).requires_grad_(False)
    teacher.load_state_dict(load(f"{args.runs}/world.pt")["ema"])
    average = copy.deepcopy(teacher)
    if args.begin_from:
        average.load_state_dict(exported_world(args.begin_from))
    student = copy.deepcopy(average)
    for name, parameter in ToyWorld(preset).named_parameters():
        student.get_parameter(name).requires_grad_(parameter.requires_grad)
    params = [p for p in student.parameters() if p.requires_grad]
    adam = torch.optim.AdamW(params, lr=LR, betas=(.9, .97), weight_decay=0.)
    step, clock = 0, Clock()
    if os.path.exists(path):
        state = load(path)
        student.load_state_dict(state["model"])
        average.load_state_dict(state["ema"])
        adam.load_state_dict(state["adam"])
        step, clock = state["step"], Clock(state["seconds"])
    began = saved = logged = clock.seconds()
    meter = Meter()
    torch._dynamo.config.cache_size_limit = 32
    WorldBlock.window = torch.compile(WorldBlock.window, dynamic=False)

    def save():
        save_atomic(dict(model=student.state_dict(), ema=average.state_dict(), adam=adam.state_dict(), step=step, seconds=clock.seconds()), path)

    while step < min(args.steps, args.until) and clock.seconds() - began < args.minutes * 60:
        rng = seeded(args.seed, step)
        for group in adam.param_groups:
            group["lr"] = LR * rate(step, args.steps)
        batch = latents.draw(rng, preset.windows, LATENTS)
        x, chunks = batch[0], LATENTS // CHUNK
        past_sigma = (torch.rand(len(x), chunks) * 0.1 * (torch.rand(len(x), chunks) < 0.5)).repeat_interleave(CHUNK, 1)
        past = mix(x, torch.randn_like(x), past_sigma)
        local = LOCAL if step % 2 else LATENTS
        flows = [lambda noisy, sigma, flow=window_flow(network, batch, local): flow(past, past_sigma, noisy, sigma) for network in (student, teacher, average)]
        loss = consistency_loss(*flows, x.repeat(preset.copies, 1, 1, 1, 1), draw_levels(preset.copies * len(x), chunks)).mean()
        for p in params:
            p.grad = None
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        adam.step()
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(student.parameters()), 0.03)
        meter.add(distance=loss.item())
        if clock.seconds() - logged > 30:
            logged = clock.seconds()
            print(f"step {step} {meter.line()} {logged:.0f} s", flush=True)
        if clock.seconds() - saved > 180:
            saved = clock.seconds()
            save()
    save()
    print(f"{'done' if step >= args.steps else 'stopped'}: {step} steps, {clock.seconds():.0f} s", flush=True)


if __name__ == "__main__":
    main()
