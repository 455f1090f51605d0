"""Checks of the recipe's own pieces; run `python -m pytest tests` in the recipe folder (a few seconds)."""

import argparse
import os
import random
import shutil
import subprocess
import sys

import pytest
import torch

RECIPE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, RECIPE)

import drift
import grammar
import judge
import memory
import tokenizer
import visitor
import world
from dit import CausalDiT
from export import check_fold, exported_transformer, fold_normalisation, unfold_normalisation
from model import ToyModel
from presets import TOY_VAE
from rollout import POLICIES, LayerCache, Policy, rollout
from train_vae import amounts, reconstruction_loss
from vae import WanVAE


def relative(a, b):
    return ((a - b).norm() / b.norm()).item()


def test_whole_decode_equals_streaming():
    torch.manual_seed(0)
    vae = WanVAE(dim=4, dim_mult=(1, 2, 3, 4)).eval()
    z = torch.randn(1, 16, 4, 2, 3)
    with torch.no_grad():
        assert relative(torch.cat(list(vae.decode_stream(z)), 2), vae.decode(z)) < 1e-5


def test_fold_keeps_latents():
    torch.manual_seed(0)
    vae = WanVAE(**TOY_VAE)
    mean, scale = torch.randn(16), torch.rand(16) + 0.5
    folded = fold_normalisation(vae.state_dict(), mean, scale)
    assert check_fold(vae.state_dict(), folded, mean, scale, TOY_VAE) < 1e-4
    again = fold_normalisation(unfold_normalisation(folded), torch.zeros(16), torch.ones(16))
    assert all(relative(again[name], folded[name]) < 1e-5 for name in ("conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"))


def test_pale_details_cost_more_than_details_in_the_wrong_place():
    stripes = torch.tensor([0., 0., 1., 1.]).repeat(8).expand(1, 3, 2, 32, 32)
    shifted, pale = stripes.roll(1, 4), torch.full_like(stripes, 0.5)
    missing = lambda video: (amounts(video.diff(dim=4)) - amounts(stripes.diff(dim=4))).abs().mean().item()
    assert missing(shifted) < 0.2 * missing(pale)
    weight = torch.ones(1, 1, 2, 32, 32)
    assert reconstruction_loss(stripes, stripes, weight) == (0, 0)
    assert reconstruction_loss(pale, stripes, weight)[1] == 0.25


def test_cached_chunks_equal_training_forward():
    torch.manual_seed(0)
    dit = CausalDiT(dim=128, layers=2, heads=2, hidden=128).eval()
    torch.nn.init.normal_(dit.head.head.weight, std=0.05)
    clean, noisy = torch.randn(1, 21, 16, 8, 8), torch.randn(2, 21, 16, 8, 8)
    t = torch.tensor([1000., 937.5, 833., 625., 300., 50., 625.]).repeat_interleave(3)[None].repeat(2, 1)
    with torch.no_grad():
        context = dit.text_embedding(torch.randn(1, 32, 128))
        flow = dit.window(clean, torch.zeros(1, 21), noisy, t, context)
        caches = [LayerCache(Policy("fifo"), 4, 4) for _ in dit.blocks]
        for start in range(0, 21, 3):
            run = lambda x, t, first: dit.chunk(x, t, context, [
                lambda q, k, v, cache=cache: cache.mix(q, k, v, start, first) for cache in caches])
            got = run(noisy[1:, start:start + 3], t[1, start].item(), True)
            assert relative(got, flow[1:, start:start + 3]) < 1e-5
            run(clean[:, start:start + 3], 0.0, False)


def test_cache_positions_are_contiguous(monkeypatch):
    torch.manual_seed(0)
    model = ToyModel(vocab=16).eval()
    seen = {}
    original = LayerCache.evict

    def evict(self):
        original(self)
        seen.setdefault(self.policy.kind, []).append((self.positions[0, 0, ::16].tolist(), self.k.shape[1]))
    monkeypatch.setattr(LayerCache, "evict", evict)
    for kind in ("fifo", "sink", "deep"):
        rollout(model, torch.tensor([[4, 5, 1] + [0] * 29]), 30, Policy(kind), [0], 8)
    assert seen["fifo"][0] == (list(range(3, 24)), 21 * 16)
    assert seen["sink"][0] == (list(range(3, 24)), 21 * 16)
    assert seen["deep"][0] == (list(range(8, 24)), 16 * 16)


