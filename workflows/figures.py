"""Figures of one trial, as matplotlib Figure objects: no pyplot, so no global state and no window.

Colours are safe for colour blindness: the line colour is from Okabe and Ito (2008), the shading is one hue from
light to dark. Label names are shown as written: never read as TeX, cut where long.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.records import StepSeries

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE = "#0072B2"
_NAME_LENGTH = 28
_NUMBERED_CLASSES = 60
_MISSING_GLYPH = "□"
# Up to so many classes have wide cells and large type.
_SMALL = 12


def confusion_matrix(matrix: Sequence[Sequence[int]], labels: Sequence[str], title: str) -> Figure:
    """Counts of a (k, k) matrix, rows true and columns predicted, shaded by the share of each row.

    Zeros stay blank above ten classes, all numbers above sixty.
    """
    import numpy as np

    counts = np.asarray(matrix, dtype=np.int64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = len(labels)
    names = [_shown(label, _NAME_LENGTH) for label in labels]
    longest = max(map(len, names), default=0)
    level = size <= 3 and longest <= 10
    figure, axes, bar = _square(size, longest, level)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, cax=bar, label="share of true class")
    _name_ticks(axes, names, level)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(_shown(title, 80), parse_math=False)
    if size <= _NUMBERED_CLASSES:
        _write_counts(axes, counts, shares)
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
    axes.grid(alpha=0.3)
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Write a figure in the format of the path's suffix; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    return path


def _square(size: int, longest: int, level: bool) -> tuple[Figure, Any, Any]:
    """A figure with square axes and a bar beside them. Margins are reckoned: a layout engine would draw it twice."""
    from matplotlib.figure import Figure

    inner = min(max(size * _cell(size), 2.4), 20)
    text = 0.9 + longest * (0.085 if size <= _SMALL else 0.066)
    below = 0.9 if level else text
    width, height = text + inner + 1.2, below + inner + 0.5
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((text / width, below / height, inner / width, inner / height))
    bar = figure.add_axes(((text + inner + 0.2) / width, below / height, 0.18 / width, inner / height))
    return figure, axes, bar


def _cell(size: int) -> float:
    """Side of a cell in inches."""
    return 0.6 if size <= _SMALL else 0.32


def _name_ticks(axes: Any, names: Sequence[str], level: bool) -> None:
    style = {"parse_math": False, "fontsize": 9 if len(names) <= _SMALL else 7}
    axes.set_xticks(range(len(names)), names, rotation=0 if level else 90, **style)
    axes.set_yticks(range(len(names)), names, **style)


def _write_counts(axes: Any, counts: Any, shares: Any) -> None:
    size = len(counts)
    digits = len(str(counts.max(initial=0)))
    fontsize = min(10, _cell(size) * 72 / (0.65 * max(digits, 2)))
    for row in range(size):
        for column in range(size):
            if counts[row, column] or size <= 10:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, counts[row, column], ha="center", va="center", color=colour, fontsize=fontsize)


def _shown(text: str, length: int) -> str:
    """Text on one line, cut, with a box for each character that the font lacks (matplotlib would warn for each)."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont("DejaVu Sans"))
    line = " ".join(text.split())
    cut = line if len(line) <= length else line[: length - 1] + "…"
    return "".join(letter if font.get_char_index(ord(letter)) else _MISSING_GLYPH for letter in cut)
