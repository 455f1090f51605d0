"""Train text encoder and transformer together: rectified flow, v = noise - x0.

Every step trains windows of latent frames by teacher forcing (noisy copies beside the clean one, one noise level per
chunk, half of them exactly the sampler's) and, beside them, lone first chunks: the first chunk is image generation from
text, the hardest part, and only one of seven in a window. The context the noisy chunks see is made imperfect, as it is
in a rollout: slightly noisy, or replaced by the model's own one-step estimates. Every other window is cut
to its first 12 frames, which is cheaper.
"""

import copy
import os
import random

import torch

import visitor
from common import Clock, Meter, TransformerData, agree, autocast, average_gradients, cosine, load, save_atomic, stage_arguments, start_workers
from dit import CHUNK, Block
from export import exported_transformer
from grammar import training_prompt
from model import SAMPLER_SIGMAS, Prompts, ToyModel, mix, per_frame
from muon import Muon
from presets import PRESETS

MUON_LR, ADAM_LR = 0.02, 1.5e-3


def draw_sigmas(rows, chunks, sampler_share):
    """Noise levels [rows, 3*chunks]: the sampler's, or continuous with shift 3."""
    u = torch.rand(rows, chunks)
    levels = torch.tensor(SAMPLER_SIGMAS)[torch.randint(0, 4, (rows, chunks))]
    sigma = torch.where(torch.rand(rows, chunks) < sampler_share, levels, 3 * u / (1 + 2 * u)).clamp(0.02, 1)
    return sigma.repeat_interleave(CHUNK, 1)


def emphasise_returns(levels, specs, high):
    """Draw most noise levels [rows,F], in place, of chunks in which a bird comes back from the values `high`.

    What the bird looks like is then known from its last visit only.
    """
    for row in range(len(levels)):
        first = specs[row % len(specs)].get("first")
        if first is not None and torch.rand(()) < 0.8:
            back = slice(CHUNK * first + visitor.PERIOD, CHUNK * (first + 1) + visitor.PERIOD)
            levels[row, back] = high[torch.randint(0, len(high), ())]
    return levels


def imperfect_context(eager, x, context, own_estimates):
    """Context for teacher forcing: (latents like x [B,F,...], sigmas [B,F])."""
    rows, chunks = x.shape[0], x.shape[1] // CHUNK
    if not own_estimates:
        sigma = (torch.rand(rows, chunks) * 0.2 * (torch.rand(rows, chunks) < 0.5)).repeat_interleave(CHUNK, 1)
        return mix(x, torch.randn_like(x), sigma), sigma
    sigma = torch.tensor(SAMPLER_SIGMAS)[torch.randint(2, 4, (rows, chunks))].repeat_interleave(CHUNK, 1)
    noisy, clean = mix(x, torch.randn_like(x), sigma), torch.zeros(rows, CHUNK * chunks)
    with torch.no_grad():
        flow = eager(x, clean, noisy, sigma * 1000, context.detach()).float()
    replaced = (torch.rand(rows, chunks) < 0.6).repeat_interleave(CHUNK, 1)
    return torch.where(per_frame(replaced), noisy - per_frame(sigma) * flow, x), clean


def main():
    parser = stage_arguments(__doc__.split("\n")[0], minutes=46)
    parser.add_argument("--first-minutes", type=float, default=9, help="opening phase on first chunks only")
    parser.add_argument("--begin-from", help="folder of exported files whose weights a new run starts from")
    parser.add_argument("--peak", type=float, default=1, help="factor on both peak learning rates")
    parser.add_argument("--subject", type=float, default=2, help="extra weight of the subject (losses are logged with 1)")
    args = parser.parse_args()
    preset = PRESETS[args.preset]
    rank, workers = start_workers(args.device)
    path = f"{args.runs}/dit.pt"
    data, prompts = TransformerData(args, preset), Prompts(f"{args.runs}/tokenizer.json")

    torch.manual_seed(args.seed)
    model = ToyModel(prompts.vocab, **preset.dit)
    if args.begin_from:
        model.load_state_dict(exported_transformer(args.begin_from))
    ema = copy.deepcopy(model).requires_grad_(False)
    eager_window = Block.window
    compiled_window = torch.compile(Block.window, dynamic=False)
    matrices = [p for n, p in model.dit.blocks.named_parameters() if p.dim() == 2]
    chosen = set(map(id, matrices))
    muon = Muon(matrices)
    adam = torch.optim.AdamW([p for p in model.parameters() if id(p) not in chosen], lr=ADAM_LR, betas=(.9, .97), weight_decay=0.01)
    step, clock = 0, Clock()
    if os.path.exists(path):
        state = load(path)
        model.load_state_dict(state["model"])
        ema.load_state_dict(state["ema"])
        muon.load_state_dict(state["muon"])
        adam.load_state_dict(state["adam"])
        step, clock = state["step"], Clock(state["seconds"])
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

    def embedded(specs):
        return model.context(prompts.batch([training_prompt(spec, rng) for spec in specs]))

    def save():
        if rank == 0:
            save_atomic(dict(model=model.state_dict(), ema=ema.state_dict(), muon=muon.state_dict(), adam=adam.state_dict(), step=step, seconds=clock.seconds()), path)

    Block.window = compiled_window
    while True:
        seconds = agree(clock.seconds())
        progress = seconds / (args.minutes * 60)
        if progress >= 1:
            break
        scale = args.peak * min(1, (step + 1) / 100) * cosine(progress)
        muon.lr = MUON_LR * scale
        for group in adam.param_groups:
            group["lr"] = ADAM_LR * scale
        model.zero_grad()

        x, subject, specs = data.draw(rng, preset.first, "starts")
        noise, sigma = torch.randn_like(x), draw_sigmas(preset.first, 1, 0.6)
        with autocast():
            flow = model.dit.first_chunk(mix(x, noise, sigma), sigma * 1000, embedded(specs))
        error = (flow.float() - (noise - x)).square()
        first_loss = (error * (1 + args.subject * subject)).mean()
        meter.add(first=(error * (1 + subject)).mean().item())
        opening = seconds < args.first_minutes * 60
        (first_loss * (1.0 if opening else 0.35)).backward()

        if not opening or step % 10 == 0:
            x, subject, specs = data.draw_windows(rng, preset.windows, step)
            subject = subject.repeat(preset.copies, 1, 1, 1, 1)
            with autocast():
                context = embedded(specs)
                past, past_sigma = imperfect_context(eager, x, context, own_estimates=step // 4 % 2 == 0)
                target = x.repeat(preset.copies, 1, 1, 1, 1)
                noise, sigma = torch.randn_like(target), draw_sigmas(len(target), target.shape[1] // CHUNK, 0.5)
                sigma = emphasise_returns(sigma, specs, SAMPLER_SIGMAS[:3])
                flow = model.dit.window(past, past_sigma * 1000, mix(target, noise, sigma), sigma * 1000, context)
            error = (flow.float() - (noise - target)).square()
            ((error * (1 + args.subject * subject)).mean() * 0.65).backward()
            with torch.no_grad():
                error = error * (1 + subject)
                meter.add(window=error.mean().item())
                x0_error = error.mean((2, 3, 4))[:, CHUNK:] * sigma[:, CHUNK:] ** 2
                for name, level in zip(("x1", "x.94", "x.83", "x.62"), sigmas):
                    hit = (sigma[:, CHUNK:] - level).abs() < 1e-4
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
