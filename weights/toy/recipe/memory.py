"""Does a cache remember what the prompt does not say? Videos in which a bird comes back again and again (visitor.py).

    python memory.py --weights .. --study runs/memory --figures ../figures

With `--start seen` the first START latent frames are of a rendered clip in which the bird comes once, at latent frame 12; the model
goes on from there. With `--start announced` it makes everything, and the prompt announces the bird from frame START on. In both cases
the ten sink frames of Deep Sink show no bird, and its colour is named nowhere. A linear classifier looks at the latent cells of the bird's place and finds visits and their colours; measured are
the share of visits in the colour of the visit before (chance: 1 in 4) and how regularly they come. What the classifier gets right
is measured on encoded clips that it has not learned from. Latents are made by rollout.py, batched, or read from files that the
program wrote with --save-latents (`--binary`). What was made is kept in STUDY and not made again.

With `--reasons` it asks instead why compression loses the bird: how many tokens of the given visit it keeps, and whether the bird comes
back when they are kept by force, or keep their moments.
"""

import contextlib
import json
import os
import random
import subprocess

import torch

import visitor
import world
from common import autocast, load, load_specs, stage_arguments, start_workers
from drift import LABELS
from drift import POLICIES as PROGRAM
from evaluate import FPS, load_exported
from grammar import prompt_of, sample_visited_spec
from presets import LATENT_FRAMES, PRESETS
from rollout import CHUNK, POLICIES, Policy, pictures, rollout
from vae import wan_constants

START = 18           # latent frames that are given, or that are made before the prompt announces the bird
GIVEN_VISIT = 4      # the chunk of the given visit
NAMES = list(visitor.COLORS)
NEAR = 12            # latent frames before and after that tell what the place looks like without a bird
KINDS = {"fifo": "fifo", "sink": "sink3", "deep-sink": "sink10", "deep-forcing": "deep", "deep-forcing-3": "deep3"}  # ours and rollout.py's
LABELS = {**LABELS, "deep-forcing-3": "Deep Forcing, sink 3"}
PROGRAM = {**PROGRAM, "deep-forcing-3": ("", ["--sink", "3"])}
VISITED = tuple((frame, row, column) for frame in range(CHUNK * GIVEN_VISIT, CHUNK * (GIVEN_VISIT + 1)) for row in (0, 1) for column in (0, 1))
REASONS = {"the visit itself": None, "first in, first out": dict(kind="fifo"), "as it is": {}, "own moments": dict(own_moments=True),
           "bird kept": dict(forced=True), "bird kept, own moments": dict(forced=True, own_moments=True)}
COMPARED = ("first_came", "first_remembered", "came", "remembered", "same_as_before")


def features(latents):
    """What the bird's place shows, against its running median: latents [F,16,h,w] -> [F,65]."""
    side = latents.shape[-1]
    first = round((visitor.PERCH[0] - visitor.RADIUS) * side)
    cells = slice(first, first + max(1, round(2 * visitor.RADIUS * side * 0.75)))
    place = latents[:, :, cells, cells].float().flatten(1)
    usual = torch.stack([place[max(0, f - NEAR):f + NEAR + 1].median(0).values for f in range(len(place))])
    return torch.cat([place - usual, torch.ones(len(place), 1)], 1)


def middles(spec):
    """Latent frames of a training clip in which the bird is all there."""
    return [frame for frame in range(visitor.LENGTH * spec["first"] + 1, LATENT_FRAMES, visitor.PERIOD)]


def labelled(latents, specs):
    """(features [n,65], class [n]) of clips' frames, class 4 being no bird; frames beside the middle of a visit are left out."""
    values, classes = [], []
    for clip, spec in zip(latents, specs):
        target = torch.full((LATENT_FRAMES,), len(NAMES))
        for frame in middles(spec):
            target[max(0, frame - 1):frame + 2] = -1
            target[frame] = NAMES.index(spec["bird"])
        values.append(features(clip)[target >= 0])
        classes.append(target[target >= 0])
    return torch.cat(values), torch.cat(classes)


