"""Judge the exported files as a program would use them: published constants, four steps, streaming decoder.

Three parts, all on held-out clips and their prompts; numbers go to stdout and to OUT/results.json, pictures to OUT.
1. Autoencoder: PSNR of whole clips.
2. First 5 s from pure text: accuracies of the judge beside its ceiling (rendered clips of the same prompts, as they are
   and after the autoencoder), sharpness and amount of movement beside the rendered clips.
3. Long rollouts with FIFO, sinks and Deep Forcing beside rendered videos of the same length: movement of mean RGB,
   contrast and sharpness against the first 5 s, and accuracies, by second.
"""

import contextlib
import json
import os
import time

import torch

import world
from common import Clips, autocast, load, load_specs, stage_arguments, start_workers
from export import VAE_FILE, exported_transformer
from grammar import prompt_of
from judge import FIELDS, load_judge, verdicts
from model import Prompts, ToyModel
from presets import LATENT_FRAMES, PRESETS
from rollout import POLICIES, pictures, rollout
from vae import WanVAE, wan_constants

FPS, OPENING = 16, 80  # pictures of the first 5 s


def load_exported(folder, preset):
    """(ToyModel, WanVAE, Prompts) from exported files, strict names, f32."""
    prompts = Prompts(f"{folder}/google/umt5-xxl/tokenizer.json")
    model, vae = ToyModel(prompts.vocab, **preset.dit), WanVAE(**preset.vae)
    model.load_state_dict(exported_transformer(folder))
    vae.load_state_dict({name: value.float() for name, value in load(f"{folder}/{VAE_FILE}").items()})
    return model.eval(), vae.eval(), prompts


class Bench:
    """Exported model, judge and constants, and what the parts below share."""

    def __init__(self, args, preset):
        self.preset, self.out = preset, args.out
        self.model, self.vae, self.prompts = load_exported(args.weights, preset)
        self.judge = load_judge(args.runs)
        self.mean, self.std = wan_constants(torch.get_default_device())

    def videos(self, specs, seeds, latents, policy):
        """Generated videos [B,T,3,H,W]."""
        ids = self.prompts.batch([prompt_of(spec) for spec in specs])
        z = rollout(self.model, ids, latents, policy, seeds, self.preset.latent)
        return pictures(self.vae, z, self.mean, self.std)

    @torch.no_grad()
    def reconstructed(self, video):
        """[B,3,T,H,W] in [-1,1] -> [B,T,3,H,W] in [0,1] after encoder and streaming decoder."""
        z = (self.vae.encode(video) - self.mean) / self.std
        return pictures(self.vae, z.transpose(1, 2), self.mean, self.std)


def statistics(video):
    """Per picture of [B,T,3,H,W]: mean RGB [B,T,3], contrast, sharpness [B,T] and movement [B,T-1]."""
    sharpness = video.diff(dim=4).abs().mean((2, 3, 4)) + video.diff(dim=3).abs().mean((2, 3, 4))
    return dict(rgb=video.mean((3, 4)), contrast=video.std((3, 4)).mean(2), sharpness=sharpness, movement=video.diff(dim=1).abs().mean((2, 3, 4)))


def autoencoder_quality(bench, clips, indices):
    """Mean PSNR of whole clips; writes originals beside reconstructions."""
    total, rows, columns = 0.0, [], (0, 10, 20, 41, 62, 80)
    for index in indices:
        video = clips.video(index)[None]
        shown, truth = bench.reconstructed(video)[0], video[0].transpose(0, 1) * 0.5 + 0.5
        total += -10 * torch.log10((shown - truth).square().mean()).item()
        rows += [truth[k] for k in columns] + [shown[k] for k in columns]
    world.sheet(rows[:96], 12, f"{bench.out}/vae.png")
    return total / len(indices)


def first_seconds(bench, clips, specs, indices, wanted_sources, batch):
    """Judge and statistics of the first 5 s: dict of source -> dict of name -> mean."""
    sources = dict(rendered=lambda rows, wanted: torch.stack([clips.video(i) for i in rows]).transpose(1, 2) * 0.5 + 0.5,
                   reconstructed=lambda rows, wanted: bench.reconstructed(torch.stack([clips.video(i) for i in rows])),
                   generated=lambda rows, wanted: bench.videos(wanted, rows, LATENT_FRAMES, POLICIES["fifo"]))
    table, rows_shown = {}, []
    for source in wanted_sources:
        make, sums = sources[source], {}
        for at in range(0, len(indices), batch):
            rows = indices[at:at + batch]
            wanted = [specs[i] for i in rows]
            video = make(rows, wanted)
            means = {name: values.mean(1) for name, values in verdicts(bench.judge, video, wanted).items()}
            means.update({name: statistics(video)[name].mean(1) for name in ("sharpness", "movement")})
            for name, values in means.items():
                sums.setdefault(name, []).append(values)
            if source == "generated" and len(rows_shown) < 144:
                rows_shown += [picture for clip in video for picture in clip[::10][:9]]
        table[source] = {name: torch.cat(values).mean().item() for name, values in sums.items()}
    world.sheet(rows_shown[:144], 9, f"{bench.out}/samples.png")
    return table


