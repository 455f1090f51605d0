"""A judge of videos: names colour, shape, place and sky of every picture, and motion and camera of a stretch of 4 s.

Trained on rendered clips only, at 64x64 whatever the size of the videos: on stretches, and on lone pictures of many more
clips, since what a picture shows changes little within a clip. Its accuracy on held-out rendered clips is the
ceiling that accuracies on generated videos are to be compared with.
"""

import os
import random

import torch
import torch.nn as nn
import torch.nn.functional as F

import grammar
from common import Clips, Clock, Meter, agree, autocast, average_gradients, cosine, load, load_specs, save_atomic, stage_arguments, start_workers
from presets import PRESETS

PICTURE_FIELDS = dict(color=list(grammar.COLORS), shape=grammar.SHAPES, bg=grammar.BACKGROUNDS, sky=grammar.SKIES)
STRETCH_FIELDS = dict(motion=grammar.MOTIONS, cam=grammar.CAMERAS)
FIELDS = {**PICTURE_FIELDS, **STRETCH_FIELDS}
SIDE, STEP, PICTURES, GAP = 64, 4, 16, 2  # a stretch: 16 pictures, every fourth, each with the one two frames later
STRETCH = STEP * (PICTURES - 1) + GAP + 1  # pictures of video


def glance(video):
    """What the judge looks at of [B,T,3,H,W]: every fourth picture, then the ones two later: [B,2n,3,SIDE,SIDE]."""
    seen = torch.cat([video[:, :video.shape[1] - GAP:STEP], video[:, GAP::STEP]], 1)
    return F.interpolate(seen.flatten(0, 1), size=(SIDE, SIDE), mode="bilinear", antialias=True).unflatten(0, (len(video), -1))