def train_classifier(latents, specs):
    """Ridge regression on the first half of the clips; returns (weights [65,5], what it gets right on the second half)."""
    half = len(specs) // 2
    x, target = labelled(latents[:half], specs[:half])
    wanted = torch.nn.functional.one_hot(target, len(NAMES) + 1).float()
    weights = torch.linalg.solve(x.T @ x + 5 * torch.eye(x.shape[1]), x.T @ wanted)
    x, target = labelled(latents[half:], specs[half:])
    said, bird = (x @ weights).argmax(1), target < len(NAMES)
    pairs = [(visits[0][1], visits[1][1]) for clip in latents[half:] if len(visits := visits_of(clip, weights)) > 1]
    return weights, dict(middles=int(bird.sum()), seen=int((said < len(NAMES))[bird].sum()), right_color=int((said == target)[bird].sum()),
                         others=int((~bird).sum()), false=int((said < len(NAMES))[~bird].sum()), pairs=len(pairs), same_color=sum(a == b for a, b in pairs))


def visits_of(latents, weights):
    """Visits as (latent frame, colour number): frames in a row with a bird are one, its colour that of the clearest frame."""
    scores = features(latents) @ weights
    sure, color = (scores[:, :-1] - scores[:, -1:]).max(1)
    visits, run = [], []
    for frame, there in enumerate([*(sure > 0).tolist(), False]):
        if there:
            run.append(frame)
        elif run:
            best = max(run, key=lambda f: sure[f].item())
            visits.append((best, color[best].item()))
            run = []
    return visits


def prompts_of(spec):
    """The prompts before and after the bird is announced."""
    return prompt_of({name: value for name, value in spec.items() if name != "bird"}), prompt_of(spec)


@torch.no_grad()
def openings(args, exported, specs, preset):
    """The given latent frames [prompts,START,16,h,w]: rendered and encoded."""
    path, (_, vae, _) = f"{args.study}/openings.pt", exported
    if not os.path.exists(path):
        mean, std = wan_constants(torch.get_default_device())
        parts = []
        for spec in specs:
            video = world.render(spec, frames=4 * START - 3, size=preset.size).transpose(0, 1)[None] * 2 - 1
            with autocast():
                parts.append(((vae.encode(video).float() - mean) / std).transpose(1, 2))
        torch.save(torch.cat(parts), path)
    return load(path)


def sampled(args, exported, specs, policy, sample, preset, frames):
    """Latents f16 [prompts,F,16,h,w] of one policy and seed."""
    path = f"{args.study}/{args.start}-{policy}-{sample}.pt"
    if not os.path.exists(path):
        model, _, prompts = exported
        before, after = (prompts.batch(texts) for texts in zip(*map(prompts_of, specs)))
        start = dict(opening=openings(args, exported, specs, preset)) if args.start == "seen" else dict(later=(START, after))
        seeds = [1000 * sample + row for row in range(len(specs))]
        with autocast() if args.bf16 else contextlib.nullcontext():
            latents = rollout(model, after if "opening" in start else before, frames, POLICIES[KINDS[policy]], seeds, preset.latent, **start)
        torch.save(latents.half(), path + ".tmp")
        os.replace(path + ".tmp", path)
    return load(path)


def by_program(args, specs, policy, sample):
    """The same from the program, video by video; its latents are already in the model's scale."""
    from safetensors.torch import load_file
    latents = []
    for row, spec in enumerate(specs):
        path, (before, after) = f"{args.study}/program-{policy}-{row}-{sample}.safetensors", prompts_of(spec)
        if not os.path.exists(path):
            subprocess.run([args.binary, "generate", before, "--switch", f"{START}f: {after}", "--model", args.model, "--seconds", str(args.seconds),
                            "--seed", str(1000 * sample + row), "--policy", policy.removesuffix("-3"), *PROGRAM[policy][1], "--save-latents", path, "--overwrite", "--quiet",
                            "-o", f"{args.study}/program-{policy}-{row}-{sample}.mp4"], check=True, stdout=subprocess.DEVNULL)
        values = next(value for value in load_file(path).values() if value.dim() >= 4)
        values = values.squeeze(0) if values.dim() == 5 else values
        latents.append(values if values.shape[1] == 16 else values.transpose(0, 1))
    return torch.stack(latents)