def by_second(values, seconds):
    """Mean over the pictures of every second: [B,T,...] -> [B,seconds,...]."""
    return values[:, :seconds * FPS].unflatten(1, (seconds, FPS)).mean(2)


def long_rollouts(bench, specs, seeds, seconds, kinds, batch):
    """Drift and accuracy by second of every kind: dict of kind -> dict of name -> list; also contact sheets."""
    latents = (seconds * FPS // 4 + 1 + 2) // 3 * 3
    jobs = [(spec, seed) for spec in specs for seed in seeds]
    table = {}
    for kind in kinds:
        began, series, rows = time.time(), {}, []
        for at in range(0, len(jobs), batch):
            wanted = [spec for spec, _ in jobs[at:at + batch]]
            if kind == "rendered":
                frames = seconds * FPS
                video = torch.stack([world.render(spec, frames=frames, size=bench.preset.size) for spec in wanted])
            else:
                video = bench.videos(wanted, [seed for _, seed in jobs[at:at + batch]], latents, POLICIES[kind])
            stats = {name: by_second(values, seconds) for name, values in statistics(video).items() if name != "movement"}
            opening = {name: values[:, :OPENING // FPS].mean(1, keepdim=True) for name, values in stats.items()}
            found = dict(rgb=(stats["rgb"] - opening["rgb"]).square().mean(-1).sqrt(), contrast=stats["contrast"] / opening["contrast"],
                         sharpness=stats["sharpness"] / opening["sharpness"], **verdicts(bench.judge, video, wanted))
            for name, values in found.items():
                series.setdefault(name, []).append(values)
            rows += [picture for clip in video for picture in clip[torch.linspace(0, seconds * FPS - 1, 12).long()]]
        table[kind] = {name: [round(value, 4) for value in torch.cat(values).mean(0).tolist()] for name, values in series.items()}
        world.sheet(rows[:192], 12, f"{bench.out}/{kind}_{seconds}s.png")
        spans = [(first, last) for first, last in ((0, 5), (5, 20), (20, 40), (40, 60)) if first < seconds]
        mean = lambda name, first, last: sum(table[kind][name][first:last]) / max(1, len(table[kind][name][first:last]))
        for first, last in spans:
            print(f"{kind} {first}-{last} s: " + " ".join(f"{name} {mean(name, first, last):.4f}" for name in table[kind]), flush=True)
        print(f"{kind}: {len(jobs)} videos in {time.time() - began:.0f} s", flush=True)
    return table


def main():
    parser = stage_arguments(__doc__.split("\n")[0])
    parser.add_argument("--weights", default="..", help="folder of the exported files")
    parser.add_argument("--out", default="runs/evaluation")
    parser.add_argument("--clips", type=int, default=20, help="held-out clips for the PSNR, 0 to skip")
    parser.add_argument("--samples", type=int, default=100, help="held-out prompts for the first 5 s, 0 to skip")
    parser.add_argument("--sources", default="rendered,reconstructed,generated", help="of the first 5 s")
    parser.add_argument("--prompts", type=int, default=16, help="held-out prompts of the long rollouts, 0 to skip")
    parser.add_argument("--seeds", type=int, default=3, help="seeds per prompt of the long rollouts")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--kinds", default="rendered,fifo,sink3,sink10,deep")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16: several times faster, slightly different numbers")
    args = parser.parse_args()
    preset = PRESETS[args.preset]
    start_workers(args.device)
    os.makedirs(args.out, exist_ok=True)
    bench, clips, specs = Bench(args, preset), Clips(args.data), load_specs(args.data)
    held_out = list(range(preset.clips - preset.held_out, preset.clips))
    path = f"{args.out}/results.json"
    results = {}
    if os.path.exists(path):
        with open(path) as file:
            results = json.load(file)

    def keep(name, value):
        results[name] = value
        with open(path, "w") as file:
            json.dump(results, file, indent=1)

    with autocast() if args.bf16 else contextlib.nullcontext():
        if args.clips:
            psnr = autoencoder_quality(bench, clips, held_out[:args.clips])
            keep("psnr", psnr)
            print(f"autoencoder, {args.clips} held-out clips of 81 pictures, streaming: {psnr:.2f} dB", flush=True)
        if args.samples:
            table = {**results.get("first", {}), **first_seconds(bench, clips, specs, held_out[:args.samples], args.sources.split(","), args.batch)}
            keep("first", table)
            for source, values in table.items():
                print(f"first 5 s, {source}: " + " ".join(f"{name} {value:.4f}" for name, value in values.items()), flush=True)
            if {"rendered", "generated"} <= set(table):
                ceiling, got = table["rendered"], table["generated"]
                print("generated against rendered: " + " ".join(f"{name} {got[name] / max(ceiling[name], 1e-9):.3f}" for name in [*FIELDS, "sharpness", "movement"]), flush=True)
        if args.prompts:
            keep("long", long_rollouts(bench, [specs[i] for i in held_out[:args.prompts]], range(args.seeds), args.seconds, args.kinds.split(","), args.batch))


if __name__ == "__main__":
    main()
