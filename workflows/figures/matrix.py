"""Confusion matrices, of two classes or of two hundred."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from workflows.figures.style import dress, shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAME_LENGTH = 28
_NUMBERED_CLASSES = 60
# Up to so many classes have wide cells and large type.
_SMALL = 12
# Up to this share black stands out more on the colour map than white (WCAG's contrast: 4.7 and 4.5 to 1 here).
_DARK = 0.71


def confusion_matrix(
    matrix: Sequence[Sequence[int]], labels: Sequence[str], title: str, *, percent: bool = False
) -> Figure:
    """A (k, k) matrix, rows true and columns predicted, shaded by the share of each row.

    Cells hold counts, or with `percent` the share of their row in whole percent. Zeros stay blank above ten classes,
    all numbers above sixty.
    """
    import numpy as np

    counts = np.asarray(matrix, dtype=np.int64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = len(labels)
    names = [shown(label, _NAME_LENGTH) for label in labels]
    longest = max(map(len, names), default=0)
    level = size <= 3 and longest <= 10
    figure, axes, bar = _square(size, longest, level)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, cax=bar, label="share of true class")
    _name_ticks(axes, names, level)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(shown(title, 80), parse_math=False)
    for part in (axes, bar):
        dress(part, grid=None)
    axes.tick_params(labelsize=9 if size <= _SMALL else 7)
    if size <= _NUMBERED_CLASSES:
        _write_cells(axes, np.rint(100 * shares).astype(int) if percent else counts, shares, counts)
    return figure


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
    return 0.5 if size <= _SMALL else 0.32


def _name_ticks(axes: Any, names: Sequence[str], level: bool) -> None:
    axes.set_xticks(range(len(names)), names, rotation=0 if level else 90, parse_math=False)
    axes.set_yticks(range(len(names)), names, parse_math=False)


def _write_cells(axes: Any, numbers: Any, shares: Any, counts: Any) -> None:
    size = len(numbers)
    digits = len(str(numbers.max(initial=0)))
    fontsize = min(10, _cell(size) * 72 / (0.65 * max(digits, 2)))
    for row in range(size):
        for column in range(size):
            if counts[row, column] or size <= 10:
                colour = "white" if shares[row, column] > _DARK else "black"
                axes.text(column, row, numbers[row, column], ha="center", va="center", color=colour, fontsize=fontsize)
