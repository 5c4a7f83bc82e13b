"""Accuracy against cost: every spot is drawn by its kind, the front joins its own spots."""

from __future__ import annotations

import re
from typing import Any

from workflows.figures import Spot, brief, scatter

SPOTS = [Spot(0.3, 0.7, "TF-IDF", "TF-IDF"), Spot(6.0, 0.9, "full"), Spot(6.1, 0.8, "head"), Spot(6.0, 0.85, "full")]


def series(figure: Any) -> list[list[tuple[float, float]]]:
    return [list(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in figure.axes[0].lines]


def test_spots_of_one_kind_share_a_look_and_a_line_of_the_legend() -> None:
    figure = scatter(SPOTS, "ms", "accuracy", SPOTS[:2])
    assert series(figure) == [[(0.3, 0.7)], [(6.0, 0.9), (6.0, 0.85)], [(6.1, 0.8)], [(0.3, 0.7), (6.0, 0.9)]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["TF-IDF", "full", "head", "Pareto front"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["TF-IDF"]
    assert figure.axes[0].get_xscale() == "log"


def test_the_axis_has_plain_numbers_however_narrow_it_is() -> None:
    for xs in ((6.0,), (5.9, 6.1), (2.0, 30.0), (0.1, 90.0), (1e5, 2e7)):
        figure = scatter([Spot(x, 0.5, "full") for x in xs], "x", "y", write=brief)
        axis = figure.axes[0].xaxis
        low, high = axis.get_view_interval()
        places = [place for place in axis.get_majorticklocs() if low <= place <= high]
        shown = axis.get_major_formatter().format_ticks(places)
        assert len(shown) >= 2, xs
        assert all(re.fullmatch(r"[\d.]+( [kM])?", text) for text in shown)
