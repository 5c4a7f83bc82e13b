"""Probabilities against what was true: how reliable they are, and what abstaining gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from workflows.figures.style import GREY, dress, legend, new_figure, shown, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIDE = 3.4
_NAME_LENGTH = 44
# Of markers, in square points: of a bin without texts, and what all texts add.
_LEAST_AREA, _WHOLE_AREA = 10, 300
# Below so many points each has a marker.
_MARKED_POINTS = 40


def reliability(bins: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[int]]]) -> Figure:
    """Accuracy over mean confidence beside the diagonal where the two are equal; for each name its bins.

    Bins are given as confidences, accuracies and numbers of texts, which the area of a marker shows.
    """
    figure = new_figure(4.2, _SIDE + 0.2 * (len(bins) + 1))
    axes = figure.add_subplot()
    (ideal,) = axes.plot([0, 1], [0, 1], color=GREY, linewidth=1.2, zorder=1)
    handles = []
    for index, (confidence, accuracy, texts) in enumerate(bins.values()):
        look = style(index)
        axes.plot(confidence, accuracy, color=look.colour, linestyle=look.dash, linewidth=1, alpha=0.6, zorder=2)
        areas = [_LEAST_AREA + _WHOLE_AREA * count / sum(texts) for count in texts]
        handle = axes.scatter(
            confidence,
            accuracy,
            s=areas,
            color=look.colour,
            marker=look.marker,
            alpha=0.8,
            linewidths=0,
            zorder=3,
            clip_on=False,
        )
        handles.append(handle)
    axes.set(xlabel="mean confidence", ylabel="accuracy on test", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    dress(axes)
    names = [shown(name, _NAME_LENGTH) for name in bins]
    legend(figure, [*handles, ideal], [*names, "as sure as right"])
    return figure


def coverage(lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Figure:
    """Accuracy over the share of texts that is answered, a line for each name."""
    figure = new_figure(4.9, 3.0 + 0.2 * len(lines))
    axes = figure.add_subplot()
    handles = []
    for index, (share, accuracy) in enumerate(lines.values()):
        look = style(index)
        every = 1 if len(share) <= _MARKED_POINTS else max(len(share) // 8, 1)
        (handle,) = axes.plot(
            share,
            accuracy,
            color=look.colour,
            linestyle=look.dash,
            marker=look.marker,
            markevery=every,
            markersize=5,
            linewidth=1.6,
        )
        handles.append(handle)
    axes.set(xlabel="share of test texts that is answered", ylabel="accuracy of these", xlim=(0, 1.02))
    axes.set_ylim(None, 1.01)
    dress(axes)
    legend(figure, handles, [shown(name, _NAME_LENGTH) for name in lines])
    return figure
