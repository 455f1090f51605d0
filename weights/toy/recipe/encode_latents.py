"""Encode the clips and normalise: runs/latents.pt = dict(z f16 [N,21,16,8,8], full, mean [16], scale [16]).

Only the first `full` clips are encoded whole; of the others just the first chunk (3 latents, 9 pictures; exact, as the
encoder is causal), which is most of what training needs and nine times cheaper. The rest of their rows is zero.

z = (raw - mean) / scale with scale = std / 2, so that z has standard deviation 2 per channel. The few-step schedule
(shift 5) was made for pictures with a hundred times more values per chunk; at unit deviation its last noise level would
leave too little signal in latents as small as these.
"""

import argparse
import os

import torch
import torch.distributed as dist

from common import Clips, start_workers
from vae import WanVAE, compile_norms

TARGET_STD = 2.0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="data")
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--full", type=int, default=1500)
    args = parser.parse_args()
    rank, workers = start_workers()
    compile_norms()
    model = WanVAE(dim=16, dim_mult=(1, 2, 3, 4))
    model.load_state_dict(torch.load(f"{args.runs}/vae.pt")["model"])
    clips = Clips(args.data)
    part = torch.zeros(len(range(rank, len(clips), workers)), 21, 16, 8, 8, dtype=torch.float16)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        for row, index in enumerate(range(rank, len(clips), workers)):
            video = clips.video(index, frames=81 if index < args.full else 9)[None].contiguous(memory_format=torch.channels_last_3d)
            z = model.encode(video)[0].float().transpose(0, 1)
            part[row, :len(z)] = z
            if row % 200 == 0:
                print(rank, row, flush=True)
    torch.save(part, f"{args.runs}/latents{rank}.pt")
    if workers > 1:
        dist.barrier()
    if rank == 0:
        z = torch.zeros(len(clips), 21, 16, 8, 8)
        for worker in range(workers):
            z[worker::workers] = torch.load(f"{args.runs}/latents{worker}.pt").float()
            os.remove(f"{args.runs}/latents{worker}.pt")
        whole = z[:args.full]
        mean, scale = whole.mean((0, 1, 3, 4)), whole.std((0, 1, 3, 4)) / TARGET_STD
        shape = (1, 1, -1, 1, 1)
        z = ((z - mean.view(shape)) / scale.view(shape)).half()
        torch.save(dict(z=z, full=args.full, mean=mean, scale=scale), f"{args.runs}/latents.pt")
        print("mean", [round(v, 3) for v in mean.tolist()], "std", [round(2 * v, 3) for v in scale.tolist()], flush=True)


if __name__ == "__main__":
    main()
