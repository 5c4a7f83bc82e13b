"""What a node sees of a sweep, found out on the node itself: storage, models, data, versions, GPU.

These functions run on nodes that may lack anything, so they import little and report what they meet instead of
raising it. What it means is decided on the driver, in `workflows.preflight`.
"""

from __future__ import annotations

import importlib.metadata
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import trainables
from trainables.files import is_committed, sha256_file, sha256_json

# The driver's file in the probe folder. A node's is called as the node likes.
DRIVERS = "driver"
# NFS shows a file to other machines only when what they remember of its folder has run out.
PATIENCE_SECONDS = 5.0
_PAUSE_SECONDS = 0.2
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
_LIBRARIES = ("fleetune", "torch", "transformers", "tokenizers", "peft", "ray", "numpy", "safetensors")


@dataclass(frozen=True)
class Asked:
    """What a node is to look for, by the paths that the driver uses; `files` are the models', with their bytes.

    `probe` is a folder that the driver has just made in the storage, with `token` in its own file.
    """

    probe: Path
    token: str
    files: Mapping[Path, int]
    data: Path


@dataclass(frozen=True)
class Seen:
    """What a node found. Errors are in the words of its operating system; None: there were none.

    `answer` is the name of the file with the token that it left in the probe folder.
    """

    read_error: str | None
    write_error: str | None
    answer: str
    files: Mapping[Path, int | str]
    data_committed: bool
    versions: Mapping[str, str | None]


@dataclass(frozen=True)
class Device:
    """The GPU of a node as torch sees it; `driver` is what the machine says of its own driver."""

    available: bool
    torch: str
    cuda: str | None
    driver: str


def look(asked: Asked) -> Seen:
    """Look for everything that a trial on this node needs, and leave an answer in the storage."""
    read_error, answer = _read(asked), secrets.token_hex(8)
    return Seen(
        read_error=read_error,
        write_error=None if read_error else _write(asked.probe / answer, asked.token),
        answer=answer,
        files={path: _size(path) for path in asked.files},
        data_committed=is_committed(asked.data),
        versions=versions(),
    )


def forget(probe: Path) -> None:
    """Remove the probe folder as this node sees it."""
    shutil.rmtree(probe, ignore_errors=True)


def device() -> Device:
    """What torch can use of the GPU that this process was given."""
    import torch

    driver = _NVIDIA_DRIVER.read_text().splitlines()[0] if _NVIDIA_DRIVER.exists() else "no NVIDIA driver"
    return Device(torch.cuda.is_available(), torch.__version__, torch.version.cuda, driver)


def versions() -> dict[str, str | None]:
    """What decides results and must be equal on all nodes; None for what is not installed.

    A checkout may change without its version number, so the code itself is part of it.
    """
    found: dict[str, str | None] = {name: _version(name) for name in _LIBRARIES}
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"python": python} | found | {"fleetune's code": _code()}


def patiently(attempt: Callable[[], bool]) -> bool:
    """Try again for `PATIENCE_SECONDS` until an attempt succeeds; returns whether one did."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not attempt():
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE_SECONDS)
    return True


def holds(path: Path, token: str) -> bool:
    """Whether a file is there, readable, and holds the token and nothing else."""
    try:
        return path.read_text() == token
    except (OSError, ValueError):
        return False


def _read(asked: Asked) -> str | None:
    path = asked.probe / DRIVERS
    if patiently(lambda: holds(path, asked.token)):
        return None
    found = _size(path)
    return found if isinstance(found, str) else "holds something else"


def _write(path: Path, token: str) -> str | None:
    try:
        with path.open("w") as stream:
            stream.write(token)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        return _words(error)
    return None


def _size(path: Path) -> int | str:
    """The bytes of a file that can be read, else what is wrong with it."""
    try:
        with path.open("rb") as stream:
            stream.read(1)
            return os.fstat(stream.fileno()).st_size
    except OSError as error:
        return _words(error)


def _version(name: str) -> str | None:
    """An installed version. Its local part (`+cpu`, `+cu128`) only says for which device it was built."""
    try:
        return importlib.metadata.version(name).split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def _code() -> str:
    """The first digits of a hash over the source of what runs on workers."""
    folders = (Path(trainables.__file__).parent, Path(__file__).parent)
    sources = {
        f"{folder.name}/{path.relative_to(folder).as_posix()}": sha256_file(path)
        for folder in folders
        for path in folder.rglob("*.py")
    }
    return sha256_json(sources)[:12]


def _words(error: OSError) -> str:
    return error.strerror or str(error)
