"""What was predicted beside what it took: shown for the sweep that was planned, and for no other."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from jobs.summary import print_summary
from tests.workflows.report import sweeps
from tests.workflows.report.sweeps import Trial
from trainables.directory import SweepDirectory
from trainables.files import read_json, write_json
from workflows import forecast, phases
from workflows.forecast import Forecast, Took
from workflows.leaderboard import Leaderboard
from workflows.report import content, planned
from workflows.sweep import Outcome

TRIALS = [Trial("full", 5e-5), Trial("full", 1e-4), Trial("head", 1e-3), Trial("head", 3e-3)]


def predicted(trials: dict[str, float], key: str = "this") -> Forecast:
    return Forecast(
        key=key,
        created=1,
        slots=2,
        asks="1 CPU",
        precision="fp32",
        device="cpu",
        phases={phases.STARTING: 10.0, phases.TRIALS: 180.0},
        kinds=(),
        trials=trials,
        drawn_later=0,
        axes={},
        probed_seconds=5.0,
    )


def sweep(folder: Path, key: str = "this") -> SweepDirectory:
    """A sweep of four trials, the heads in a group, each of which took a minute; its forecast said half of that."""
    made = sweeps.make(folder / "reviews", trials=TRIALS)
    names = [trial.trial_id for trial in TRIALS]
    write_json(made.manifest, read_json(made.manifest) | {"groups": [names[:1], names[1:2], names[2:]]})
    predicted(dict(zip(names, (30.0, 30.0, 15.0, 15.0), strict=True))).write(made.forecast)
    Took(key=key, phases={phases.STARTING: 8.0, phases.TRIALS: 200.0}).write(made.took)
    return made


def test_the_report_has_planned_and_actual_seconds_of_each_policy(tmp_path: Path) -> None:
    section = planned.times(content.read(sweep(tmp_path)))
    assert section is not None
    assert "3 min 00 s; they took 3 min 20 s" in section.lead
    (table,) = section.blocks
    took = {trial.trial_id: read_json(SweepDirectory(tmp_path / "reviews").trial(trial.trial_id).result) for trial in TRIALS}  # fmt: skip  # noqa: E501
    seconds = {name: (found["ended"] - found["started"]) / 1000 for name, found in took.items()}
    full = sum(seconds[trial.trial_id] for trial in TRIALS[:2]) / 2
    heads = max(seconds[trial.trial_id] for trial in TRIALS[2:]) / 2
    shown = {row.cells[1]: row.cells[-1] for row in table.rows}  # type: ignore[union-attr]
    assert shown == {"full": f"{full / 30:.2f}", "head": f"{heads / 15:.2f}"}


def test_a_forecast_of_another_sweep_is_not_held_against_this_one(tmp_path: Path) -> None:
    made = sweep(tmp_path, key="with another grid")
    assert planned.times(content.read(made)) is None
    assert forecast.compared(made) is None


def test_without_a_plan_nothing_is_said(tmp_path: Path) -> None:
    made = sweep(tmp_path)
    made.forecast.unlink()
    assert planned.times(content.read(made)) is None


def test_a_damaged_forecast_is_no_forecast(tmp_path: Path) -> None:
    made = sweep(tmp_path)
    made.forecast.write_text(made.forecast.read_text()[:-20])
    assert forecast.compared(made) is None


def test_the_last_screen_says_what_was_planned_and_what_it_took(tmp_path: Path) -> None:
    made = sweep(tmp_path)
    read = content.read(made)
    assert read.champion is not None
    board = Leaderboard(read.metric, read.rows, read.champion.run_id, read.verdict)
    stream = io.StringIO()
    print_summary(Outcome(made, board, "sqlite:///x", sweeps.TEXTS), Console(file=stream, width=300))
    assert "Planned 3 min 10 s, took 3 min 28 s (1.09×)." in stream.getvalue()
