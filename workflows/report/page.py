"""What the report's page is made of: sections of blocks. All text here is plain; the template escapes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from workflows.spreadsheet import as_csv

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Mark = Literal["", "champion", "baseline", "quiet"]


@dataclass(frozen=True)
class Column:
    """A column's heading; numbers stand to the right; `wide` ones hold running text and may break."""

    title: str
    numeric: bool = True
    wide: bool = False


@dataclass(frozen=True)
class Row:
    """The cells of one line, written out; `mark` says what it is."""

    cells: Sequence[str]
    mark: Mark = ""


@dataclass(frozen=True)
class Table:
    """A table. `note` stands below it; one that is `folded` opens on a click, under its caption."""

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    note: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Data:
    """The numbers behind a figure."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def csv(self) -> str:
        """As CSV that a spreadsheet shows and does not run."""
        return as_csv([self.columns, *self.rows])


@dataclass(frozen=True)
class Plot:
    """A figure: `name` is that of its files, `alt` states in words what it shows."""

    kind: ClassVar[str] = "plot"
    name: str
    title: str
    alt: str
    figure: Figure
    data: Data
    wide: bool = False


@dataclass(frozen=True)
class Facts:
    """Terms with what they are."""

    kind: ClassVar[str] = "facts"
    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Listing:
    """Text as it is typed or stored, in a fixed-width face."""

    kind: ClassVar[str] = "listing"
    caption: str
    text: str
    folded: bool = False


@dataclass(frozen=True)
class Figures:
    """Plots that stand side by side where there is room."""

    kind: ClassVar[str] = "figures"
    plots: Sequence[Plot]


@dataclass(frozen=True)
class Paragraph:
    """Running text between other blocks; a `heading` of its own is optional."""

    kind: ClassVar[str] = "paragraph"
    text: str
    heading: str = ""


Block = Table | Facts | Listing | Figures | Paragraph


@dataclass(frozen=True)
class Section:
    """A part of the page with an anchor."""

    anchor: str
    title: str
    lead: str
    blocks: Sequence[Block] = field(default_factory=tuple)

    @property
    def plots(self) -> list[Plot]:
        """Every figure of the section."""
        return [plot for block in self.blocks if isinstance(block, Figures) for plot in block.plots]
