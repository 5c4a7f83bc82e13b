"""Reading a sweep directory: the stored leaderboard is believed only where it speaks of what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workflows.report import sweeps
from tests.workflows.report.sweeps import Trial
from trainables.errors import CorruptFile
from trainables.files import read_json, write_json
from workflows.report import content


def test_a_leaderboard_of_the_same_results_is_taken_as_it_is(tmp_path: Path) -> None:
    made = sweeps.make(tmp_path / "reviews", trials=[Trial()])
    rows = content.read(made).rows
    rows[0]["checkpoint_bytes"] = 77
    write_json(made.leaderboard_json, {"metric": "accuracy", "champion": Trial().trial_id, "rows": rows})
    assert content.read(made).runs[0].row["checkpoint_bytes"] == 77


def test_a_leaderboard_from_before_the_last_results_is_made_again(tmp_path: Path) -> None:
    made = sweeps.make(tmp_path / "reviews", trials=[Trial(), Trial("head", skill=9)])
    old = [row for row in content.read(made).rows if row["freeze"] != "head"]
    write_json(made.leaderboard_json, {"metric": "accuracy", "champion": Trial().trial_id, "rows": old})
    read = content.read(made)
    assert read.champion is not None and read.champion.policy == "head"


def test_the_baseline_that_errors_are_held_against_is_tfidf_and_the_best_one_may_be_another(tmp_path: Path) -> None:
    made = sweeps.make(tmp_path / "reviews", trials=[Trial()], baselines=("tfidf", "majority"))
    read = content.read(made)
    assert read.reference is not None and read.reference.run_id == "tfidf"
    assert read.best_baseline is not None and read.best_baseline.run_id == "majority"


def test_legends_name_the_model_only_where_there_are_several(tmp_path: Path) -> None:
    one = content.read(sweeps.make(tmp_path / "one" / "reviews", trials=[Trial(), Trial("head")]))
    assert [one.short(run) for run in one.done] == ["full · lr 5e-05", "head · lr 5e-05"]
    trials = [Trial(model="org/encoder"), Trial("head", model="other")]
    two = content.read(sweeps.make(tmp_path / "two" / "reviews", trials=trials))
    assert two.short(two.done[0]) == "encoder · full · lr 5e-05"


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    made = sweeps.make(tmp_path / "reviews", trials=[Trial()])
    path = made.trial(Trial().trial_id).result
    write_json(path, read_json(path))
    path.write_text(path.read_text().replace('"DONE"', '"STOPPED"'))
    with pytest.raises(CorruptFile, match=r"result\.json"):
        content.read(made)
