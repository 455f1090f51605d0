"""A judge of videos: names colour, shape, place and sky of every picture, and motion and camera of a stretch of 4 s.

Two small networks, trained on rendered clips only, at 48x48 whatever the size of the videos. The first looks at lone
pictures, of which there are very many; it also learns where the subject is. The second looks at what the first saw over
time, and at how well every part of a picture matches earlier pictures moved to the left or right. The accuracy on held-out
rendered clips is the ceiling that accuracies on generated videos are to be compared with.
"""

import os
import random

import torch
import torch.nn as nn
import torch.nn.functional as F

import grammar
from common import (Clips, Clock, Meter, agree, autocast, average_gradients, cosine, load, load_masks, load_specs, save_atomic, stage_arguments,
                    start_workers)
from presets import PRESETS

PICTURE_FIELDS = dict(color=list(grammar.COLORS), shape=grammar.SHAPES, bg=grammar.BACKGROUNDS, sky=grammar.SKIES)
STRETCH_FIELDS = dict(motion=grammar.MOTIONS, cam=grammar.CAMERAS)
FIELDS = {**PICTURE_FIELDS, **STRETCH_FIELDS}
SIDE, CELLS, BLOCKS = 48, 12, 4  # of what the judge looks at: pictures, coverage map, match map
STEP, PICTURES = 2, 32           # a stretch: every second picture, 32 of them
STRETCH = STEP * (PICTURES - 1) + 1
LAGS, SHIFTS = (2, 8), range(-3, 4)  # matches: how many looked-at pictures ago, moved by how many of their pixels
PICTURES_SHARE = 0.75            # of the training time


def glance(video, step=STEP):
    """What the judge looks at of [B,T,3,H,W] in [0,1]: every second picture, small: [B,n,3,SIDE,SIDE]."""
    seen = video[:, ::step].flatten(0, 1)
    return F.interpolate(seen, size=(SIDE, SIDE), mode="bilinear", antialias=True).unflatten(0, (len(video), -1))


def matches(seen):
    """How badly the parts of every picture [B,n,3,SIDE,SIDE] match those of earlier ones, moved sideways: [B,n,values]."""
    reach, (b, n) = max(SHIFTS), seen.shape[:2]
    grey, found = seen.mean(2), []
    here = grey[..., reach:SIDE - reach]
    for lag in LAGS:
        past = grey[:, (torch.arange(n) - lag).clamp(min=0)]
        for shift in SHIFTS:
            difference = (here - past[..., reach + shift:SIDE - reach + shift]).abs()
            found.append(F.adaptive_avg_pool2d(difference, BLOCKS).flatten(2))
    return torch.log(torch.cat(found, 2) + 0.01)


