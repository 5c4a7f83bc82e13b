"""What Tune is given, what it loses, and how a scheduler judges. Whole runs of Tune are in tests/jobs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.recorded import begin, epoch, result
from trainables.directory import SweepDirectory
from trainables.trainable import SCORE
from workflows import dispatch as module
from workflows.cluster import Request
from workflows.dispatch import Group, Halving, dispatch
from workflows.search import Listed

NAMES = ("a", "b", "c", "d")


class Runs:
    """Stands in for Tune: each run takes some groups, ends some of them, and may give up as Tune does."""

    def __init__(self, sweep: SweepDirectory, *script: tuple[int, int, bool]) -> None:
        self.sweep, self.script = sweep, list(script)
        self.given: list[list[str]] = []

    def __call__(self, handed: Any, *_: Any) -> None:
        take, end, gives_up = self.script.pop(0)
        groups: list[Group] = [group for group in (handed.next() for _ in range(take)) if group]
        self.given.append([trial.root.name for group in groups for trial in group])
        for group in groups[:end]:
            for trial in group:
                result(self.sweep, trial.root.name)
            handed.ended(group)
        if gives_up:
            raise RuntimeError("Caught unexpected exception")


def run(sweep: SweepDirectory, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(module, "_fit", runs)
    groups = [[sweep.trial(name)] for name in NAMES]
    source, request = Listed(groups), Request(cpus=1, gpus=0)
    lost = dispatch(source, request, 2, trial_timeout=60, on_report=print, log=sweep.driver_log)
    return [trial.root.name for trial in lost]


def test_what_tune_lost_is_handed_out_again_before_anything_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = begin(tmp_path / "sweep", trials=NAMES)
    runs = Runs(sweep, (3, 1, True), (9, 9, False))
    assert run(sweep, runs, monkeypatch) == []
    assert runs.given == [["a", "b", "c"], ["b", "c", "d"]]


def test_a_run_in_which_nothing_ended_is_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = begin(tmp_path / "sweep", trials=NAMES)
    runs = Runs(sweep, (2, 1, True), (1, 0, True), (9, 9, False))
    assert run(sweep, runs, monkeypatch) == ["b", "c", "d"]


def test_runs_that_are_given_up_are_bounded_and_every_trial_without_a_result_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = begin(tmp_path / "sweep", trials=NAMES)
    runs = Runs(sweep, (1, 1, True), (1, 1, True), (1, 1, True), (9, 9, False))
    assert run(sweep, runs, monkeypatch) == ["d"]


def test_nothing_is_started_where_there_is_no_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(begin(tmp_path / "sweep"))
    monkeypatch.setattr(module, "_fit", runs)
    log = tmp_path / "driver.log"
    assert dispatch(Listed([]), Request(cpus=1, gpus=0), 2, trial_timeout=60, on_report=print, log=log) == []
    assert runs.given == []


@pytest.mark.slow
@pytest.mark.parametrize(("metric", "good", "bad"), [("accuracy", 0.75, 0.65), ("loss", 0.65, 0.75)])
def test_rungs_know_what_earlier_runs_have_trained(tmp_path: Path, metric: Any, good: float, bad: float) -> None:
    sweep = begin(tmp_path / "sweep", trials=NAMES)
    for name, accuracy in (("a", 0.6), ("b", 0.8)):
        for number in (1, 2, 3):
            epoch(sweep, name, number, accuracy=accuracy)
    tried = [sweep.trial(name) for name in "ab"]
    assert decision(tried, metric, good) == "CONTINUE"
    assert decision(tried, metric, bad) == "STOP"
    assert decision([], metric, bad) == "CONTINUE"


def decision(tried: Any, metric: Any, score: float) -> str:
    """What the scheduler says to a trial after its second epoch; recorded epochs have a loss of 0.7."""
    scheduler = module._scheduler(Halving(metric, 1, 2, 8, tried))
    trial = SimpleNamespace(trial_id="c")
    scheduler.on_trial_add(None, trial)
    return str(scheduler.on_trial_result(None, trial, {"epoch": 2, SCORE: score}))
