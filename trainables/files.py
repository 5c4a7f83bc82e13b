"""Files that are either whole or not there: atomic writes, JSON with its own hash, COMMIT-ed directories.

A sweep directory must survive a kill at any instant. So every file is written to a temporary name and moved
into place, every JSON carries the sha256 of its content, and a directory counts only once its COMMIT file,
written last, lists the size and hash of each file in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainables.directory import ATTEMPTS
from trainables.errors import CorruptFile

COMMIT = "COMMIT"
_SEAL = "sha256"
_SCRATCH = re.compile(r"\..+\.[a-z0-9_]{8}")


def sha256_file(path: Path) -> str:
    """Hash of a file's bytes, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Hash of a JSON value that does not depend on the order of keys. NaN and infinity raise ValueError."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def make_folder(folder: Path) -> None:
    """Make a folder where there is none, and those above it.

    Raises FileNotFoundError on the way of an attempt at a trial (`SweepDirectory.attempts`) that was taken away: that
    is not made again.
    """
    folder.mkdir(parents=ATTEMPTS not in folder.parts, exist_ok=True)


def is_listed(path: Path) -> bool:
    """Whether a file is there, by the listing of its folder.

    On NFS a client that has once looked a name up in vain may go on to say so for half a minute after another node has
    made the file. Opening the folder asks the server, and what it says goes for names looked up later too.
    """
    try:
        return path in path.parent.iterdir()
    except FileNotFoundError:
        return False


def write_text(path: Path, text: str) -> None:
    """Write a file atomically: readers see the old content or the new, never a part."""
    make_folder(path.parent)
    with new_file(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def write_json(path: Path, value: dict[str, Any], *, flat: bool = False) -> None:
    """Write a JSON object atomically, sealed with the sha256 of its content under the key `sha256`.

    `flat` puts each key on one line with all that is in it: for long arrays, which would fill a line per number.
    """
    sealed = {**value, _SEAL: sha256_json(value)}
    if flat:
        lines = (f"{_dump(key)}: {_dump(item)}" for key, item in sealed.items())
        write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")
    else:
        write_text(path, _dump(sealed, indent=1) + "\n")


def _dump(value: Any, indent: int | None = None) -> str:
    separators = (",", ":") if indent is None else None
    return json.dumps(value, indent=indent, separators=separators, allow_nan=False, ensure_ascii=False)


def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` wrote, without its seal.

    Raises FileNotFoundError where there is none, CorruptFile where the content does not match its hash.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        seal = value.pop(_SEAL)
        if sha256_json(value) == seal:
            return dict(value)
    except (ValueError, KeyError, AttributeError, TypeError):
        pass
    raise CorruptFile(f"{path} is cut off or was changed: its content does not match its sha256")


def write_parquet(path: Path, table: Any) -> None:
    """Write a pyarrow table atomically."""
    import pyarrow.parquet

    with new_file(path) as temporary:
        pyarrow.parquet.write_table(table, temporary)


@contextlib.contextmanager
def new_file(path: Path, *, replace: bool = True, mode: int = 0o644) -> Iterator[Path]:
    """Yield a temporary file beside `path` that takes its place when the block ends without an error.

    Where `path` is there by then, it is replaced, or with `replace=False` left as it is. `mode` is what it permits.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp's files are for their owner alone; workers and servers may run under another user.
        temporary.chmod(mode)
        if replace:
            temporary.replace(path)
        else:
            _place(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _place(temporary: Path, path: Path) -> None:
    """Move a file to `path`, unless something is there; then it goes."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        pass
    except OSError:
        # A file system without hard links: a writer of the same moment may be overwritten.
        if not path.exists():
            temporary.replace(path)
            return
    temporary.unlink()


@contextlib.contextmanager
def new_directory(final: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yield a scratch directory that becomes `final`, COMMIT-ed, when the block ends without an error.

    Where another process made `final` meanwhile, the later one takes its place, or with `replace=False` the first
    one stays: right for folders named by their content, which others may be reading.
    """
    make_folder(final.parent)
    scratch = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{final.name}."))
    try:
        yield scratch
        _write_commit(scratch)
        scratch.chmod(0o755)
        for path in scratch.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        _move(scratch, final, replace)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def remove_scratch(directory: Path) -> None:
    """Delete what writers that were killed left in `directory`. Nobody may be writing there."""
    for path in directory.glob(".*"):
        if not _SCRATCH.fullmatch(path.name):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def is_committed(directory: Path) -> bool:
    """Whether a directory was finished. Cheap: looks for COMMIT only; `verify` checks the content."""
    return (directory / COMMIT).is_file()


def verify(directory: Path) -> None:
    """Check every file of a COMMIT-ed directory against its size and hash; raise CorruptFile naming the file."""
    if not is_committed(directory):
        raise CorruptFile(f"{directory} was never finished: it has no {COMMIT} file")
    for name, known in read_json(directory / COMMIT)["files"].items():
        path = directory / name
        if path.is_symlink() or not path.resolve().is_relative_to(directory.resolve()) or not path.is_file():
            raise CorruptFile(f"{path} is missing or is not a plain file inside {directory}")
        if path.stat().st_size != known["size"] or sha256_file(path) != known["sha256"]:
            raise CorruptFile(f"{path} is cut off or was changed: its size or sha256 does not match {COMMIT}")


def _write_commit(directory: Path) -> None:
    files = {
        path.relative_to(directory).as_posix(): {"size": path.stat().st_size, "sha256": sha256_file(path)}
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
    write_json(directory / COMMIT, {"files": files})


def _move(scratch: Path, final: Path, replace: bool) -> None:
    """Move `scratch` to `final`. A directory cannot be renamed over a full one, so that one steps aside first."""
    while True:
        try:
            scratch.replace(final)
        except OSError:
            if not final.exists():
                raise
        else:
            return
        if not replace and is_committed(final):
            return
        aside = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{final.name}.old."))
        with contextlib.suppress(FileNotFoundError):
            final.replace(aside / "old")
        shutil.rmtree(aside, ignore_errors=True)
