"""Every stage at a tiny size, without compiling."""

import os
import subprocess
import sys

import numpy as np
import torch

from sizes import HERE, SETTLED
from export_world import CLIP_FILE, WORLD_FILE, exported_world
from sample_world import Player, whole_chunks
from trajectories import parse
from walks import Latents, as_video, condition

ENVIRONMENT = {**os.environ, "TORCHDYNAMO_DISABLE": "1", "OMP_NUM_THREADS": "1"}


def run(script, *arguments):
    return subprocess.run([sys.executable, os.path.join(HERE, script), *map(str, arguments)], check=True, env=ENVIRONMENT, capture_output=True, text=True).stdout


def test_all_stages_run_and_go_on(tmp_path):
    data, runs, out = tmp_path / "data", tmp_path / "runs", tmp_path / "out"
    folders, smoke = ("--data", data, "--runs", runs), ("--preset", "smoke")
    run("render_walks.py", *smoke, "--data", data)
    run("train_autoencoder.py", *smoke, *folders, "--minutes", "0.02", "--begin-from", "")
    run("encode_walks.py", *smoke, *folders)
    stage = ("train_world.py", *smoke, "--runs", runs, "--begin-from", "nothing", "--steps")
    assert "done: 2 steps" in run(*stage, 2)
    assert "done: 4 steps" in run(*stage, 4)
    assert "done: 2 steps" in run("train_world_fewstep.py", *smoke, "--runs", runs, "--steps", 2)
    run("export_world.py", *smoke, "--runs", runs, "--out", out)

    trained = torch.load(runs / "fewstep.pt", weights_only=True)["ema"]
    exported = exported_world(str(out))
    assert trained.keys() == exported.keys() and all(torch.allclose(exported[name], value, atol=1e-2, rtol=1e-3) for name, value in trained.items())
    assert os.path.getsize(out / WORLD_FILE) and os.path.getsize(out / CLIP_FILE)

    # what the exported autoencoder makes of a start picture is what was trained with
    player, latents = Player(str(out), "smoke"), Latents(str(runs))
    first = as_video(latents.parts[0]["start"][:1].numpy())
    grey = torch.zeros(3, 4 * (SETTLED - 1), 96, 96)
    with torch.no_grad():
        condensed = player.vae.encode(torch.cat([first, grey], 1)[None]).transpose(1, 2)[0]
    wanted = latents.parts[0]["condition"][0].float()
    assert (condensed - wanted).norm() / wanted.norm() < 0.02
    assert torch.equal(condition(wanted[None], 9)[0, 8, 4:], wanted[6])
    keys, mouse = (torch.from_numpy(np.stack([part, part])) for part in whole_chunks(*parse("w*10, left*8")))
    made = player.latents(latents.parts[0]["start"][:2].numpy(), keys, mouse)
    assert made.shape == (2, 6, 16, 12, 12) and player.pictures(made).shape == (2, 21, 96, 96, 3)
    run("sample_world.py", *smoke, "--weights", out, "--actions", "w*9", "--out", tmp_path / "walk")
    assert os.path.getsize(tmp_path / "walk.png") and os.path.getsize(tmp_path / "walk.gif")


def test_a_stopped_run_draws_as_an_unstopped_one(tmp_path):
    data, runs = tmp_path / "data", tmp_path / "runs"
    run("render_walks.py", "--preset", "smoke", "--data", data)
    run("train_autoencoder.py", "--preset", "smoke", "--data", data, "--runs", runs, "--minutes", "0", "--begin-from", "")
    run("encode_walks.py", "--preset", "smoke", "--data", data, "--runs", runs)
    weights = {}
    for name, calls in (("at once", [("--steps", 4)]), ("twice", [("--steps", 4, "--until", 2), ("--steps", 4)])):
        folder = tmp_path / name
        os.makedirs(folder)
        os.symlink(runs / "latents", folder / "latents")
        for call in calls:
            run("train_world.py", "--preset", "smoke", "--runs", folder, "--begin-from", "nothing", *call)
        weights[name] = torch.load(folder / "world.pt", weights_only=True)["model"]
    assert all(torch.equal(value, weights["twice"][name]) for name, value in weights["at once"].items())
