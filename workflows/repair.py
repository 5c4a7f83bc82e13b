"""What is damaged in a sweep directory is cleared when the sweep is continued, so that it is made again.

A trial or baseline counts as finished only where all that it left is whole: else its result goes, and it is run
again. What is derived or measured goes too. The manifest is not touched: nothing could say what stood in it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from trainables.directory import SweepDirectory, TrialDirectory
from trainables.errors import CorruptFile
from trainables.files import read_json
from trainables.records import Result
from workflows import soundness

_AGAIN = "it is run again"


def clear(sweep: SweepDirectory, *, drawn: bool = False) -> list[str]:
    """Clear what is damaged; returns a line for each. Nobody else may be writing to the sweep.

    What was `drawn` by a search stands in trial.json alone, so there a damaged one raises CorruptFile.
    """
    found = [note for folder in _folders(sweep.trials) for note in _clear_trial(TrialDirectory(folder), drawn)]
    found += [note for folder in _folders(sweep.baselines) for note in _clear_baseline(TrialDirectory(folder))]
    costs = sorted(sweep.inference.glob("*.json"))
    found += [note for path in costs for note in _clear_sealed(path, "it is measured again")]
    found += _clear_sealed(sweep.check, "it is made again when the sweep goes on")
    return found + list(_clear_sealed(sweep.leaderboard_json, "it is made again"))


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []


def _clear_trial(directory: TrialDirectory, drawn: bool) -> Iterator[str]:
    if drawn:
        _refuse_forgotten(directory)
    yield from _clear_sealed(directory.spec, "it is written again")
    if directory.result.exists():
        yield from _clear_result(directory, _check_trial)
    else:
        yield from _clear_under_way(directory)


def _refuse_forgotten(directory: TrialDirectory) -> None:
    try:
        read_json(directory.spec)
    except (FileNotFoundError, CorruptFile):
        raise CorruptFile(
            f"{directory.spec} is missing or damaged, and nothing else says what this trial was; put it back, or "
            "delete its folder, and the search draws another point"
        ) from None


def _clear_baseline(directory: TrialDirectory) -> Iterator[str]:
    if directory.result.exists():
        yield from _clear_result(directory, _check_baseline)


def _clear_result(directory: TrialDirectory, check: Callable[[TrialDirectory, Result], None]) -> Iterator[str]:
    """Forget the result of a trial or baseline of which something is damaged: then it has not ended."""
    try:
        check(directory, Result.read(directory.result))
    except CorruptFile as error:
        directory.result.unlink()
        yield f"{error}; {_AGAIN}"


def _check_trial(directory: TrialDirectory, result: Result) -> None:
    if result.status == "DONE":
        spec = read_json(directory.spec)["spec"] if directory.spec.exists() else None
        soundness.epochs(directory, spec and spec["training"]["num_train_epochs"])
        soundness.check_predictions(directory, result)
        # Who deletes one altogether wants the space.
        if directory.checkpoint.exists():
            soundness.check_checkpoint_size(directory.checkpoint)
    elif result.status == "STOPPED":
        soundness.epochs(directory)


def _check_baseline(directory: TrialDirectory, result: Result) -> None:
    # One without a model is of an earlier version, and is fitted again as it is.
    if directory.model.exists():
        read_json(directory.model)
        soundness.check_predictions(directory, result)


def _clear_under_way(directory: TrialDirectory) -> Iterator[str]:
    """A trial goes on only where all epochs that its newest state follows are there; the last is written again."""
    finished = max((state.finished for state in directory.states()), default=0)
    for path in directory.epochs()[-1:]:
        yield from _clear_sealed(path, "it is written again")
    try:
        soundness.epochs(directory, max(finished - 1, 0))
    except CorruptFile as error:
        shutil.rmtree(directory.state)
        yield f"{error}; its trial begins anew"


def _clear_sealed(path: Path, what_follows: str) -> Iterator[str]:
    try:
        if path.exists():
            read_json(path)
    except CorruptFile as error:
        path.unlink()
        yield f"{error}; {what_follows}"
