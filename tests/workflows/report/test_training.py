"""Learning curves and schedules: the points are those of the epoch files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workflows.report import sweeps
from tests.workflows.report.reading import Page, figure_rows
from tests.workflows.report.sweeps import EVERYTHING, Trial
from trainables.directory import SweepDirectory
from trainables.records import EpochRecord
from workflows.report import content, write_report


def records(sweep: SweepDirectory, trial_id: str) -> list[EpochRecord]:
    return [EpochRecord.read(path) for path in sweep.trial(trial_id).epochs()]


@pytest.mark.parametrize("key", ["validation/accuracy", "train/loss"])
def test_learning_curves_are_those_of_the_epoch_files(key: str, sweep: SweepDirectory) -> None:
    rows = figure_rows(sweep, f"learning-curves-{key.replace('/', '-')}")
    assert {row["trial_id"] for row in rows} == {trial.trial_id for trial in EVERYTHING}
    for trial in EVERYTHING:
        points = [(int(row["epoch"]), float(row[key])) for row in rows if row["trial_id"] == trial.trial_id]
        assert points == [(record.epoch, record.metrics[key]) for record in records(sweep, trial.trial_id)]


def test_each_distinct_schedule_is_drawn_once_with_the_rates_of_every_step(sweep: SweepDirectory) -> None:
    rows = figure_rows(sweep, "learning-rates")
    names = list(dict.fromkeys(row["first_trial_id"] for row in rows))
    applied = {name: [rate for record in records(sweep, name) for rate in record.steps.learning_rate] for name in names}
    for name, rates in applied.items():
        assert [float(row["learning_rate"]) for row in rows if row["first_trial_id"] == name] == rates
    distinct = {(trial.rate, trial.blocks) for trial in EVERYTHING}
    assert len(names) == len(distinct) < len(EVERYTHING)


def test_rates_by_block_are_those_of_the_trial_that_has_them(sweep: SweepDirectory) -> None:
    trial = next(trial for trial in EVERYTHING if trial.blocks)
    rows = figure_rows(sweep, "learning-rates-by-block")
    steps = [record.steps for record in records(sweep, trial.trial_id)]
    for block in ("layer-0", "layer-1", "head"):
        expected = [rate for part in steps for rate in part.block_learning_rates[block]]
        assert [float(row[block]) for row in rows] == expected


def test_the_words_beside_a_curve_name_its_best_epoch(tmp_path: Path) -> None:
    trial = Trial(epochs=3)
    made = sweeps.make(tmp_path / "reviews", trials=[trial])
    write_report(made)
    best = max(records(made, trial.trial_id), key=lambda record: record.metrics["validation/accuracy"])
    said = f"its best is {best.metrics['validation/accuracy']:.4f} after epoch {best.epoch}."
    assert said in Page(made.report).text


def test_of_very_many_schedules_those_of_the_best_are_drawn(tmp_path: Path) -> None:
    trials = [Trial("head", rate=1e-4 * (1 + index), skill=index / 10) for index in range(35)]
    made = sweeps.make(tmp_path / "reviews", trials=trials, costs=False)
    write_report(made)
    best = [run.run_id for run in content.read(made).trials][:30]
    assert list(dict.fromkeys(row["first_trial_id"] for row in figure_rows(made, "learning-rates"))) == best
    assert "Those of the 30 best-ranked are drawn" in Page(made.report).text


def test_while_a_sweep_runs_the_best_so_far_is_told(tmp_path: Path) -> None:
    trials = [Trial("head", skill=1, status="RUNNING", epochs=1), Trial("full", skill=3, status="RUNNING", epochs=1)]
    made = sweeps.make(tmp_path / "reviews", trials=trials, baselines=(), costs=False)
    write_report(made)
    value = records(made, trials[1].trial_id)[0].metrics["validation/accuracy"]
    assert f"The best, MiniLM · full · lr 5e-05, is at {value:.4f} after epoch 1" in Page(made.report).text
