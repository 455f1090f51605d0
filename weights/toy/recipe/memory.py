"""Does a cache remember what the prompt does not say? Videos in which a bird comes back again and again (visitor.py).

    python memory.py --binary deepforcing --model toy --study runs/memory --figures ../figures

The prompt announces the bird only from latent frame SWITCH on, when the sink of Deep Sink is full of frames without one. Its colour is
named nowhere. A plain classifier looks at the bird's place in the sky and finds visits and their colours; measured are the share
of visits in the colour of the visit before (chance: 1 in 4) and how regularly they come. For comparison the world itself is
rendered for the same time. What the classifier gets right is measured on rendered clips after the autoencoder.
"""

import json
import os
import random
import subprocess

import torch

import visitor
import world
from common import autocast, stage_arguments, start_workers
from drift import LABELS, POLICIES, TRUTH, read_video, video_name, write_video
from evaluate import FPS, load_exported
from grammar import prompt_of, sample_visited_spec
from presets import PRESETS
from rollout import pictures
from vae import wan_constants

SWITCH = 18          # latent frame from which the prompt announces the bird
NAMES = list(visitor.COLORS)
NEAR = 12            # latent frames before and after that tell what the place looks like without a bird


def place_colors(video):
    """Mean colour of the bird's place per latent frame, [T,3,H,W] -> [L,3]."""
    size = video.shape[-1]
    grid = (torch.arange(size) + .5) / size
    inside = (grid[None] - visitor.PERCH[0]) ** 2 + (grid[:, None] - visitor.PERCH[1]) ** 2 < (.7 * visitor.RADIUS) ** 2
    by_picture = video[:, :, inside].mean(2)
    latents = (len(video) + 3) // 4
    return torch.stack([by_picture[visitor.first_picture(f):4 * f + 1].mean(0) for f in range(latents)])


def surroundings(colors):
    """What the place looks like without a bird: a running median [L,3]."""
    return torch.stack([colors[max(0, f - NEAR):f + NEAR + 1].median(0).values for f in range(len(colors))])


def visits_of(colors, templates):
    """Visits as (latent frame, colour number), from colours of the place [L,3] and of birds [4,3]: where a bird's colour is
    nearer than the place's own. A run of such frames is one visit, its colour that of the frame farthest from the place's."""
    background = surroundings(colors)
    own = (colors - background).norm(dim=1)
    distance, nearest = (colors[:, None] - templates).norm(dim=2).min(1)
    visits, run = [], []
    for f, there in enumerate([*(distance < own).tolist(), False]):
        if there:
            run.append(f)
        elif run:
            best = max(run, key=lambda f: own[f].item())
            visits.append((run[0], nearest[best].item()))
            run = []
    return visits


def reconstructed(exported, specs, size):
    """Rendered clips [B,81,3,S,S] of the specs after encoder and streaming decoder."""
    _, vae, _ = exported
    mean, std = wan_constants(torch.get_default_device())
    for spec in specs:
        video = world.render(spec, frames=81, size=size).transpose(0, 1)[None] * 2 - 1
        with torch.no_grad(), autocast():
            yield pictures(vae, ((vae.encode(video) - mean) / std).transpose(1, 2), mean, std)[0]


