"""Train the autoencoder: single pictures, then 9, 33 and finally all 81 frames.

Long clips at the end matter: trained on short crops only, the causal layers never see the state they reach on a long
stream, and colours shift. Loss: L1 + MSE on pixels (three times as much on the subject), L1 on their differences, and a
weak pull of the latents to zero with noise added to them, so that they keep a sensible scale and small latent errors
stay small in the picture.
"""

import argparse
import glob
import os
import random

import numpy as np
import torch
import torch.nn.functional as F

from common import HELD_OUT, Clips, Clock, Meter, agree, average_gradients, cosine, save_atomic, start_workers
from muon import Muon
from vae import WanVAE, compile_norms

# (share of the time budget at which the phase ends, frames, clips per worker and step)
PHASES = [(0.20, 1, 8), (0.36, 9, 1), (0.72, 33, 1), (1.01, 81, 1)]


def channels_last(model):
    """Let convolutions run in the layout that is fastest on the CPU."""
    for module in model.modules():
        if isinstance(module, torch.nn.Conv3d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last_3d)
        elif isinstance(module, torch.nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return model


def reconstruction_loss(video, target, weight):
    """video, target [B,3,T,H,W], weight [B,1,T,H,W] -> (loss, plain mean square error)."""
    error = video - target
    loss = ((error.abs() + 2 * error.square()) * weight).mean()
    for axis in (3, 4):
        loss = loss + 0.5 * (video.diff(dim=axis) - target.diff(dim=axis)).abs().mean()
    return loss, error.square().mean().detach()


def subject_weight(mask, start, frames):
    """1, and 3 where the subject is; mask [21,8,8] per latent -> [1,frames,64,64] for pictures start .. start+frames."""
    pictures = torch.from_numpy(mask).float()[(torch.arange(start, start + frames) + 3) // 4]
    return 1 + 2 * F.interpolate(pictures[None], scale_factor=8, mode="bilinear", align_corners=False)


@torch.no_grad()
def held_out_psnr(model, clips, count):
    """Mean PSNR (pictures in [0,1]) of whole held-out clips."""
    total = 0.0
    for i in range(count):
        video = clips.video(len(clips) - HELD_OUT + i)[None]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = model.decode(model.encode(video))
        mse = ((out.float().clamp(-1, 1) - video) / 2).square().mean()
        total += -10 * torch.log10(mse).item()
    return total / count


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="data")
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--minutes", type=float, default=31)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rank, workers = start_workers()
    os.makedirs(args.runs, exist_ok=True)
    path = f"{args.runs}/vae.pt"

    torch.manual_seed(args.seed)
    compile_norms()
    model = WanVAE(dim=16, dim_mult=(1, 2, 3, 4))
    with torch.no_grad():
        model.conv1.weight[16:].zero_()  # the unused log-variance rows
        model.conv1.bias.zero_()
    edges = ("encoder.conv1.", "decoder.head.2.", "conv1.", "conv2.", "decoder.conv1.")
    matrices = [p for n, p in model.named_parameters() if p.dim() >= 4 and p[0].numel() > 1 and "gamma" not in n and not n.startswith(edges)]
    chosen = set(map(id, matrices))
    channels_last(model)
    muon = Muon(matrices)
    adam = torch.optim.AdamW([p for p in model.parameters() if id(p) not in chosen], lr=2e-3, betas=(.9, .97), weight_decay=0.)
    step, clock = 0, Clock()
    if os.path.exists(path):
        state = torch.load(path)
        model.load_state_dict(state["model"])
        muon.load_state_dict(state["muon"])
        adam.load_state_dict(state["adam"])
        step, clock = state["step"], Clock(state["seconds"])
        channels_last(model)
    rng = random.Random(args.seed * 1000 + rank + 7919 * step)
    torch.manual_seed(args.seed * 1000 + rank + 7919 * step)
    masks = np.concatenate([np.load(p) for p in sorted(glob.glob(f"{args.data}/masks*.npy"))])
    clips, meter, params = Clips(args.data), Meter(), list(model.parameters())
    saved = logged = clock.seconds()

    def save():
        if rank == 0:
            save_atomic(dict(model=model.state_dict(), muon=muon.state_dict(), adam=adam.state_dict(), step=step, seconds=clock.seconds()), path)

    while True:
        progress = agree(clock.seconds() / (args.minutes * 60))
        if progress >= 1:
            break
        frames, batch = next((t, b) for end, t, b in PHASES if progress < end)
        scale = min(1, (step + 1) / 30) * cosine(progress, 0.02)
        muon.lr = 0.02 * scale
        for group in adam.param_groups:
            group["lr"] = 2e-3 * scale
        picks = [(rng.randrange(len(clips) - HELD_OUT), rng.randrange(82 - frames)) for _ in range(batch)]
        video = torch.stack([clips.video(index, start, frames) for index, start in picks])
        weight = torch.stack([subject_weight(masks[index], start, frames) for index, start in picks])
        video = video.contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            z = model.encode(video)
            out = model.decode(z + 0.1 * torch.randn_like(z))
        loss, mse = reconstruction_loss(out.float(), video, weight)
        pull = z.float().square().mean()
        adam.zero_grad()
        model.zero_grad()
        (loss + 3e-4 * pull).backward()
        for p in params:  # a phase of single pictures leaves the temporal layers without gradient
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        average_gradients(params)
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        adam.step()
        muon.step()
        step += 1
        meter.add(loss=loss.item(), psnr=-10 * torch.log10(mse / 4), z2=pull.item())
        if rank == 0 and clock.seconds() - logged > 20:
            logged = clock.seconds()
            print(f"step {step} T{frames} {meter.line()} {logged:.0f} s", flush=True)
        if clock.seconds() - saved > 90:
            saved = clock.seconds()
            save()
    save()
    if rank == 0:
        print(f"done: {step} steps, {clock.seconds():.0f} s, held-out 81-frame PSNR {held_out_psnr(model, clips, 10):.2f} dB", flush=True)


if __name__ == "__main__":
    main()
