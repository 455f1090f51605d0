"""Encode the rendered videos and normalise: runs/latents.pt = dict(clips f16 [N,21,16,h,w], starts [M,3,16,h,w], mean [16], scale [16]).

z = (raw - mean) / scale with scale = std / 2, so that z has standard deviation 2 per channel. The few-step schedule
(shift 5) was made for pictures with a hundred times more values per chunk; at unit deviation its last noise level would
leave too little signal in latents as small as these.
"""

import os

import torch
import torch.distributed as dist

from common import Clips, autocast, load, stage_arguments, start_workers
from presets import FIRST_LATENTS, LATENT_FRAMES, PRESETS
from vae import WanVAE, compile_norms

TARGET_STD = 2.0


@torch.no_grad()
def encode(model, videos, indices, batch):
    """Raw latents f16 [n,F,16,h,w], on the CPU, of the videos with these indices."""
    parts = []
    for at in range(0, len(indices), batch):
        video = torch.stack([videos.video(index) for index in indices[at:at + batch]])
        with autocast():
            z = model.encode(video.contiguous(memory_format=torch.channels_last_3d))
        parts.append(z.transpose(1, 2).half().cpu())
        if at // batch % 50 == 0:
            print(at, "of", len(indices), flush=True)
    return torch.cat(parts)


def main():
    args = stage_arguments(__doc__.split("\n")[0]).parse_args()
    preset = PRESETS[args.preset]
    rank, workers = start_workers(args.device)
    compile_norms()
    model = WanVAE(**preset.vae)
    model.load_state_dict(load(f"{args.runs}/vae.pt")["model"])
    clips, starts = Clips(args.data), Clips(args.data, "starts")
    whole = encode(model, clips, range(rank, preset.whole, workers), batch=1 if args.device == "cpu" else 8)
    first = encode(model, starts, range(rank, preset.starts, workers), batch=8 if args.device == "cpu" else 64)
    torch.save(dict(clips=whole, starts=first), f"{args.runs}/latents{rank}.pt")
    if workers > 1:
        dist.barrier()
    if rank == 0:
        parts = [torch.load(f"{args.runs}/latents{worker}.pt", weights_only=True) for worker in range(workers)]
        shape = (16, preset.latent, preset.latent)
        z = dict(clips=torch.empty(preset.whole, LATENT_FRAMES, *shape, device="cpu"), starts=torch.empty(preset.starts, FIRST_LATENTS, *shape, device="cpu"))
        for kind in z:
            for worker, part in enumerate(parts):
                z[kind][worker::workers] = part[kind].float()
        mean, scale = z["clips"].mean((0, 1, 3, 4)), z["clips"].std((0, 1, 3, 4)) / TARGET_STD
        normal = {kind: ((values - mean.view(-1, 1, 1)) / scale.view(-1, 1, 1)).half() for kind, values in z.items()}
        torch.save(dict(**normal, mean=mean, scale=scale), f"{args.runs}/latents.pt")
        for worker in range(workers):
            os.remove(f"{args.runs}/latents{worker}.pt")
        print("mean", [round(v, 3) for v in mean.tolist()], "std", [round(2 * v, 3) for v in scale.tolist()], flush=True)


if __name__ == "__main__":
    main()
