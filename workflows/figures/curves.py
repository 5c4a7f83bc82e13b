"""Values over time: learning curves and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainables.records import StepSeries
from workflows.figures.style import BLUE, GREY, dress, legend, log_axis, new_figure, shown, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 4.9, 3.0
_NAME_LENGTH = 44
_MARKED_POINTS = 40
_BLOCK_COLUMNS = 4


@dataclass(frozen=True)
class Curve:
    """One line: its name, and its points. One that is not `highlighted` is drawn grey and has no name in the legend."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    highlighted: bool = True


def curves(lines: Sequence[Curve], xlabel: str, ylabel: str) -> Figure:
    """Lines over one axis that counts in whole numbers, the highlighted ones on top with a legend."""
    from matplotlib.ticker import MaxNLocator

    named = [line for line in lines if line.highlighted]
    figure = new_figure(_WIDTH, _HEIGHT + 0.2 * (len(named) + (len(named) < len(lines))))
    axes = figure.add_subplot()
    others = [_draw_grey(axes, line) for line in lines if not line.highlighted]
    handles = [_draw(axes, line, index) for index, line in enumerate(named)]
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    dress(axes)
    names = [shown(line.name, _NAME_LENGTH) for line in named]
    if others:
        legend(figure, [*handles, others[0]], [*names, f"{len(others)} more"])
    elif handles:
        legend(figure, handles, names)
    return figure


def schedules(lines: Sequence[Curve]) -> Figure:
    """Learning rates by optimizer step; on a log scale where the peaks lie a factor of ten apart (0 is not shown).

    A schedule may have no peak: a trial of one step, which is its warm-up, has the rate 0.
    """
    peaks = [peak for line in lines if (peak := max(line.y)) > 0]
    apart = bool(peaks) and max(peaks) >= 10 * min(peaks)
    if apart:
        lines = [Curve(line.name, line.x, _positive(line.y), line.highlighted) for line in lines]
    figure = curves(lines, "optimizer step", "learning rate")
    (axes,) = figure.axes
    if apart:
        axes.set_ylim(min(peaks) / 50, 1.5 * max(peaks))
        log_axis(axes.yaxis)
    else:
        axes.set_ylim(0, None)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    return figure


def block_rates(steps: Sequence[int], rates: Mapping[str, Sequence[float]]) -> Figure:
    """The rate of every block of one trial, from dark (first) to light (last), on a log scale (0 is not shown)."""
    from matplotlib import colormaps

    figure = new_figure(_WIDTH, _HEIGHT + 0.2 * -(-len(rates) // _BLOCK_COLUMNS))
    axes = figure.add_subplot()
    shades, handles = colormaps["cividis"], []
    for index, values in enumerate(rates.values()):
        colour = shades(0.15 + 0.75 * index / max(len(rates) - 1, 1))
        (handle,) = axes.plot(steps, _positive(values), color=colour, linestyle=style(index).dash, linewidth=1.6)
        handles.append(handle)
    axes.set(xlabel="optimizer step", ylabel="learning rate")
    log_axis(axes.yaxis)
    dress(axes)
    legend(figure, handles, [shown(block, 14) for block in rates], columns=_BLOCK_COLUMNS)
    return figure


def learning_rate(series: Sequence[StepSeries]) -> Figure:
    """The learning rate that was applied at each optimizer step, from the series of all epochs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5))
    axes = figure.add_axes((0.13, 0.15, 0.83, 0.77))
    steps = [step for part in series for step in part.step]
    rates = [rate for part in series for rate in part.learning_rate]
    axes.plot(steps, rates, color=BLUE, marker="." if len(steps) <= 50 else None)
    axes.set(xlabel="optimizer step", ylabel="learning rate", ylim=(0, None))
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    dress(axes)
    return figure


def _positive(values: Sequence[float]) -> list[float]:
    """Values for a log scale: 0 becomes a gap."""
    return [value if value > 0 else math.nan for value in values]


def _draw(axes: Any, line: Curve, index: int) -> Any:
    look = style(index)
    marked = len(line.x) <= _MARKED_POINTS
    (handle,) = axes.plot(
        line.x,
        line.y,
        color=look.colour,
        linestyle=look.dash,
        marker=look.marker,
        markevery=1 if marked else max(len(line.x) // 8, 1),
        markersize=5,
        linewidth=1.8,
        zorder=len(axes.lines) + 3 if index else 1000,
    )
    return handle


def _draw_grey(axes: Any, line: Curve) -> Any:
    single = len(line.x) == 1
    (handle,) = axes.plot(line.x, line.y, color=GREY, alpha=0.45, linewidth=1, marker="." if single else None, zorder=2)
    return handle
