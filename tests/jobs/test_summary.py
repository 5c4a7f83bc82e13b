"""The last screen: the verdict, and the group that cannot be told from the champion."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from jobs.summary import print_summary
from tests.workflows.report import sweeps
from tests.workflows.report.sweeps import Trial
from trainables.records import Result
from workflows.leaderboard import Leaderboard
from workflows.report import content
from workflows.sweep import Outcome


def screen(root: Path, trials: list[Trial], still: int | None = None, width: int = 300) -> tuple[str, Leaderboard]:
    """The last screen of a sweep; `still` is the number of a trial whose weights have not moved."""
    made = sweeps.make(root / "reviews", trials=trials)
    if still is not None:
        path = made.trial(trials[still].trial_id).result
        Result.read(path).model_copy(update={"moved": 0.0}).write(path)
    read = content.read(made)
    assert read.champion is not None
    board = Leaderboard(read.metric, read.rows, read.champion.run_id, read.verdict, list(read.warnings))
    stream = io.StringIO()
    print_summary(Outcome(made, board, "sqlite:///x", sweeps.TEXTS), Console(file=stream, width=width))
    return stream.getvalue(), board


def test_the_group_is_marked_and_the_verdict_follows_the_champion(tmp_path: Path) -> None:
    shown, board = screen(tmp_path, [Trial(skill=4), Trial("top-2", skill=3.9), Trial("head", skill=0.5)])
    lines = shown.splitlines()
    assert [" ≈ " in line for line in lines[1:6]] == [bool(row["tied"]) for row in board.rows]
    assert sum(bool(row["tied"]) for row in board.rows) == 2
    assert "≈ cannot be told from the champion by predictions on validation" in shown
    champion = next(index for index, line in enumerate(lines) if line.startswith("Champion: MiniLM · full"))
    assert lines[champion + 1].startswith("  Ship MiniLM · full · lr 5e-05. On the 90 validation texts MiniLM · top-2")
    assert "better than TF-IDF, and not by chance" in lines[champion + 2]


@pytest.mark.parametrize("other", [Trial("head", skill=0.1), Trial("head", status="FAILED")])
def test_without_a_tie_there_is_no_column_for_one(other: Trial, tmp_path: Path) -> None:
    shown, _ = screen(tmp_path, [Trial(skill=5), other])
    assert "≈" not in shown and "not by chance" in shown


def test_a_knob_that_did_nothing_is_told_below_the_verdict(tmp_path: Path) -> None:
    shown, _ = screen(
        tmp_path, [Trial(axes={"max_grad_norm": 1.0}), Trial(skill=1, axes={"max_grad_norm": 5.0})], still=1
    )
    assert "Look again: Training never moved MiniLM · full · lr 5e-05 · max_grad_norm 5: " in shown


@pytest.mark.parametrize("width", [50, 80, 300])
def test_on_a_narrow_terminal_columns_go_and_no_number_loses_digits(tmp_path: Path, width: int) -> None:
    shown, board = screen(tmp_path, [Trial(skill=4), Trial("top-2", skill=3.9)], width=width)
    assert "…" not in shown
    for row in board.rows:
        for metric in ("validation/accuracy", "test/accuracy"):
            assert f"{row[metric]:.4f}" in shown
    assert ("in leaderboard.csv also: per text" in shown) == ("per text" not in shown.splitlines()[0]) == (width < 300)
