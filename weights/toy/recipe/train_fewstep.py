"""Few-step stage: consistency distillation for the 4-step "x0, then fresh noise" sampler.

The teacher (the flow model, frozen, with classifier-free guidance) makes one Euler step down a fixed grid of noise
levels; the student's x0 estimate must equal that of its own moving average at the lower level. Plain flow matching
sampled with 4 steps gives the blurry mean of what is possible; afterwards the 4-step pictures are as sharp as many-step
ones, and guidance is built in.
"""

import copy
import os
import random

import torch

from common import Clock, Meter, TransformerData, agree, autocast, average_gradients, load, save_atomic, stage_arguments, start_workers
from dit import CHUNK, Block
from export import exported_transformer
from grammar import training_prompt
from model import Prompts, ToyModel, mix, per_frame
from presets import PRESETS
from train_dit import emphasise_returns

GRID = [1., .97, .9375, .89, .8333333, .74, .625, .45, .28, .12, 0.]
SAMPLER_ROWS = [0, 2, 4, 6]
LR = 4e-4


def draw_levels(rows, chunks, sampler_share):
    """Indices into GRID [rows, 3*chunks]."""
    any_level = torch.randint(0, len(GRID) - 1, (rows, chunks))
    sampler = torch.tensor(SAMPLER_ROWS)[torch.randint(0, 4, (rows, chunks))]
    return torch.where(torch.rand(rows, chunks) < sampler_share, sampler, any_level).repeat_interleave(CHUNK, 1)


def consistency_loss(student, teacher, average, x, level):
    """student/teacher/average: functions (noisy, sigma) -> flow. x, level [B,F,...]. Pseudo-Huber distance per frame."""
    grid = torch.tensor(GRID)
    sigma, lower = grid[level], grid[level + 1]
    noisy = mix(x, torch.randn_like(x), sigma)
    with torch.no_grad():
        stepped = noisy + per_frame(lower - sigma) * teacher(noisy, sigma)
        target = torch.where(per_frame(lower) <= 0, stepped, stepped - per_frame(lower) * average(stepped, lower))
    distance = noisy - per_frame(sigma) * student(noisy, sigma) - target
    return (distance.square().mean((2, 3, 4)) + 0.01).sqrt() - 0.1


def main():
    parser = stage_arguments(__doc__.split("\n")[0], minutes=10, seed=1)
    parser.add_argument("--guidance", type=float, default=2, help="of the teacher; 1 is none")
    parser.add_argument("--begin-from", help="folder of exported few-step files that a new student starts from, in place of the teacher")
    args = parser.parse_args()
    preset = PRESETS[args.preset]
    rank, workers = start_workers(args.device)
    path = f"{args.runs}/fewstep.pt"
    data, prompts = TransformerData(args, preset), Prompts(f"{args.runs}/tokenizer.json")

    teacher = ToyModel(prompts.vocab, **preset.dit).requires_grad_(False)
    teacher.load_state_dict(load(f"{args.runs}/dit.pt")["ema"])
    average = copy.deepcopy(teacher)
    if args.begin_from:
        average.load_state_dict(exported_transformer(args.begin_from))
    model = copy.deepcopy(average).requires_grad_(True)
    adam = torch.optim.AdamW(model.parameters(), lr=LR, betas=(.9, .97), weight_decay=0.)
    step, clock = 0, Clock()
    if os.path.exists(path):
        state = load(path)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["ema"])
        adam.load_state_dict(state["adam"])
        step, clock = state["step"], Clock(state["seconds"])
    seed = args.seed * 1000 + rank + 7919 * step
    rng = random.Random(seed)
    torch.manual_seed(seed)
    params, meter = list(model.parameters()), Meter()
    saved = logged = clock.seconds()
    torch._dynamo.config.cache_size_limit = 32  # three shapes, with gradients and without, and what autocast makes of them
    Block.window = torch.compile(Block.window, dynamic=False)

    def flows(specs, forward):
        """(student, teacher, average) as functions of (noisy, sigma); forward(model, noisy, sigma, context)."""
        ids = prompts.batch([training_prompt(spec, rng) for spec in specs])
        empty = prompts.batch([""] * len(specs))

        def of(network, ids):
            context = network.context(ids)
            return lambda noisy, sigma: forward(network, noisy, sigma, context).float()
        guided, unguided = of(teacher, ids), of(teacher, empty)

        def guided_teacher(noisy, sigma):
            flow = guided(noisy, sigma)
            return flow if args.guidance == 1 else torch.lerp(unguided(noisy, sigma), flow, args.guidance)
        return of(model, ids), guided_teacher, of(average, ids)

    def save():
        if rank == 0:
            save_atomic(dict(model=model.state_dict(), ema=average.state_dict(), adam=adam.state_dict(), step=step, seconds=clock.seconds()), path)

    while True:
        progress = agree(clock.seconds() / (args.minutes * 60))
        if progress >= 1:
            break
        for group in adam.param_groups:
            group["lr"] = LR * min(1, (step + 1) / 30) * (1 - 0.85 * progress)
        model.zero_grad()
        with autocast():
            x, _, specs = data.draw(rng, preset.first, "starts")
            networks = flows(specs, lambda net, noisy, sigma, context: net.dit.first_chunk(noisy, sigma * 1000, context))
            first = consistency_loss(*networks, x, draw_levels(len(x), 1, 0.6)).mean()
            (0.35 * first).backward()
            x, _, specs = data.draw_windows(rng, preset.windows, step)
            chunks = x.shape[1] // CHUNK
            sigma = (torch.rand(len(x), chunks) * 0.1 * (torch.rand(len(x), chunks) < 0.5)).repeat_interleave(CHUNK, 1)
            past = mix(x, torch.randn_like(x), sigma)
            networks = flows(specs, lambda net, noisy, level, context: net.dit.window(past, sigma * 1000, noisy, level * 1000, context))
            level = emphasise_returns(draw_levels(preset.copies * len(x), chunks, 0.5), specs, range(5))
            window = consistency_loss(*networks, x.repeat(preset.copies, 1, 1, 1, 1), level).mean()
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
            save()
    save()
    if rank == 0:
        print(f"done: {step} steps, {clock.seconds():.0f} s", flush=True)


if __name__ == "__main__":
    main()
