"""What the caches do over a minute: renders held-out prompts with every policy, measures all videos, draws the figures.

    python drift.py --binary deepforcing --model toy --study runs/drift --figures ../figures

The program renders (`deepforcing batch`, resumable); videos that have been measured are not measured again. For comparison the
world itself is rendered for the same time and goes through the same video encoder. Everything is by second; drift is against
the first 5 s of the same video. Needs the packages of requirements-drift.txt.
"""

import json
import os
import random
import subprocess

import torch
from PIL import Image

import world
from common import load_specs, stage_arguments, start_workers
from evaluate import FPS, OPENING, by_second, statistics
from grammar import prompt_of
from judge import FIELDS, STRETCH, load_judge, verdicts
from presets import PRESETS

TRUTH = "rendered"
POLICIES = {"fifo": ("FIFO", []), "sink": ("sink 3 (LongLive)", ["--sink", "3"]),
            "deep-sink": ("Deep Sink 10", ["--sink", "10"]), "deep-forcing": ("Deep Forcing", [])}
LABELS = {**{name: label for name, (label, _) in POLICIES.items()}, TRUTH: "the world itself"}
COLORS = {"fifo": "#d62728", "sink": "#ff7f0e", "deep-sink": "#1f77b4", "deep-forcing": "#2ca02c", TRUTH: "#555555"}
DRIFTS = dict(rgb="mean RGB moved", contrast="contrast / first 5 s", sharpness="sharpness / first 5 s", movement="movement / first 5 s")
NAMES = dict(color="colour", shape="shape", bg="place", sky="sky", motion="motion", cam="camera")
SPANS = ((0, 5), (5, 20), (20, 40), (40, 60))


def video_name(args, row, sample=0):
    """As `deepforcing batch` names it."""
    return f"p{row}-{sample}" if args.samples > 1 else f"p{row}"


def read_video(path):
    """Pictures [T,3,H,W] in [0,1] of a video file."""
    import av
    with av.open(path) as container:
        frames = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    return torch.stack(frames).permute(0, 3, 1, 2) / 255


def write_video(path, pictures, crf):
    """As the program writes them: H.264, 4:2:0, BT.709."""
    import av
    from av.video.reformatter import Colorspace
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": str(crf), "preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = *pictures.shape[-2:], "yuv420p"
        stream.codec_context.colorspace = Colorspace.ITU709
        for picture in (pictures.permute(0, 2, 3, 1) * 255 + 0.5).to(torch.uint8).numpy():
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def render(args, specs, size):
    """Videos of all policies and of the world into STUDY/POLICY/."""
    path = f"{args.study}/prompts.jsonl"
    with open(path, "w") as file:
        for row, spec in specs.items():
            file.write(json.dumps(dict(id=f"p{row}", prompt=prompt_of(spec))) + "\n")
    for sample in range(args.samples):  # one seed after the other for all policies: what is there can be compared at any time
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


