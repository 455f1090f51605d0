"""Where the program is, and the ffmpeg that it uses."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Dict, Iterator

_NAME = "deepforcing" + (sysconfig.get_config_var("EXE") or "")


def _places() -> Iterator[Path]:
    # Of the environment that runs, even if it was moved after its making.
    yield Path(sys.executable).parent
    yield Path(sysconfig.get_path("scripts"))
    schemes = sysconfig.get_scheme_names()
    user = sysconfig.get_preferred_scheme("user") if sys.version_info >= (3, 10) else f"{os.name}_user"
    if user in schemes:
        yield Path(sysconfig.get_path("scripts", scheme=user))
    # `pip install --target` puts programs beside the modules.
    yield Path(__file__).resolve().parent.parent / "bin"


def find_program() -> str:
    """The path of the program: the one installed with this module, else the first in the PATH.

    ``DEEPFORCING_PROGRAM`` names another one.

    Raises:
        FileNotFoundError: there is none.
    """
    named = os.environ.get("DEEPFORCING_PROGRAM")
    if named:
        if not os.path.isfile(named):
            raise FileNotFoundError(f"DEEPFORCING_PROGRAM is {named!r}, which is no file: name the program deepforcing")
        return named
    for place in _places():
        if (place / _NAME).is_file():
            return str(place / _NAME)
    found = shutil.which("deepforcing")
    if found:
        return found
    looked = ", ".join(sorted({str(place) for place in _places()}))
    raise FileNotFoundError(
        f"the program deepforcing is not there (looked in {looked} and the PATH): "
        "install the wheel again, or name the program with DEEPFORCING_PROGRAM"
    )


def environment() -> Dict[str, str]:
    """The variables for the program: those of this process, and the ffmpeg of imageio-ffmpeg if none is named.

    A build with FFmpeg's libraries in it would leave them alone for that, so the name is given only to one that does not
    find the package itself: it looks in the environment that it is installed in.
    """
    variables = dict(os.environ)
    # It is for this module.
    variables.pop("DEEPFORCING_PROGRAM", None)
    beside = Path(find_program()).resolve().parent == Path(sys.executable).parent.resolve()
    if variables.get("DEEPFORCING_FFMPEG") or beside:
        return variables
    try:
        import imageio_ffmpeg

        variables["DEEPFORCING_FFMPEG"] = imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        pass
    return variables
