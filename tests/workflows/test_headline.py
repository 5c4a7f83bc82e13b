"""The headline: the champion, its scores and what it gains, all of them from leaderboard rows."""

from __future__ import annotations

from typing import Any

import pytest

from workflows.headline import find, margin, other_axes, point_name


def row(kind: str = "trial", **values: Any) -> dict[str, Any]:
    base = {"rank": 1, "kind": kind, "trial_id": "t1", "model": "MiniLM", "freeze": "full", "learning_rate": 5e-5}
    scores = {"test/accuracy": 0.75, "test/f1_macro": 0.7, "train_seconds": 40.0, "latency_p50_ms": 6.0}
    return base | {"seed": 1, "lora_r": None, "warmup_steps": None, "status": "DONE"} | scores | values


def tfidf(**values: Any) -> dict[str, Any]:
    named = {"trial_id": "tfidf", "model": "tfidf", "freeze": None, "learning_rate": None, "seed": None, "rank": 2}
    costs = {"train_seconds": 0.5, "latency_p50_ms": 0.5, "trainable_parameters": 2_000}
    return row("baseline", **(named | {"test/accuracy": 0.7, "test/f1_macro": 0.72} | costs | values))


def test_differences_and_ratios_are_those_of_the_rows() -> None:
    headline = find([row(), tfidf()], "t1", "accuracy", 400)
    assert headline is not None
    (versus,) = headline.versus
    assert (versus.accuracy, versus.f1_macro) == (pytest.approx(0.05), pytest.approx(-0.02))
    assert (versus.train_time, versus.latency, versus.ranks_above) == (80, 12, False)
    assert versus.sentence == (
        "Against TF-IDF: accuracy +0.0500, macro-F1 −0.0200; 80× the training time, 12× the time per text."
    )
    assert headline.result == (
        "Champion: MiniLM · full · lr 5e-05: accuracy 0.7500 (± 0.0424), macro-F1 0.7000 on 400 test texts."
    )


def test_times_are_not_compared_with_a_baseline_that_learns_nothing() -> None:
    headline = find([row(), tfidf(trial_id="majority", trainable_parameters=None)], "t1", "accuracy", 400)
    assert headline is not None
    assert (headline.versus[0].train_time, headline.versus[0].latency) == (None, None)
    assert headline.versus[0].sentence.startswith("Against the majority class: accuracy +0.0500")


def test_nothing_is_made_up_where_a_column_is_missing() -> None:
    best = {"rank": 1, "kind": "trial", "trial_id": "t1", "model": "MiniLM"}
    headline = find([best, {"kind": "baseline", "status": "DONE", "trial_id": "majority"}], "t1", "accuracy")
    assert headline is not None
    assert headline.sentences[:2] == ["Champion: MiniLM.", "Against the majority class: not comparable."]


def test_the_reader_is_told_when_a_baseline_ranks_above() -> None:
    headline = find([tfidf(rank=1), row(rank=2)], "t1", "accuracy", 400)
    assert headline is not None
    assert headline.versus[0].sentence.endswith("On validation the baseline ranks above the champion.")


def test_without_a_champion_there_is_no_headline() -> None:
    assert find([tfidf()], None, "accuracy", 400) is None


def test_unfinished_baselines_are_not_compared() -> None:
    headline = find([row(), tfidf(status="PENDING", rank=None)], "t1", "accuracy", 400)
    assert headline is not None and headline.versus == ()


def test_the_margin_is_the_normal_approximation() -> None:
    assert margin(0.5, 100) == pytest.approx(0.098)
    assert margin(0.5, None) is margin(None, 100) is None


def test_a_point_is_named_with_every_axis_in_use() -> None:
    assert point_name(row(freeze="lora", lora_r=8)) == "MiniLM · lora · lr 5e-05 · lora_r 8"
    assert other_axes(row(warmup_steps=0.5)) == {"warmup_steps": 0.5}
