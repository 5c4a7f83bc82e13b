"""CSV that a spreadsheet shows and does not run."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

# The full-width forms count too (OWASP, CSV injection), and spaces before a formula do not stop every program.
_FORMULA = re.compile(r"[\t\r\n]|[\s\x00-\x1f]*[=+\-@＝＋－＠]")
_LINE_END = "\r\n"


def inert(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula gets a leading apostrophe."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def as_csv(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV text with plain newlines, every cell inert and whole.

    Python's writer quotes a carriage return only where it ends lines with one; unquoted, what follows it would begin
    a row, and a formula, of its own.
    """
    lines: list[str] = []
    writer = csv.writer(SimpleNamespace(write=lines.append), lineterminator=_LINE_END)
    writer.writerows([inert(cell) for cell in row] for row in rows)
    return "".join(f"{line.removesuffix(_LINE_END)}\n" for line in lines)
