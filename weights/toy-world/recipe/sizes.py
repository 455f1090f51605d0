"""Sizes and numbers that go together, and the parts of the text toy's recipe that this one shares.

Importing this module makes the modules of ../../toy/recipe importable (autoencoder, attention, optimiser, clocks and checkpoints).
"""

import os
import sys
from dataclasses import dataclass, field

HERE = os.path.dirname(os.path.abspath(__file__))
SHARED = os.path.join(HERE, "..", "..", "toy", "recipe")
sys.path.append(SHARED)

CHUNK = 3                       # latent frames denoised together
LATENTS = 15                    # of a clip, the longest sequence that the published distilled models were trained with
PICTURES = 1 + 4 * (LATENTS - 1)
SETTLED = 7                     # latent frames after which the condition of a start picture does not change any more
LOCAL = 6                       # latent frames of the published universal window, for tokens and for actions
HELD_OUT_SEED = 1000            # layouts from here on are never trained on
STEPS = (1000, 666, 333)        # of the sampler, of a schedule of 1000 with shift 5


def warped(step, shift=5.0):
    """Position of the 1000-step schedule -> noise level."""
    u = step / 1000
    return shift * u / (1 + (shift - 1) * u)


SIGMAS = tuple(warped(step) for step in STEPS)  # 1, .9088, .7140


@dataclass(frozen=True)
class Preset:
    clips: int                  # rendered walks that are learned from
    layouts: int                # of each place
    size: int = 96              # side of the pictures
    dim: int = 192
    layers: int = 5
    heads: int = 3
    hidden: int = 576           # of the feed-forward layers
    actions: int = 2            # blocks with an action module: the first half
    action_heads: int = 2       # of 64 channels
    key_width: int = 16         # of an embedded row of keys
    vision: dict = field(default_factory=lambda: dict(side=84, patch=14, dim=80, heads=1, layers=2, out=64))
    vae: dict = field(default_factory=lambda: dict(dim=16, dim_mult=(1, 2, 3, 4)))
    crop: int = 64              # side of the crops that the autoencoder is trained with
    crops: int = 1              # whole walks in a step of the autoencoder, or twice as many short ones
    windows: int = 2            # clean windows of a step of the transformer
    copies: int = 2             # noisy copies of each

    @property
    def latent(self):
        return self.size // 8


PRESETS = dict(
    cpu=Preset(clips=2000, layouts=20),
    gpu=Preset(clips=6000, layouts=60, crops=8, windows=16),
    smoke=Preset(clips=2, layouts=1, dim=64, layers=2, heads=1, hidden=64, actions=1, action_heads=1, key_width=4,
                 vision=dict(side=42, patch=14, dim=16, heads=1, layers=2, out=8), vae=dict(dim=4, dim_mult=(1, 1, 2, 2)), crop=32, windows=1, copies=1),
)
