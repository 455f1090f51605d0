"""How the motion of the camera is measured."""

import numpy as np
import pytest

from following import CELLS, MOTIONS, correlations, flow, per_latent, true_motion
from trajectories import parse
from walk_world import World
from walker import PERIOD, Pose, walk


def test_true_motion_is_what_was_commanded():
    keys, mouse = parse("w*3, d+right*2, up, s+left*2, none")
    motion = true_motion(walk(Pose(PERIOD - .05, PERIOD - .1, 358.0, 0.), keys, mouse))
    wanted = [(1, 0, 0, 0)] * 3 + [(0, 1, 1, 0)] * 2 + [(0, 0, 0, 1)] + [(-1, 0, -1, 0)] * 2
    assert motion == pytest.approx(np.array(wanted), abs=1e-4)
    assert per_latent(motion)[0] == pytest.approx((3, 1, 1, 0), abs=1e-4)


def test_flow_finds_turns():
    """Turning right moves the content two pixels to the left, one at half size; looking up moves it down."""
    world = World("forest", "day", 2)
    pictures = world.pictures(walk(world.free_start(np.random.default_rng(0)), *parse("right, up, none")))
    moved, sure = flow(pictures)
    mean = [(step.reshape(-1, 2) * weight[:, None]).sum(0) / weight.sum() for step, weight in zip(moved, sure)]
    assert moved.shape == (2, CELLS * CELLS * 2) and mean[0][0] < -.5 and abs(mean[0][1]) < .3 and mean[1][1] > .5 and abs(mean[1][0]) < .3


def test_correlations_are_of_each_motion():
    rng = np.random.default_rng(0)
    commanded = rng.standard_normal((5, 14, 4))
    found = correlations(np.concatenate([commanded[..., :2], -commanded[..., 2:3], rng.standard_normal((5, 14, 1))], -1), commanded)
    assert list(found) == list(MOTIONS) and found["forward"] == found["right"] == 1 and found["turn"] == -1 and abs(found["look"]) < .4
