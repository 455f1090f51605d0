"""Walk in the exported model and look at it beside the rendered truth: a sheet of stills and an animated picture.

    python sample_world.py --weights ../unfinished --place forest --sky sunset --actions 'w*48, w+left*24, none*24' --out walk

The image goes through the exported files only, as a program would do it: encode it with grey pictures behind, chunk by chunk from noise,
streaming decoder. Rows of actions are made up to whole chunks with the last one.
"""

import argparse

import numpy as np
import torch
from PIL import Image

from sizes import CHUNK, PRESETS, SETTLED
from walks import as_video, condition
from network import ToyWorld, rollout
from export_world import exported_world
from starts import LAYOUT, best_start
from trajectories import parse
from walk_world import World
from walker import walk
from export import exported_vae
from rollout import Policy
from vae import WanVAE


class Player:
    """Exported files, ready to walk in."""

    def __init__(self, folder, preset="cpu"):
        self.network = ToyWorld(PRESETS[preset]).eval()
        self.network.load_state_dict(exported_world(folder))
        self.vae = WanVAE(**PRESETS[preset].vae).eval()
        self.vae.load_state_dict(exported_vae(folder))

    @torch.no_grad()
    def latents(self, starts, keys, mouse, seed=0, policy=Policy("fifo", window=6), **how):
        """Latents [B,F,16,h,w] of start pictures uint8 [B,side,side,3] and rows [B,N,4], [B,N,2]."""
        first = torch.stack([as_video(picture[None]) for picture in starts])
        grey = torch.zeros(*first.shape[:2], 4 * (SETTLED - 1), *first.shape[3:])
        settling = self.vae.encode(torch.cat([first, grey], 2)).transpose(1, 2)
        frames = (keys.shape[1] - 1) // 4 + 1
        whole = condition(settling, frames)
        generator = torch.Generator().manual_seed(seed)
        noise = lambda: torch.randn(len(starts), CHUNK, *settling.shape[2:], generator=generator)
        return rollout(self.network.model, lambda a, b: whole[:, a:b], self.network.context(first[:, :, 0]), keys, mouse, policy, noise, **how)

    @torch.no_grad()
    def pictures(self, latents):
        """uint8 [B,N,side,side,3]."""
        video = torch.cat(list(self.vae.decode_stream(latents.transpose(1, 2))), 2)
        return ((video.clamp(-1, 1) + 1) * 127.5).to(torch.uint8).permute(0, 2, 3, 4, 1).numpy()


def whole_chunks(keys, mouse):
    """Rows made up to 9 + 12 n with the last one."""
    missing = (9 - len(keys)) % (4 * CHUNK)
    return tuple(np.concatenate([rows, np.repeat(rows[-1:], missing, 0)]) for rows in (keys, mouse))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", default="..", help="folder of exported files")
    parser.add_argument("--preset", default="cpu", choices=PRESETS)
    parser.add_argument("--place", default="forest")
    parser.add_argument("--sky", default="day")
    parser.add_argument("--layout", type=int, default=LAYOUT)
    parser.add_argument("--actions", default="w*33, w+left*24, d*24, none*24")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--window", type=int, default=6)
    parser.add_argument("--euler", type=int, default=0, help="so many steps of the flow in place of the sampler's three (for a flow model)")
    parser.add_argument("--out", default="walk", help="OUT.png and OUT.gif")
    args = parser.parse_args()
    keys, mouse = whole_chunks(*parse(args.actions))
    world = World(args.place, args.sky, args.layout)
    truth = world.pictures(walk(best_start(world), keys, mouse, world.walls))
    player = Player(args.weights, args.preset)
    how = dict(sigmas=[5 * u / (1 + 4 * u) for u in np.linspace(1, 0, args.euler + 1)[:-1]], euler=True) if args.euler else {}
    made = player.pictures(player.latents(truth[:1], torch.from_numpy(keys)[None], torch.from_numpy(mouse)[None], args.seed,
                                          Policy("fifo", window=args.window), **how))[0]
    both = np.concatenate([truth, made], 1)
    Image.fromarray(np.concatenate(both[::max(1, len(both) // 12)][:12], 1)).save(f"{args.out}.png")
    film = [Image.fromarray(np.concatenate([a, b], 1)).resize((384, 192), 0) for a, b in zip(truth, made)]
    film[0].save(f"{args.out}.gif", save_all=True, append_images=film[1:], duration=80, loop=0)


if __name__ == "__main__":
    main()