class PictureJudge(nn.Module):
    """Pictures [N,3,SIDE,SIDE] in [0,1] -> (logits per field, coverage logits [N,CELLS,CELLS], features [N,FEATURES])."""
    WIDTH = 128
    FEATURES = 2 * WIDTH + 6 + BLOCKS * BLOCKS

    def __init__(self):
        super().__init__()
        conv = lambda cin, cout, kernel, stride: nn.Sequential(nn.Conv2d(cin, cout, kernel, stride, kernel // 2), nn.BatchNorm2d(cout), nn.GELU())
        self.look = nn.Sequential(conv(3, 32, 5, 2), conv(32, 64, 3, 1), conv(64, 96, 3, 2), conv(96, self.WIDTH, 3, 1), conv(self.WIDTH, self.WIDTH, 3, 1))
        self.coverage = nn.Conv2d(self.WIDTH, 1, 1)
        self.think = nn.Sequential(nn.Linear(3 * self.WIDTH, 2 * self.WIDTH), nn.GELU())
        self.heads = nn.ModuleDict({name: nn.Linear(2 * self.WIDTH, len(words)) for name, words in PICTURE_FIELDS.items()})

    def forward(self, pictures):
        x = self.look(pictures - 0.5)
        coverage = self.coverage(x)[:, 0].float()
        share = torch.sigmoid(coverage) + 1e-4
        share = share / share.sum((1, 2), keepdim=True)
        subject, scene = (x * share[:, None]).sum((2, 3)), x.mean((2, 3))
        thought = self.think(torch.cat([subject, x.amax((2, 3)), scene], 1))
        return {name: head(thought) for name, head in self.heads.items()}, coverage, torch.cat([subject, scene, place(coverage)], 1)


def place(coverage):
    """Where the subject is and how it lies: centre, second moments and size, and the coverage of the blocks."""
    share = torch.sigmoid(coverage)
    at = (torch.arange(CELLS) + 0.5) / CELLS - 0.5
    weight = share / (share.sum((1, 2), keepdim=True) + 1e-4)
    mean = lambda values: (weight * values).sum((1, 2))
    x, y = mean(at[None, None, :]), mean(at[None, :, None])
    dx, dy = at[None, None, :] - x[:, None, None], at[None, :, None] - y[:, None, None]
    return torch.cat([torch.stack([x, y, mean(dx * dx), mean(dy * dy), mean(dx * dy), share.mean((1, 2))], 1),
                      F.adaptive_avg_pool2d(share, BLOCKS).flatten(1)], 1)


class StretchJudge(nn.Module):
    """Features and matches of a stretch [B,n,values] -> logits per field."""
    VALUES = PictureJudge.FEATURES + len(LAGS) * len(SHIFTS) * BLOCKS * BLOCKS

    def __init__(self, width=128):
        super().__init__()
        self.scale, self.narrow = nn.BatchNorm1d(self.VALUES, affine=False), nn.Linear(self.VALUES, width)
        self.over_time = nn.ModuleList([nn.Conv1d(width, width, 5, padding=2 * dilation, dilation=dilation) for dilation in (1, 2, 3)])
        self.drop = nn.Dropout(0.2)
        self.heads = nn.ModuleDict({name: nn.Linear(2 * width, len(words)) for name, words in STRETCH_FIELDS.items()})

    def forward(self, values):
        t = F.gelu(self.narrow(self.drop(self.scale(values.transpose(1, 2)).transpose(1, 2)))).transpose(1, 2)
        for layer in self.over_time:
            t = t + self.drop(F.gelu(layer(t)))
        t = torch.cat([t.mean(2), t.amax(2)], 1)
        return {name: head(t) for name, head in self.heads.items()}


class Judge(nn.Module):
    def __init__(self):
        super().__init__()
        self.pictures, self.stretches = PictureJudge(), StretchJudge()

    def watch(self, seen):
        """`glance` of videos -> (logits of the picture fields [B,n,classes], values for the other network [B,n,values])."""
        parts = [self.pictures(some) for some in seen.flatten(0, 1).split(512)]
        logits = {name: torch.cat([part[0][name] for part in parts]).unflatten(0, seen.shape[:2]) for name in PICTURE_FIELDS}
        features = torch.cat([part[2] for part in parts]).unflatten(0, seen.shape[:2])
        return logits, torch.cat([features.float(), matches(seen)], 2)


def targets(specs):
    """Class numbers [B] per field."""
    return {name: torch.tensor([words.index(spec[name]) for spec in specs]) for name, words in FIELDS.items()}


def blemished(seen):
    """[B,n,3,S,S] with what a generated video may suffer and still be right: blur, noise, other brightness and contrast."""
    b, shape = len(seen), (len(seen), 1, 1, 1, 1)
    if random.random() < 0.5:
        side = random.choice([20, 24, 28, 32, 40])
        small = F.interpolate(seen.flatten(0, 1), size=(side, side), mode="bilinear", antialias=True)
        seen = F.interpolate(small, size=seen.shape[-2:], mode="bilinear").unflatten(0, (b, -1))
    seen = (seen - 0.5) * (0.85 + 0.3 * torch.rand(shape)) + 0.5 + 0.1 * (torch.rand(shape) - 0.5)
    return seen + 0.04 * torch.rand(shape) * torch.randn_like(seen)


@torch.no_grad()
def verdicts(judge, video, specs, every=16):
    """Right or wrong over time for videos [B,T,3,H,W]: picture fields [B,seconds] in 0..1, the others [B,stretches], one every second."""
    truth, per = targets(specs), every // STEP
    logits, values = judge.watch(glance(video))
    right = {}
    for name in PICTURE_FIELDS:
        hit = (logits[name].argmax(-1) == truth[name][:, None]).float()
        right[name] = hit[:, :hit.shape[1] // per * per].unflatten(1, (-1, per)).mean(2)
    spans = values.unfold(1, PICTURES, per).transpose(2, 3)  # [B,stretches,PICTURES,values]
    for name, found in judge.stretches(spans.flatten(0, 1)).items():
        right[name] = (found.argmax(-1).view(spans.shape[:2]) == truth[name][:, None]).float()
    return right


def load_judge(runs):
    judge = Judge()
    judge.load_state_dict(load(f"{runs}/judge.pt")["model"])
    return judge.eval()


def small_pictures(data, kind, count, step):
    """Every `step`th picture of the first `count` videos, as the judge looks at them: uint8 [count,n,3,SIDE,SIDE]."""
    videos = Clips(data, kind)
    return torch.cat([(glance(videos.video(row).transpose(0, 1)[None] * 0.5 + 0.5, step) * 255 + 0.5).to(torch.uint8) for row in range(count)])


class PictureData:
    """Lone pictures of clips and starts with their labels and coverage."""

    def __init__(self, args, clips, starts):
        self.sources = []
        for kind, seen, step in (("clips", clips, STEP), ("starts", starts, 4)):
            masks = F.interpolate(load_masks(args.data, kind)[:len(seen)].float(), size=(CELLS, CELLS), mode="bilinear")
            self.sources.append((seen, step, masks, targets(load_specs(args.data, kind)[:len(seen)])))

    def draw(self, count):
        """(pictures [n,3,SIDE,SIDE] in [0,1], coverage, labels per field), half of them from either source."""
        parts = []
        for seen, step, masks, labels in self.sources:
            rows, at = torch.randint(len(seen), (count // 2,)), torch.randint(seen.shape[1], (count // 2,))
            parts.append((seen[rows, at] / 255, masks[rows, (at * step + 3) // 4], {name: values[rows] for name, values in labels.items()}))
        return (*(torch.cat(pair) for pair in zip(*(part[:2] for part in parts))), {name: torch.cat([part[2][name] for part in parts]) for name in FIELDS})


def graded(logits, truth, meter):
    """Sum of the cross entropies of all fields in `logits`; accuracies go to the meter."""
    for name, values in logits.items():
        meter.add(**{name: (values.argmax(-1) == truth[name]).float().mean()})
    return sum(F.cross_entropy(values.float(), truth[name], label_smoothing=0.05) for name, values in logits.items())


def practise(part, name, seconds, state, keep, loss_of, rank):
    """Train one network for so many seconds; `state` holds its optimiser, steps and seconds across restarts."""
    params = list(part.parameters())
    adam = torch.optim.AdamW(params, lr=2e-3, weight_decay=0.05)
    if name in state:
        adam.load_state_dict(state[name]["adam"])
    step, clock, meter = state.get(name, {}).get("step", 0), Clock(state.get(name, {}).get("seconds", 0.0)), Meter()
    logged, progress = clock.seconds(), agree(clock.seconds() / seconds)
    part.train()
    while progress < 1:
        for group in adam.param_groups:
            group["lr"] = 2e-3 * min(1, (step + 1) / 50) * cosine(progress)
        loss = loss_of(meter)
        part.zero_grad()
        loss.backward()
        average_gradients(params)
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        adam.step()
        step, progress = step + 1, agree(clock.seconds() / seconds)
        if clock.seconds() - logged > 20 or progress >= 1:
            logged = clock.seconds()
            state[name] = dict(adam=adam.state_dict(), step=step, seconds=logged)
            if rank == 0:
                keep()
                print(f"{name} step {step} {meter.line()} {logged:.0f} s", flush=True)
    part.eval()


def main():
    args = stage_arguments(__doc__.split("\n")[0], minutes=12, seed=5).parse_args()
    preset = PRESETS[args.preset]
    rank, _ = start_workers(args.device)
    path, count = f"{args.runs}/judge.pt", min(preset.judge_clips, preset.clips - preset.held_out)
    torch.manual_seed(args.seed)
    judge, state = Judge(), {}
    if os.path.exists(path):
        state = load(path)
        judge.load_state_dict(state["model"])
    torch.manual_seed(args.seed * 1000 + rank + sum(part["step"] for name, part in state.items() if name != "model"))
    random.seed(torch.initial_seed())
    clips, specs = small_pictures(args.data, "clips", count, STEP), load_specs(args.data)
    keep = lambda: save_atomic({**state, "model": judge.state_dict()}, path)

    data = PictureData(args, clips, small_pictures(args.data, "starts", min(preset.judge_starts, preset.starts), 4))

    def picture_loss(meter):
        pictures, coverage, truth = data.draw(preset.judge_pictures)
        with autocast():
            logits, found, _ = judge.pictures(blemished(pictures[:, None])[:, 0])
        spread = F.binary_cross_entropy_with_logits(found, coverage)
        meter.add(coverage=spread.item())
        return graded(logits, truth, meter) + 2 * spread
    practise(judge.pictures, "pictures", args.minutes * 60 * PICTURES_SHARE, state, keep, picture_loss, rank)

    with torch.no_grad(), autocast():  # two views of every clip
        views = [torch.cat([judge.watch(change(clips[row:row + 1] / 255))[1] for row in range(count)]) for change in (lambda seen: seen, blemished)]
    labels = targets(specs[:count])

    def stretch_loss(meter):
        rows, starts = torch.randint(count, (preset.judge_batch,)), torch.randint(clips.shape[1] - PICTURES + 1, (preset.judge_batch,))
        values = random.choice(views)[rows[:, None], starts[:, None] + torch.arange(PICTURES)]
        return graded(judge.stretches(values), {name: numbers[rows] for name, numbers in labels.items()}, meter)
    practise(judge.stretches, "stretches", args.minutes * 60 * (1 - PICTURES_SHARE), state, keep, stretch_loss, rank)

    if rank == 0:
        right = {name: 0.0 for name in FIELDS}
        for row in range(preset.clips - preset.held_out, preset.clips):
            for name, values in verdicts(judge, Clips(args.data).video(row).transpose(0, 1)[None] * 0.5 + 0.5, [specs[row]]).items():
                right[name] += values.mean().item() / preset.held_out
        print("done: held-out rendered clips: " + " ".join(f"{name} {value:.3f}" for name, value in right.items()), flush=True)


if __name__ == "__main__":
    main()
