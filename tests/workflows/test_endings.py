"""Trials that a scheduler stopped or whose workers were lost, recorded by the driver."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.recorded import TRIALS, begin, epoch, result
from trainables.records import EpochRecord, Result
from workflows.endings import Loss, record_lost, record_stopped


def test_a_stopped_trial_has_its_best_validation_scores_so_far_and_no_test(tmp_path: Path) -> None:
    sweep = begin(tmp_path / "sweep")
    for number, accuracy in enumerate((0.4, 0.8, 0.8, 0.6), start=1):
        epoch(sweep, TRIALS[0], number, accuracy=accuracy)
    directory = sweep.trial(TRIALS[0])
    stopped = record_stopped(directory)
    assert Result.read(directory.result) == stopped
    assert (stopped.status, stopped.reason, stopped.epoch, stopped.step) == ("STOPPED", None, 2, 6)
    assert stopped.metrics == {"validation/accuracy": 0.8, "validation/loss": 0.7, "validation/f1_macro": 0.4}
    assert stopped.evaluations == {}
    assert stopped.started == EpochRecord.read(directory.epoch(1)).timestamp - 1000
    assert stopped.ended > stopped.started


def test_a_stopped_trial_says_how_many_texts_fitted_the_device(tmp_path: Path) -> None:
    sweep = begin(tmp_path / "sweep")
    directory = sweep.trial(TRIALS[0])
    for number, fitting in enumerate((None, 8, 4), start=1):
        epoch(sweep, TRIALS[0], number)
        path = directory.epoch(number)
        EpochRecord.read(path).model_copy(update={"texts_at_once": fitting}).write(path)
    assert record_stopped(directory).texts_at_once == 4


@pytest.mark.parametrize(
    ("loss", "reason", "said"),
    [
        (Loss(), "infra", "driver.log"),
        (Loss(said="OSError: no space"), "infra", "OSError: no space"),
        (Loss(for_memory=True), "host-oom", "memory"),
        (Loss(silence=90), "timeout", "no sign of life for 90 seconds, 3 times"),
    ],
)
def test_a_lost_trial_has_failed_and_says_why_as_far_as_that_is_known(
    tmp_path: Path, loss: Loss, reason: str, said: str
) -> None:
    directory = begin(tmp_path / "sweep").trial(TRIALS[0])
    record_lost(directory, loss, 3)
    lost = Result.read(directory.result)
    assert (lost.status, lost.reason, lost.trial_id) == ("FAILED", reason, TRIALS[0])
    assert said in (lost.message or "")


def test_a_trial_that_has_a_result_is_not_given_up(tmp_path: Path) -> None:
    sweep = begin(tmp_path / "sweep")
    result(sweep, TRIALS[0])
    directory = sweep.trial(TRIALS[0])
    assert record_lost(directory, Loss(), 3) == Result.read(directory.result)
    assert Result.read(directory.result).status == "DONE"
