"""Comma- or tab-separated text to a table: by pandas, with the line of whatever is wrong found by the csv module."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from trainables.errors import BadInput

if TYPE_CHECKING:
    import pandas as pd

# The csv module stops at fields of 131,072 characters unless it is told otherwise.
_LONGEST_FIELD = 2**31 - 1
_CATEGORIES = 1000


def parse(text: str, where: str, separator: str, pick: Callable[[list[str]], list[str]]) -> pd.DataFrame:
    """Rows as text, quoted as in RFC 4180, of the columns that `pick` chooses from the header.

    Raises BadInput with the line of a row that is wider or narrower than the header, or of a quote that is not closed.
    """
    import pandas as pd

    header = _header(text, where, separator)
    picked = pick(header)
    try:
        frame = pd.read_csv(io.StringIO(text), sep=separator, header=None, dtype=str, keep_default_na=False)
    except ValueError as error:  # ParserError and EmptyDataError are ValueErrors
        raise _csv_error(text, where, separator, len(header), error) from None
    if frame.shape[1] != len(header):
        raise BadInput(f"{where}:1: the header line cannot be read; write it as {separator.join(picked)}")
    # pandas pads a short row with empty text, so only a file with empty last fields can hold one
    if (frame.iloc[:, -1] == "").any() and (bad := _ragged(text, separator, len(header))):
        raise BadInput(f"{where}:{bad[0]}: {bad[1]} fields, but the header has {len(header)}")
    places = [header.index(name) for name in picked]
    rows = frame.iloc[1:, places].reset_index(drop=True)
    if text.count("\n") > len(frame):  # else every row is a line
        _refuse_swallowed(rows.to_numpy().tolist(), places, text, where, separator, len(header))
    return rows.set_axis(picked, axis=1)


def _header(text: str, where: str, separator: str) -> list[str]:
    try:
        with _long_fields():
            reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
            header: list[str] = next((fields for fields in reader if fields), [])
    except csv.Error as error:
        raise BadInput(f"{where}:1: the header line cannot be read: {error}") from None
    other = next((sign for sign in (",", ";", "\t") if sign != separator and sign in "".join(header)), None)
    if len(header) == 1 and other:
        wanted = {",": "name the file .csv", "\t": "name the file .tsv"}.get(other, "save it with commas, or as .tsv")
        raise BadInput(
            f"{where}:1: one column was found, {header[0]!r}: the file seems to be separated by {other!r}; {wanted}"
        )
    return header


def _csv_error(text: str, where: str, separator: str, width: int, error: Exception) -> BadInput:
    if bad := _ragged(text, separator, width, strict=True):
        found = f"{bad[1]} fields, but the header has {width}" if bad[1] else "a quote is opened and never closed"
        return BadInput(f"{where}:{bad[0]}: {found}")
    return BadInput(f"{where}: not valid CSV: {error}")


def _ragged(text: str, separator: str, width: int, strict: bool = False) -> tuple[int, int] | None:
    """Line and number of fields of the first row that is not `width` wide; 0 fields where a quote is left open."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=strict)
    start = 1
    try:
        with _long_fields():
            for fields in reader:
                if fields and len(fields) != width:
                    return start, len(fields)
                start = reader.line_num + 1
    except csv.Error:
        return (start, 0) if strict else None
    return None


@contextlib.contextmanager
def _long_fields() -> Iterator[None]:
    before = csv.field_size_limit(_LONGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _refuse_swallowed(
    rows: list[list[str]], places: list[int], text: str, where: str, separator: str, width: int
) -> None:
    """A quote at the beginning of a text that is closed in a later one takes the rows between them into itself.

    Such a text holds lines that are rows: as wide as the header, and with a label that other rows have too.
    """
    long = [(row, column) for row in rows for column, value in enumerate(row) if "\n" in value]
    if not long or len(places) < 2:
        return
    known = [_categories([row[column] for row in rows]) for column in range(len(places))]
    for row, column in long:
        inner = [line.rstrip("\r").split(separator) for line in row[column].split("\n")[1:-1]]
        others = [(places[other], known[other]) for other in range(len(places)) if other != column and known[other]]
        alike = [
            fields
            for fields in inner
            if others and len(fields) == width and all(fields[place] in values for place, values in others)
        ]
        if inner and 2 * len(alike) >= len(inner):
            line = text.count("\n", 0, max(text.find(row[column]), 0)) + 1
            raise BadInput(
                f"{where}:{line}: a quote is opened here and closed {len(inner) + 1} lines later, so that the rows "
                "between would be one text; write a quote that belongs to a text twice, and quotes around that text"
            )


def _categories(values: list[str]) -> set[str]:
    """The values of a column that repeats few of them, as labels do; none for any other column."""
    found = {value for value in values if "\n" not in value}
    return found if len(found) <= min(_CATEGORIES, len(values) // 2) else set()
