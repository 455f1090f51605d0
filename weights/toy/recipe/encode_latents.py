"""Encode the rendered videos and normalise: runs/latents.pt = dict(clips f16 [N,21,16,h,w], starts [M,3,16,h,w], visits [L,21,16,h,w], mean [16], scale [16]).

Kinds that the file has already are kept, and so are its mean and scale. `--keep-autoencoder WEIGHTS` goes on from exported files
without training an autoencoder anew.

z = (raw - mean) / scale with scale = std / 2, so that z has standard deviation 2 per channel. The few-step schedule
(shift 5) was made for pictures with a hundred times more values per chunk; at unit deviation its last noise level would
leave too little signal in latents as small as these.
"""

import os

import torch
import torch.distributed as dist

from common import Clips, autocast, load, save_atomic, stage_arguments, start_workers
from export import exported_vae
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


def keep_autoencoder(args, rank):
    """Make the exported autoencoder the run's own; its raw latents are the transformer's already."""
    if rank == 0:
        os.makedirs(args.runs, exist_ok=True)
        save_atomic(dict(model=exported_vae(args.keep_autoencoder)), f"{args.runs}/vae.pt")


def main():
    parser = stage_arguments(__doc__.split("\n")[0])
    parser.add_argument("--keep-autoencoder", help="folder of exported files whose autoencoder is kept as it is, latents included (written to runs/vae.pt)")
    args = parser.parse_args()
    preset = PRESETS[args.preset]
    rank, workers = start_workers(args.device)
    compile_norms()
    path = f"{args.runs}/latents.pt"
    done = torch.load(path, weights_only=True) if os.path.exists(path) else {}
    if args.keep_autoencoder and not done:
        keep_autoencoder(args, rank)
        done = dict(mean=torch.zeros(16, device="cpu"), scale=torch.ones(16, device="cpu"))
    if workers > 1:
        dist.barrier()
    model = WanVAE(**preset.vae)
    model.load_state_dict(load(f"{args.runs}/vae.pt")["model"])
    wanted = dict(clips=(preset.whole, LATENT_FRAMES), starts=(preset.starts, FIRST_LATENTS), visits=(preset.visits, LATENT_FRAMES))
    wanted = {kind: sizes for kind, sizes in wanted.items() if kind not in done}
    mine = {}
    for kind, (count, frames) in wanted.items():
        batch = {("cpu", True): 1, ("cpu", False): 8, ("cuda", True): 24, ("cuda", False): 256}[args.device, frames == LATENT_FRAMES]
        mine[kind] = encode(model, Clips(args.data, kind), range(rank, count, workers), batch)
    torch.save(mine, f"{args.runs}/latents{rank}.pt")
    if workers > 1:
        dist.barrier()
    if rank == 0:
        parts = [torch.load(f"{args.runs}/latents{worker}.pt", weights_only=True) for worker in range(workers)]
        z = {kind: torch.empty(count, frames, 16, preset.latent, preset.latent, device="cpu") for kind, (count, frames) in wanted.items()}
        for kind in z:
            for worker, part in enumerate(parts):
                z[kind][worker::workers] = part[kind].float()
        if not done:
            done = dict(mean=z["clips"].mean((0, 1, 3, 4)), scale=z["clips"].std((0, 1, 3, 4)) / TARGET_STD)
        mean, scale = done["mean"], done["scale"]
        normal = {kind: ((values - mean.view(-1, 1, 1)) / scale.view(-1, 1, 1)).half() for kind, values in z.items()}
        save_atomic({**done, **normal}, path)
        for worker in range(workers):
            os.remove(f"{args.runs}/latents{worker}.pt")
        print("mean", [round(v, 3) for v in mean.tolist()], "std", [round(2 * v, 3) for v in scale.tolist()], flush=True)


if __name__ == "__main__":
    main()
