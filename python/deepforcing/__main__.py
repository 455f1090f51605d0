"""``python -m deepforcing``: the program itself."""

import os
import subprocess
import sys

from ._find import environment, find_program


def main() -> int:
    program = find_program()
    arguments = [program, *sys.argv[1:]]
    if os.name == "nt":
        return subprocess.run(arguments, env=environment(), check=False).returncode
    os.execve(program, arguments, environment())


if __name__ == "__main__":
    sys.exit(main())