class Judge(nn.Module):
    def __init__(self, width=128):
        super().__init__()
        conv = lambda cin, cout, kernel, stride: nn.Sequential(nn.Conv2d(cin, cout, kernel, stride, kernel // 2), nn.BatchNorm2d(cout), nn.GELU())
        self.look = nn.Sequential(conv(6, 24, 5, 2), conv(24, 48, 3, 2), conv(48, 64, 3, 1), conv(64, width, 3, 2))
        self.place = nn.Linear(16 * 64, width)
        self.narrow = nn.Conv2d(width, 16, 1)
        self.over_time = nn.ModuleList([nn.Conv1d(3 * width, width, 3, padding=1), nn.Conv1d(width, width, 3, padding=1), nn.Conv1d(width, width, 3, padding=1)])
        self.heads = nn.ModuleDict({name: nn.Linear(3 * width if name in PICTURE_FIELDS else 2 * width, len(words)) for name, words in FIELDS.items()})

    def forward(self, seen):
        """`glance` of videos in [0,1] -> logits: of picture fields [B,n,classes], of stretch fields [B,classes]."""
        b = len(seen)
        now, soon = seen.chunk(2, 1)
        x = self.look(torch.cat([now - 0.5, 4 * (soon - now)], 2).flatten(0, 1))
        x = torch.cat([x.amax((2, 3)), x.mean((2, 3)), F.gelu(self.place(self.narrow(x).flatten(1)))], 1).unflatten(0, (b, -1))
        t = F.gelu(self.over_time[0](x.transpose(1, 2)))
        for layer in self.over_time[1:]:
            t = t + F.gelu(layer(t))
        t = torch.cat([t.mean(2), t.amax(2)], 1)
        return {name: head(x if name in PICTURE_FIELDS else t) for name, head in self.heads.items()}


def targets(specs):
    """Class numbers [B] per field."""
    return {name: torch.tensor([words.index(spec[name]) for spec in specs]) for name, words in FIELDS.items()}


def blemished(video):
    """[B,n,3,H,W] with what a generated video may suffer and still be right: blur, noise, other brightness and contrast."""
    b, shape = len(video), (len(video), 1, 1, 1, 1)
    if random.random() < 0.4:
        side = random.choice([32, 40, 48])
        small = F.interpolate(video.flatten(0, 1), size=(side, side), mode="bilinear", antialias=True)
        video = F.interpolate(small, size=video.shape[-2:], mode="bilinear").unflatten(0, (b, -1))
    video = (video - 0.5) * (0.85 + 0.3 * torch.rand(shape)) + 0.5 + 0.1 * (torch.rand(shape) - 0.5)
    return video + 0.04 * torch.rand(shape) * torch.randn_like(video)


@torch.no_grad()
def verdicts(judge, video, specs, every=16):
    """Right or wrong over time for videos [B,T,3,H,W]: per field [B,stretches] in 0..1, a stretch every `every` pictures."""
    truth, right = targets(specs), {name: [] for name in FIELDS}
    for start in range(0, video.shape[1] - STRETCH + 1, every):
        for name, logits in judge(glance(video[:, start:start + STRETCH])).items():
            hit = logits.argmax(-1) == (truth[name][:, None] if logits.dim() == 3 else truth[name])
            right[name].append(hit.float().view(len(hit), -1).mean(1))
    return {name: torch.stack(values, 1) for name, values in right.items()}


def load_judge(runs):
    judge = Judge()
    judge.load_state_dict(load(f"{runs}/judge.pt")["model"])
    return judge.eval()


def main():
    args = stage_arguments(__doc__.split("\n")[0], minutes=6).parse_args()
    preset = PRESETS[args.preset]
    rank, workers = start_workers(args.device)
    path = f"{args.runs}/judge.pt"
    clips, specs = Clips(args.data), load_specs(args.data)
    count = preset.clips - preset.held_out
    torch.manual_seed(args.seed)
    judge = Judge()
    adam = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.02)
    step, clock, meter = 0, Clock(), Meter()
    if os.path.exists(path):
        state = load(path)
        judge.load_state_dict(state["model"])
        adam.load_state_dict(state["adam"])
        step, clock = state["step"], Clock(state["seconds"])
    rng = random.Random(args.seed * 1000 + rank + 7919 * step)
    torch.manual_seed(args.seed * 1000 + rank + 7919 * step)
    params, logged = list(judge.parameters()), clock.seconds()
    while True:
        progress = agree(clock.seconds() / (args.minutes * 60))
        if progress >= 1:
            break
        for group in adam.param_groups:
            group["lr"] = 2e-3 * min(1, (step + 1) / 30) * cosine(progress)
        loss = 0
        for batch, length, fields in ((preset.judge_batch, STRETCH, FIELDS), (preset.judge_pictures, GAP + 1, PICTURE_FIELDS)):
            rows = [rng.randrange(count) for _ in range(batch)]
            video = torch.stack([clips.video(row, rng.randrange(82 - length), length) for row in rows]).transpose(1, 2) * 0.5 + 0.5
            truth = targets([specs[row] for row in rows])
            with autocast():
                logits = judge(blemished(glance(video)))
            for name in fields:
                values = logits[name].float()
                target = truth[name][:, None].expand(values.shape[:2]) if values.dim() == 3 else truth[name]
                loss = loss + F.cross_entropy(values.flatten(0, -2), target.reshape(-1))
                meter.add(**{name: (values.argmax(-1) == target).float().mean().item()})
        judge.zero_grad()
        loss.backward()
        average_gradients(params)
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        adam.step()
        step += 1
        if rank == 0 and clock.seconds() - logged > 20:
            logged = clock.seconds()
            save_atomic(dict(model=judge.state_dict(), adam=adam.state_dict(), step=step, seconds=logged), path)
            print(f"step {step} {meter.line()} {logged:.0f} s", flush=True)
    if rank == 0:
        judge.eval()
        save_atomic(dict(model=judge.state_dict(), adam=adam.state_dict(), step=step, seconds=clock.seconds()), path)
        right = {name: 0.0 for name in FIELDS}
        for row in range(count, count + preset.held_out):
            for name, values in verdicts(judge, clips.video(row).transpose(0, 1)[None] * 0.5 + 0.5, [specs[row]]).items():
                right[name] += values.mean().item() / preset.held_out
        print(f"done: {step} steps, {clock.seconds():.0f} s, held-out rendered clips: " + " ".join(f"{name} {value:.3f}" for name, value in right.items()), flush=True)


if __name__ == "__main__":
    main()
