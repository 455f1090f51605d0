"""The module against the program itself; run by scripts/wheel_test.sh in a fresh environment with the wheel."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import deepforcing

numpy = pytest.importorskip("numpy")
TOY = {"model": "toy", "size": (96, 96), "seconds": 2.0, "seed": 7}
PROMPT = "a red ball bouncing over green hills"


def program(*words: str) -> bytes:
    run = subprocess.run([deepforcing.find_program(), *words], capture_output=True, check=True)
    return run.stdout


@pytest.fixture(scope="module")
def frames() -> "numpy.ndarray":
    data = program(
        "generate", PROMPT, "--model", "toy", "--size", "96x96", "--seconds", "2", "--seed", "7",
        "--format", "rgb", "-o", "-",
    )
    return numpy.frombuffer(data, numpy.uint8).reshape(-1, 96, 96, 3)


def test_the_stream_is_the_programs_own_frames_to_the_bit(frames):
    video = deepforcing.generate(PROMPT, **TOY)
    chunks = list(video)
    assert (video.width, video.height, video.fps) == (96, 96, 16)
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert chunks[0].count == 9 and all(chunk.count == 12 for chunk in chunks[1:-1])
    assert all(chunk.frames.dtype == numpy.uint8 and chunk.frames.shape[1:] == (96, 96, 3) for chunk in chunks)
    assert [chunk.start for chunk in chunks][:3] == [0, 9, 21]
    assert video.frames_read == video.frame_count == len(frames)
    assert numpy.array_equal(numpy.concatenate([chunk.frames for chunk in chunks]), frames)


def test_breaking_off_ends_the_program():
    with deepforcing.generate(PROMPT, **{**TOY, "seconds": 600}) as video:
        process = video._run.process
        next(video)
    assert process.returncode is not None


def test_what_is_refused_is_an_exception_with_the_programs_message():
    with pytest.raises(deepforcing.UsageError, match="polic") as refused:
        deepforcing.generate(PROMPT, policy="no-such-policy", **TOY)
    assert refused.value.code == 2
    with pytest.raises(ValueError, match="secnods"):
        deepforcing.generate(PROMPT, secnods=5)
    with pytest.raises(deepforcing.DeepForcingError, match="no-such-file"):
        deepforcing.metrics("no-such-file.mp4")


def test_a_drawn_seed_is_drawn_once():
    video = deepforcing.generate(PROMPT, **{**TOY, "seconds": 0.5, "seed": "random"})
    again = deepforcing.generate(PROMPT, **{**TOY, "seconds": 0.5, "seed": video.recipe["seed"]})
    assert numpy.array_equal(video.frames(), again.frames())


def test_a_video_file_carries_its_recipe_and_shows_itself(tmp_path):
    video = deepforcing.render(PROMPT, tmp_path / "ball.mp4", **TOY)
    assert video.path.is_file() and video.result["complete"]
    assert video.recipe["seed"] == 7
    assert video._repr_html_().startswith("<video") and "base64" in video._repr_html_()
    measured = deepforcing.metrics(video.path)
    assert len(measured) == 1 and measured[0]["metrics"]
    shown = deepforcing.render(PROMPT, **{**TOY, "seconds": 0.5})
    assert shown.path.is_file()


def test_many_videos_come_as_they_are_finished(tmp_path):
    lines = deepforcing.batch([PROMPT, {"prompt": "a blue cube", "seed": 3}], tmp_path / "out", **{**TOY, "seconds": 0.5})
    made = list(lines)
    assert len(made) == 2 and all((tmp_path / "out" / line["file"]).is_file() for line in made)
    points = deepforcing.sweep(
        [PROMPT], tmp_path / "grid", model="toy", size=(96, 96), seconds=0.5, policy="fifo,deep-sink", no_report=True
    )
    assert len(list(points)) == 2


def test_without_numpy_frames_are_bytes(tmp_path, frames):
    (tmp_path / "numpy.py").write_text("raise ImportError('hidden')\n")
    code = (
        "import deepforcing, sys\n"
        f"video = deepforcing.generate({PROMPT!r}, **{TOY!r})\n"
        "data = video.frames()\n"
        "assert isinstance(data, bytes), type(data)\n"
        "sys.stdout.buffer.write(data)\n"
    )
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert run.stdout == frames.tobytes()


def test_the_program_is_the_one_of_this_environment(monkeypatch, tmp_path):
    assert Path(deepforcing.find_program()).parent == Path(sys.executable).parent
    monkeypatch.setenv("DEEPFORCING_PROGRAM", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="DEEPFORCING_PROGRAM"):
        deepforcing.find_program()


def test_python_m_is_the_program():
    run = subprocess.run([sys.executable, "-m", "deepforcing", "--version"], capture_output=True, check=True, text=True)
    assert run.stdout.startswith("deepforcing ")


def test_the_doctor_says_which_ffmpeg_is_used():
    report = json.loads(subprocess.run([deepforcing.find_program(), "doctor", "--json"], capture_output=True).stdout)
    named = os.environ.get("DEEPFORCING_FFMPEG", "imageio_ffmpeg")
    assert named in report["ffmpeg"]["used"], report["ffmpeg"]
