"""Sizes and budgets that go together: what `--preset` chooses in every stage.

Budgets are shares of the total minutes given to `run_all.py`, batches are per worker and step.
"""

from dataclasses import dataclass, field

TOY_VAE = dict(dim=16, dim_mult=(1, 2, 3, 4))
LATENT_FRAMES = 21  # of an 81-picture clip
SHORT_WINDOW = 12   # latent frames of the transformer's cheaper windows
FIRST_PICTURES, FIRST_LATENTS = 9, 3  # the first chunk


@dataclass(frozen=True)
class Phase:
    """A part of autoencoder training: until which share of the budget, pictures per crop, side of the crop, crops."""
    until: float
    frames: int
    side: int
    batch: int


@dataclass(frozen=True)
class Preset:
    size: int                    # side of the pictures
    clips: int                   # clips of 81 pictures; the last HELD_OUT of them are never trained on
    whole: int                   # of them, how many the transformer and the decoder stage learn from
    starts: int                  # further clips of 9 pictures, for the first chunk
    visits: int                  # further clips of 81 pictures with a bird (visitor.py)
    dit: dict = field(default_factory=lambda: dict(dim=192, layers=6, heads=3, hidden=768))
    vae: dict = field(default_factory=lambda: TOY_VAE)
    phases: tuple = ()           # of the autoencoder
    decoder_batch: int = 1
    decoder_frames: int = 24     # pictures per window of the decoder stage
    windows: int = 2             # clean windows of the transformer stages
    copies: int = 2              # noisy copies of each
    first: int = 24              # lone first chunks
    judge_batch: int = 64        # stretches of the judge
    judge_pictures: int = 128    # and lone pictures
    judge_clips: int = 2000      # how many clips and starts the judge learns from, at most
    judge_starts: int = 5000
    held_out: int = 100

    @property
    def latent(self):
        return self.size // 8


PRESETS = dict(
    cpu96=Preset(size=96, clips=2000, whole=1100, starts=5000, visits=500,
                 phases=(Phase(0.08, 1, 96, 4), Phase(0.30, 17, 64, 1), Phase(0.65, 49, 64, 1), Phase(1.01, 81, 64, 1))),
    gpu128=Preset(size=128, clips=6100, whole=6000, starts=40000, visits=2000, dit=dict(dim=256, layers=6, heads=4, hidden=1024),
                  phases=(Phase(0.15, 1, 128, 64), Phase(0.45, 17, 96, 16), Phase(0.80, 49, 96, 8), Phase(1.01, 81, 128, 4)),
                  decoder_batch=8, windows=24, first=256, judge_batch=256, judge_pictures=512),
    gpu96=Preset(size=96, clips=2000, whole=1500, starts=8000, visits=500,
                 phases=(Phase(0.15, 1, 96, 64), Phase(0.45, 17, 64, 16), Phase(0.80, 49, 64, 8), Phase(1.01, 81, 64, 8)),
                 decoder_batch=8, windows=16, first=192, judge_batch=256, judge_pictures=512),
    smoke=Preset(size=32, clips=10, whole=6, starts=8, visits=4, dit=dict(dim=64, layers=1, heads=1, hidden=64), vae=dict(dim=4, dim_mult=(1, 1, 2, 2)),
                 phases=(Phase(0.5, 1, 32, 2), Phase(1.01, 9, 16, 1)), windows=1, copies=1, first=2, judge_batch=2, judge_pictures=4, held_out=2))
