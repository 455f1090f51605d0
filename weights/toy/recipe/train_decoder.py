"""Fine-tune the decoder on the latents of whole clips; the encoder, hence the latents, stay as they are.

What goes wrong on long streams sits in the layers that run at latent rate: they look back dozens of frames, and short
crops never showed them that state. They are cheap. So they run on all 21 latents, and only a window of pictures goes on
through the expensive last stages; its first 8 pictures, which lack their past, carry no loss.
"""

import os
import random

import torch

from common import (Clips, Clock, Meter, agree, autocast, average_gradients, cosine, load, load_masks, save_atomic, stage_arguments,
                    start_workers)
from muon import Muon
from presets import PRESETS
from train_vae import channels_last, held_out_psnr, reconstruction_loss, split_parameters, subject_weight
from vae import WanVAE, compile_norms, norm_silu, run

MARGIN = 8
SPLIT = 6  # decoder.upsamples[:6] run at latent rate and half rate
MUON_LR, ADAM_LR = 0.01, 1e-3


def decode_window(vae, z, start, frames):
    """Pictures start .. start+frames of the decoded z [B,16,21,h,w] -> [B,3,frames,8h,8w]."""
    decoder = vae.decoder
    x = run(decoder.middle, decoder.conv1(vae.conv2(z)), None)
    x = run(decoder.upsamples[:SPLIT], x, None)[:, :, start:start + frames]
    x = run(decoder.upsamples[SPLIT:], x, None)
    return decoder.head[2](norm_silu(decoder.head[0], x))


def main():
    args = stage_arguments(__doc__.split("\n")[0], minutes=8, seed=3).parse_args()
    preset = PRESETS[args.preset]
    rank, workers = start_workers(args.device)
    compile_norms()
    path = f"{args.runs}/vae_decoder.pt"
    model = WanVAE(**preset.vae)
    model.load_state_dict(load(f"{args.runs}/vae.pt")["model"])
    latents = load(f"{args.runs}/latents.pt")
    mean, scale = (latents[name].view(1, -1, 1, 1, 1) for name in ("mean", "scale"))
    named = list(model.decoder.named_parameters())
    params = [*model.decoder.parameters(), *model.conv2.parameters()]
    channels_last(model)
    matrices, others = split_parameters(named, ("head.2.", "conv1."))
    muon = Muon(matrices)
    adam = torch.optim.AdamW([*others, *model.conv2.parameters()], lr=ADAM_LR, betas=(.9, .97), weight_decay=0.)
    step, clock = 0, Clock()
    if os.path.exists(path):
        state = load(path)
        model.load_state_dict(state["model"])
        muon.load_state_dict(state["muon"])
        adam.load_state_dict(state["adam"])
        step, clock = state["step"], Clock(state["seconds"])
        channels_last(model)
    rng = random.Random(args.seed * 1000 + rank + 7919 * step)
    torch.manual_seed(args.seed * 1000 + rank + 7919 * step)
    clips, masks, meter = Clips(args.data), load_masks(args.data), Meter()
    count = preset.clips - preset.held_out
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
        start = 0 if rng.random() < 0.15 else rng.randrange(1, 82 - preset.decoder_frames)
        skip = 0 if start == 0 else MARGIN
        first, frames = start + skip, preset.decoder_frames - skip
        picks = [rng.randrange(preset.whole) for _ in range(preset.decoder_batch)]
        video = torch.stack([clips.video(i, first, frames) for i in picks])
        weight = torch.stack([subject_weight(masks[i], first, frames) for i in picks])
        z = latents["clips"][picks].float().transpose(1, 2) * scale + mean
        z = (z + 0.07 * torch.randn_like(z)).contiguous(memory_format=torch.channels_last_3d)
        with autocast():
            out = decode_window(model, z, start, preset.decoder_frames)[:, :, skip:]
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
        psnr = held_out_psnr(model, clips, range(count, count + min(6, preset.held_out)))
        print(f"done: {step} steps, {clock.seconds():.0f} s, held-out 81-frame PSNR {psnr:.2f} dB", flush=True)


if __name__ == "__main__":
    main()
