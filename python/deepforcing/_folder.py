"""Many videos in a folder, and measures of videos."""

from __future__ import annotations

import json
import os
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Union

from ._run import Run, flags, output as run_output

PathLike = Union[str, "os.PathLike[str]"]
Prompts = Union[PathLike, Iterable[Union[str, Mapping[str, Any]]]]


def _list(prompts: Prompts) -> "tuple[str, Optional[str]]":
    """The name of a prompt file, and what it holds if it is standard input."""
    if isinstance(prompts, (str, os.PathLike)):
        return os.fspath(prompts), None
    lines = [json.dumps({"prompt": one} if isinstance(one, str) else dict(one)) for one in prompts]
    return "-", "\n".join(lines) + "\n"


def _lines(command: str, prompts: Prompts, output: PathLike, options: Mapping[str, Any]) -> Iterator[Dict[str, Any]]:
    name, stdin = _list(prompts)
    words = [command, "--json", "--quiet", f"--output={os.fspath(output)}", *flags(options), "--", name]
    run = Run(words, stdin)
    try:
        for line in run.stdout:
            yield json.loads(line)
    except GeneratorExit:
        run.stop()
        raise
    run.end()


def batch(prompts: Prompts, output: PathLike, **options: Any) -> Iterator[Dict[str, Any]]:
    """Makes many videos in the folder ``output`` and gives the line of the manifest of each when it is finished.

    Args:
        prompts: the name of a prompt file, or the videos: prompts, or mappings as lines of a .jsonl file.
        output: the folder; a run that was stopped goes on there.
        options: flags of ``deepforcing batch``.

    Raises:
        PartlyFailed: at the end, if some videos could not be made.
        DeepForcingError: nothing more can be made.
    """
    return _lines("batch", prompts, output, options)


def sweep(prompts: Prompts, output: PathLike, **options: Any) -> Iterator[Dict[str, Any]]:
    """Makes videos under many settings, ``sink="0,4,9"``; else as :func:`batch`. At the end the folder has a report."""
    return _lines("sweep", prompts, output, options)


def metrics(*files: PathLike, **options: Any) -> List[Dict[str, Any]]:
    """Measures videos: one mapping for each, as ``deepforcing metrics --json`` prints it.

    Raises:
        DeepForcingError: one of them cannot be read.
    """
    words = ["metrics", "--json", "--quiet", *flags(options), "--", *map(os.fspath, files)]
    return [json.loads(line) for line in run_output(words).splitlines()]
