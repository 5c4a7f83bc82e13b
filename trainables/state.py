"""Where a trial stands after an epoch: whoever takes it up again goes on from there, on a CPU to the same bits.

<state>/epoch-003/state.json             the epoch's record, which epoch is the best so far, the schedule
                  tensors.safetensors    weights that train, AdamW's averages, the best epoch's validation logits
                  COMMIT

The last two are kept, so that one that is damaged costs an epoch and not the trial. Batches and dropout follow from
the seed and the number of the epoch (`training.begin_epoch`), so there is no random state to keep.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from trainables.directory import TrialDirectory
from trainables.errors import CorruptFile
from trainables.files import new_directory, verify
from trainables.records import EpochRecord, Record

_INFO = "state.json"
_TENSORS = "tensors.safetensors"
_KEPT = 2
_FOLDER = re.compile(r"epoch-\d+")
_WEIGHT, _MOMENT, _LOGITS = "weight/", "moment/", "best_logits"


class StateInfo(Record):
    """What of a state is not a tensor. `train_seconds` is of all epochs so far."""

    record: EpochRecord
    best: EpochRecord
    train_seconds: float
    schedule: dict[str, Any]


class TrialState(NamedTuple):
    """A trial after an epoch: `weights` by their name in the model, `moments` by parameter and name in AdamW."""

    info: StateInfo
    weights: Mapping[str, torch.Tensor]
    moments: Mapping[str, torch.Tensor]
    best_logits: torch.Tensor

    @property
    def epoch(self) -> int:
        return self.info.record.epoch


def save(state: TrialState, directory: TrialDirectory) -> None:
    """Commit a state, and forget those before the last two."""
    tensors = {f"{_WEIGHT}{name}": value for name, value in state.weights.items()}
    tensors |= {f"{_MOMENT}{name}": value for name, value in state.moments.items()}
    with new_directory(directory.state / f"epoch-{state.epoch:03d}") as scratch:
        save_file({**tensors, _LOGITS: state.best_logits}, scratch / _TENSORS)
        state.info.write(scratch / _INFO)
    for folder in _newest_first(directory)[_KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)


def latest(
    directory: TrialDirectory, is_usable: Callable[[TrialState], bool], at_most: int | None = None
) -> TrialState | None:
    """The newest state that is what was written and that can be used, of an epoch `at_most` where that is given.

    What is damaged is named in the log and passed over.
    """
    for folder in _newest_first(directory):
        if at_most is None or _epoch(folder) <= at_most:
            try:
                found = _load(folder)
            except (CorruptFile, SafetensorError, ValidationError, OSError, KeyError) as error:
                logging.getLogger(__name__).warning("the state in %s is passed over: %s", folder, error)
                continue
            if is_usable(found):
                return found
    return None


def forget(directory: TrialDirectory) -> None:
    """Delete all states: the trial has ended, or begins anew."""
    shutil.rmtree(directory.state, ignore_errors=True)


def _load(folder: Path) -> TrialState:
    verify(folder)
    info = StateInfo.read(folder / _INFO)
    tensors = load_file(folder / _TENSORS)
    return TrialState(info, _with(tensors, _WEIGHT), _with(tensors, _MOMENT), tensors[_LOGITS])


def _with(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _newest_first(directory: TrialDirectory) -> list[Path]:
    found = [path for path in directory.state.glob("epoch-*") if _FOLDER.fullmatch(path.name)]
    return sorted(found, key=_epoch, reverse=True)


def _epoch(folder: Path) -> int:
    return int(folder.name.removeprefix("epoch-"))
