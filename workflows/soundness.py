"""Whether what a sweep has left is what was written: tables, epochs and files that carry no seal of their own.

Sealed JSON says so itself (`trainables.files`). What is damaged or missing raises CorruptFile, which names the file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.directory import TrialDirectory
from trainables.errors import CorruptFile
from trainables.files import COMMIT, is_committed, read_json, sha256_file
from trainables.records import EpochRecord, Result, Split

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 10_000


def read_parquet(path: Path, **options: Any) -> pa.Table:
    """Read a Parquet file, with the options of `pyarrow.parquet.read_table`; one of a COMMIT-ed folder is checked.

    Predictions are read by `read_predictions`, which knows their hash.
    """
    import pyarrow.parquet as pq

    if is_committed(path.parent):
        _check_committed(path)
    with _named(path):
        return pq.read_table(path, **options)


def read_parquet_batches(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Some columns of a Parquet file, a few rows at a time; the file is checked as by `read_parquet`."""
    import pyarrow.parquet as pq

    if is_committed(path.parent):
        _check_committed(path)
    with _named(path), pq.ParquetFile(path) as file:
        yield from file.iter_batches(_BATCH, columns=list(columns))


def read_predictions(
    directory: TrialDirectory, split: Split | None = None, columns: Sequence[str] | None = None
) -> pa.Table:
    """The predictions of a trial or baseline, of one split or of all, where they are what its result was made of.

    Without a result, or with one of an earlier version, which has no hash of them, any table is taken.
    """
    path = directory.predictions
    known = Result.read(directory.result).predictions_sha256 if directory.result.exists() else None
    if known and path.exists() and sha256_file(path) != known:
        raise CorruptFile(f"{path} is cut off or was changed: its sha256 is not the one in {directory.result.name}")
    return read_parquet(path, columns=columns, filters=[("split", "==", split)] if split else None)


def epochs(directory: TrialDirectory, count: int | None = None) -> tuple[EpochRecord, ...]:
    """All epochs of a trial in order: the first `count`, or as many as there are. None may be missing in between."""
    found = directory.epochs()
    if count is None:
        count = len(found) if not found else max(int(path.stem.removeprefix("epoch-")) for path in found)
    records = []
    for number in range(1, count + 1):
        path = directory.epoch(number)
        if not path.exists():
            raise CorruptFile(f"{path} is missing")
        records.append(EpochRecord.read(path))
    return tuple(records)


def check_checkpoint_size(folder: Path) -> None:
    """Compare the files of a COMMIT-ed folder with their sizes. (Hashes are read where the files are used.)"""
    if not is_committed(folder):
        raise CorruptFile(f"{folder} is missing, or has no {COMMIT} file")
    for name, known in read_json(folder / COMMIT)["files"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != known["size"]:
            raise CorruptFile(f"{path} is missing or cut off")


def check_predictions(directory: TrialDirectory, result: Result) -> None:
    """Whether the table of predictions of a finished trial or baseline can be read, and holds what was scored."""
    table = read_predictions(directory)
    rows = sum(sum(map(sum, scores.confusion_matrix)) for scores in result.evaluations.values())
    if len(table) != rows:
        raise CorruptFile(f"{directory.predictions} has {len(table)} rows, not the {rows} that were scored")


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """What a Parquet file cannot be read for, as CorruptFile, which names it."""
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError:
        raise CorruptFile(f"{path} is missing") from None
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise CorruptFile(f"{path} is cut off or was changed: {' '.join(str(error).split())[:200]}") from None


def _check_committed(path: Path) -> None:
    known = read_json(path.parent / COMMIT)["files"].get(path.name)
    if not path.exists() or known is None or sha256_file(path) != known["sha256"]:
        raise CorruptFile(f"{path} is missing, cut off or was changed: it is not what {COMMIT} lists")
