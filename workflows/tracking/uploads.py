"""Folders on their way to where a store keeps artifacts, a file at a time, and how far they have come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

# A store that takes less than this many bytes a second is as good as away.
_SLOWEST = 100_000


def contents(folder: Path) -> Iterator[tuple[Path, str | None]]:
    """The files of a folder, and for each the folder within it where it lies, None at the top."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        parent = path.parent.relative_to(folder).as_posix()
        yield path, None if parent == "." else parent


class Uploads:
    """Sends folders and remembers which files have arrived, so that another try goes on where the first one ended.

    One thread sends; others may look at `arrived` and `allowance` meanwhile.
    """

    def __init__(self) -> None:
        self._arrived: set[tuple[str, Path]] = set()
        self._on_its_way = 0

    @property
    def arrived(self) -> int:
        """How many files have arrived. A file that is sent again counts once, so this does not grow for ever."""
        return len(self._arrived)

    @property
    def allowance(self) -> float:
        """For how many seconds the file that is on its way may keep `arrived` from growing."""
        return self._on_its_way / _SLOWEST

    def send(self, folder: Path, to: str, put: Callable[[str, str | None], None]) -> None:
        """Send the files of a folder by `put(file, folder of the file or None)`; `to` is the id of what gets them.

        Raises what `put` raises. The folder must not change between tries.
        """
        for path, parent in contents(folder):
            if (to, path) in self._arrived:
                continue
            self._on_its_way = path.stat().st_size
            try:
                put(str(path), parent)
                self._arrived.add((to, path))
            finally:
                self._on_its_way = 0
