"""Writes outside a folder, refused and remembered: whatever a test feeds to the product, it harms nothing else."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Events of Python that change files, with the places of paths among their arguments (docs.python.org, audit events).
_CHANGES = {
    "os.mkdir": (0,),
    "os.rmdir": (0,),
    "os.remove": (0,),
    "os.rename": (0, 1),
    "os.link": (1,),
    "os.symlink": (1,),
    "os.truncate": (0,),
    "os.chmod": (0,),
    "os.utime": (0,),
}


class Guard:
    """Refuses what would change a file outside `root` while it is on duty; `seen` has what was tried."""

    def __init__(self, root: Path) -> None:
        self.root = os.path.realpath(root)
        self.seen: list[str] = []
        self.is_on = False
        sys.addaudithook(self._look)

    @contextlib.contextmanager
    def on_duty(self) -> Iterator[None]:
        """Inside the block changes elsewhere fail with PermissionError."""
        self.is_on = True
        try:
            yield
        finally:
            self.is_on = False

    def _look(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.is_on:
            return
        places = _CHANGES.get(event, ())
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES:
            places = (0,)
        for path in (arguments[place] for place in places):
            if isinstance(path, (str, bytes)) and not self._is_inside(os.fsdecode(path)):
                self.seen.append(f"{event} {path!r}")
                raise PermissionError(13, "outside the folder of the test", os.fsdecode(path))

    def _is_inside(self, path: str) -> bool:
        real = os.path.realpath(path)
        return real == os.devnull or real == self.root or real.startswith(self.root + os.sep)
