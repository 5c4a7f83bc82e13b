"""What lies below everything that trains is a constant: computed once per node, kept on its disk, read by every trial.

A frozen block is in eval mode, so its output depends on the weights, the tokens and the precision alone. The first
trial that needs it writes it, others wait; whoever dies while writing leaves nothing that counts and blocks nobody.
What does not fit the budget in bytes is computed anew at every pass, as if there were no cache. The technique is that
of Nautilus (Nakandala and Kumar, SIGMOD 2022).

$FLEETUNE_CACHE        folder of the cache (default: the user's cache folder)
$FLEETUNE_CACHE_BYTES  the most that it may hold (default 20 GB)
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import nn

from trainables import forward, freeze, models, tokens
from trainables.arguments import TrialSpec
from trainables.directory import NodeCache
from trainables.files import COMMIT, is_committed, new_directory, sha256_json
from trainables.precision import autocast
from trainables.records import Split
from trainables.room import Room
from trainables.stored_rows import open_rows
from trainables.tokens import HiddenStates, TokenSplit

Alive = Callable[[], None]
# What `attach` would do: nothing is frozen; the states are there; it computes them; it has no room for them.
Outlook = Literal["none", "kept", "missing", "no room"]
DEFAULT_BYTES = 20 * 10**9
_STATES = "states"
# Free space that stays free on the disk of the cache.
_SPARE_BYTES = 2 * 10**9
_UNUSED_SECONDS = 30 * 24 * 3600.0
_TEXTS_AT_ONCE = 64
_VERSION = 1


def attach(
    spec: TrialSpec,
    model: nn.Module,
    split: TokenSplit,
    name: Split,
    alive: Alive = lambda: None,
    room: Room | None = None,
) -> TokenSplit:
    """The split with what the frozen layers give for it; unchanged where none are frozen, or it cannot be kept.

    `alive` is called at least every few seconds while this computes, or waits for another process that does.
    """
    wanted = _wanted(spec, model, split)
    if wanted is None:
        return split
    cache = NodeCache.here()
    folder = cache.prefix(wanted.key(spec, model, name))
    try:
        with _locked(folder, alive):
            if not is_committed(folder):
                if not _make_room(cache.prefixes, wanted.bytes):
                    logging.getLogger(__name__).warning(
                        "the frozen layers are computed at every pass: %s has no room for %d bytes more",
                        cache.prefixes,
                        wanted.bytes,
                    )
                    return split
                _write(folder, wanted, spec, model, split, alive, room or Room(next(model.parameters()).device))
        return replace(split, hidden=wanted.open(folder))
    except OSError as error:
        # A cache is never needed: a full disk, or a folder that cleaning took away, costs time only.
        logging.getLogger(__name__).warning("the frozen layers are computed at every pass: %s", error)
        return split


def outlook(spec: TrialSpec, model: nn.Module, split: TokenSplit, name: Split) -> Outlook:
    """What `attach` would find now, without computing or forgetting anything."""
    wanted = _wanted(spec, model, split)
    if wanted is None:
        return "none"
    cache = NodeCache.here()
    if is_committed(cache.prefix(wanted.key(spec, model, name))):
        return "kept"
    cache.prefixes.mkdir(parents=True, exist_ok=True)
    # What lies there makes room for what is needed now.
    free = shutil.disk_usage(cache.prefixes).free + sum(_kept(cache.prefixes).values())
    return "missing" if wanted.bytes <= _budget() and free >= wanted.bytes + _SPARE_BYTES else "no room"


def attach_in_memory(spec: TrialSpec, model: nn.Module, split: TokenSplit, room: Room) -> TokenSplit:
    """As `attach`, but past the cache: for some texts of a split, which nobody may take for the whole."""
    wanted = _wanted(spec, model, split)
    if wanted is None:
        return split
    states = np.empty(wanted.shape, wanted.dtype)

    def keep(start: int, text: np.ndarray) -> None:
        states[start : start + len(text)] = text

    _fill(keep, wanted, spec, model, split, lambda: None, room)
    return replace(split, hidden=HiddenStates(wanted.boundary, wanted.first_only, states))


@dataclass(frozen=True)
class _Wanted:
    """The states that a trial can use: their boundary, shape and type."""

    boundary: int
    first_only: bool
    shape: tuple[int, int]
    dtype: type[np.generic]

    @property
    def row_bytes(self) -> int:
        return self.shape[1] * np.dtype(self.dtype).itemsize

    @property
    def bytes(self) -> int:
        return self.shape[0] * self.row_bytes

    def key(self, spec: TrialSpec, model: nn.Module, split: Split) -> str:
        """Hash of all that decides the states."""
        # Layers that share their weights count once in `boundary`, however often they are run.
        shared = models.FAMILIES[spec.model.model_type].shared_layers
        passes = {"num_hidden_layers": spec.model.num_hidden_layers} if shared else {}
        return sha256_json(
            {
                "weights": spec.model.sha256,
                "boundary": self.boundary,
                "first_only": self.first_only,
                "tokens": tokens.key(spec),
                "split": split,
                "precision": spec.precision,
                "device": next(model.parameters()).device.type,
                "version": _VERSION,
            }
            | passes
        )

    def open(self, folder: Path) -> HiddenStates:
        """Open the states, and mark them as used now."""
        os.utime(folder / COMMIT)
        return HiddenStates(self.boundary, self.first_only, open_rows(folder / _STATES, self.dtype, self.shape))


def _wanted(spec: TrialSpec, model: nn.Module, split: TokenSplit) -> _Wanted | None:
    layers = len(models.layers(model))
    boundary = freeze.frozen_layers(spec.freeze, layers)
    # Embeddings alone are looked up as fast as they would be read.
    if not boundary:
        return None
    first_only = boundary == layers and models.pooling(model) == "first"
    rows = len(split) if first_only else int(split.offsets[-1])
    # One vector per text is little; of all tokens, what bf16 products read is kept.
    half = spec.precision == "bf16" and not first_only
    return _Wanted(boundary, first_only, (rows, spec.model.hidden_size), np.uint16 if half else np.float32)


def _write(
    folder: Path,
    wanted: _Wanted,
    spec: TrialSpec,
    model: nn.Module,
    split: TokenSplit,
    alive: Alive,
    room: Room,
) -> None:
    """Compute the states of all texts, in passes of similar length, into a folder that then counts."""
    with new_directory(folder, replace=False) as scratch, (scratch / _STATES).open("wb") as file:
        # Reserved first, so that a full disk shows before anything is computed.
        os.posix_fallocate(file.fileno(), 0, wanted.bytes)

        def keep(start: int, text: np.ndarray) -> None:
            file.seek(start * wanted.row_bytes)
            file.write(np.ascontiguousarray(text).data)

        _fill(keep, wanted, spec, model, split, alive, room)
        file.flush()
        os.fsync(file.fileno())


def _fill(
    keep: Callable[[int, np.ndarray], None],
    wanted: _Wanted,
    spec: TrialSpec,
    model: nn.Module,
    split: TokenSplit,
    alive: Alive,
    room: Room,
) -> None:
    """Have the states of all texts kept: `keep` is given the first row of some, and the rows themselves."""
    model.eval()
    with torch.inference_mode():
        for indices in forward.all_passes(model, split, _TEXTS_AT_ONCE):
            found = room.run(partial(_states_of, indices, wanted, spec, model, split, room))
            for index, text in zip(indices, found, strict=True):
                start = index if wanted.first_only else split.offsets[index]
                keep(int(start), text)
            alive()


def _states_of(
    indices: np.ndarray, wanted: _Wanted, spec: TrialSpec, model: nn.Module, split: TokenSplit, room: Room
) -> list[np.ndarray]:
    """The states of the texts of one pass, which is cut where the room is smaller; in the cache's type."""
    found: list[np.ndarray] = []
    for some in room.cut([indices]):
        with autocast(next(model.parameters()).device, spec.precision):
            states = forward.hidden_states(model, split, some, wanted.boundary, first_only=wanted.first_only)
        found += [_array(text, wanted.dtype) for text in states]
    return found


