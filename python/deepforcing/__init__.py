"""Videos from prompts, by the program ``deepforcing``.

    import deepforcing

    for chunk in deepforcing.generate("a red ball bouncing over green hills", model="toy", seconds=10):
        chunk.frames  # uint8 [n, height, width, 3]

The functions run the program that is installed with this module and read what it writes. Keyword arguments are its
flags: ``seconds=10`` is ``--seconds 10``, ``no_state=True`` is ``--no-state``, ``switch=["5s: night"]`` is one
``--switch`` for each. What the program refuses is raised as :class:`DeepForcingError` with its message.

Without numpy, frames are ``bytes`` of the same order.
"""

from ._find import find_program
from ._run import DeepForcingError, PartlyFailed, UsageError
from ._video import Chunk, Generation, Video, generate, render
from ._folder import batch, metrics, sweep

__all__ = [
    "Chunk",
    "DeepForcingError",
    "Generation",
    "PartlyFailed",
    "UsageError",
    "Video",
    "batch",
    "find_program",
    "generate",
    "metrics",
    "render",
    "sweep",
]
