"""Reliability and coverage: the points are the given ones, and size says how many texts stand behind one."""

from __future__ import annotations

import pytest

from workflows import figures


def test_every_bin_is_drawn_at_its_place_with_the_area_of_its_texts() -> None:
    figure = figures.reliability({"calibrated": ([0.3, 0.9], [0.25, 0.95], [10, 90])})
    (axes,) = figure.axes
    (points,) = axes.collections
    assert points.get_offsets().tolist() == [[0.3, 0.25], [0.9, 0.95]]
    few, many = points.get_sizes()
    assert many > 5 * few
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["calibrated", "as sure as right"]
    assert axes.lines[0].get_xydata().tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize("points", [1, 3, 300])
def test_a_curve_of_coverage_has_every_point_and_few_markers(points: int) -> None:
    share = [(index + 1) / points for index in range(points)]
    figure = figures.coverage({"$\\frac{": (share, share[::-1]), "TF-IDF": (share, share)})
    (axes,) = figure.axes
    assert [len(line.get_xdata()) for line in axes.lines] == [points, points]
    assert points // int(axes.lines[0].get_markevery()) <= 40
    assert figure.legends[0].get_texts()[0].get_text() == "$\\frac{"
