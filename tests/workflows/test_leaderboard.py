"""Ranks: points by their mean over seeds, ties, baselines among trials, failures without a rank."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from trainables.arguments import Metric, ModelSpec, TrainingArguments
from trainables.directory import SweepDirectory
from trainables.files import read_json
from trainables.records import Result
from workflows.leaderboard import build
from workflows.plan import PlannedTrial

MODEL = ModelSpec(
    name="m", path="/m", sha256="a", tokenizer_sha256="b", model_type="bert", num_hidden_layers=2, hidden_size=8
)


def trial(point: str, seed: int = 1, model: ModelSpec = MODEL) -> PlannedTrial:
    return PlannedTrial(f"{point}{seed}", point, seed, model, "full", TrainingArguments(), {"max_length": 8})


def done(accuracy: float, loss: float = 0.5, parameters: int = 10, kind: str = "trial") -> Result:
    metrics = {f"{split}/accuracy": accuracy for split in ("validation", "test")}
    metrics |= {f"{split}/loss": loss for split in ("validation", "test")}
    metrics |= {f"{split}/f1_macro": accuracy for split in ("validation", "test")}
    return Result(
        kind=kind,  # type: ignore[arg-type]
        trial_id="x",
        status="DONE",
        epoch=1,
        metrics=metrics,
        trainable_parameters=parameters,
        total_parameters=20,
        started=0,
        ended=2000,
    )


def failed() -> Result:
    return Result(kind="trial", trial_id="x", status="FAILED", reason="nan", message="loss", started=0, ended=1)


def order(results: dict[str, Result], planned: list[PlannedTrial], metric: Metric = "accuracy") -> list[str]:
    return [row["trial_id"] for row in build(planned, results, [], metric).rows]


def test_points_rank_by_their_mean_over_seeds_not_by_their_best_seed() -> None:
    planned = [trial("a", 1), trial("a", 2), trial("b", 1), trial("b", 2)]
    results = {"a1": done(0.9), "a2": done(0.5), "b1": done(0.8), "b2": done(0.81)}
    board = build(planned, results, [], "accuracy")
    assert [row["trial_id"] for row in board.rows] == ["b2", "b1", "a1", "a2"]
    assert board.champion == "b2"
    assert board.rows[0]["point_mean"] == pytest.approx(0.805)
    assert board.rows[0]["point_std"] == pytest.approx(0.00707, abs=1e-4)
    assert [row["rank"] for row in board.rows] == [1, 2, 3, 4]


def test_ties_go_to_the_lower_loss_then_to_fewer_trainable_parameters_then_to_the_id() -> None:
    planned = [trial(name) for name in "dcba"]
    results = {"a1": done(0.8, 0.6), "b1": done(0.8, 0.5, 20), "c1": done(0.8, 0.5, 10), "d1": done(0.8, 0.5, 10)}
    assert order(results, planned) == ["c1", "d1", "b1", "a1"]


def test_the_loss_ranks_upward() -> None:
    assert order({"a1": done(0.9, 0.7), "b1": done(0.1, 0.2)}, [trial("a"), trial("b")], "loss") == ["b1", "a1"]


def test_a_baseline_ranks_among_trials_but_is_never_champion() -> None:
    board = build([trial("a")], {"a1": done(0.6), "tfidf": done(0.9, kind="baseline")}, ["tfidf"], "accuracy")
    assert [(row["trial_id"], row["rank"]) for row in board.rows] == [("tfidf", 1), ("a1", 2)]
    assert board.champion == "a1"
    assert board.rows[0]["learning_rate"] is None


def test_failed_and_pending_trials_are_shown_without_a_rank() -> None:
    board = build([trial("a"), trial("b"), trial("c")], {"a1": failed(), "b1": done(0.6)}, [], "accuracy")
    assert [(row["trial_id"], row["status"], row["rank"]) for row in board.rows] == [
        ("b1", "DONE", 1),
        ("a1", "FAILED", None),
        ("c1", "PENDING", None),
    ]
    assert board.rows[1]["reason"] == "nan"


def test_a_stopped_trial_ranks_after_all_done_ones_and_is_never_champion() -> None:
    stopped = done(0.99).model_copy(update={"status": "STOPPED"})
    board = build([trial("a"), trial("b")], {"a1": stopped, "b1": done(0.2)}, [], "accuracy")
    assert [(row["trial_id"], row["rank"]) for row in board.rows] == [("b1", 1), ("a1", 2)]
    assert board.champion == "b1"


def test_without_a_finished_trial_there_is_no_champion() -> None:
    assert build([trial("a")], {"a1": failed()}, [], "accuracy").champion is None


def test_a_trial_that_ran_out_of_memory_shows_how_many_texts_fitted_and_ranks_as_any_other() -> None:
    smaller = done(0.9).model_copy(update={"texts_at_once": 4})
    board = build([trial("a"), trial("b")], {"a1": done(0.6), "b1": smaller}, ["majority"], "accuracy")
    shown = [(row["trial_id"], row["texts_at_once"]) for row in board.rows]
    assert shown == [("b1", 4), ("a1", None), ("majority", None)]


SEEDS = (1, 2, 3)
STABLE = {f"stable{seed}": done(0.89 + 0.005 * seed) for seed in SEEDS}
STOPPED = done(0.99).model_copy(update={"status": "STOPPED"})


@pytest.mark.parametrize("lost", [failed(), STOPPED])
def test_a_point_that_lost_seeds_ranks_after_those_that_did_not_and_after_no_baseline_otherwise(lost: Result) -> None:
    planned = [trial(point, seed) for point in ("fragile", "stable", "weak") for seed in SEEDS]
    results = {"fragile1": done(0.91), "fragile2": lost, "fragile3": lost, **STABLE}
    results |= {f"weak{seed}": done(0.5) for seed in SEEDS} | {"tfidf": done(0.8, kind="baseline")}
    board = build(planned, results, ["tfidf"], "accuracy")
    finished = [row["trial_id"] for row in board.rows if row["status"] == "DONE"]
    assert finished == ["stable3", "stable2", "stable1", "tfidf", "weak1", "weak2", "weak3", "fragile1"]
    assert board.champion == "stable3"
    assert board.row("fragile1")["point_mean"] == 0.91
    assert board.row("fragile1")["rank"] == 8


def test_seeds_that_have_not_run_yet_do_not_set_a_point_back() -> None:
    planned = [trial(point, seed) for point in ("begun", "stable") for seed in SEEDS]
    assert build(planned, {"begun1": done(0.91), **STABLE}, [], "accuracy").champion == "begun1"


def test_where_every_point_has_lost_seeds_they_rank_by_what_is_left_among_the_baselines() -> None:
    planned = [trial(point, seed) for point in "ab" for seed in SEEDS]
    results = {"a1": done(0.7), "a2": failed(), "a3": failed(), "b1": done(0.8), "b2": failed(), "b3": STOPPED}
    board = build(planned, results | {"tfidf": done(0.75, kind="baseline")}, ["tfidf"], "accuracy")
    assert [row["trial_id"] for row in board.rows[:4]] == ["b1", "tfidf", "a1", "b3"]
    assert board.champion == "b1"


def test_the_files_hold_the_columns_of_the_design_and_inert_text(tmp_path: Path) -> None:
    evil = MODEL.model_copy(update={"name": "=cmd|' /C calc'!A0"})
    build([trial("a", model=evil)], {"a1": done(0.6)}, ["majority"], "accuracy").write(SweepDirectory(tmp_path))
    value = read_json(tmp_path / "leaderboard.json")
    columns = set(value["rows"][0])
    assert columns >= {
        *("rank", "kind", "point_id", "trial_id", "model", "freeze", "learning_rate", "seed", "status", "epoch"),
        *(
            "validation/accuracy",
            "validation/f1_macro",
            "validation/loss",
            "test/accuracy",
            "test/f1_macro",
            "test/loss",
        ),
        *("point_mean", "point_std", "trainable_parameters", "total_parameters", "seconds", "max_length"),
        "texts_at_once",
    }
    with (tmp_path / "leaderboard.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert set(rows[0]) == columns
    assert rows[0]["model"].startswith("'=")
    assert len(rows) == len(value["rows"]) == 2
