"""Train the autoencoder: single pictures, then longer and longer crops, finally all 81 pictures of a clip.

Long clips at the end matter: trained on short crops only, the causal layers never see the state they reach on a long
stream, and colours shift. Loss: L1 + MSE on pixels (three times as much on the subject), L1 on their differences in space
and time, and a weak pull of the latents to zero with noise added to them, so that they keep a sensible scale and small latent errors
stay small in the picture.
"""

import os
import random

import torch
import torch.nn.functional as F

from common import (Clips, Clock, Meter, agree, autocast, average_gradients, cosine, load, load_masks, save_atomic, stage_arguments,
                    start_workers)
from export import exported_vae
from muon import Muon
from presets import PRESETS
from vae import WanVAE, compile_norms


def channels_last(model):
    """Let convolutions run in the layout that is fastest on the CPU."""
    for module in model.modules():
        if isinstance(module, torch.nn.Conv3d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last_3d)
        elif isinstance(module, torch.nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return model


def amounts(differences):
    """Mean size of neighbour differences [B,3,T,H,W] in patches of 8x8 pixels."""
    return F.avg_pool3d(differences.abs(), (1, 8, 8), ceil_mode=True)


def reconstruction_loss(video, target, weight):
    """video, target [B,3,T,H,W], weight [B,1,T,H,W] -> (loss, plain mean square error).

    Beside pixels and the differences between neighbours, it compares how much neighbours differ in each patch: where details are not
    known exactly, pale ones are the best guess for pixels, and a pixel that flickers a little costs little, but the world is neither.
    """
    error = video - target
    loss = ((error.abs() + 2 * error.square()) * weight).mean()
    for axis in (2, 3, 4):
        if video.shape[axis] > 1:
            shown, wanted = video.diff(dim=axis), target.diff(dim=axis)
            loss = loss + 0.5 * (shown - wanted).abs().mean() + (amounts(shown) - amounts(wanted)).abs().mean()
    return loss, error.square().mean().detach()


def subject_weight(mask, start, frames, row=0, column=0, side=None):
    """1, and 3 where the subject is; mask [21,h,w] per latent -> [1,frames,side,side] for the same crop as `Clips.video`."""
    span = lambda at: slice(at // 8, None if side is None else (at + side) // 8)
    pictures = mask[:, span(row), span(column)].float()[(torch.arange(start, start + frames) + 3) // 4]
    return 1 + 2 * F.interpolate(pictures[None], scale_factor=8, mode="bilinear", align_corners=False)


@torch.no_grad()
def held_out_psnr(model, clips, indices):
    """Mean PSNR (pictures in [0,1]) of whole clips, decoded in one piece."""
    total = 0.0
    for index in indices:
        video = clips.video(index)[None]
        with autocast():
            out = model.decode(model.encode(video))
        mse = ((out.float().clamp(-1, 1) - video) / 2).square().mean()
        total += -10 * torch.log10(mse).item()
    return total / len(indices)


def split_parameters(named, edges):
    """(convolution kernels for Muon, everything else); `edges` are prefixes of first and last layers, which stay with AdamW."""
    matrices = [p for n, p in named if p.dim() >= 4 and p[0].numel() > 1 and "gamma" not in n and not n.startswith(edges)]
    chosen = set(map(id, matrices))
    return matrices, [p for _, p in named if id(p) not in chosen]


def main():
    parser = stage_arguments(__doc__.split("\n")[0], minutes=31)
    parser.add_argument("--begin-from", help="folder of exported files to start from")
    parser.add_argument("--peak", type=float, default=1, help="factor on both peak learning rates")
    args = parser.parse_args()
    preset = PRESETS[args.preset]
    rank, workers = start_workers(args.device)
    os.makedirs(args.runs, exist_ok=True)
    path = f"{args.runs}/vae.pt"

    torch.manual_seed(args.seed)
    compile_norms()
    model = WanVAE(**preset.vae)
    with torch.no_grad():
        model.conv1.weight[16:].zero_()  # the unused log-variance rows
        model.conv1.bias.zero_()
    if args.begin_from:
        model.load_state_dict(exported_vae(args.begin_from))
    channels_last(model)
    matrices, others = split_parameters(list(model.named_parameters()), ("encoder.conv1.", "decoder.head.2.", "conv1.", "conv2.", "decoder.conv1."))
    muon = Muon(matrices)
    adam = torch.optim.AdamW(others, lr=2e-3, betas=(.9, .97), weight_decay=0.)
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
    clips, masks, meter, params = Clips(args.data), load_masks(args.data), Meter(), list(model.parameters())
    count = len(clips) - preset.held_out
    saved = logged = clock.seconds()

    def save():
        if rank == 0:
            save_atomic(dict(model=model.state_dict(), muon=muon.state_dict(), adam=adam.state_dict(), step=step, seconds=clock.seconds()), path)

    def draw_crop(phase):
        """(clip, first picture, pictures, row, column, side); rows and columns on the latent grid."""
        corner = lambda: 8 * rng.randrange((preset.size - phase.side) // 8 + 1)
        return rng.randrange(count), rng.randrange(82 - phase.frames), phase.frames, corner(), corner(), phase.side

    while True:
        progress = agree(clock.seconds() / (args.minutes * 60))
        if progress >= 1:
            break
        phase = next(phase for phase in preset.phases if progress < phase.until)
        scale = args.peak * min(1, (step + 1) / 30) * cosine(progress, 0.02)
        muon.lr = 0.02 * scale
        for group in adam.param_groups:
            group["lr"] = 2e-3 * scale
        crops = [draw_crop(phase) for _ in range(phase.batch)]
        video = torch.stack([clips.video(*crop) for crop in crops])
        weight = torch.stack([subject_weight(masks[index], *crop) for index, *crop in crops])
        video = video.contiguous(memory_format=torch.channels_last_3d)
        with autocast():
            z = model.encode(video)
            out = model.decode(z + 0.1 * torch.randn_like(z))
        loss, mse = reconstruction_loss(out.float(), video, weight)
        pull = z.float().square().mean()
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
            print(f"step {step} T{phase.frames} {meter.line()} {logged:.0f} s", flush=True)
        if clock.seconds() - saved > 90:
            saved = clock.seconds()
            save()
    save()
    if rank == 0:
        psnr = held_out_psnr(model, clips, range(count, count + min(6, preset.held_out)))
        print(f"done: {step} steps, {clock.seconds():.0f} s, held-out 81-frame PSNR {psnr:.2f} dB", flush=True)


if __name__ == "__main__":
    main()
