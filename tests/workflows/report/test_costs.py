"""What accuracy costs: the Pareto front, and comparisons that agree with the records."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workflows.report.reading import Page, figure_rows
from trainables.directory import SweepDirectory
from trainables.records import InferenceCost, Result
from workflows.report import content
from workflows.report.costs import pareto_front

numbers = st.integers(0, 6).map(float)


def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one != other and one[0] <= other[0] and one[1] >= other[1]


@given(st.lists(st.tuples(numbers, numbers), max_size=12))
def test_the_front_is_every_value_that_nothing_beats_cheapest_first(points: list[tuple[float, float]]) -> None:
    front = [points[index] for index in pareto_front(points)]
    unbeaten = {point for point in points if not any(beats(other, point) for other in points)}
    assert front == sorted(unbeaten)


def test_of_equal_points_the_first_is_on_the_front() -> None:
    assert pareto_front([(2, 0.9), (1, 0.5), (2, 0.9), (3, 0.9)]) == [1, 0]


def test_the_best_trial_of_each_policy_is_compared_by_what_its_result_says(sweep: SweepDirectory) -> None:
    read = content.read(sweep)
    rows = figure_rows(sweep, "freeze-policies")
    assert sorted(row["name"] for row in rows) == ["full", "head", "lora", "top-2"]
    for row in rows:
        same = [run for run in read.done if run.policy == row["name"]]
        best = max(same, key=lambda run: run.row["validation/accuracy"])
        result = Result.read(sweep.trial(row["trial_id"]).result)
        assert row["trial_id"] == best.run_id
        assert float(row["test_accuracy"]) == result.metrics["test/accuracy"]
        assert int(row["trained_parameters"]) == result.trainable_parameters
        assert float(row["training_time_(s)"]) == result.train_seconds
        assert float(row["peak_memory_(MB)"]) == pytest.approx((result.peak_memory_bytes or 0) / 1e6)


def test_accuracy_and_latency_are_those_of_results_and_measurements(sweep: SweepDirectory) -> None:
    read = content.read(sweep)
    rows = {row["id"]: row for row in figure_rows(sweep, "accuracy-latency")}
    assert set(rows) == {run.run_id for run in (*read.done, *read.baselines)}
    for run in (*read.done, *read.baselines):
        cost = read.cost(run)
        assert cost is not None and run.result is not None
        assert float(rows[run.run_id]["latency_p50_ms"]) == cost.latency_p50_ms
        assert float(rows[run.run_id]["test/accuracy"]) == run.result.metrics["test/accuracy"]
    front = [row for row in rows.values() if row["on_front"] == "True"]
    best = max(rows.values(), key=lambda row: float(row["test/accuracy"]))
    assert best["test/accuracy"] in [row["test/accuracy"] for row in front]


def test_lora_is_compared_by_rank_merged_and_unmerged(sweep: SweepDirectory) -> None:
    rows = Page(sweep.report).rows("LoRA against full fine-tuning and the head alone")
    assert [row["policy"] for row in rows] == ["full", "head", "lora, rank 4", "lora, rank 8"]
    assert [row["time per text,\nmerged"] for row in rows] == ["6 ms"] * 4
    assert [row["unmerged"] for row in rows] == ["", "", "9 ms", "9 ms"]
    drawn = figure_rows(sweep, "lora")
    assert [row["rank"] for row in drawn] == ["", "", "4", "8"]
    for row in drawn:
        result = Result.read(sweep.trial(row["trial_id"]).result)
        assert float(row["test/accuracy"]) == result.metrics["test/accuracy"]
        assert int(row["trainable_parameters"]) == result.trainable_parameters


def test_every_measured_graph_is_listed(sweep: SweepDirectory) -> None:
    rows = Page(sweep.report).rows("Measured inference graphs")
    costs = [InferenceCost.read(path) for path in sorted(sweep.inference.glob("*.json"))]
    assert [row["p50"] for row in rows] == [f"{cost.latency_p50_ms:.3g} ms" for cost in costs]
