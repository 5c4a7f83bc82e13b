"""One quantity against another: what accuracy costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workflows.figures.style import GREY, INK, dress, legend, log_axis, new_figure, shown, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAME_LENGTH = 34


@dataclass(frozen=True)
class Spot:
    """One point. Spots of one `kind` look alike; `note` is written beside it."""

    x: float
    y: float
    kind: str
    note: str = ""


def scatter(
    spots: Sequence[Spot],
    xlabel: str,
    ylabel: str,
    front: Sequence[Spot] = (),
    write: Callable[[float], str] = "{:g}".format,
) -> Figure:
    """Spots over a log x axis, whose numbers `write` writes, with a legend of their kinds.

    The spots of `front` are joined by a stepped line.
    """
    kinds = list(dict.fromkeys(spot.kind for spot in spots))
    figure = new_figure(4.9, 3.3 + 0.2 * (len(kinds) + 1) / 2)
    axes = figure.add_subplot()
    handles, names = [], [shown(kind, _NAME_LENGTH) for kind in kinds]
    for index, kind in enumerate(kinds):
        look, same = style(index), [spot for spot in spots if spot.kind == kind]
        xs, ys = [spot.x for spot in same], [spot.y for spot in same]
        (handle,) = axes.plot(
            xs, ys, linestyle="none", marker=look.marker, color=look.colour, markersize=6, alpha=0.9, zorder=4
        )
        handles.append(handle)
    if len(front) > 1:
        xs, ys = [spot.x for spot in front], [spot.y for spot in front]
        (line,) = axes.step(xs, ys, where="post", color=GREY, linewidth=1.2, zorder=2)
        handles.append(line)
        names.append("Pareto front")
    for spot in spots:
        if spot.note:
            axes.annotate(
                shown(spot.note, _NAME_LENGTH),
                (spot.x, spot.y),
                xytext=(5, 5),
                textcoords="offset points",
                fontsize=8,
                color=INK,
                parse_math=False,
            )
    axes.set_xscale("log")
    axes.margins(x=0.12, y=0.12)
    log_axis(axes.xaxis, write)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    dress(axes)
    legend(figure, handles, names, columns=2)
    return figure
