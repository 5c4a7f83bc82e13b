"""Lines over epochs and steps: every point is drawn, and no line is told by its colour alone."""

from __future__ import annotations

import math
from typing import Any

import pytest

from trainables.records import StepSeries
from workflows.figures import Curve, block_rates, curves, learning_rate, schedules


def points(line: Any) -> tuple[list[float], list[float]]:
    return list(line.get_xdata()), list(line.get_ydata())


def legend(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_rate_of_every_step_of_all_epochs_is_drawn() -> None:
    parts = [
        StepSeries(step=[1, 2], learning_rate=[1e-5, 2e-5], loss=[1, 1], timestamp=[0, 0]),
        StepSeries(step=[3], learning_rate=[3e-5], loss=[1], timestamp=[0]),
    ]
    assert points(learning_rate(parts).axes[0].lines[0]) == ([1, 2, 3], [1e-5, 2e-5, 3e-5])


def test_highlighted_lines_are_named_and_the_others_counted() -> None:
    lines = [Curve("_a $x$", [1, 2], [0.5, 0.7]), Curve("b", [1], [0.4], False), Curve("c", [1, 2], [0.1, 0.2], False)]
    figure = curves(lines, "epoch", "accuracy")
    assert legend(figure) == ["_a $x$", "2 more"]
    assert [points(line) for line in figure.axes[0].lines] == [([1], [0.4]), ([1, 2], [0.1, 0.2]), ([1, 2], [0.5, 0.7])]
    figure.draw_without_rendering()


def test_lines_differ_in_marker_and_dash_too() -> None:
    lines = curves([Curve(str(index), [1], [index]) for index in range(7)], "x", "y").axes[0].lines
    looks = [(line.get_color(), line.get_marker(), str(line._dash_pattern)) for line in lines]
    assert len(set(looks)) == len({look[1:] for look in looks}) == 7


@pytest.mark.parametrize(("peaks", "scale"), [((1e-4, 3e-4), "linear"), ((1e-5, 1e-3), "log")])
def test_rates_that_lie_far_apart_are_on_a_log_scale_without_their_zeros(peaks: tuple[float, ...], scale: str) -> None:
    figure = schedules([Curve(str(peak), [1, 2, 3], [0.0, peak, peak / 2]) for peak in peaks])
    assert figure.axes[0].get_yscale() == scale
    first = points(figure.axes[0].lines[0])[1]
    assert first[1:] == [peaks[0], peaks[0] / 2]
    assert math.isnan(first[0]) if scale == "log" else first[0] == 0


def test_each_block_has_its_line_in_the_order_of_the_model() -> None:
    rates = {"embeddings": [1e-5, 5e-6], "layer-0": [2e-5, 1e-5], "head": [4e-5, 2e-5]}
    figure = block_rates([1, 2], rates)
    assert legend(figure) == list(rates)
    assert [points(line) for line in figure.axes[0].lines] == [([1, 2], values) for values in rates.values()]


def test_a_schedule_of_one_step_that_is_its_warm_up_is_drawn_with_its_rate_of_zero() -> None:
    for others in ([], [Curve("b", [1, 2], [0.0, 1e-3])], [Curve("b", [1], [1e-5]), Curve("c", [1], [1e-3])]):
        figure = schedules([Curve("a", [1], [0.0]), *others])
        assert len(figure.axes[0].lines) == 1 + len(others)
        figure.draw_without_rendering()
