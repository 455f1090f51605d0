"""The network against itself, and against recorded cases of the published one where DEEPFORCING_GOLDEN names their folder."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file

from sizes import LATENTS, PRESETS, SIGMAS
from action_module import ActionCache, ActionModule, windows
from network import ToyWorld, WorldDiT, rollout
from vision import VisionTower
from walks import condition
from rollout import Policy
from vae import WanVAE, wan_constants

GOLDEN = os.environ.get("DEEPFORCING_GOLDEN")
recorded = pytest.mark.skipif(not GOLDEN, reason="DEEPFORCING_GOLDEN names no folder of recorded cases")


def case(name):
    """(meta, tensors, weights) of a recorded case; bf16 weights in f32."""
    folder = os.path.join(GOLDEN, name)
    with open(f"{folder}/meta.json") as file:
        meta = json.load(file)
    return meta, load_file(f"{folder}/io.safetensors"), {name: value.float() for name, value in load_file(f"{folder}/weights.safetensors").items()}


def relative(a, b):
    return ((a - b).norm() / b.norm()).item()


def test_rows_of_a_latent_frame():
    rows = torch.arange(57.)[None, :, None]
    seen = windows(rows, LATENTS)[0, :, :, 0].tolist()
    assert seen[0] == [0.] * 12 and seen[1] == [0.] * 9 + [1., 2., 3.] and seen[3] == list(range(12)) and seen[14] == list(range(44, 56))


def randomised(model):
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.05)
    return model.eval()


@pytest.mark.parametrize("local", [6, LATENTS])
def test_cached_chunks_equal_training_forward(local):
    """A rollout of given latents leaves caches with which the next chunk's flow is that of the whole window, for both window sizes."""
    model = randomised(ToyWorld(PRESETS["smoke"]))
    torch.manual_seed(1)
    clean, noisy = torch.randn(2, 2, LATENTS, 16, 4, 4)
    keys, mouse = torch.randint(0, 2, (2, 57, 4)).float(), 0.1 * torch.randn(2, 57, 2)
    condensed = condition(torch.randn(2, 7, 16, 4, 4), LATENTS)
    with torch.no_grad():
        context = model.context(torch.rand(2, 3, 32, 32) * 2 - 1)
        whole = model.model.window(clean, torch.zeros(2, LATENTS), torch.cat([noisy, noisy * 0.5]), torch.full((4, LATENTS), 700.), condensed, context,
                                   keys, mouse, local)
        for last in (3, 6, 9, 15):
            seen = slice(0, 1 + 4 * (last - 1))
            flows = []
            def spy(self, x, t, *rest, original=WorldDiT.chunk, **named):
                flows.append(original(self, x, t, *rest, **named))
                return flows[-1]
            model.model.chunk = spy.__get__(model.model)
            rollout(model.model, lambda a, b: condensed[:, a:b], context, keys[:, seen], mouse[:, seen], Policy("fifo", window=local),
                    lambda: noisy[:, last - 3:last], sigmas=(0.7,), given=clean[:, :last - 3])
            del model.model.chunk
            assert relative(flows[-2], whole[:2, last - 3:last]) < 1e-4
    assert relative(whole[2:], whole[:2]) > 0.01


def test_actions_reach_only_what_follows():
    model = randomised(ToyWorld(PRESETS["smoke"]))
    clean, t = torch.randn(1, LATENTS, 16, 4, 4), torch.zeros(1, LATENTS)
    keys, mouse, cond = torch.zeros(1, 57, 4), torch.zeros(1, 57, 2), condition(torch.randn(1, 7, 16, 4, 4), LATENTS)
    with torch.no_grad():
        context = model.context(torch.rand(1, 3, 32, 32))
        flow = lambda k, m: model.model.window(clean, t, clean, t + 500, cond, context, k, m, LATENTS)
        before = flow(keys, mouse)
        for index in (0, 1):
            pressed, moved = keys.clone(), mouse.clone()
            (pressed if index == 0 else moved)[:, 24] = 1  # row 24 is first shown to latent frame 7, of the third chunk
            changed = (flow(pressed, moved) - before).abs().amax((0, 2, 3, 4))
            assert (changed[:6] == 0).all() and (changed[6:9] > 0).all()


def test_fresh_action_modules_change_nothing():
    module, x = ActionModule(64, heads=1, key_width=4), torch.randn(2, 3 * 4, 64)
    assert torch.equal(module.window(x, torch.ones(2, 3, 12, 4), torch.ones(2, 3, 12, 2)), x)


