"""Fine-tune the text toy's autoencoder on walks: crops of 17 pictures, then of all 57.

Encoder and decoder, with the losses of ../../toy/recipe/train_vae.py. Whole walks matter at the end: on short crops the causal layers
never see the state they reach on a long stream.
"""

import argparse
import os
import random

import torch

from sizes import PRESETS, SHARED, PICTURES
from walks import Walks, as_video
from common import Clock, Meter, autocast, cosine, load, save_atomic, start_workers
from export import exported_vae
from muon import Muon
from train_vae import channels_last, reconstruction_loss, split_parameters
from vae import WanVAE, compile_norms

MUON_LR, ADAM_LR = 0.01, 1e-3
SHORT = 17           # pictures of the shorter crops
WHOLE_FROM = 0.65    # share of the time after which whole walks are drawn
EDGES = ("encoder.conv1.", "decoder.head.2.", "conv1.", "conv2.", "decoder.conv1.")


@torch.no_grad()
def psnr(model, videos):
    """Mean PSNR (pictures in [0,1]) of whole walks uint8 [n,57,side,side,3]."""
    total = 0.0
    for pictures in videos:
        video = as_video(pictures)[None]
        with autocast():
            out = model.decode(model.encode(video.contiguous(memory_format=torch.channels_last_3d)))
        total += -10 * torch.log10(((out.float().clamp(-1, 1) - video) / 2).square().mean()).item()
    return total / len(videos)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="data")
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--preset", default="cpu", choices=PRESETS)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=30, help="training time, restarts included")
    parser.add_argument("--begin-from", default=os.path.join(SHARED, ".."), help="folder of exported files to start from; '' for a fresh network")
    args = parser.parse_args()
    preset = PRESETS[args.preset]
    start_workers(args.device)
    os.makedirs(args.runs, exist_ok=True)
    path = f"{args.runs}/vae.pt"

    torch.manual_seed(args.seed)
    compile_norms()
    model = WanVAE(**preset.vae)
    if args.begin_from:
        model.load_state_dict(exported_vae(args.begin_from))
    channels_last(model)
    matrices, others = split_parameters(list(model.named_parameters()), EDGES)
    muon, adam = Muon(matrices), torch.optim.AdamW(others, lr=ADAM_LR, betas=(.9, .97), weight_decay=0.)
    step, clock = 0, Clock()
    if os.path.exists(path):
        state = load(path)
        model.load_state_dict(state["model"])
        muon.load_state_dict(state["muon"])
        adam.load_state_dict(state["adam"])
        step, clock = state["step"], Clock(state["seconds"])
        channels_last(model)
    walks, params, meter = Walks(args.data), list(model.parameters()), Meter()
    saved = logged = clock.seconds()

    def save():
        save_atomic(dict(model=model.state_dict(), muon=muon.state_dict(), adam=adam.state_dict(), step=step, seconds=clock.seconds()), path)

    while (seconds := clock.seconds()) < args.minutes * 60:
        progress = seconds / (args.minutes * 60)
        rng = random.Random(args.seed * 1000003 + step)  # a step draws the same whether or not the run was stopped before it
        torch.manual_seed(args.seed * 1000003 + step)
        scale = min(1, (step + 1) / 30) * cosine(progress, 0.02)
        muon.lr = MUON_LR * scale
        for group in adam.param_groups:
            group["lr"] = ADAM_LR * scale
        frames = SHORT if progress < WHOLE_FROM or step % 2 else PICTURES
        video = torch.stack([walks.draw(rng, frames, preset.crop) for _ in range(preset.crops * (2 if frames == SHORT else 1))])
        video = video.contiguous(memory_format=torch.channels_last_3d)
        with autocast():
            z = model.encode(video)
            out = model.decode(z + 0.1 * torch.randn_like(z))
        loss, mse = reconstruction_loss(out.float(), video, torch.ones(()))
        pull = z.float().square().mean()
        model.zero_grad()
        (loss + 3e-4 * pull).backward()
        for p in params:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        adam.step()
        muon.step()
        step += 1
        meter.add(loss=loss.item(), psnr=-10 * torch.log10(mse / 4), z2=pull.item())
        if clock.seconds() - logged > 20:
            logged = clock.seconds()
            print(f"step {step} T{frames} {meter.line()} {logged:.0f} s", flush=True)
        if clock.seconds() - saved > 90:
            saved = clock.seconds()
            save()
            walks.refresh()
    save()
    held = Walks(args.data, "held", only=1).shards[0]["pictures"][::8]
    print(f"done: {step} steps, {clock.seconds():.0f} s, whole held-out walks {psnr(model, held):.2f} dB", flush=True)


if __name__ == "__main__":
    main()
