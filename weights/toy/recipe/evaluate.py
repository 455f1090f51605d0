"""Judge the exported files as a program would use them: f32, published constants, streaming decoder.

Writes contact sheets: vae.png (held-out clips, original above reconstruction), samples.png (5 s), and one row per
prompt of a long rollout for FIFO and Deep Forcing. Prints PSNR, and how far colours, contrast and sharpness move.
"""

import argparse
import json
import os
import time

import torch
from safetensors.torch import load_file

import world
from common import HELD_OUT, Clips
from dit import CausalDiT
from export import DIT_FILE, TEXT_FILE, VAE_FILE
from model import Prompts, ToyModel
from rollout import Policy, pictures, rollout
from vae import WanVAE, wan_constants

PROMPTS = ["a big red ball bouncing over green hills on a sunny day",
           "a blue star floating over the sea at sunset",
           "a yellow heart circling in front of a city skyline at night",
           "a purple cube rolling in the desert at noon",
           "a white balloon floating in front of snowy mountains at sunrise",
           "an orange triangle spinning in a forest under a cloudy sky",
           "a green ball swinging on a rope in the city at dusk",
           "a pink cube bouncing in a meadow at night"]


def load(folder):
    """(ToyModel, WanVAE, Prompts) from exported files, strict names."""
    prompts = Prompts(f"{folder}/google/umt5-xxl/tokenizer.json")
    model, vae = ToyModel(prompts.vocab), WanVAE(dim=16, dim_mult=(1, 2, 3, 4))
    with open(f"{folder}/config.json") as file:
        config = json.load(file)
    model.dit = CausalDiT(dim=config["dim"], layers=config["num_layers"], heads=config["num_heads"], hidden=config["ffn_dim"])
    f32 = lambda state: {name: value.float() for name, value in state.items()}
    model.dit.load_state_dict(f32(load_file(f"{folder}/{DIT_FILE}")))
    model.text_encoder.load_state_dict(f32(torch.load(f"{folder}/{TEXT_FILE}", weights_only=True)))
    vae.load_state_dict(f32(torch.load(f"{folder}/{VAE_FILE}", weights_only=True)))
    return model.eval(), vae.eval(), prompts


@torch.no_grad()
def autoencoder_quality(vae, clips, count, out):
    """Mean PSNR of whole held-out clips through the streaming decoder."""
    mean, std = wan_constants()
    total, rows = 0.0, []
    for i in range(count):
        video = clips.video(len(clips) - HELD_OUT + i)[None]
        z = (vae.encode(video) - mean) / std
        shown = pictures(vae, z.transpose(1, 2), mean, std)
        truth = video[0].transpose(0, 1) * 0.5 + 0.5
        total += -10 * torch.log10((shown - truth).square().mean()).item()
        if i < 5:
            rows += [truth[k] for k in (0, 10, 20, 41, 62, 80)] + [shown[k] for k in (0, 10, 20, 41, 62, 80)]
    world.sheet(rows, 12, f"{out}/vae.png")
    return total / count


def statistics(frames):
    """Mean RGB, contrast and sharpness of [T,3,H,W]."""
    sharp = frames.diff(dim=3).abs().mean() + frames.diff(dim=2).abs().mean()
    return frames.mean((0, 2, 3)), frames.std((2, 3)).mean(), sharp


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights", default="..")
    parser.add_argument("--data", default="data")
    parser.add_argument("--out", default="runs/sheets")
    parser.add_argument("--clips", type=int, default=20, help="held-out clips for the PSNR, 0 to skip")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--policies", default="deep,fifo")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    model, vae, prompts = load(args.weights)
    mean, std = wan_constants()
    if args.clips:
        print(f"held-out PSNR, 81 frames, streaming: {autoencoder_quality(vae, Clips(args.data), args.clips, args.out):.2f} dB", flush=True)
    latents = int(args.seconds * 4) // 3 * 3 + 3
    for kind in args.policies.split(","):
        rows, moved = [], []
        for number, text in enumerate(PROMPTS[:args.prompts]):
            began = time.time()
            z = rollout(model, prompts.batch([text]), latents, Policy(kind), seed=args.seed + number)
            video = pictures(vae, z, mean, std)
            rows += [video[k] for k in torch.linspace(0, len(video) - 1, 12).long()]
            if len(video) >= 160:
                (rgb0, contrast0, sharp0), (rgb1, contrast1, sharp1) = statistics(video[:80]), statistics(video[-80:])
                moved.append(torch.stack([(rgb1 - rgb0).square().mean().sqrt(), contrast1 / contrast0, sharp1 / sharp0]))
            print(f"{kind} {number} latent std {z.std():.2f} {time.time() - began:.1f} s for {len(video) / 16:.1f} s of video", flush=True)
        world.sheet(rows, 12, f"{args.out}/{kind}_{args.seconds:g}s.png")
        if moved:
            rgb, contrast, sharp = torch.stack(moved).mean(0).tolist()
            print(f"{kind}: last 5 s against first 5 s: RGB moved {rgb:.4f}, contrast x{contrast:.3f}, sharpness x{sharp:.3f}", flush=True)


if __name__ == "__main__":
    main()
