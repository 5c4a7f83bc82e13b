"""A knob that did nothing is named with what it was; a sweep whose knobs all did something hears nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tiny import tiny_model
from tests.tiny_data import trial_spec
from tests.workflows.report import sweeps
from tests.workflows.report.reading import Page
from tests.workflows.report.sweeps import Trial
from trainables.directory import WEIGHTS, SweepDirectory
from trainables.files import new_directory, read_json, write_json
from trainables.records import EpochRecord, Result
from trainables.trial import run_trial
from workflows import knobs
from workflows.leaderboard import Leaderboard
from workflows.report import content, write_report

ONE, OTHER = Trial(axes={"max_grad_norm": 1.0}), Trial(axes={"max_grad_norm": 5.0})


def make(root: Path, *trials: Trial) -> SweepDirectory:
    """A finished sweep whose trials have moved, each to weights of its own."""
    sweep = sweeps.make(root / "reviews", trials)
    for trial in trials:
        change(sweep, trial, moved=0.05, frozen_hashes=("a" * 64, "a" * 64))
        weights(sweep, trial, trial.trial_id)
    return sweep


def change(sweep: SweepDirectory, trial: Trial, **values: Any) -> None:
    path = sweep.trial(trial.trial_id).result
    Result.read(path).model_copy(update=values).write(path)


def weights(sweep: SweepDirectory, trial: Trial, value: str) -> None:
    with new_directory(sweep.trial(trial.trial_id).checkpoint) as scratch:
        (scratch / WEIGHTS).write_text(value)


def rates(sweep: SweepDirectory, trial: Trial, factor: float) -> None:
    for path in sweep.trial(trial.trial_id).epochs():
        record = EpochRecord.read(path)
        steps = record.steps.model_copy(
            update={"learning_rate": [factor * rate for rate in record.steps.learning_rate]}
        )
        record.model_copy(update={"steps": steps}).write(path)


def found(sweep: SweepDirectory, *trials: Trial) -> list[str]:
    return knobs.findings(sweep, {trial.trial_id: f"the {index}. trial" for index, trial in enumerate(trials, 1)})


def test_trials_that_each_went_their_own_way_are_no_news(tmp_path: Path) -> None:
    assert found(make(tmp_path, ONE, OTHER), ONE, OTHER) == []


def test_two_configs_with_identical_weights_are_named_with_what_made_no_difference(tmp_path: Path) -> None:
    sweep = make(tmp_path, ONE, OTHER)
    for trial in (ONE, OTHER):
        weights(sweep, trial, "the same")
    (said,) = found(sweep, ONE, OTHER)
    assert said.startswith("the 1. trial and the 2. trial have identical weights: max_grad_norm (1, 5) made no")


def test_identical_weights_are_found_among_really_trained_ones(tmp_path: Path) -> None:
    bert = tiny_model("bert", tmp_path / "bert", num_hidden_layers=1)
    sweep = SweepDirectory(tmp_path / "runs" / "x")
    trials = {"aaaa": {"max_grad_norm": 1e3}, "bbbb": {"max_grad_norm": 1e4}, "cccc": {"weight_decay": 0.3}}
    for trial_id, arguments in trials.items():
        spec = trial_spec(bert, tmp_path, freeze="head", num_train_epochs=1, **arguments)
        own = {"trial_id": trial_id, "point_id": trial_id, "directory": str(sweep.trial(trial_id).root)}
        spec = spec.model_copy(update=own)
        write_json(sweep.trial(trial_id).spec, {"spec": spec.model_dump(mode="json")})
        assert run_trial(spec).status == "DONE"
    (said,) = knobs.findings(sweep, {name: name for name in trials})
    assert said.startswith("aaaa and bbbb have identical weights: max_grad_norm (1000, 10000) made no difference")


def test_seeds_of_one_point_are_not_two_configs(tmp_path: Path) -> None:
    seeds = Trial(seed=1), Trial(seed=2)
    sweep = make(tmp_path, *seeds)
    for trial in seeds:
        weights(sweep, trial, "the same")
    assert found(sweep, *seeds) == []


@pytest.mark.parametrize("moved", [0.0, 1e-9])
def test_a_run_that_never_moved_is_named_once_with_the_rate_that_was_applied(tmp_path: Path, moved: float) -> None:
    sweep = make(tmp_path, ONE, OTHER)
    for trial in (ONE, OTHER):
        weights(sweep, trial, "as they began")
        change(sweep, trial, moved=moved)
    rates(sweep, ONE, 0.0)
    said = found(sweep, ONE, OTHER)
    assert len(said) == 2
    assert said[0].startswith("Training never moved the 1. trial: the learning rate was 0 at each of its 12 steps")
    assert "highest learning rate that was applied is 5e-05, too low" in said[1]


def test_of_an_earlier_version_the_rates_say_whether_it_moved(tmp_path: Path) -> None:
    sweep = make(tmp_path, ONE, OTHER)
    for trial in (ONE, OTHER):
        change(sweep, trial, moved=None, frozen_hashes=None)
    assert found(sweep, ONE, OTHER) == []
    rates(sweep, OTHER, 0.0)
    (said,) = found(sweep, ONE, OTHER)
    assert said.startswith("Training never moved the 2. trial")


def test_a_rate_that_was_never_reached_is_named(tmp_path: Path) -> None:
    sweep = make(tmp_path, ONE, OTHER)
    rates(sweep, OTHER, 0.1)
    (said,) = found(sweep, ONE, OTHER)
    assert said.startswith(
        "The learning rate of the 2. trial never came near 5e-05: the highest that was applied is 5e-06"
    )
    assert "warmup_steps" in said


def test_frozen_weights_that_changed_are_a_defect_and_come_first(tmp_path: Path) -> None:
    sweep = make(tmp_path, ONE, OTHER)
    change(sweep, ONE, moved=0.0)
    change(sweep, OTHER, frozen_hashes=("a" * 64, "b" * 64))
    said = found(sweep, ONE, OTHER)
    assert said[0].startswith("The frozen weights of the 2. trial changed while it trained")
    assert len(said) == 2


@pytest.mark.parametrize("name", ["result.json", "trial.json", "epoch-001.json", "checkpoint/COMMIT"])
def test_what_is_damaged_is_left_out(tmp_path: Path, name: str) -> None:
    sweep = make(tmp_path, ONE, OTHER)
    for trial in (ONE, OTHER):
        change(sweep, trial, moved=0.0)
    path = sweep.trial(ONE.trial_id).root / name
    path.write_bytes(path.read_bytes()[:-5])
    assert [text.split(":")[0] for text in found(sweep, ONE, OTHER)] == ["Training never moved the 2. trial"]


def test_what_is_found_stands_in_leaderboard_json_and_in_the_report(tmp_path: Path) -> None:
    sweep = make(tmp_path, ONE, OTHER)
    change(sweep, OTHER, moved=0.0)
    read = content.read(sweep)
    (said,) = read.warnings
    assert said.startswith("Training never moved MiniLM · full · lr 5e-05 · max_grad_norm 5: ")
    assert said in Page(write_report(sweep)).text
    board = Leaderboard("accuracy", read.rows, None).judged(sweep, len(sweeps.LABELS))
    board.write(sweep)
    assert read_json(sweep.leaderboard_json)["warnings"] == [said]
    again = Leaderboard.read(sweep)
    assert again is not None and again.warnings == [said]
    del (stored := read_json(sweep.leaderboard_json))["warnings"]
    write_json(sweep.leaderboard_json, stored)
    earlier = Leaderboard.read(sweep)
    assert earlier is not None and earlier.warnings == []