def test_batched_rollout_equals_single_ones():
    torch.manual_seed(0)
    model = ToyModel(vocab=16, dim=64, layers=2, heads=1, hidden=64).eval()
    torch.nn.init.normal_(model.dit.head.head.weight, std=0.05)
    ids = torch.tensor([[4, 5, 1] + [0] * 29, [7, 6, 5, 1] + [0] * 28])
    for policy in POLICIES.values():
        both = rollout(model, ids, 30, policy, [3, 9], 4)
        for row, seed in enumerate((3, 9)):
            assert relative(rollout(model, ids[row:row + 1], 30, policy, [seed], 4), both[row:row + 1]) < 1e-4


def test_watched_tokens_are_kept_by_force_and_keep_their_moments():
    torch.manual_seed(0)
    model, ids = ToyModel(vocab=16, dim=64, layers=2, heads=1, hidden=64).eval(), torch.tensor([[4, 5, 1] + [0] * 29])
    watched = tuple((frame, 0, column) for frame in (12, 13) for column in (0, 1))
    final = {}
    for forced in (False, True):
        for own in (False, True):
            caches = []
            rollout(model, ids, 24, Policy(watched=watched, forced=forced, own_moments=own), [0], 4, caches=caches)
            final[forced, own] = caches[0]
    assert final[True, False].watched_left[0].tolist() == [4] and final[False, False].watched_left[0] < 4
    place = lambda cache: [tuple(at) for at in cache.positions[:, 0, cache.watched[0]].T.tolist()]
    assert place(final[True, True]) == list(watched), "they stay where they were"
    assert {at[0] for at in place(final[True, False])} <= {18, 19}, "moved next to the recent frames, 20 to 23"
    assert final[True, True].positions[0, 0, :4].tolist() == [final[True, True].positions[0, 0, 40:].min() - 10] * 4, "the sink ends where they begin"


def test_tokenizer():
    built = tokenizer.build(prompts=500)
    assert built.encode("").ids == [1]
    assert tokenizer.token_ids(built, "A Red ball")[:4] == tokenizer.token_ids(built, "a  red ball ")[:4]
    assert 3 not in built.encode("an elephant dances quickly: 42 times!").ids
    assert len(tokenizer.token_ids(built, "zebra " * 30)) == tokenizer.TEXT_LEN
    assert tokenizer.token_ids(built, "zebra " * 30)[-1] == 1


def test_world_is_a_function_of_time():
    spec = grammar.sample_spec(random.Random(3))
    clip = world.render(spec, frames=8)
    assert clip.shape == (8, 3, 64, 64) and 0 <= clip.min() and clip.max() <= 1
    assert torch.allclose(world.render(spec, frames=4, start=4 / 16), clip[4:], atol=1e-3)


def test_the_bird_comes_back_and_no_prompt_names_its_colour():
    rng = random.Random(5)
    spec = dict(grammar.sample_visited_spec(rng), first=1, bird="magenta", sky="noon")
    clip, coverage = world.render(spec, frames=81, size=96, with_mask=True)
    without = world.render({name: value for name, value in spec.items() if name != "bird"}, frames=81, size=96)
    changed = [f for f in range(81) if (clip[f] - without[f]).abs().max() > 0]
    assert set(changed) == set(range(9, 21)) | set(range(57, 69)), "chunks 1 and 5 of 12 pictures"
    assert coverage[15, 16, 16] == 1
    for _ in range(200):
        spec = grammar.sample_visited_spec(rng)
        prompts = [grammar.prompt_of({**spec, "bird": color}, random.Random(7)) for color in visitor.COLORS]
        assert "a bird" in prompts[0] and len(set(prompts)) == 1
    assert "bird" not in grammar.prompt_of(grammar.sample_spec(rng))


