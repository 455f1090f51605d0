"""Encode the rendered walks: latents/walksNNN.pt (heldNNN.pt) in the runs folder, one for every rendered shard.

clean f16 [n,15,16,h,w] of the pictures; condition f16 [n,7,16,h,w] of the start picture followed by grey ones, as the published model gets it,
as far as it changes; start uint8 [n,side,side,3]; keys f32 [n,57,4]; mouse f32 [n,57,2]. Latents are those of the transformer (mean 0, deviation 2
in the text toy's world): what programs make of the exported autoencoder with the published constants. Finished shards are skipped.
"""

import argparse
import os

import numpy as np
import torch

from sizes import PRESETS, SETTLED
from walks import Walks, as_video
from common import autocast, load, save_atomic, start_workers
from vae import WanVAE, compile_norms


@torch.no_grad()
def encoded(model, videos):
    """Raw latents f16 [n,F,16,h,w] of videos [n,3,T,h,w] in -1..1."""
    with autocast():
        return model.encode(videos.contiguous(memory_format=torch.channels_last_3d)).transpose(1, 2).half()


def greyed(video):
    """The first picture of [3,T,h,w] followed by grey ones, as many as change the latents."""
    out = video[:, :1 + 4 * (SETTLED - 1)].clone()
    out[:, 1:] = 0
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="data")
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--preset", default="cpu", choices=PRESETS)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--batch", type=int, default=0, help="walks at once; 0: 1 on a CPU, 24 on a GPU")
    args = parser.parse_args()
    start_workers(args.device)
    compile_norms()
    model = WanVAE(**PRESETS[args.preset].vae)
    model.load_state_dict(load(f"{args.runs}/vae.pt")["model"])
    os.makedirs(f"{args.runs}/latents", exist_ok=True)
    batch = args.batch or (1 if args.device == "cpu" else 24)
    for kind in ("held", "walks"):
        for path in Walks.paths(args.data, kind):
            out = f"{args.runs}/latents/{os.path.basename(path)[:-4]}.pt"
            if os.path.exists(out):
                continue
            shard = dict(np.load(path))
            clean, conditions = [], []
            for at in range(0, len(shard["keys"]), batch):
                videos = torch.stack([as_video(pictures) for pictures in shard["pictures"][at:at + batch]])
                clean.append(encoded(model, videos))
                conditions.append(encoded(model, torch.stack([greyed(video) for video in videos])))
            tensors = {name: torch.from_numpy(np.array(value)) for name, value in
                       dict(start=shard["pictures"][:, 0], keys=shard["keys"], mouse=shard["mouse"]).items()}
            save_atomic(dict(clean=torch.cat(clean).cpu(), condition=torch.cat(conditions).cpu(), **tensors), out)
            print(out, flush=True)


if __name__ == "__main__":
    main()
