"""What the parent run says of the verdict: sentences, the tied group, and the champion's intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.workflows.report import sweeps
from tests.workflows.report.sweeps import Trial
from workflows.confidence import COLUMNS as CALIBRATION
from workflows.report import content as contents
from workflows.tracking import content

TRIALS = [Trial(skill=4), Trial("top-2", skill=3.9), Trial("head", skill=0.5)]


def board(root: Path, trials: list[Trial]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest, and the leaderboard as its file has it."""
    read = contents.read(sweeps.make(root / "reviews", trials=trials))
    assert read.champion is not None and read.verdict is not None
    stored = {"metric": read.metric, "champion": read.champion.run_id, "rows": read.rows}
    return read.manifest, stored | {"verdict": read.verdict.model_dump(mode="json")}


def test_the_note_holds_the_verdict_and_marks_the_tied_group(tmp_path: Path) -> None:
    manifest, stored = board(tmp_path, TRIALS)
    lines = content.note(manifest, stored).splitlines()
    assert any(line.startswith("Ship MiniLM · full · lr 5e-05. On the 90 validation texts") for line in lines)
    assert any("better than TF-IDF, and not by chance" in line for line in lines)
    rows = [line.split(" | ") for line in lines if line.startswith("| ")]
    tied = rows[0].index("tied")
    assert [row[tied].strip() for row in rows[2:5]] == ["≈", "≈", ""]


def test_what_users_named_stays_inert_in_the_verdict(tmp_path: Path) -> None:
    manifest, stored = board(tmp_path, [Trial(skill=4, model="<b>*x*[y](z)"), Trial("head", skill=0.5)])
    (line,) = [line for line in content.note(manifest, stored).splitlines() if line.startswith("Ship ")]
    assert r"\<b\>\*x\*\[y\](z)" in line


def test_a_leaderboard_from_before_there_were_verdicts_has_a_note(tmp_path: Path) -> None:
    manifest, stored = board(tmp_path, TRIALS)
    del stored["verdict"]
    note = content.note(manifest, stored)
    assert "Champion: MiniLM" in note and "Ship" not in note


def test_the_champions_intervals_are_metrics_of_the_parent(tmp_path: Path) -> None:
    _, stored = board(tmp_path, TRIALS)
    found = {name: value for name, value, _, _ in content.sweep_metrics(stored, 7)}
    for metric in ("accuracy", "f1_macro"):
        assert found[f"test/{metric}_low"] < found[f"test/{metric}"] <= found[f"test/{metric}_high"]
    best = stored["rows"][0]
    assert found["test/accuracy_low"] == pytest.approx(best["test/accuracy_low"])


def test_the_champions_calibration_is_a_metric_of_the_parent(tmp_path: Path) -> None:
    _, stored = board(tmp_path, TRIALS)
    found = {name: value for name, value, _, _ in content.sweep_metrics(stored, 7)}
    assert {name: found[name] for name in CALIBRATION} == {name: stored["rows"][0][name] for name in CALIBRATION}


def test_what_a_sweep_doubts_stands_in_the_note_and_is_inert(tmp_path: Path) -> None:
    manifest, stored = board(tmp_path, TRIALS)
    note = content.note(manifest, stored | {"warnings": ["Training never moved <b>*x*</b>."]})
    assert r"Look again: Training never moved \<b\>\*x\*\</b\>." in note.splitlines()
