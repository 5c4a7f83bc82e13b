"""Commands as people can paste them, from the folder in which they are."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path


def command(name: str, *arguments: str) -> str:
    """One line for a shell. A program that is not on the PATH is called by the path of the one beside this Python."""
    return shlex.join([_program(name), *arguments])


def near(path: Path) -> str:
    """A path as one would type it from here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _program(name: str) -> str:
    beside = Path(sys.executable).parent / name
    return name if shutil.which(name) or not beside.exists() else near(beside)
