"""The world and who walks in it."""

import math

import numpy as np
import pytest

import trajectories
from places import PLACES, SKIES
from trajectories import PUBLISHED, parse
from walk_world import SIZE, World
from walker import PERIOD, SPEED, Pose, Walls, step, walk

EVERYWHERE = [(place, sky) for place in PLACES for sky in SKIES]


@pytest.fixture(scope="module")
def worlds():
    """Every place once, each at another time of day."""
    return [World(place, list(SKIES)[n % len(SKIES)], seed=3) for n, place in enumerate(PLACES)]


def end(start, text, walls=None):
    """The pose after the last row of some actions."""
    keys, mouse = parse(text + ", none")
    return Pose(*walk(start, keys, mouse, walls)[-1])


@pytest.mark.parametrize("there, back", [("w*37", "s*37"), ("a*50", "d*50"), ("w+a*9", "s+d*9"), ("left*70", "right*70"), ("up*8", "down*8"),
                                         ("w+left*100", "s+right*100"), ("w+d+up+right*5", "s+a+down+left*5")])
def test_an_action_is_undone_by_its_opposite(worlds, there, back):
    rng = np.random.default_rng(1)
    for world in worlds[:2]:
        start = world.free_start(rng)
        away = end(start, there)
        assert away != start and end(away, back) == start
        assert (world.picture(*away) != world.picture(*start)).any()
        assert (world.picture(*end(away, back)) == world.picture(*start)).all()


def test_a_full_turn_ends_where_it_began(worlds):
    for world in worlds:
        start = world.free_start(np.random.default_rng(2))
        assert end(start, "right*180") == end(start, "left*180") == end(start, "left*18000") == start
    assert end(Pose(), "right*45") == Pose(yaw=90.0)


def test_nothing_adds_up_over_a_long_walk():
    """An hour of walking forward along an axis and back, and around the world."""
    far = end(Pose(), "w*57600")
    assert end(far, "s*57600") == Pose()
    steps = round(PERIOD / SPEED)
    assert steps * SPEED == pytest.approx(PERIOD)
    assert end(Pose(), f"w*{steps}").z % PERIOD == pytest.approx(0, abs=1e-6) or end(Pose(), f"w*{steps}").z == pytest.approx(PERIOD, abs=1e-6)


@pytest.mark.parametrize("place, sky", EVERYWHERE)
def test_the_world_repeats(place, sky):
    world = World(place, sky, seed=1)
    pose = world.free_start(np.random.default_rng(5))._replace(pitch=6.0)
    here = world.picture(*pose)
    assert here.shape == (SIZE, SIZE, 3) and here.dtype == np.uint8 and here.std() > 5
    shifted = (pose.x + PERIOD, pose.z - 3 * PERIOD, pose.yaw + 360, pose.pitch)
    assert (abs(world.picture(*shifted).astype(int) - here) <= 1).all()
    assert (World(place, sky, seed=1).picture(*pose) == here).all(), "drawn from its seed alone"
    assert (World(place, sky, seed=2).picture(*pose) != here).any()


def test_a_picture_depends_on_its_pose_only(worlds):
    world = worlds[0]
    keys, mouse = trajectories.draw(np.random.default_rng(4), 40)
    poses = walk(world.free_start(np.random.default_rng(4)), keys, mouse, world.walls)
    assert (world.pictures(poses[[30, 7]]) == world.pictures(poses)[[30, 7]]).all()


def test_rows_lead_to_the_next_picture():
    keys, mouse = parse("w, right, none")
    poses = walk(Pose(), keys, mouse)
    assert poses[0].tolist() == [0, 0, 0, 0] and poses[1].tolist() == [0, SPEED, 0, 0] or poses[1, 2] == 0
    assert poses[1, 1] == pytest.approx(SPEED) and poses[1, 2] == 0 and poses[2, 2] == 2


def test_turning_moves_the_picture_to_the_other_side(worlds):
    """Two degrees are about two pixels in the middle, and to look up moves the world down."""
    def best_shift(a, b, axis):
        inner = slice(30, 66)
        costs = {n: abs(np.roll(b, n, axis)[inner, inner].astype(float) - a[inner, inner]).mean() for n in range(-5, 6)}
        return min(costs, key=costs.get)
    for world in worlds:
        start = world.free_start(np.random.default_rng(3))
        here = world.picture(*start)
        assert best_shift(here, world.picture(*end(start, "right")), 1) == 2, "the content went left"
        assert best_shift(here, world.picture(*end(start, "left")), 1) == -2
        assert best_shift(here, world.picture(*end(start, "up")), 0) == -2, "the content went down"
        assert best_shift(here, world.picture(*end(start, "down")), 0) == 2


