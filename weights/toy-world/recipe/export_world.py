"""Write the trained parts as the files of Matrix-Game 2.0 (names, containers, shapes), half precision, and read them again."""

import argparse
import json
import os

import torch
from safetensors.torch import load_file, save_file

from sizes import PRESETS
from common import load
from export import VAE_FILE, check_fold, fold_normalisation

WORLD_FILE = "base_distilled_model/base_distill.safetensors"
CONFIG_FILE = "config.json"
CLIP_FILE = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"


def exported_world(folder):
    """State of a `ToyWorld`, f32, of exported files."""
    state = {**load_file(f"{folder}/{WORLD_FILE}"), **load(f"{folder}/{CLIP_FILE}")}
    return {name: value.float() for name, value in state.items()}


def world_config(preset):
    """What shapes don't tell, and the sizes; the published model has no such file, its sizes being known."""
    return dict(_class_name="WanModel", dim=preset.dim, eps=1e-6, ffn_dim=preset.hidden, freq_dim=256, in_dim=36, model_type="i2v",
                num_heads=preset.heads, num_layers=preset.layers, out_dim=16)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--preset", default="cpu", choices=PRESETS)
    parser.add_argument("--weights", default="fewstep.pt", choices=["fewstep.pt", "world.pt", "none"],
                        help="file in runs: of the few-step stage, of the flow model, or none: the autoencoder only")
    parser.add_argument("--out", default="..")
    args = parser.parse_args()
    os.makedirs(f"{args.out}/{os.path.dirname(WORLD_FILE)}" if args.weights != "none" else args.out, exist_ok=True)
    written = [VAE_FILE]
    if args.weights != "none":
        ema = {name: value.to(torch.float16).contiguous() for name, value in load(f"{args.runs}/{args.weights}")["ema"].items()}
        save_file({name: value for name, value in ema.items() if name.startswith("model.")}, f"{args.out}/{WORLD_FILE}", metadata={"format": "pt"})
        torch.save({name: value for name, value in ema.items() if name.startswith("visual.")}, f"{args.out}/{CLIP_FILE}")
        with open(f"{args.out}/{CONFIG_FILE}", "w") as file:
            json.dump(world_config(PRESETS[args.preset]), file, indent=2)
            file.write("\n")
        written += [WORLD_FILE, CLIP_FILE]
    vae = load(f"{args.runs}/vae.pt")["model"]
    mean, scale = torch.zeros(16), torch.ones(16)  # the transformer's latents are the raw ones
    folded = fold_normalisation(vae, mean, scale)
    print(f"fold: relative difference {check_fold(vae, folded, mean, scale, PRESETS[args.preset].vae):.1e}")
    torch.save({name: value.to(torch.float16).contiguous() for name, value in folded.items()}, f"{args.out}/{VAE_FILE}")
    sizes = [os.path.getsize(f"{args.out}/{name}") / 1e6 for name in written]
    print("MB:", " + ".join(f"{size:.2f}" for size in sizes), f"= {sum(sizes):.2f}")


if __name__ == "__main__":
    main()
