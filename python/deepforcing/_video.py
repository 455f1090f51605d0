"""One video: as a stream of frames, or as a file."""

from __future__ import annotations

import base64
import html
import json
import os
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Union

from ._run import DeepForcingError, Run, flags, output as run_output

try:
    import numpy
except ImportError:  # Frames are bytes then.
    numpy = None  # type: ignore[assignment]

# Largest file that is put into a page.
_LARGEST_SHOWN = 64 << 20


class Chunk(NamedTuple):
    """Frames that were made in one go.

    ``frames`` is uint8 ``[n, height, width, 3]``; without numpy ``bytes``, ``n * height * width * 3`` of them.
    """

    index: int
    """Number of the chunk, from 0."""
    start: int
    """Number of its first frame in the video."""
    count: int
    """How many frames it has."""
    frames: Any


class Generation:
    """A video while it is made: an iterator over its chunks.

    To stop early, break off and :meth:`close`, or use it in a ``with`` statement.
    """

    def __init__(self, prompt: str, options: Dict[str, Any]) -> None:
        # What is refused is refused here, before anything slow; and it says how large frames are.
        plan = json.loads(run_output(_words(prompt, options, "--dry-run", "--json")).splitlines()[0])
        #: How the video is made: the recipe, as the program writes it.
        self.recipe: Dict[str, Any] = plan["recipe"]
        video = self.recipe["video"]
        #: Size in pixels, frames per second and in all.
        self.width: int = video["width"]
        self.height: int = video["height"]
        self.fps: int = video["fps"]
        self.frame_count: int = video["pictures"]
        #: Frames that were read so far.
        self.frames_read = 0
        if "seed" in options:
            # One that was drawn is drawn once.
            options = {**options, "seed": self.recipe["seed"]}
        self._sizes = _chunk_sizes(self.recipe)
        self._index = 0
        self._run: Optional[Run] = Run(_words(prompt, options, "--quiet"))

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        if self._run is None:
            raise StopIteration
        size = self.width * self.height * 3
        wanted = next(self._sizes)
        data = self._run.stdout.read(wanted * size)
        count = len(data) // size
        if len(data) < wanted * size:
            run, self._run = self._run, None
            run.end()
            if len(data) % size or self.frames_read + count != self.frame_count:
                frames = self.frames_read + count
                raise DeepForcingError(f"the video ended after {frames} of {self.frame_count} frames", 0)
            if count == 0:
                raise StopIteration
        chunk = Chunk(self._index, self.frames_read, count, self._array(data, count))
        self._index += 1
        self.frames_read += count
        return chunk

    def _array(self, data: bytes, count: int) -> Any:
        if numpy is None:
            return data
        return numpy.frombuffer(data, numpy.uint8).reshape(count, self.height, self.width, 3)

    def frames(self) -> Any:
        """All frames that are left, as one array ``[n, height, width, 3]`` (``bytes`` without numpy)."""
        chunks = [chunk.frames for chunk in self]
        if numpy is None:
            return b"".join(chunks)
        if not chunks:
            return numpy.zeros((0, self.height, self.width, 3), numpy.uint8)
        return numpy.concatenate(chunks)

    def close(self) -> None:
        """Ends the program if it still runs."""
        run, self._run = self._run, None
        if run is not None:
            run.stop()

    def __enter__(self) -> "Generation":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_run", None) is not None:
            self.close()


def _words(prompt: str, options: Dict[str, Any], *more: str) -> List[str]:
    return ["generate", "--format=rgb", "--output=-", *more, *flags(options), "--", prompt]


def _chunk_sizes(recipe: Dict[str, Any]) -> Iterator[int]:
    """Frames of each chunk: a latent frame is four, but the first of a video is one."""
    chunk = int(recipe["rollout"]["chunk"])
    yield 4 * chunk - 3
    while True:
        yield 4 * chunk


def generate(prompt: str, **options: Any) -> Generation:
    """Makes a video and gives its frames chunk by chunk, as they are made.

    Args:
        prompt: what is to be seen.
        options: flags of ``deepforcing generate``, for example ``seconds=60``, ``seed=7``, ``model="toy"``,
            ``size=(832, 480)``, ``policy="deep-forcing"``, ``switch=["5s: the sea at night"]``.

    Raises:
        UsageError: the program does not take an option, or its value.
        DeepForcingError: it cannot make the video.
    """
    return Generation(prompt, options)


class Video:
    """A video file. Notebooks show it."""

    def __init__(self, path: Union[str, "os.PathLike[str]"], result: Optional[Dict[str, Any]] = None) -> None:
        self.path = Path(path)
        #: What the program says of it: frames, times, encoder; empty for a file that was there.
        self.result: Dict[str, Any] = result or {}
        self._folder: Optional["tempfile.TemporaryDirectory[str]"] = None

    @property
    def recipe(self) -> Dict[str, Any]:
        """How it was made, from the file itself."""
        return json.loads(run_output(["inspect", "--json", "--", str(self.path)]))

    def __repr__(self) -> str:
        return f"Video({str(self.path)!r})"

    def _repr_html_(self) -> str:
        size = self.path.stat().st_size
        name = html.escape(str(self.path))
        if size > _LARGEST_SHOWN:
            return f"<code>{name}</code> is too large to be shown here ({size >> 20} MB)"
        data = base64.b64encode(self.path.read_bytes()).decode()
        kind = "webm" if self.path.suffix == ".webm" else "mp4"
        if self.path.suffix == ".gif":
            return f'<img src="data:image/gif;base64,{data}" alt="{name}">'
        return f'<video controls loop autoplay muted src="data:video/{kind};base64,{data}" title="{name}"></video>'


def render(prompt: str, output: Union[str, "os.PathLike[str]", None] = None, **options: Any) -> Video:
    """Makes a video file. Without ``output`` it is an mp4 that goes with the object.

    Raises:
        UsageError: the program does not take an option, or its value.
        DeepForcingError: it cannot make the video.
    """
    folder = None
    if output is None:
        folder = tempfile.TemporaryDirectory(prefix="deepforcing-")
        output = Path(folder.name) / "video.mp4"
    words = ["generate", "--json", "--quiet", f"--output={os.fspath(output)}", *flags(options), "--", prompt]
    result = json.loads(run_output(words).splitlines()[-1])
    video = Video(result["path"] or output, result)
    video._folder = folder
    return video
