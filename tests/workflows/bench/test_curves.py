"""Cost curves: what one more costs, from whole sweeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import tiny_model
from tests.tiny_data import reviews_csv
from trainables.errors import BadInput
from workflows.bench import curves
from workflows.bench.curves import AXES, Axis, Curve, Point, draw
from workflows.sweep_file import load


def test_what_one_more_costs_leaves_out_what_any_sweep_costs() -> None:
    points = (Point(value=20, seconds=30, peak_bytes=1000), Point(value=200, seconds=48, peak_bytes=1900))
    curve = Curve(name="trials", unit="trial", points=points)
    assert curve.seconds_per_unit == pytest.approx(0.1)
    assert curve.bytes_per_unit == pytest.approx(5)


def test_an_unknown_curve_is_named_with_the_nearest() -> None:
    with pytest.raises(BadInput, match="did you mean 'trials'"):
        draw(lambda _: pytest.fail("nothing is loaded"), ["trial"], print)


@pytest.mark.parametrize(("name", "expected"), [("trials", [1, 1, 1, 1]), ("heads", [4])])
def test_empty_trials_are_groups_of_their_own_and_heads_share_one(
    name: str, expected: list[int], tmp_path: Path
) -> None:
    from jobs.curves import _CONFIG
    from workflows import plan
    from workflows.groups import groups
    from workflows.plan import Planner
    from workflows.resolve import resolve_models

    config = load(_CONFIG, AXES[name].overrides(4, tmp_path))
    planner = Planner(config, resolve_models(plan.points(config)), "data", ("a", "b"), "fp32")
    assert [len(group) for group in groups(plan.grid(planner), config.search, None)] == expected


@pytest.mark.slow
def test_a_curve_has_the_time_and_the_memory_of_each_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_model("bert", tmp_path / "model")
    reviews_csv(tmp_path / "reviews.csv", 80)
    file = tmp_path / "sweep.yaml"
    file.write_text(f"name: tiny\ndata: {{path: {tmp_path / 'reviews.csv'}}}\nsearch: {{space: []}}\n")

    def overrides(count: int, _: Path) -> list[str]:
        space = f"search.space=[{{model: {tmp_path / 'model'}, freeze: head, learning_rate: 1e-3}}]"
        return [space, f"search.seeds={list(range(count))}", "training.num_train_epochs=1"]

    monkeypatch.setattr(curves, "AXES", {"trials": Axis("trial", (1, 3), overrides)})
    told: list[str] = []
    (curve,) = draw(lambda more: load(file, more), ["trials"], told.append)
    assert [point.value for point in curve.points] == [1, 3]
    assert all(point.seconds > 1 and point.peak_bytes > 10**8 for point in curve.points)
    assert len(told) == 2
