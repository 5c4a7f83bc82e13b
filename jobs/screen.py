"""The terminal, as every entry point writes to it: text of users shows there and does nothing else."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from workflows.printable import printable


class Screen(Console):
    """A console that drops control characters from all text: none moves the cursor, sets a title or makes a link.

    Colours and the cursor's own movements are added by rich after that. Markup in text of users must be escaped by
    whoever prints it.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)