def reasons(args, exported, specs, preset, weights):
    """Per cache of REASONS: tokens of the given visit that its first eviction keeps in every layer (of 12), and how often the first
    due visit comes, and in the given colour."""
    frames, visit, result = START + 15, GIVEN_VISIT * CHUNK, {}
    model, _, prompts = exported
    opening, ids = openings(args, exported, specs, preset), prompts.batch([prompt_of(spec) for spec in specs])
    for name, changes in REASONS.items():
        left, found = [], []
        for sample in range(args.samples):
            caches = []
            policy = Policy(watched=VISITED, **(changes or {}))
            with autocast() if args.bf16 else contextlib.nullcontext():
                latents = rollout(model, ids, frames, policy, [1000 * sample + row for row in range(len(specs))], preset.latent, opening=opening, caches=caches)
            if changes is None:  # a copy of the given visit in the place of the due one: what the classifier says of what should be there
                latents[:, visit + visitor.PERIOD:visit + visitor.PERIOD + CHUNK] = opening[:, visit:visit + CHUNK]
            left.append(torch.stack([cache.watched_left[0].float().mean() for cache in caches]))
            found += [visits_of(values, weights) for values in latents]
        numbers = rates(found, frames)
        result[name] = dict(kept=[round(value, 2) for value in torch.stack(left).mean(0).tolist()], came=numbers["first_came"],
                            remembered=numbers["first_remembered"])
        print(name, result[name], flush=True)
    return result


