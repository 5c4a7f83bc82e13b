"""Rows of numbers in a file, of which hardly any stand in memory however large the file is.

A map of a file counts as memory of the process for all that it has ever looked at: after one epoch over what the
frozen layers give for a million texts that is 1.5 GB, in each worker of a machine. So only small files are mapped,
which is quicker (no call per text); of larger ones what is asked for is copied out, and the file stays with the
system's cache, which gives it up where memory is wanted.
"""

from __future__ import annotations

import math
import os
import weakref
from pathlib import Path

import numpy as np

MAPPED_BYTES = 2**29


def open_rows(path: Path, dtype: type[np.generic], shape: tuple[int, int]) -> np.ndarray | StoredRows:
    """The rows of a file for reading: a map of a small one, else `StoredRows`. Raises OSError where it is not there."""
    if math.prod(shape) * np.dtype(dtype).itemsize <= MAPPED_BYTES:
        return np.memmap(path, dtype, mode="r", shape=shape)
    return StoredRows(path, dtype, shape)


class StoredRows:
    """Rows of a file, read when they are asked for; as much of an array as those need who read it.

    The file may be deleted meanwhile. Several threads may read at once.
    """

    def __init__(self, path: Path, dtype: type[np.generic], shape: tuple[int, int]) -> None:
        """Open a file for as long as this object is there. Raises OSError where that cannot be."""
        self.dtype, self.shape, self.path = np.dtype(dtype), shape, path
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._file)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """A copy of consecutive rows, or of those with some indices, which are not negative.

        Raises OSError where the file ends before them.
        """
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            found = np.empty((max(stop - start, 0), self.shape[1]), self.dtype)
            self._read(found, start)
            return found
        found = np.empty((len(rows), self.shape[1]), self.dtype)
        if not self._read_each(found, rows):
            for into, row in zip(found, rows.tolist(), strict=True):
                self._read(into, row)
        return found

    def _read_each(self, into: np.ndarray, rows: np.ndarray) -> bool:
        """One call per row, and nothing else in the loop: whether each has given all."""
        if not into.size:
            return True
        read, file, view, size = os.preadv, self._file, into.data.cast("B"), into[0].nbytes
        places = zip(range(0, into.nbytes, size), (rows.astype(np.int64) * size).tolist(), strict=True)
        return sum([read(file, (view[at : at + size],), place) for at, place in places]) == into.nbytes

    def _read(self, into: np.ndarray, row: int) -> None:
        place, wanted = row * self.shape[1] * self.dtype.itemsize, into.nbytes
        done = os.preadv(self._file, [into.data], place) if wanted else 0
        while done < wanted:
            # One call gives 2 GB at most, and a signal may end it early.
            more = os.preadv(self._file, [into.data.cast("B")[done:]], place + done)
            if not more:
                raise OSError(f"{self.path} ends before its row {row + len(into)}")
            done += more
