"""Where a trial stands: whoever takes it up again goes on from there, on a CPU to the same bits.

<state>/epoch-003/state.json             the epoch's record, which epoch is the best so far, the schedule
                  tensors.safetensors    weights that train, AdamW's averages, the best epoch's validation logits
                  COMMIT
<state>/epoch-004-step-000450/           the same in the middle of an epoch, with `training.save_steps`: the record
                                         is of the last epoch that was finished, and the steps since are beside it

The last two are kept, so that one that is damaged costs an epoch, or `save_steps`, and not the trial. After an epoch
there is no random state to keep: batches and dropout follow from the seed and its number (`training.begin_epoch`).
"""

from __future__ import annotations

import itertools
import logging
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
from trainables.midway import Midway
from trainables.records import EpochRecord, Record

_INFO = "state.json"
_TENSORS = "tensors.safetensors"
_KEPT = 2
_WEIGHT, _MOMENT, _LOGITS = "weight/", "moment/", "best_logits"


class StateInfo(Record):
    """What of a state is not a tensor.

    `record` is of the last finished epoch, `best` of the best one so far; `train_seconds` is of all finished epochs.
    `midway` is set in the middle of an epoch, of the first one too, which has no record before it.
    """

    record: EpochRecord | None
    best: EpochRecord | None
    train_seconds: float
    schedule: dict[str, Any]
    midway: Midway | None = None


class TrialState(NamedTuple):
    """A trial as it stands: `weights` by their name in the model, `moments` by parameter and name in AdamW."""

    info: StateInfo
    weights: Mapping[str, torch.Tensor]
    moments: Mapping[str, torch.Tensor]
    best_logits: torch.Tensor | None

    @property
    def epoch(self) -> int:
        """How many epochs are finished."""
        return self.info.record.epoch if self.info.record else 0

    @property
    def is_best(self) -> bool:
        """Whether its weights are those of the best epoch."""
        best = self.info.best
        return best is not None and best.epoch == self.epoch and self.info.midway is None


def save(state: TrialState, directory: TrialDirectory) -> None:
    """Commit a state, and forget those before the last two."""
    tensors = {f"{_WEIGHT}{name}": value for name, value in state.weights.items()}
    tensors |= {f"{_MOMENT}{name}": value for name, value in state.moments.items()}
    tensors |= {} if state.best_logits is None else {_LOGITS: state.best_logits}
    with new_directory(_folder(state, directory)) as scratch:
        save_file(tensors, scratch / _TENSORS)
        state.info.write(scratch / _INFO)
    for older in directory.states()[_KEPT:]:
        shutil.rmtree(older.path, ignore_errors=True)


def latest(
    directory: TrialDirectory, is_usable: Callable[[TrialState], bool], at_most: int | None = None
) -> TrialState | None:
    """The newest state that is what was written and that can be used; with `at_most`, at the end of such an epoch.

    What is damaged is named in the log and passed over.
    """
    for known in directory.states():
        if at_most is None or (known.step is None and known.epoch <= at_most):
            try:
                found = _load(known.path)
            except (CorruptFile, SafetensorError, ValidationError, OSError, KeyError) as error:
                logging.getLogger(__name__).warning("the state in %s is passed over: %s", known.path, error)
                continue
            if is_usable(found):
                return found
    return None


def forget(directory: TrialDirectory, beyond: TrialState | None = None) -> None:
    """Delete the states that are newer than another; without one all of them: the trial has ended, or begins anew."""
    if beyond is None:
        shutil.rmtree(directory.state, ignore_errors=True)
        return
    reached = _folder(beyond, directory)
    for newer in itertools.takewhile(lambda known: known.path != reached, directory.states()):
        shutil.rmtree(newer.path, ignore_errors=True)


def _load(folder: Path) -> TrialState:
    verify(folder)
    info = StateInfo.read(folder / _INFO)
    tensors = load_file(folder / _TENSORS)
    logits = tensors[_LOGITS] if info.best else None
    return TrialState(info, _with(tensors, _WEIGHT), _with(tensors, _MOMENT), logits)


def _with(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _folder(state: TrialState, directory: TrialDirectory) -> Path:
    midway = state.info.midway
    return directory.state_at(state.epoch) if midway is None else directory.state_at(state.epoch + 1, midway.step)
