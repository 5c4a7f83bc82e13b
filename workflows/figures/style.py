"""How every figure looks: ink, palette, axes, legends and the text of users."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Lines and text. Nothing else has this colour, so that the report can replace it by that of the page.
INK = "#24292f"
GREY = "#8c959f"
BLUE = "#0072B2"
# Okabe and Ito's colours without black and yellow, which vanish on a dark or a light page.
PALETTE = (BLUE, "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (2, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (1, 1)))
_MISSING_GLYPH = "□"
FONT_SIZE = 10
# What a line of text takes in inches, by its letters.
LETTER = 0.078


@dataclass(frozen=True)
class Style:
    """How one series is told from the others: by colour, marker and dash."""

    colour: str
    marker: str
    dash: Any


def style(index: int) -> Style:
    """The style of the n-th series. The cycles differ in length, so that no two of the first 42 look alike."""
    return Style(PALETTE[index % len(PALETTE)], _MARKERS[index % len(_MARKERS)], _DASHES[index % len(_DASHES)])


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches that makes room for its own labels."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06))


def dress(axes: Any, *, grid: str | None = "both") -> None:
    """Ink on every part of some axes, no box, no background, and a faint grid."""
    axes.set_facecolor("none")
    for name, spine in axes.spines.items():
        spine.set_color(INK)
        spine.set_alpha(0.5)
        spine.set_visible(name in ("left", "bottom"))
    axes.tick_params(which="both", colors=INK, labelcolor=INK, labelsize=FONT_SIZE - 1)
    for text in (axes.xaxis.label, axes.yaxis.label, axes.title):
        text.set(color=INK, fontsize=FONT_SIZE)
    for text in (axes.xaxis.get_offset_text(), axes.yaxis.get_offset_text()):
        text.set(color=INK, fontsize=FONT_SIZE - 1)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis=grid, color=INK, alpha=0.12, linewidth=0.6)


def legend(figure: Figure, handles: Sequence[Any], names: Sequence[str], columns: int = 1) -> None:
    """A legend below the axes. Names are set afterwards, because matplotlib drops one that begins with `_`."""
    drawn = figure.legend(
        handles, ["·"] * len(names), loc="outside lower center", ncols=columns, fontsize=FONT_SIZE - 1, frameon=False
    )
    for text, name in zip(drawn.get_texts(), names, strict=True):
        text.set(parse_math=False, text=name, color=INK)


def log_axis(axis: Any, write: Callable[[float], str] = "{:g}".format) -> None:
    """A log scale with plain numbers: at powers of ten, with 2 and 5 where these are few, evenly within one of them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    name = axis.axis_name
    getattr(axis.axes, f"set_{name}scale")("log")
    low, high = axis.get_view_interval()
    wide = LogLocator(subs=(1.0,) if high > 300 * low else (1.0, 2.0, 5.0))
    axis.set_major_locator(wide if high > 10 * low else MaxNLocator(5))
    axis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))
    axis.set_minor_formatter(NullFormatter())


def brief(value: float) -> str:
    """A count in few letters.

    >>> brief(200_000), brief(5e6)
    ('200 k', '5 M')
    """
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:g} {unit}"
    return f"{value:g}"


def shown(text: str, length: int) -> str:
    """Text on one line, cut, with a box for each character that the font lacks (matplotlib would warn for each)."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont("DejaVu Sans"))
    line = " ".join(text.split())
    cut = line if len(line) <= length else line[: length - 1] + "…"
    return "".join(letter if font.get_char_index(ord(letter)) else _MISSING_GLYPH for letter in cut)


def save(figure: Figure, path: Path) -> Path:
    """Write a figure in the format of the path's suffix; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    return path
