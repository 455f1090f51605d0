"""Fine-tune the decoder on the latents of whole clips; the encoder, hence the latents, stay as they are.

What goes wrong on long streams sits in the layers that run at latent rate: they look back dozens of frames, and short
crops never showed them that state. They are cheap. So they run on all 21 latents, and only a window of 24 pictures goes
on through the expensive last stages; its first 8 pictures, which lack their past, carry no loss.
"""

import argparse
import glob
import os
import random

import numpy as np
import torch

from common import Clips, Clock, Meter, agree, average_gradients, cosine, save_atomic, start_workers
from muon import Muon
from train_vae import channels_last, held_out_psnr, reconstruction_loss, subject_weight
from vae import WanVAE, compile_norms, norm_silu, run

FRAMES, MARGIN, BATCH = 24, 8, 2
SPLIT = 6  # decoder.upsamples[:6] run at latent rate and half rate
MUON_LR, ADAM_LR = 0.01, 1e-3


def decode_window(vae, z, start):
    """Pictures start .. start+FRAMES of the decoded z [B,16,21,8,8] -> [B,3,FRAMES,64,64]."""
    decoder = vae.decoder
    x = run(decoder.middle, decoder.conv1(vae.conv2(z)), None)
    x = run(decoder.upsamples[:SPLIT], x, None)[:, :, start:start + FRAMES]
    x = run(decoder.upsamples[SPLIT:], x, None)
    return decoder.head[2](norm_silu(decoder.head[0], x))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="data")
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--seed", type=int, default=3)
    args = parser.parse_args()
    rank, workers = start_workers()
    compile_norms()
    path = f"{args.runs}/vae_decoder.pt"
    model = WanVAE(dim=16, dim_mult=(1, 2, 3, 4))
    model.load_state_dict(torch.load(f"{args.runs}/vae.pt")["model"])
    latents = torch.load(f"{args.runs}/latents.pt", mmap=True)
    shape = (1, -1, 1, 1, 1)
    mean, scale = latents["mean"].view(shape), latents["scale"].view(shape)
    trained = dict(model.decoder.named_parameters())
    params = [*trained.values(), *model.conv2.parameters()]
    matrices = [p for n, p in trained.items() if p.dim() >= 4 and p[0].numel() > 1 and "gamma" not in n and not n.startswith(("head.2.", "conv1."))]
    chosen = set(map(id, matrices))
    channels_last(model)
    muon = Muon(matrices)
    adam = torch.optim.AdamW([p for p in params if id(p) not in chosen], lr=ADAM_LR, betas=(.9, .97), weight_decay=0.)
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
    clips, meter = Clips(args.data), Meter()
    saved = logged = clock.seconds()

    def save():
        if rank == 0:
            save_atomic(dict(model=model.state_dict(), muon=muon.state_dict(), adam=adam.state_dict(), step=step, seconds=clock.seconds()), path)

    while True:
        progress = agree(clock.seconds() / (args.minutes * 60))
        if progress >= 1:
            break
        rate = min(1, (step + 1) / 20) * cosine(progress, 0.02)
        muon.lr = MUON_LR * rate
        for group in adam.param_groups:
            group["lr"] = ADAM_LR * rate
        start = 0 if rng.random() < 0.15 else rng.randrange(1, 82 - FRAMES)
        skip = 0 if start == 0 else MARGIN
        picks = [rng.randrange(latents["full"]) for _ in range(BATCH)]
        video = torch.stack([clips.video(i, start + skip, FRAMES - skip) for i in picks])
        weight = torch.stack([subject_weight(masks[i], start + skip, FRAMES - skip) for i in picks])
        z = latents["z"][picks].float().transpose(1, 2) * scale + mean
        z = (z + 0.07 * torch.randn_like(z)).contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = decode_window(model, z, start)[:, :, skip:]
        loss, mse = reconstruction_loss(out.float(), video, weight)
        for p in params:
            p.grad = None
        loss.backward()
        average_gradients(params)
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        adam.step()
        muon.step()
        step += 1
        meter.add(loss=loss.item(), psnr=-10 * torch.log10(mse / 4))
        if rank == 0 and clock.seconds() - logged > 20:
            logged = clock.seconds()
            print(f"step {step} {meter.line()} {logged:.0f} s", flush=True)
        if clock.seconds() - saved > 60:
            saved = clock.seconds()
            save()
    save()
    if rank == 0:
        print(f"done: {step} steps, {clock.seconds():.0f} s, held-out 81-frame PSNR {held_out_psnr(model, clips, 10):.2f} dB", flush=True)


if __name__ == "__main__":
    main()