def _array(states: torch.Tensor, dtype: type[np.generic]) -> np.ndarray:
    if dtype is np.uint16:
        found: np.ndarray = states.to(torch.bfloat16).view(torch.uint16).cpu().numpy()
    else:
        found = states.float().cpu().numpy()
    return found


@contextlib.contextmanager
def _locked(folder: Path, alive: Alive) -> Iterator[None]:
    """One process at a time; the lock of a process that dies is free."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_suffix(".lock"))
    while True:
        try:
            lock.acquire(timeout=1)
            break
        except Timeout:
            alive()
    try:
        yield
    finally:
        lock.release()


def _make_room(root: Path, needed: int) -> bool:
    """Forget what was long unused, then what was unused longest, until `needed` bytes fit; whether they do.

    Several processes may do this at once and then hold a little more than the budget together.
    """
    budget = _budget()
    for scratch in root.glob(".*"):
        if _age(scratch) > _UNUSED_SECONDS:
            shutil.rmtree(scratch, ignore_errors=True)
    kept = _kept(root)

    def fits() -> bool:
        return sum(kept.values()) + needed <= budget and shutil.disk_usage(root).free >= needed + _SPARE_BYTES

    for folder in sorted(kept, key=_unused, reverse=True):
        if _unused(folder) > _UNUSED_SECONDS or (needed <= budget and not fits()):
            shutil.rmtree(folder, ignore_errors=True)
            del kept[folder]
    return fits()


def _budget() -> int:
    return int(os.environ.get("FLEETUNE_CACHE_BYTES") or DEFAULT_BYTES)


def _kept(root: Path) -> dict[Path, int]:
    """The folders that count, with their bytes."""
    return {
        folder: sum(path.stat().st_size for path in folder.iterdir())
        for folder in root.iterdir()
        if is_committed(folder)
    }


def _unused(folder: Path) -> float:
    """Seconds since somebody opened a folder's states."""
    return _age(folder / COMMIT)


def _age(path: Path) -> float:
    return time.time() - path.stat().st_mtime
