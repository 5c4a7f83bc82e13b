"""Dots in rows: scores of named things beside each other, and one panel per quantity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workflows.figures.style import BLUE, GREY, INK, LETTER, brief, dress, legend, log_axis, new_figure, shown, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAME_LENGTH = 30
_ROW = 0.24


@dataclass(frozen=True)
class Panel:
    """One quantity of several named things; None where it is unknown. `log`: on a log scale."""

    title: str
    values: Sequence[float | None]
    log: bool = False


def dots(names: Sequence[str], series: Mapping[str, Sequence[float | None]], xlabel: str) -> Figure:
    """A row per name, the first on top, with a dot per series, joined where there are two; x from 0 to 1."""
    labels = [shown(name, _NAME_LENGTH) for name in names]
    figure = new_figure(_width(labels), 1.1 + _ROW * len(names) + 0.2 * len(series))
    axes = figure.add_subplot()
    _join(axes, list(series.values()))
    handles = []
    for index, values in enumerate(series.values()):
        look = style(index)
        points = [(value, row) for row, value in enumerate(values) if value is not None]
        xs, ys = zip(*points, strict=True) if points else ((), ())
        (handle,) = axes.plot(
            xs, ys, linestyle="none", marker=look.marker, color=look.colour, markersize=6, zorder=5 - index
        )
        handles.append(handle)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel(xlabel)
    _name_rows(axes, labels)
    legend(figure, handles, [shown(name, 44) for name in series])
    return figure


def panels(names: Sequence[str], shown_panels: Sequence[Panel]) -> Figure:
    """Panels side by side in pairs, a row per name in each, the first on top."""
    labels = [shown(name, _NAME_LENGTH) for name in names]
    height = -(-len(shown_panels) // 2)
    figure = new_figure(_width(labels) + 2.6, height * (0.75 + _ROW * len(names)))
    for index, panel in enumerate(shown_panels):
        axes = figure.add_subplot(height, 2, index + 1)
        points = [(value, row) for row, value in enumerate(panel.values) if value is not None]
        low = min((value for value, _ in points), default=0)
        axes.hlines([row for _, row in points], 0 if not panel.log else low / 3, [v for v, _ in points], color=GREY)
        axes.plot(*zip(*points, strict=True), linestyle="none", marker="o", color=BLUE, markersize=6)
        if panel.log:
            log_axis(axes.xaxis, write=brief)
        else:
            axes.set_xlim(0, None)
        axes.set_title(panel.title)
        _name_rows(axes, labels if index % 2 == 0 else [""] * len(labels))
    return figure


def _join(axes: Any, values: list[Sequence[float | None]]) -> None:
    if len(values) == 2:
        for row, (one, other) in enumerate(zip(*values, strict=True)):
            if one is not None and other is not None:
                axes.plot([one, other], [row, row], color=GREY, linewidth=1.2, zorder=1)


def _name_rows(axes: Any, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels, parse_math=False)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    dress(axes, grid="x")
    axes.tick_params(axis="y", length=0, colors=INK)


def _width(labels: Sequence[str]) -> float:
    return 3.6 + LETTER * max(map(len, labels), default=0)
