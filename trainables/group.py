"""Trials that a worker runs together, where that pays: heads of one frozen encoder train at once.

Each is a trial still, with its own records, checkpoint, result and failures. What cannot be shared after all is run
one trial after the other.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Iterator, Sequence

from trainables.arguments import TrialSpec
from trainables.attempt import Attempt, Progress, Report, logged
from trainables.heads import Heads
from trainables.precision import without_denormals
from trainables.records import Result
from trainables.trial import Setting, end_epoch, evaluate, run_trial


def run_group(specs: Sequence[TrialSpec], reports: Sequence[Report]) -> Iterator[Result]:
    """Run the trials of one group; yields the end of each, which is also in its `result.json`.

    Trials of a group differ in what the optimizer reads (`TrainingArguments.without_optimizer`), and in nothing else.
    `reports` are told of the progress of each, as by `run_trial`.
    """
    attempts: list[Attempt] = []
    if len(specs) > 1:
        attempts = [Attempt(spec, report) for spec, report in zip(specs, reports, strict=True)]
        # A group commits its state after epochs: whoever stands in the middle of one was run alone, and still is.
        if not any(attempt.midway for attempt in attempts):
            _try_together(attempts)
    for attempt in attempts:
        if attempt.result:
            yield attempt.result
    done = {attempt.spec.trial_id for attempt in attempts if attempt.result}
    for spec, report in zip(specs, reports, strict=True):
        if spec.trial_id not in done:
            yield run_trial(spec, report)


def _try_together(attempts: Sequence[Attempt]) -> None:
    """Train what can be trained together. An error that is not one trial's own leaves the others to be run alone."""
    try:
        _train_and_evaluate(attempts)
    except Exception:  # noqa: BLE001 - each trial meets it again by itself, and records it
        for attempt in attempts:
            attempt.give_up()
        with logged(*attempts):
            logging.getLogger(__name__).warning(
                "the trials of this group are run one by one:\n%s", traceback.format_exc()
            )


@without_denormals()
def _train_and_evaluate(attempts: Sequence[Attempt]) -> None:
    spec = attempts[0].spec
    with logged(*attempts):
        setting = Setting.of(spec)
        for attempt in attempts:
            setting.room.restrict(attempt.texts_at_once)
        alive = Progress(attempts, 1, setting.total_steps).alive
        # A second of work for all is a part of a second for each.
        shared = setting.attach(spec, "train", alive) / len(attempts)
        hidden = setting.splits["train"].hidden
        if hidden is None or not hidden.first_only:
            return
        setting.attach(spec, "validation", alive)
        heads = Heads(setting.model, [attempt.spec.training for attempt in attempts], setting.total_steps)
    first = _resume(attempts, setting, heads)
    for attempt in attempts:
        attempt.train_seconds += shared
    for epoch in range(first, spec.training.num_train_epochs + 1):
        _epoch(attempts, setting, heads, epoch)
    for attempt in attempts:
        if attempt.result is None:
            with attempt.recorded():
                evaluate(attempt, setting)


def _resume(attempts: Sequence[Attempt], setting: Setting, heads: Heads) -> int:
    """Take all heads up where an earlier attempt left them: at the last epoch that each of them has, else anew.

    Returns the epoch to go on with.
    """
    common = min(attempt.epoch for attempt in attempts)
    for attempt in attempts:
        if attempt.epoch != common:
            attempt.begin(at_most=common)
    if {attempt.epoch for attempt in attempts} != {common}:
        for attempt in attempts:
            attempt.begin(at_most=0)
        return 1
    for index, attempt in enumerate(attempts):
        if attempt.epoch:
            attempt.resume(setting.model, heads.optimizations[index])
            heads.take(index)
    return common + 1


def _epoch(attempts: Sequence[Attempt], setting: Setting, heads: Heads, epoch: int) -> None:
    """Train all heads for an epoch, then score each that has not failed."""
    spec, began = attempts[0].spec, time.perf_counter()
    progress = Progress(attempts, epoch, setting.total_steps)
    split = setting.splits["train"]
    with logged(*attempts):
        applied = heads.train_epoch(
            split, seed=spec.seed, epoch=epoch, precision=spec.precision, on_step=progress, room=setting.room
        )
    seconds = (time.perf_counter() - began) / len(attempts)
    for index, attempt in enumerate(attempts):
        if attempt.result is None:
            with attempt.recorded():
                heads.put(index)
                series = applied[index].series()
                end_epoch(attempt, setting, heads.optimizations[index], epoch, series, seconds)
