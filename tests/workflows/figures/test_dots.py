"""Dots: each name has its row, each series its dot, and what is unknown has none."""

from __future__ import annotations

from typing import Any

from workflows.figures import Panel, dots, panels


def rows(axes: Any) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def drawn(axes: Any) -> list[list[tuple[float, float]]]:
    """The points of each series; the lines that join two of a row have no marker."""
    marked = [line for line in axes.lines if line.get_marker() not in ("None", None, "")]
    return [list(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in marked]


def test_each_series_has_a_dot_in_the_row_of_its_name() -> None:
    figure = dots(["a", "$b$"], {"champion": [0.9, 0.8], "TF-IDF": [0.7, None]}, "F1")
    (axes,) = figure.axes
    assert rows(axes) == ["a", "$b$"]
    assert drawn(axes) == [[(0.9, 0), (0.8, 1)], [(0.7, 0)]]
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the first name is on top"


def test_each_quantity_has_its_panel() -> None:
    figure = panels(["full", "head"], [Panel("accuracy", [0.9, 0.6]), Panel("parameters", [2e7, 1e5], log=True)])
    first, second = figure.axes
    assert drawn(first) == [[(0.9, 0), (0.6, 1)]]
    assert drawn(second) == [[(2e7, 0), (1e5, 1)]]
    assert (first.get_xscale(), second.get_xscale()) == ("linear", "log")
    assert rows(first) == ["full", "head"]


def test_a_panel_of_which_some_values_are_unknown_shows_the_others() -> None:
    (axes,) = panels(["full", "head"], [Panel("memory", [None, 5.0])]).axes
    assert drawn(axes) == [[(5.0, 1)]]