def rates(videos, frames):
    """Numbers of some videos' visits (a list of lists), the videos having so many latent frames.

    The first visit of a video, given or made, sets when further ones are due: every PERIOD frames.
    """
    due = sum(max(0, (frames - 2 - visits[0][0]) // visitor.PERIOD) for visits in videos if visits)
    pairs = [pair for visits in videos for pair in zip(visits, visits[1:])]
    later = [(visits[0], visit) for visits in videos for visit in visits[1:]]
    on_time = lambda a, b: abs((b[0] - a[0] + visitor.PERIOD // 2) % visitor.PERIOD - visitor.PERIOD // 2) <= 2
    returns = [a[1] == b[1] for a, b, *_ in (visits for visits in videos if len(visits) > 1) if abs(b[0] - a[0] - visitor.PERIOD) <= 2]
    counts = [sum(color == number for _, (_, color) in later) for number in range(len(NAMES))]
    share = lambda hits, total: round(sum(hits) / max(1, total), 4)
    return dict(videos=len(videos), with_birds=sum(len(visits) > 0 for visits in videos), due=due, came=share([1 for _ in later], due),
                first_came=share([1 for _ in returns], len(videos)), first_remembered=share(returns, len(videos)),
                remembered=share([a[1] == b[1] and on_time(a, b) for a, b in later], due),
                same_as_before=share([a[1] == b[1] for a, b in pairs], len(pairs)), same_as_first=share([a[1] == b[1] for a, b in later], len(later)),
                period_kept=share([abs(b[0] - a[0] - visitor.PERIOD) <= 1 for a, b in pairs], len(pairs)), colors=dict(zip(NAMES, counts)))


def interval(found, number, policies, frames):
    """95 % interval, by drawing prompts anew, of a rate of one policy, or of the difference of two (second minus first)."""
    prompts = len(found[policies[0]][0])
    rng, drawn = random.Random(0), []
    for _ in range(1000):
        chosen = rng.choices(range(prompts), k=prompts)
        values = [rates([seed[row] for seed in found[policy] for row in chosen], frames)[number] for policy in policies]
        drawn.append(values[-1] - (values[0] if len(values) > 1 else 0))
    drawn.sort()
    return round(drawn[25], 4), round(drawn[974], 4)


def draw(found, path, seconds):
    """A row per video with a mark in the bird's colour where it comes, a panel per policy."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    figure, axes = plt.subplots(1, len(found), figsize=(3.3 * len(found), 3.9), dpi=100, sharey=True, squeeze=False)
    for axis, (policy, seeds) in zip(axes[0], found.items()):
        for y, visits in enumerate(visits for row in zip(*seeds) for visits in row):
            axis.scatter([frame * 4 / FPS for frame, _ in visits], [y] * len(visits), s=9, marker="s", linewidths=0,
                         c=[[value / 255 for value in visitor.COLORS[NAMES[color]]] for _, color in visits])
        axis.set(title=LABELS[policy], xlabel="second", xlim=(0, seconds), yticks=[])
        axis.set_facecolor("#dfe8f0")
    axes[0][0].set_ylabel("videos")
    figure.tight_layout()
    figure.savefig(path)


def stills(exported, latents, found, path, visits=6):
    """A row per policy: of one video the picture when a visit is due, from the first visit on."""
    _, vae, _ = exported
    mean, std = wan_constants(torch.get_default_device())
    ever = next(iter(found.values()))[0]  # the video of the first policy in which the bird comes most often
    row = max(range(len(ever)), key=lambda row: len(ever[row]))
    cells = []
    for policy, values in latents.items():
        first = found[policy][0][row][0][0] if found[policy][0][row] else START
        for frame in range(first, first + visits * visitor.PERIOD, visitor.PERIOD):
            frame = min(frame, values.shape[1] - 1)
            cells.append(pictures(vae, values[row, frame - 3:frame + 1].float()[None], mean, std)[0, -1])
    world.sheet(cells, visits, path, scale=1)


def main():
    parser = stage_arguments(__doc__.split("\n")[0])
    parser.add_argument("--weights", default="..", help="folder of the exported files")
    parser.add_argument("--study", default="runs/memory", help="folder of the latents")
    parser.add_argument("--figures", default="../figures")
    parser.add_argument("--start", default="seen", choices=["seen", "announced"])
    parser.add_argument("--policies", default=",".join(KINDS))
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--samples", type=int, default=3, help="seeds per prompt")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--reasons", action="store_true", help="ask why compression loses the bird (first due visit only)")
    parser.add_argument("--binary", help="let this program make the latents (only with --start announced)")
    parser.add_argument("--model", default="toy", help="as the program takes it: toy, or a folder of exported files")
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16: several times faster")
    args = parser.parse_args()
    preset = PRESETS[args.preset]
    start_workers(args.device)
    os.makedirs(args.study, exist_ok=True)
    os.makedirs(args.figures, exist_ok=True)
    weights, ceiling = train_classifier(load(f"{args.runs}/latents.pt")["visits"], load_specs(args.data, "visits")[:preset.visits])
    print("classifier on encoded clips that it has not learned from:", ceiling, flush=True)
    exported, rng = load_exported(args.weights, preset), random.Random(f"memory {args.seed}")
    specs = [dict(sample_visited_spec(rng), bird=NAMES[row % len(NAMES)], first=GIVEN_VISIT) for row in range(args.prompts)]
    if args.reasons:
        result = reasons(args, exported, specs, preset, weights)
        with open(f"{args.figures}/memory-reasons.json", "w") as file:
            json.dump(result, file, indent=1)
        return
    found, shown, frames = {}, {}, (args.seconds * FPS // 4 + 1 + 2) // 3 * 3
    for sample in range(args.samples):  # one seed after the other for all policies: what is there can be compared at any time
        for policy in args.policies.split(","):
            made = by_program(args, specs, policy, sample) if args.binary else sampled(args, exported, specs, policy, sample, preset, frames)
            shown.setdefault(policy, made)
            found.setdefault(policy, []).append([visits_of(latents, weights) for latents in made])
            print(policy, sample, rates(found[policy][-1], frames), flush=True)
    result = dict(classifier=ceiling, policies={})
    for policy, seeds in found.items():
        entry = rates([visits for seed in seeds for visits in seed], frames)
        entry.update({f"{number}_95": interval(found, number, [policy], frames) for number in COMPARED})
        result["policies"][policy] = entry
        print(policy, entry, flush=True)
    if {"deep-sink", "deep-forcing"} <= set(found):
        result["compression"] = {number: interval(found, number, ["deep-sink", "deep-forcing"], frames) for number in COMPARED}
        print("Deep Forcing minus Deep Sink, 95 %:", result["compression"])
    with open(f"{args.figures}/memory.json", "w") as file:
        json.dump(dict(**result, visits=found), file, separators=(",", ":"))
    draw(found, f"{args.figures}/memory.png", args.seconds)
    stills(exported, shown, found, f"{args.figures}/memory-stills.jpg")


if __name__ == "__main__":
    main()
