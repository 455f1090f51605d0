"""Write the trained parts as the published Wan files (names, containers, shapes), half precision.

Programs apply fixed per-channel constants around the autoencoder (z * std + mean before decoding, (mu - mean) / std after
encoding). The toy latents have their own mean and scale, so the difference is folded into the autoencoder's two
1x1x1 convolutions: latents of the transformer go in and come out unchanged.
"""

import json
import os
import shutil

import torch
from safetensors.torch import load_file, save_file

from common import load, stage_arguments
from presets import PRESETS
from vae import WAN_MEAN, WAN_STD, WanVAE

VAE_FILE, TEXT_FILE, DIT_FILE = "Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth", "diffusion_pytorch_model.safetensors"


def transformer_config(preset):
    """The config.json of the exported transformer."""
    dit = preset.dit
    return dict(_class_name="WanModel", dim=dit["dim"], eps=1e-6, ffn_dim=dit["hidden"], freq_dim=256, in_dim=16, model_type="t2v",
                num_heads=dit["heads"], num_layers=dit["layers"], out_dim=16, text_len=32, deepforcing_preset="toy")


def fold_normalisation(state, mean, scale):
    """Autoencoder weights for which (raw - mean) / scale latents pass through the published constants unchanged."""
    state = {name: value.double() for name, value in state.items()}
    mean, scale = mean.double(), scale.double()
    wan_mean, wan_std = torch.tensor(WAN_MEAN).double(), torch.tensor(WAN_STD).double()
    weight = state["conv2.weight"][:, :, 0, 0, 0]
    folded = weight * (scale / wan_std)
    state["conv2.bias"] = state["conv2.bias"] + weight @ mean - folded @ wan_mean
    state["conv2.weight"] = folded[:, :, None, None, None]
    ratio = wan_std / scale
    state["conv1.weight"], state["conv1.bias"] = state["conv1.weight"].clone(), state["conv1.bias"].clone()
    state["conv1.weight"][:16] *= ratio[:, None, None, None, None]
    state["conv1.bias"][:16] = (state["conv1.bias"][:16] - mean) * ratio + wan_mean
    return state


def unfold_normalisation(state):
    """Undo the published constants: weights whose raw latents are those of the transformer (mean 0, deviation 2)."""
    state = {name: value.double() for name, value in state.items()}
    mean, std = torch.tensor(WAN_MEAN).double(), torch.tensor(WAN_STD).double()
    weight = state["conv2.weight"][:, :, 0, 0, 0]
    state["conv2.bias"] = state["conv2.bias"] + weight @ mean
    state["conv2.weight"] = (weight * std)[:, :, None, None, None]
    state["conv1.weight"], state["conv1.bias"] = state["conv1.weight"].clone(), state["conv1.bias"].clone()
    state["conv1.weight"][:16] /= std[:, None, None, None, None]
    state["conv1.bias"][:16] = (state["conv1.bias"][:16] - mean) / std
    return {name: value.float() for name, value in state.items()}


def exported_vae(folder):
    """Autoencoder weights to train on from, of exported files."""
    return unfold_normalisation(load(f"{folder}/{VAE_FILE}"))


def exported_transformer(folder):
    """State of a `ToyModel` (transformer and text encoder), f32, of exported files."""
    parts = {"dit.": load_file(f"{folder}/{DIT_FILE}"), "text_encoder.": load(f"{folder}/{TEXT_FILE}")}
    return {prefix + name: value.float() for prefix, state in parts.items() for name, value in state.items()}


def check_fold(original, folded, mean, scale, sizes):
    """Largest relative difference of encode and decode before and after folding (f32)."""
    a, b = WanVAE(**sizes), WanVAE(**sizes)
    a.load_state_dict(original)
    b.load_state_dict({name: value.float() for name, value in folded.items()})
    shape = (1, -1, 1, 1, 1)
    wan_mean, wan_std = torch.tensor(WAN_MEAN).view(shape), torch.tensor(WAN_STD).view(shape)
    z, video = 2 * torch.randn(1, 16, 2, 8, 8), torch.rand(1, 3, 5, 64, 64) * 2 - 1
    with torch.no_grad():
        pairs = [(a.decode(z * scale.view(shape) + mean.view(shape)), b.decode(z * wan_std + wan_mean)),
                 ((a.encode(video) - mean.view(shape)) / scale.view(shape), (b.encode(video) - wan_mean) / wan_std)]
    return max(((x - y).norm() / x.norm()).item() for x, y in pairs)


def main():
    parser = stage_arguments(__doc__.split("\n")[0])
    parser.add_argument("--weights", default="fewstep.pt", help="file in runs: fewstep.pt, or dit.pt for the flow model")
    parser.add_argument("--out", default="..")
    args = parser.parse_args()
    preset = PRESETS[args.preset]
    os.makedirs(f"{args.out}/google/umt5-xxl", exist_ok=True)

    ema = load(f"{args.runs}/{args.weights}")["ema"]
    part = lambda prefix, dtype: {name[len(prefix):]: value.to(dtype).contiguous() for name, value in ema.items() if name.startswith(prefix)}
    save_file(part("dit.", torch.float16), f"{args.out}/{DIT_FILE}", metadata={"format": "pt"})
    with open(f"{args.out}/config.json", "w") as file:
        json.dump(transformer_config(preset), file, indent=2)
        file.write("\n")
    torch.save(part("text_encoder.", torch.bfloat16), f"{args.out}/{TEXT_FILE}")
    shutil.copy(f"{args.runs}/tokenizer.json", f"{args.out}/google/umt5-xxl/tokenizer.json")

    tuned = f"{args.runs}/vae_decoder.pt"
    vae = load(tuned if os.path.exists(tuned) else f"{args.runs}/vae.pt")["model"]
    latents = load(f"{args.runs}/latents.pt")
    folded = fold_normalisation(vae, latents["mean"], latents["scale"])
    print(f"fold: relative difference {check_fold(vae, folded, latents['mean'], latents['scale'], preset.vae):.1e}")
    torch.save({name: value.to(torch.float16).contiguous() for name, value in folded.items()}, f"{args.out}/{VAE_FILE}")
    names = (DIT_FILE, VAE_FILE, TEXT_FILE, "google/umt5-xxl/tokenizer.json")
    for name in names:
        print(f"{name}: {os.path.getsize(f'{args.out}/{name}') / 1e6:.2f} MB")
    print(f"together {sum(os.path.getsize(f'{args.out}/{name}') for name in names) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