@pytest.mark.parametrize("place", PLACES)
def test_a_step_shows_on_the_ground(place):
    """The lower third changes from picture to picture wherever one walks, more than 8-bit rounding could."""
    for sky in SKIES:
        world = World(place, sky, seed=0)
        rng, changes = np.random.default_rng(9), []
        for _ in range(3):
            poses = walk(world.free_start(rng), *parse("w*4, none"))
            lower = world.pictures(poses)[:, 64:].astype(float)
            changes.append(abs(lower[4] - lower[0]).mean())
        assert np.mean(changes) > (1.0 if sky == "night" else 2.5), (sky, changes)


def test_nobody_walks_into_walls(worlds):
    for world in worlds:
        rng = np.random.default_rng(6)
        blocked = 0
        for _ in range(8):
            start = world.free_start(rng)
            keys, mouse = trajectories.draw(rng, 400)
            keys[:, 0] = np.maximum(keys[:, 0], 1 - keys.sum(1).clip(0, 1))
            poses, free = walk(start, keys, mouse, world.walls), walk(start, keys, mouse)
            assert max(world.walls.depth(x, z)[0] for x, z, _, _ in poses) < 1e-6
            blocked += (poses[:, :2] != free[:, :2]).any()
        assert blocked, "no walk met a wall"


def test_walls_are_slid_along():
    walls = Walls([0.], [2.], [.5])
    slanted = [Pose(.3, 1.0)]
    for _ in range(60):
        slanted.append(step(slanted[-1], (1, 0, 0, 0), (0, 0), walls))
    assert slanted[-1].z > 2.5 and max(p.x for p in slanted[:-1]) > .45, "past the disc, around its side"
    head_on = Pose(0., 1.0)
    for _ in range(60):
        head_on = step(head_on, (1, 0, 0, 0), (0, 0), walls)
    assert head_on.z == pytest.approx(1.5, abs=1e-6) and abs(head_on.x) < 1e-6 or head_on.x > PERIOD - 1e-6
    across = walk(Pose(0., PERIOD - 1.2), *parse("s*10, none"), Walls([0.], [2 - PERIOD / 2], [.5]))
    assert len(across) == 11
    edge = Walls([PERIOD - .1], [PERIOD - .1], [.5])
    assert edge.depth(.1, .1)[0] == pytest.approx(.5 - math.hypot(.2, .2)), "walls repeat with the world"


def test_solid_things_leave_room(worlds):
    for world in worlds:
        walls = world.walls
        for i in range(len(walls.x)):
            others = Walls(*(np.delete(values, i) for values in (walls.x, walls.z, walls.radius)))
            assert others.depth(walls.x[i], walls.z[i])[0] < -walls.radius[i] - .5


def test_who_is_stuck_turns():
    walls = Walls([0.], [1.], [.5])
    keys, mouse = trajectories.turn_at_walls(np.random.default_rng(0), Pose(), *parse("w*80"), walls)
    turning = np.flatnonzero(mouse[:, 1])
    assert len(turning) % 12 == 0 and 12 <= len(turning) < 60 and not keys[turning].any()
    free = trajectories.turn_at_walls(np.random.default_rng(0), Pose(), *parse("s*80"), walls)
    assert (free[0] == parse("s*80")[0]).all() and not free[1].any()


def test_the_published_mixture():
    keys, mouse = trajectories.published(np.random.default_rng(0), 57)
    for first in range(1, 57, 12):
        assert (keys[first:first + 12] == keys[first]).all() and (mouse[first:first + 12] == mouse[first]).all()
    assert len(PUBLISHED) == 45 and PUBLISHED.count("w+a") == 5 and PUBLISHED.count("a+right") == 1
    for make in (share[1] for share in trajectories.MIXTURE):
        keys, mouse = make(np.random.default_rng(1), 57)
        assert keys.shape == (57, 4) and mouse.shape == (57, 2) and set(np.unique(keys)) <= {0, 1}
        assert set(np.unique(mouse)) <= {np.float32(-.1), np.float32(0), np.float32(.1)}
    assert sum(weight for weight, _ in trajectories.MIXTURE) == pytest.approx(1)


def test_actions_are_written_as_they_are_read():
    keys, mouse = parse("w*2, a+up+right, none")
    assert keys.tolist() == [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert np.allclose(mouse, [[0, 0], [0, 0], [.1, .1], [0, 0]])
    with pytest.raises(ValueError, match="unknown action 'jump'"):
        parse("jump*3")
