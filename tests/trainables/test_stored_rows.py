"""Rows of a large file: the numbers of the file, and next to nothing of it in the memory of whoever reads them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from trainables import stored_rows
from trainables.stored_rows import StoredRows, open_rows

ROWS, WIDTH = 5_000, 384


@pytest.fixture
def file(tmp_path: Path) -> tuple[Path, np.ndarray]:
    rows = np.random.default_rng(0).random((ROWS, WIDTH), np.float32)
    rows.tofile(tmp_path / "rows")
    return tmp_path / "rows", rows


def resident_file_bytes() -> int:
    """What of files stands in the memory of this process."""
    found = re.search(r"RssFile:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
@pytest.mark.parametrize("wanted", [slice(3, 9), slice(ROWS - 1, ROWS), slice(4, 4), np.array([7, 0, 7, ROWS - 1])])
def test_rows_are_those_of_a_map(file: tuple[Path, np.ndarray], wanted: slice | np.ndarray, dtype: type) -> None:
    width = WIDTH * 4 // np.dtype(dtype).itemsize
    mapped = np.memmap(file[0], dtype, mode="r", shape=(ROWS, width))
    found = StoredRows(file[0], dtype, (ROWS, width))
    assert found.shape == mapped.shape
    assert found.nbytes == mapped.nbytes
    assert found[wanted].dtype == mapped.dtype
    assert found[wanted].tobytes() == mapped[wanted].tobytes()


def test_a_large_file_is_read_without_standing_in_memory(
    file: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_rows, "MAPPED_BYTES", file[1].nbytes - 1)
    before = resident_file_bytes()
    rows = open_rows(file[0], np.float32, (ROWS, WIDTH))
    sums = [rows[indices].sum() for indices in np.random.default_rng(1).permutation(ROWS).reshape(-1, 50)]
    assert np.sum(sums) == pytest.approx(file[1].sum(), rel=1e-4)
    assert resident_file_bytes() - before < file[1].nbytes / 4


def test_a_small_file_is_mapped(file: tuple[Path, np.ndarray]) -> None:
    assert isinstance(open_rows(file[0], np.float32, (ROWS, WIDTH)), np.memmap)


def test_rows_are_read_after_their_file_is_gone(file: tuple[Path, np.ndarray]) -> None:
    rows = StoredRows(file[0], np.float32, (ROWS, WIDTH))
    file[0].unlink()
    assert np.array_equal(rows[10:12], file[1][10:12])


def test_a_file_that_ends_early_is_an_error_and_no_garbage(file: tuple[Path, np.ndarray]) -> None:
    rows = StoredRows(file[0], np.float32, (ROWS + 1, WIDTH))
    with pytest.raises(OSError, match="ends before its row"):
        rows[ROWS - 1 : ROWS + 1]
    with pytest.raises(OSError, match="ends before its row"):
        rows[np.array([0, ROWS])]