def measure(judge, video, spec, seconds):
    """Series by second of one video [T,3,H,W]: statistics as they are, accuracies of the judge."""
    video = video[None, :seconds * FPS]
    series = {name: by_second(values, len(values[0]) // FPS)[0].tolist() for name, values in statistics(video).items()}
    series.update({name: values[0].tolist() for name, values in verdicts(judge, video, [spec]).items()})
    return series


def measurements(args, specs):
    """Series of all videos there are: policy -> video name -> series; kept in STUDY/measured.json."""
    path, known = f"{args.study}/measured.json", {}
    if os.path.exists(path) and not args.again:
        with open(path) as file:
            known = json.load(file)
    judge = load_judge(args.runs)
    for policy in [*POLICIES, TRUTH]:
        found = known.setdefault(policy, {})
        for row, spec in specs.items():
            for sample in range(1 if policy == TRUTH else args.samples):
                name = video_name(args, row, sample)
                video = f"{args.study}/{policy}/{name}.mp4"
                if name not in found and os.path.exists(video):
                    found[name] = measure(judge, read_video(video), spec, args.seconds)
        print(f"{policy}: {len(found)} videos measured", flush=True)
        with open(path, "w") as file:
            json.dump(known, file)
    return {policy: found for policy, found in known.items() if found}


def drifts(series):
    """Series of one video against its first 5 s, and its accuracies: name -> [seconds]."""
    opening = OPENING // FPS
    values = {name: torch.tensor(series[name]) for name in series}
    start = {name: values[name][:opening].mean(0) for name in ("rgb", "contrast", "sharpness", "movement")}
    ratios = {name: values[name] / start[name] for name in ("contrast", "sharpness", "movement")}
    return dict(rgb=(values["rgb"] - start["rgb"]).square().mean(-1).sqrt(), **ratios, **{name: values[name] for name in FIELDS})


def span_of(values, name, first, last):
    """Mean [videos] over seconds first .. last of [videos,seconds]; stretches that look beyond `last` are left out."""
    beyond = STRETCH // FPS if name in ("motion", "cam") else 0
    return values[:, first:max(first + 1, last - beyond)].mean(1)


def summary(measured):
    """Per policy and measure: mean and deviation over videos by second, and by span; and differences of pairs."""
    stacked = {}
    for policy, videos in measured.items():
        each = [drifts(videos[name]) for name in sorted(videos)]
        stacked[policy] = {name: torch.stack([series[name] for series in each]) for name in each[0]}
    rounded = lambda values: [round(value, 5) for value in values.tolist()]
    table = {}
    for policy, values in stacked.items():
        seconds = values["rgb"].shape[1]
        spans = {f"{first}-{last}": {name: rounded(torch.stack(torch.std_mean(span_of(series, name, first, last), correction=0)).flip(0)) for name, series in values.items()}
                 for first, last in SPANS if first < seconds}
        table[policy] = dict(videos=len(values["rgb"]), spans=spans,
                             by_second={name: dict(mean=rounded(series.mean(0)), low=rounded(series.quantile(0.25, 0)), high=rounded(series.quantile(0.75, 0)))
                                        for name, series in values.items()})
    return dict(policies=table, compression=paired(measured, "deep-sink", "deep-forcing"), sinks=paired(measured, "fifo", "deep-sink"))


def paired(measured, before, after, first=20, last=60):
    """Mean of (after - before) over the same prompts and seeds, with an interval of 95 % by drawing prompts anew."""
    if before not in measured or after not in measured:
        return {}
    names = sorted(set(measured[before]) & set(measured[after]))
    rng, result = random.Random(0), {}
    for measure_name in [*DRIFTS, *FIELDS]:
        value = lambda policy, name: span_of(drifts(measured[policy][name])[measure_name][None], measure_name, first, last).item()
        prompts = {}
        for name in names:
            prompts.setdefault(name.split("-")[0], []).append(value(after, name) - value(before, name))
        means = [sum(values) / len(values) for values in prompts.values()]
        drawn = sorted(sum(rng.choices(means, k=len(means))) / len(means) for _ in range(2000))
        result[measure_name] = dict(mean=round(sum(means) / len(means), 5), low=round(drawn[50], 5), high=round(drawn[1949], 5))
    return result


def draw(result, path, panels, limits):
    """One panel per measure, a line per policy with the middle half of the videos behind it."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    figure, axes = plt.subplots(1, len(panels), figsize=(4 * len(panels), 3.1), dpi=110)
    for axis, (name, title) in zip(axes, panels.items()):
        for policy, entry in result["policies"].items():
            series = entry["by_second"][name]
            seconds = range(len(series["mean"]))
            axis.plot(seconds, series["mean"], color=COLORS[policy], label=LABELS[policy], linewidth=1.3, linestyle="--" if policy == TRUTH else "-")
            axis.fill_between(seconds, series["low"], series["high"], color=COLORS[policy], alpha=0.10, linewidth=0)
        axis.set(title=title, xlabel="second", ylim=limits.get(name))
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path)
    Image.open(path).convert("RGB").quantize(64).save(path, optimize=True)


def stills(args, specs, path, seconds=(2, 10, 20, 40, 59)):
    """A row per policy, for every prompt (its first sample) a column per second."""
    cells = []
    for policy in [*POLICIES, TRUTH]:
        for row in list(specs)[:args.shown]:
            video = read_video(f"{args.study}/{policy}/{video_name(args, row)}.mp4")
            cells += [video[min(second, args.seconds - 1) * FPS] for second in seconds]
    world.sheet(cells, args.shown * len(seconds), path, scale=1)


def main():
    parser = stage_arguments(__doc__.split("\n")[0])
    parser.add_argument("--binary", default="deepforcing")
    parser.add_argument("--model", default="toy", help="as the program takes it: toy, or a folder of exported files")
    parser.add_argument("--study", default="runs/drift", help="folder of the videos and measurements")
    parser.add_argument("--figures", default="../figures")
    parser.add_argument("--prompts", type=int, default=16, help="held-out prompts")
    parser.add_argument("--samples", type=int, default=3, help="seeds per prompt")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--crf", type=int, default=10, help="quality of the videos")
    parser.add_argument("--shown", type=int, default=2, help="prompts of which stills are kept")
    parser.add_argument("--measure-only", action="store_true", help="of videos that are there already")
    parser.add_argument("--again", action="store_true", help="measure anew, for example with another judge")
    args = parser.parse_args()
    preset = PRESETS[args.preset]
    start_workers(args.device)
    os.makedirs(args.study, exist_ok=True)
    os.makedirs(args.figures, exist_ok=True)
    first = preset.clips - preset.held_out
    specs = {row: spec for row, spec in list(enumerate(load_specs(args.data)))[first:first + args.prompts]}
    if not args.measure_only:
        render(args, specs, preset.size)
    result = summary(measurements(args, specs))
    with open(f"{args.figures}/drift.json", "w") as file:
        json.dump(result, file, separators=(",", ":"))
    for policy, entry in result["policies"].items():
        for span, values in entry["spans"].items():
            print(f"{policy} {span} s: " + " ".join(f"{name} {mean:.4f}±{deviation:.4f}" for name, (mean, deviation) in values.items()))
    print("Deep Forcing against Deep Sink, 20-60 s:", result["compression"])
    draw(result, f"{args.figures}/drift.png", DRIFTS, {})
    draw(result, f"{args.figures}/judged.png", {name: f"judge: {NAMES[name]} right" for name in ("color", "shape", "bg", "motion")},
         {name: (0, 1.03) for name in FIELDS})
    stills(args, specs, f"{args.figures}/drift-stills.jpg")


if __name__ == "__main__":
    main()