@recorded
def test_action_module_as_recorded():
    meta, io, weights = case("mg2_action_universal")
    config = meta["action_config"]
    module = ActionModule(config["img_hidden_size"], config["keyboard_dim_in"], config["heads_num"], config["hidden_size"])
    prefix = next(name for name in weights if name.endswith("t_qkv.weight"))[:-len("t_qkv.weight")]
    module.load_state_dict({name[len(prefix):]: value for name, value in weights.items()})
    cache = ActionCache(meta["local_attn_size"])
    with torch.no_grad():
        for chunk, (x, wanted) in enumerate(zip(io["x"], io["out"])):
            start, frames = 3 * chunk, 3 * chunk + 3
            rows = slice(0, 1 + 4 * (frames - 1))
            keys, mouse = (windows(io[name][:, rows], frames)[:, start:] for name in ("keyboard_cond", "mouse_cond"))
            assert relative(module.chunk(x, keys, mouse, cache, start, True), wanted) < 1e-5
    for branch, name in (("mouse", "mouse"), ("keys", "keyboard")):
        for kept, letter in zip(cache.kept[branch], "kv"):
            kept = kept.transpose(1, 2).flatten(0, 1) if branch == "mouse" else kept
            assert relative(kept, io[f"final_{name}_{letter}"]) < 1e-5


@recorded
def test_rollout_as_recorded():
    """Eleven chunks with the recorded noise."""
    meta, io, weights = case("mg2_rollout_universal")
    sizes, config = meta["model"], meta["action_config"]
    model = WorldDiT(sizes["dim"], sizes["num_layers"], sizes["num_heads"], sizes["ffn_dim"], len(config["blocks"]), config["heads_num"],
                     config["hidden_size"], config["keyboard_dim_in"], sizes["clip_dim"])
    model.load_state_dict({name.removeprefix("model."): value for name, value in weights.items()})
    frames_first = lambda x: x.transpose(1, 2)
    noise, renoise = frames_first(io["noise"]), io["renoise"]
    noises = []
    for chunk in range(noise.shape[1] // 3):
        noises += [noise[:, 3 * chunk:3 * chunk + 3], *(renoise[chunk, i].transpose(0, 1)[None] for i in range(renoise.shape[1]))]
    window = meta["local_attn_size"]
    made = rollout(model, lambda a, b: frames_first(io["cond_concat"])[:, a:b], model.img_emb(io["visual_context"]), io["keyboard_cond"], io["mouse_cond"],
                   Policy("fifo", window=window), iter(noises).__next__, action_window=window)
    assert relative(made, frames_first(io["latents"])) < 1e-4
    assert SIGMAS == pytest.approx([t / 1000 for t in meta["schedule"]["warped_timesteps"]], abs=1e-6)


@recorded
def test_vision_tower_as_recorded():
    meta, io, weights = case("mg2_clip_visual")
    config = meta["config"]
    tower = VisionTower(config["image_size"], config["patch_size"], config["dim"], config["num_heads"], config["num_layers"], config["out_dim"])
    tower.load_state_dict({name.removeprefix("visual."): value for name, value in weights.items()})
    with torch.no_grad():
        assert relative(tower.prepared(io["video"][:, :, 0]), io["preprocessed"]) < 1e-5
        assert relative(tower(io["video"][:, :, 0]), io["visual_context"]) < 1e-5


@recorded
def test_condition_as_recorded():
    meta, io, weights = case("mg2_image_condition")
    config = meta["vae"]
    vae = WanVAE(config["base_dim"], config["dim_mult"], config["num_res_blocks"], config["z_dim"], config["temporal_downsample"])
    vae.load_state_dict(weights, strict=False)
    mean, std = wan_constants()
    video = torch.cat([io["image"], torch.zeros(1, 3, meta["pixel_frames"] - 1, *io["image"].shape[3:])], 2)
    with torch.no_grad():
        latents = ((vae.encode(video) - mean) / std).transpose(1, 2)
    assert relative(condition(latents, meta["num_latent_frames"]).transpose(1, 2), io["cond_concat"]) < 1e-4


@recorded
def test_names_are_those_of_the_published_checkpoint():
    with open(os.path.join(GOLDEN, "manifests", "matrix_game_2_universal.json")) as file:
        published = {name for name in json.load(file)["tensors"] if ".blocks." not in name or ".blocks.0." in name or ".blocks.29." in name}
    model = ToyWorld(PRESETS["cpu"]).model
    last = len(model.blocks) - 1
    own = {f"model.{name}".replace(f".blocks.{last}.", ".blocks.29.") for name in model.state_dict()}
    assert {name for name in own if ".blocks." not in name or ".blocks.0." in name or ".blocks.29." in name} == published