def calibrate(exported, size, count, seed):
    """Bird colours [4,3] as the autoencoder shows them, and what the classifier gets right on other clips."""
    rng = random.Random(seed)
    specs = [dict(sample_visited_spec(rng), bird=NAMES[i % 4], first=i // 4 % 3) for i in range(count)]
    seen = [place_colors(video) for video in reconstructed(exported, specs, size)]
    middle = lambda spec: [visitor.LENGTH * spec["first"] + 1 + visit * visitor.PERIOD for visit in range(2)]
    learned = count // 2
    templates = torch.stack([torch.cat([colors[middle(spec)] for spec, colors in zip(specs[:learned], seen) if spec["bird"] == name]).mean(0) for name in NAMES])
    found = right = false = pairs = equal = 0
    for spec, colors in zip(specs[learned:], seen[learned:]):
        visits = visits_of(colors, templates)
        expected = {visitor.LENGTH * spec["first"] + visit * visitor.PERIOD for visit in range(2)}
        close = [visit for visit in visits if any(abs(visit[0] - start) <= 1 for start in expected)]
        found, false = found + len(close), false + len(visits) - len(close)
        right += sum(NAMES[color] == spec["bird"] for _, color in close)
        pairs, equal = pairs + max(0, len(visits) - 1), equal + sum(a[1] == b[1] for a, b in zip(visits, visits[1:]))
    wanted = 2 * (count - learned)
    return templates, dict(visits=wanted, found=found, right_color=right, false=false, pairs=pairs, same_color=equal)


def render(args, specs, size):
    """Videos of all policies and of the world into STUDY/POLICY/."""
    path = f"{args.study}/prompts.jsonl"
    with open(path, "w") as file:
        for row, spec in specs.items():
            before = {name: value for name, value in spec.items() if name != "bird"}
            line = dict(id=f"p{row}", prompts=[prompt_of(before), prompt_of(spec)], switch=[f"{SWITCH}f"])
            file.write(json.dumps(line) + "\n")
    for sample in range(args.samples):
        for policy, (_, options) in POLICIES.items():
            line = [args.binary, "batch", path, "-o", f"{args.study}/{policy}", "--model", args.model, "--samples", str(args.samples), "--seconds",
                    str(args.seconds), "--crf", str(args.crf), "--quiet", "--shard", f"{sample}/{args.samples}", "--policy", policy, *options]
            print("+", " ".join(line), flush=True)
            subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
    os.makedirs(f"{args.study}/{TRUTH}", exist_ok=True)
    for row, spec in specs.items():
        path = f"{args.study}/{TRUTH}/{video_name(args, row)}.mp4"
        if not os.path.exists(path):
            write_video(path, world.render(spec, frames=args.seconds * FPS, size=size), args.crf)


def found_visits(args, specs, templates):
    """policy -> video name -> visits, of all videos there are."""
    found = {}
    for policy in [*POLICIES, TRUTH]:
        for row in specs:
            for sample in range(1 if policy == TRUTH else args.samples):
                name = video_name(args, row, sample)
                path = f"{args.study}/{policy}/{name}.mp4"
                if os.path.exists(path):
                    found.setdefault(policy, {})[name] = visits_of(place_colors(read_video(path)), templates)
    return found


def rates(videos):
    """Numbers of some videos' visits (a list of lists)."""
    pairs = [pair for visits in videos for pair in zip(visits, visits[1:])]
    later = [(visits[0][1], color) for visits in videos for _, color in visits[1:]]
    counts = [sum(color == number for visits in videos for _, color in visits) for number in range(len(NAMES))]
    total = max(1, sum(counts))
    share = lambda values: round(sum(values) / max(1, len(values)), 4)
    return dict(videos=len(videos), with_birds=sum(len(visits) > 0 for visits in videos), visits=sum(counts), pairs=len(pairs),
                same_as_before=share([a[1] == b[1] for a, b in pairs]), same_as_first=share([a == b for a, b in later]),
                chance=round(sum((count / total) ** 2 for count in counts), 4),
                period_kept=share([abs(b[0] - a[0] - visitor.PERIOD) <= 1 for a, b in pairs]), colors=dict(zip(NAMES, counts)))


def interval(found, number, policies):
    """95 % interval, by drawing prompts anew, of a rate of one policy, or of the difference of two (second minus first)."""
    prompts = sorted({name.split("-")[0] for name in found[policies[0]]})
    of = {policy: {prompt: [visits for name, visits in found[policy].items() if name.split("-")[0] == prompt] for prompt in prompts} for policy in policies}
    rng, drawn = random.Random(0), []
    for _ in range(1000):
        chosen = rng.choices(prompts, k=len(prompts))
        values = [rates([visits for prompt in chosen for visits in of[policy][prompt]])[number] for policy in policies]
        drawn.append(values[-1] - (values[0] if len(values) > 1 else 0))
    drawn.sort()
    return round(drawn[25], 4), round(drawn[974], 4)


def draw(found, path, seconds):
    """A row per video with a mark in the bird's colour where it comes, a panel per policy."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    figure, axes = plt.subplots(1, len(found), figsize=(3.6 * len(found), 4.2), dpi=100, sharey=True)
    for axis, (policy, videos) in zip(axes, found.items()):
        names = sorted(videos, key=lambda name: (int(name[1:].split("-")[0]), name))
        names = [name for name in names for _ in range(max(len(other) for other in found.values()) // len(names))]
        for y, name in enumerate(names):
            marks = [(latent * 4 / FPS, NAMES[color]) for latent, color in videos[name]]
            axis.scatter([x for x, _ in marks], [y] * len(marks), s=9, marker="s", linewidths=0, c=[[value / 255 for value in visitor.COLORS[name]] for _, name in marks])
        axis.set(title=LABELS[policy], xlabel="second", xlim=(0, seconds), yticks=[])
        axis.set_facecolor("#e8eef4")
    axes[0].set_ylabel("videos")
    figure.tight_layout()
    figure.savefig(path)


def main():
    parser = stage_arguments(__doc__.split("\n")[0])
    parser.add_argument("--binary", default="deepforcing")
    parser.add_argument("--model", default="toy", help="as the program takes it: toy, or a folder of exported files")
    parser.add_argument("--weights", default="..", help="folder of the exported files, for the autoencoder")
    parser.add_argument("--study", default="runs/memory", help="folder of the videos")
    parser.add_argument("--figures", default="../figures")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--samples", type=int, default=3, help="seeds per prompt")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--crf", type=int, default=10, help="quality of the videos")
    parser.add_argument("--clips", type=int, default=48, help="clips for the classifier: half to learn from, half to test")
    parser.add_argument("--measure-only", action="store_true", help="of videos that are there already")
    args = parser.parse_args()
    preset = PRESETS[args.preset]
    start_workers(args.device)
    os.makedirs(args.study, exist_ok=True)
    os.makedirs(args.figures, exist_ok=True)
    templates, ceiling = calibrate(load_exported(args.weights, preset), preset.size, args.clips, f"calibration {args.seed}")
    print("bird colours after the autoencoder:", {name: [round(255 * v) for v in color.tolist()] for name, color in zip(NAMES, templates)})
    print("classifier on other rendered clips after the autoencoder:", ceiling, flush=True)
    rng = random.Random(f"memory {args.seed}")
    specs = {row: dict(sample_visited_spec(rng), first=SWITCH // visitor.LENGTH) for row in range(args.prompts)}
    if not args.measure_only:
        render(args, specs, preset.size)
    found = found_visits(args, specs, templates)
    result = dict(classifier=ceiling, policies={})
    for policy, videos in found.items():
        entry = rates(list(videos.values()))
        entry["same_as_before_95"] = interval(found, "same_as_before", [policy])
        result["policies"][policy] = entry
        print(policy, entry, flush=True)
    if {"deep-sink", "deep-forcing"} <= set(found):
        result["compression"] = {number: interval(found, number, ["deep-sink", "deep-forcing"]) for number in ("same_as_before", "same_as_first", "period_kept")}
        print("Deep Forcing minus Deep Sink, 95 %:", result["compression"])
    with open(f"{args.figures}/memory.json", "w") as file:
        json.dump(dict(**result, visits=found), file, separators=(",", ":"))
    draw(found, f"{args.figures}/memory.png", args.seconds)


if __name__ == "__main__":
    main()
