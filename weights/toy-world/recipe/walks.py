"""The rendered walks and their latents, as the training stages read them."""

import glob
import os

import numpy as np
import torch



class Walks:
    """Pictures uint8 [n,57,side,side,3] and actions of all finished shards of a kind, held in memory."""

    def __init__(self, data, kind="walks", only=None):
        self.where, self.only, self.read, self.shards = (data, kind), only, [], []
        self.refresh()

    @staticmethod
    def paths(data, kind):
        """Of all finished shards."""
        found = sorted(glob.glob(f"{data}/{kind}[0-9]*.npz"))
        if not found:
            raise FileNotFoundError(f"no {kind}*.npz in {data}: run render_walks.py first")
        return found

    def refresh(self):
        """Read what has been rendered since."""
        new = [path for path in self.paths(*self.where)[:self.only] if path not in self.read]
        self.read += new
        self.shards += [dict(np.load(path)) for path in new]

    def draw(self, rng, frames, side):
        """[3,frames,side,side] in -1..1: a random crop in time and space of a random walk; corners lie on the latent grid."""
        shard = self.shards[rng.randrange(len(self.shards))]["pictures"]
        video = shard[rng.randrange(len(shard))]
        start = rng.randrange(video.shape[0] - frames + 1)
        row, column = (8 * rng.randrange((video.shape[1] - side) // 8 + 1) for _ in range(2))
        return as_video(video[start:start + frames, row:row + side, column:column + side])


def as_video(pictures):
    """uint8 [n,h,w,3] -> f32 [3,n,h,w] in -1..1."""
    return torch.from_numpy(np.array(pictures)).to(torch.get_default_device()).permute(3, 0, 1, 2).float().div_(127.5).sub_(1)


class Latents:
    """What the transformer learns from, of all encoded shards of a kind (see encode_walks.py).

    clean f16 [n,15,16,h,w], condition f16 [n,7,16,h,w] of the start picture, start uint8 [n,side,side,3], keys [n,57,4] and mouse [n,57,2].
    """

    def __init__(self, runs, kind="walks"):
        self.folder, self.kind, self.names, self.parts = f"{runs}/latents", kind, [], []
        self.refresh()

    def refresh(self):
        """Read what has been encoded since."""
        for path in sorted(glob.glob(f"{self.folder}/{self.kind}[0-9]*.pt")):
            if os.path.basename(path) not in self.names:
                self.names.append(os.path.basename(path))
                self.parts.append(torch.load(path, weights_only=True, map_location=torch.get_default_device()))
        if not self.parts:
            raise FileNotFoundError(f"no {self.kind}*.pt in {self.folder}: run encode_walks.py first")

    def __len__(self):
        return sum(len(part["clean"]) for part in self.parts)

    def batch(self, picks, frames):
        """picks: (part, row) pairs. -> (clean [B,F,16,h,w], condition [B,F,20,h,w], start [B,3,side,side] in -1..1, keys, mouse)."""
        take = lambda name: torch.stack([self.parts[part][name][row] for part, row in picks])
        latents = 1 + 4 * (frames - 1)
        start = take("start").permute(0, 3, 1, 2).float() / 127.5 - 1
        return take("clean")[:, :frames].float(), condition(take("condition").float(), frames), start, take("keys")[:, :latents], take("mouse")[:, :latents]

    def draw(self, rng, count, frames):
        """As `batch`, of random walks."""
        parts = [rng.randrange(len(self.parts)) for _ in range(count)]
        return self.batch([(part, rng.randrange(len(self.parts[part]["clean"]))) for part in parts], frames)


def condition(settling, frames):
    """`cond_concat` as the published model gets it: 4 mask channels, 1 in the first latent frame only, then the latents of the start picture
    followed by grey ones [B,7,16,h,w], the last of which stands for all later ones (they don't differ any more)."""
    b, known, _, h, w = settling.shape
    later = settling[:, -1:].expand(-1, max(0, frames - known), -1, -1, -1)
    mask = settling.new_zeros(b, frames, 4, h, w)
    mask[:, 0] = 1
    return torch.cat([mask, torch.cat([settling[:, :frames], later], 1)], 2)


