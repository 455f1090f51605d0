"""One run of the program: its words, its output, its errors."""

from __future__ import annotations

import subprocess
import threading
from collections import deque
from typing import Any, Deque, IO, Iterable, List, Mapping, Optional

from ._find import environment, find_program

# Last lines of what the program says that are kept.
_LINES = 60


class DeepForcingError(RuntimeError):
    """What the program said was wrong. ``code`` is its exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class UsageError(DeepForcingError, ValueError):
    """What was asked for cannot be (exit code 2)."""


class PartlyFailed(DeepForcingError):
    """Some videos of a folder could not be made (exit code 3)."""


def flags(options: Mapping[str, Any]) -> List[str]:
    """Keyword arguments as words of the command line.

    ``None`` and ``False`` are left out, ``True`` is a flag alone, a list is a flag for each; ``steps`` is a list with
    commas, ``size`` may be a pair (width, height).
    """
    words: List[str] = []
    for name, value in options.items():
        flag = "--" + name.strip("_").replace("_", "-")
        if value is None or value is False:
            continue
        if value is True:
            words.append(flag)
        elif name == "size" and isinstance(value, (tuple, list)):
            width, height = value
            words.append(f"{flag}={width}x{height}")
        elif name == "steps" and isinstance(value, (tuple, list)):
            words.append(f"{flag}={','.join(map(str, value))}")
        elif isinstance(value, (tuple, list)):
            words.extend(f"{flag}={one}" for one in value)
        else:
            # With "=", so that a value may begin with a dash.
            words.append(f"{flag}={value}")
    return words


class Run:
    """The program while it runs. Its standard output is ``stdout``."""

    def __init__(self, words: Iterable[str], stdin: Optional[str] = None) -> None:
        arguments = [find_program(), "--color", "never", *words]
        self.process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        assert self.process.stdout is not None and self.process.stderr is not None
        self.stdout: IO[bytes] = self.process.stdout
        self._said: Deque[str] = deque(maxlen=_LINES)
        self._listener = threading.Thread(target=self._listen, args=(self.process.stderr,), daemon=True)
        self._listener.start()
        if stdin is not None:
            assert self.process.stdin is not None
            try:
                self.process.stdin.write(stdin.encode())
                self.process.stdin.close()
            except BrokenPipeError:
                pass  # It has ended; its exit says why.

    def _listen(self, stderr: IO[bytes]) -> None:
        with stderr:
            for line in stderr:
                self._said.append(line.decode(errors="replace").rstrip())

    def end(self) -> None:
        """Waits for the end.

        Raises:
            DeepForcingError: the exit code is not 0.
        """
        self.stdout.close()
        code = self.process.wait()
        self._listener.join()
        if code == 0:
            return
        said = list(self._said)
        # From the last error on; a killed program says nothing.
        starts = [at for at, line in enumerate(said) if line.startswith("error")]
        message = "\n".join(said[starts[-1] if starts else 0 :]).strip()
        message = message.removeprefix("error:").strip() if hasattr(str, "removeprefix") else message
        if not message:
            message = f"deepforcing ended with exit code {code}"
        kinds = {2: UsageError, 3: PartlyFailed}
        raise kinds.get(code, DeepForcingError)(message, code)

    def stop(self) -> None:
        """Ends it, whatever it does."""
        self.stdout.close()
        # It ends by itself when nobody reads, after the chunk in work.
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def output(words: Iterable[str], stdin: Optional[str] = None) -> str:
    """All that a run prints.

    Raises:
        DeepForcingError: the exit code is not 0.
    """
    run = Run(words, stdin)
    text = run.stdout.read().decode()
    run.end()
    return text
