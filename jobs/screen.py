"""The terminal, as every entry point writes to it: text of users shows there and does nothing else."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

from workflows.printable import printable

# A pipe has no width; 80 columns would cut a table.
_PIPED_WIDTH = 160
_WIDEST = 100_000


class Screen(Console):
    """A console that drops control characters from all text: none moves the cursor, sets a title or makes a link.

    Colours and the cursor's own movements are added by rich after that. Markup in text of users must be escaped by
    whoever prints it.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Whoever read has read enough, as `head` does; what runs goes on without a word."""
        self.quiet = True
        _forget(self.file)


def output() -> Screen:
    """Where results go: the real stdout, as it is now, because what Ray and Tune print is sent elsewhere later."""
    return Screen(file=sys.stdout, width=None if sys.stdout.isatty() else _PIPED_WIDTH)


def width_of(table: Table, console: Console) -> int:
    """How many columns of a terminal a table needs."""
    return console.measure(table, options=console.options.update(max_width=_WIDEST)).maximum


def print_whole(table: Table, console: Console) -> None:
    """Print a table at its own width: on a narrow terminal lines wrap, but no number loses digits."""
    console.print(_Whole(table, max(console.width, width_of(table, console))), crop=False)


@dataclass(frozen=True)
class _Whole:
    """A table as it is at some width, whatever that of the console."""

    table: Table
    width: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Segment]:
        return console.render(self.table, options.update(width=self.width))


def say(line: str) -> None:
    """Write one line to stdout as it is, for programs to read. Whoever reads may stop to."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        _forget(sys.stdout)


def _forget(closed: IO[str]) -> None:
    """Nobody reads a stream any more: what is left in it, and what comes, goes nowhere (as Python's docs advise)."""
    if closed in (sys.__stdout__, sys.__stderr__):
        os.dup2(os.open(os.devnull, os.O_WRONLY), closed.fileno())
