"""What a new run starts from."""

import os

import torch
from safetensors.torch import load_file

from sizes import SHARED
from export import DIT_FILE

TOY_LAYERS = (0, 1, 2, 3, 5)


def from_toy(network):
    """Take over the text toy's blocks (one left out, the feed-forward layers' strongest channels), time embedding, head and input.

    The new inputs (mask, start picture) begin at zero, and so do the outputs of the action modules: at first the model ignores them. Only for
    the toy's width.
    """
    toy = {name: value.float() for name, value in load_file(os.path.join(SHARED, "..", DIT_FILE)).items()}
    model = network.model
    hidden = model.blocks[0].ffn[0].out_features
    taken = {name: value for name, value in toy.items() if name.startswith(("time_", "head."))}
    for layer, source in enumerate(TOY_LAYERS[:len(model.blocks)]):
        part = {name.removeprefix(f"blocks.{source}."): value for name, value in toy.items() if name.startswith(f"blocks.{source}.")}
        strength = part["ffn.0.weight"].norm(dim=1) * part["ffn.2.weight"].norm(dim=0)
        kept = strength.topk(hidden).indices.sort().values
        part["ffn.0.weight"], part["ffn.0.bias"], part["ffn.2.weight"] = part["ffn.0.weight"][kept], part["ffn.0.bias"][kept], part["ffn.2.weight"][:, kept]
        taken.update({f"blocks.{layer}.{name}": value for name, value in part.items()})
    missing, unexpected = model.load_state_dict(taken, strict=False)
    assert not unexpected and all("action_model" in name or name.startswith(("img_emb", "patch_embedding")) for name in missing)
    with torch.no_grad():
        model.patch_embedding.weight.zero_()
        model.patch_embedding.weight[:, :model.channels] = toy["patch_embedding.weight"]
        model.patch_embedding.bias.copy_(toy["patch_embedding.bias"])
    return network


def beginning(network, name):
    """A network to train on: 'toy', 'nothing', or a folder of exported files."""
    if name == "nothing":
        return network
    if name == "toy":
        return from_toy(network)
    from export_world import exported_world
    network.load_state_dict(exported_world(name))
    return network