def test_visits_are_found_in_latents():
    """Latents of noise around a fixed picture, a bird of every colour being a direction of its own at its place."""
    torch.manual_seed(0)
    looks, specs = torch.randn(4, 16, 1, 1) * 3, [dict(bird=memory.NAMES[n % 4], first=n // 4 % 5) for n in range(80)]
    clips = torch.randn(80, 1, 16, 12, 12) + 0.3 * torch.randn(80, 21, 16, 12, 12)
    for clip, spec in zip(clips, specs):
        for frame in memory.middles(spec):
            clip[frame - 1:frame + 1, :, 1:3, 1:3] += looks[memory.NAMES.index(spec["bird"])]
    weights, found = memory.train_classifier(clips, specs)
    assert found["middles"] == found["seen"] == found["right_color"] and found["false"] == 0
    assert found["pairs"] == found["same_color"] == 24
    assert [frame // 12 for frame, color in memory.visits_of(clips[5], weights) if color == 1] == [0, 1]
    assert memory.visits_of(torch.randn(1, 16, 12, 12) + 0.3 * torch.randn(30, 16, 12, 12), weights) == []


def test_rates_of_visits():
    kept, lost = [(13, 1), (25, 1), (37, 1)], [(13, 1), (25, 2), (41, 1)]
    found = memory.rates([kept, lost, []], 51)
    assert (found["videos"], found["with_birds"], found["due"], found["came"]) == (3, 2, 6, 0.6667)
    assert (found["same_as_before"], found["same_as_first"], found["period_kept"], found["remembered"]) == (0.5, 0.75, 0.75, 0.3333)
    assert (found["first_came"], found["first_remembered"]) == (0.6667, 0.3333)
    assert memory.interval(dict(a=[[kept, kept]], b=[[lost, lost]]), "same_as_before", ["b", "a"], 51) == (1, 1)


def test_matches_find_the_pan():
    spec = dict(color="red", shape="ball", motion="spinning", bg="city", sky="noon", cam="static", size="small", layout=0, seed=1)
    right = [judge.matches(judge.glance(world.render({**spec, "cam": cam}, frames=33, size=96)[None]))[0, 16:] for cam in ("static", "left", "right")]
    shift = [values.unflatten(1, (len(judge.LAGS), len(judge.SHIFTS), -1))[:, 0].mean((0, 2)).argmin().item() - 3 for values in right]
    assert shift[0] == 0 and shift[1] == -shift[2] != 0


def test_verdicts_count_seconds_and_stretches():
    torch.manual_seed(0)
    spec = grammar.sample_spec(random.Random(3))
    found = judge.verdicts(judge.Judge().eval(), torch.rand(1, 81, 3, 32, 32), [spec])
    assert {name: values.shape[1] for name, values in found.items()} == dict(color=5, shape=5, bg=5, sky=5, motion=2, cam=2)


def test_drift_is_against_the_own_opening():
    flat = lambda value, seconds=60: [value] * seconds
    series = dict(rgb=[[0.5, 0.5, 0.5]] * 30 + [[0.5, 0.5, 0.8]] * 30, contrast=flat(0.2), sharpness=flat(0.1, 30) + flat(0.2, 30), movement=flat(1.0),
                  **{name: flat(1.0) for name in judge.FIELDS})
    calm = {**series, "rgb": flat([0.5, 0.5, 0.5])}
    found = drift.drifts(series)
    assert found["rgb"][0] == 0 and abs(found["rgb"][59] - 0.3 / 3 ** 0.5) < 1e-6
    assert abs(found["sharpness"][59] - 2) < 1e-5 and abs(found["contrast"][59] - 1) < 1e-6
    measured = {"deep-sink": {"p1-0": series, "p2-0": series}, "deep-forcing": {"p1-0": calm, "p2-0": calm}}
    pair = drift.paired(measured, "deep-sink", "deep-forcing", 40, 60)["rgb"]
    assert pair["low"] == pair["high"] == pair["mean"] and abs(pair["mean"] + 0.3 / 3 ** 0.5) < 1e-4


def test_study_measures_what_is_there(tmp_path):
    """A study of one prompt, one second long: videos of the world stand for those of the policies."""
    pytest.importorskip("av")
    pytest.importorskip("matplotlib")
    spec = grammar.sample_spec(random.Random(3))
    pictures = world.render(spec, frames=96, size=32)
    for policy in [*drift.POLICIES, drift.TRUTH]:
        os.makedirs(tmp_path / policy)
        drift.write_video(str(tmp_path / policy / "p0.mp4"), pictures, 1)
    assert (drift.read_video(str(tmp_path / "fifo" / "p0.mp4")) - pictures).abs().mean() < 0.02
    torch.save(dict(model=judge.Judge().state_dict()), tmp_path / "judge.pt")
    args = argparse.Namespace(study=str(tmp_path), runs=str(tmp_path), samples=1, seconds=6, again=False, shown=1)
    result = drift.summary(drift.measurements(args, {0: spec}))
    assert result["policies"]["fifo"]["by_second"]["rgb"] == result["policies"]["rendered"]["by_second"]["rgb"]
    drift.draw(result, str(tmp_path / "drift.png"), drift.DRIFTS, {})
    drift.stills(args, {0: spec}, str(tmp_path / "stills.png"))
    assert os.path.getsize(tmp_path / "drift.png") > 0 and os.path.getsize(tmp_path / "stills.png") > 0


def test_all_stages_run(tmp_path):
    """Every stage at a tiny size, a second or two each, without compiling."""
    line = [sys.executable, f"{RECIPE}/run_all.py", "--preset", "smoke", "--workers", "1", "--minutes", "0.1", "--data", f"{tmp_path}/data",
            "--runs", f"{tmp_path}/runs", "--out", f"{tmp_path}/out", "--evaluation",
            "--clips 1 --samples 2 --prompts 1 --seeds 1 --seconds 6 --kinds rendered,deep"]
    environment = {**os.environ, "TORCHDYNAMO_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run(line, check=True, env=environment)
    assert os.path.getsize(f"{tmp_path}/out/Wan2.1_VAE.pth") > 0
    assert os.path.getsize(f"{tmp_path}/runs/evaluation/results.json") > 0

    # going on from the exported files alone gives the latents that the exported transformer knows
    subprocess.run([sys.executable, f"{RECIPE}/encode_latents.py", "--preset", "smoke", "--data", f"{tmp_path}/data", "--runs", f"{tmp_path}/again",
                    "--keep-autoencoder", f"{tmp_path}/out"], check=True, env=environment)
    before, after = (torch.load(f"{tmp_path}/{runs}/latents.pt", weights_only=True) for runs in ("runs", "again"))
    assert (after["mean"] == 0).all() and (after["scale"] == 1).all()
    for kind in ("clips", "starts", "visits"):
        assert after[kind].shape == before[kind].shape
        assert relative(after[kind].float(), before[kind].float()) < 0.02

    # further stages begin with what was exported, not with a fresh network or the teacher
    shutil.copy(f"{tmp_path}/runs/tokenizer.json", f"{tmp_path}/again")
    for stage, minutes in (("train_dit", "0.02"), ("train_fewstep", "0.000001")):
        subprocess.run([sys.executable, f"{RECIPE}/{stage}.py", "--preset", "smoke", "--data", f"{tmp_path}/data", "--runs", f"{tmp_path}/again",
                        "--begin-from", f"{tmp_path}/out", "--minutes", minutes], check=True, env=environment)
    student = torch.load(f"{tmp_path}/again/fewstep.pt", weights_only=True)
    assert student["step"] == 0
    exported = exported_transformer(f"{tmp_path}/out")
    assert all(torch.equal(student["ema"][name], value) for name, value in exported.items())
