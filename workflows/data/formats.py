"""File formats of labelled text: bytes of one file in, a table of the wanted columns out.

`FORMATS` is the table, `workflows.data.compression` has another; every format can be compressed with every compression.
Values stay what the file says: CSV is read as text only, so "NA", "null" and "007" are kept.
"""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.errors import BadInput, nearest
from workflows.data import csv_text
from workflows.data.compression import COMPRESSIONS, unpack

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True)
class Columns:
    """The columns a source must have, each with the setting that names it, and those it may have."""

    required: tuple[tuple[str, str], ...]
    optional: tuple[str, ...] = ()

    def pick(self, found: Iterable[str], where: str) -> list[str]:
        """Return the names to read; raise BadInput showing what is expected, what was found, and the fix."""
        names = [str(name) for name in found]
        for setting, column in self.required:
            if column not in names:
                raise BadInput(
                    f"{where}: no column '{column}'; {nearest(column, names)}. Set {setting} to one of these"
                )
            if names.count(column) > 1:
                raise BadInput(f"{where}: {names.count(column)} columns are called '{column}'; rename all but one")
        wanted = [*(column for _, column in self.required), *(name for name in self.optional if name in names)]
        return list(dict.fromkeys(wanted))


@dataclass(frozen=True)
class Table:
    """Rows of one file. `class_names` holds, for a column that is a `datasets.ClassLabel`, the name of each id."""

    frame: pd.DataFrame
    class_names: dict[str, tuple[str, ...]] = field(default_factory=dict)


def read_file(path: Path, columns: Columns) -> Table:
    """Read one file by its extension. Raises BadInput for anything that is not a table with the wanted columns."""
    extension, compression = extensions(path.name)
    where = str(path)
    if extension not in FORMATS:
        raise BadInput(f"{where}: the format '{extension or path.suffix}' is not known; {nearest(extension, FORMATS)}")
    content = _read_unchanged(path)
    if compression:
        content = unpack(content, compression, where)
    if not content.strip():
        raise BadInput(f"{where}: the file is empty")
    return FORMATS[extension](content, where, columns)


def _read_unchanged(path: Path) -> bytes:
    """All bytes of a file, as they were at one time."""
    try:
        before = path.stat()
        content = path.read_bytes()
        after = path.stat()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from None
    # Only of a plain file are size and time to be relied on.
    if path.is_file() and (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise BadInput(f"{path}: was changed while it was read; wait until whoever writes it is done, and run again")
    return content


def extensions(name: str) -> tuple[str, str]:
    """Split a file name into its format and compression: `a.csv.gz` gives (`.csv`, `.gz`), `a.md` (``, ``)."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSIONS else ""
    return (suffixes[-1], compression) if suffixes and suffixes[-1] in FORMATS else ("", compression)


def read_csv(content: bytes, where: str, columns: Columns, separator: str = ",") -> Table:
    """Comma-separated text with a header line, quoted as in RFC 4180."""
    frame = csv_text.parse(_decode(content, where), where, separator, lambda found: columns.pick(found, where))
    return Table(frame)


def read_tsv(content: bytes, where: str, columns: Columns) -> Table:
    """Tab-separated text with a header line."""
    return read_csv(content, where, columns, "\t")


def read_json_lines(content: bytes, where: str, columns: Columns) -> Table:
    """One JSON object per line; blank lines are skipped."""
    records = []
    for number, line in enumerate(_decode(content, where).split("\n"), start=1):
        if line.strip():
            records.append(_record(line, f"{where}:{number}"))
    return _from_records(records, where, columns)


def read_json(content: bytes, where: str, columns: Columns) -> Table:
    """A JSON array of objects, or JSON Lines under the name .json."""
    if not content.lstrip(codecs.BOM_UTF8 + b" \t\r\n").startswith(b"["):
        return read_json_lines(content, where, columns)
    try:
        records = json.loads(_decode(content, where))
    except (json.JSONDecodeError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise BadInput(f"{where}:{line}: not valid JSON: {getattr(error, 'msg', 'nested too deeply')}") from None
    except ValueError as error:
        raise BadInput(f"{where}: not valid JSON: {error}") from None
    for number, record in enumerate(records):
        if not isinstance(record, dict):
            raise BadInput(f"{where}: item {number} of the array is not an object like {_EXAMPLE}")
    return _from_records(records, where, columns)


def read_parquet(content: bytes, where: str, columns: Columns) -> Table:
    """Parquet; the label names that `datasets` leaves in the file's metadata are honoured."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(io.BytesIO(content))
        table = file.read(columns=columns.pick(file.schema_arrow.names, where))
        # Arrow takes text as it stands in the file; whether it is UTF-8 would only show where it is used.
        table.validate(full=True)
        return from_arrow(table, _class_names(file.schema_arrow.metadata))
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BadInput(f"{where}: not a whole Parquet file: {reason}") from None


def from_arrow(table: pa.Table, class_names: dict[str, tuple[str, ...]]) -> Table:
    """An Arrow table as a Table: dictionaries are decoded, integers with nulls stay integers."""
    import pyarrow as pa

    for index, column in enumerate(table.columns):
        if pa.types.is_dictionary(column.type):
            table = table.set_column(index, table.column_names[index], column.cast(column.type.value_type))
    known = {name: names for name, names in class_names.items() if name in table.column_names}
    return Table(table.to_pandas(integer_object_nulls=True, ignore_metadata=True), known)


FORMATS: dict[str, Callable[[bytes, str, Columns], Table]] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".json": read_json,
    ".parquet": read_parquet,
}
_EXAMPLE = '{"text": "…", "label": "…"}'


def _decode(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise BadInput(
                f"{where}:1: not UTF-8 text (byte 0 is 0x{content[0]:02x}) but UTF-16, as Excel writes it; "
                "save the file as UTF-8, for example: iconv -f UTF-16 -t UTF-8"
            ) from None
        offset = error.start + (len(codecs.BOM_UTF8) if content.startswith(codecs.BOM_UTF8) else 0)
        line = content.count(b"\n", 0, offset) + 1
        raise BadInput(
            f"{where}:{line}: not UTF-8 text (byte {offset} is 0x{content[offset]:02x}); save the file as UTF-8, "
            f"for example: iconv -f WINDOWS-1252 -t UTF-8"
        ) from None


def _record(line: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise BadInput(f"{where}: not valid JSON: {error.msg} (column {error.colno})") from None
    except RecursionError:
        raise BadInput(f"{where}: not valid JSON: nested too deeply") from None
    except ValueError as error:
        # A number with more digits than Python reads
        raise BadInput(f"{where}: not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadInput(f"{where}: must be an object like {_EXAMPLE}")
    return value


def _from_records(records: list[dict[str, Any]], where: str, columns: Columns) -> Table:
    import pandas as pd

    picked = columns.pick(dict.fromkeys(chain.from_iterable(records)), where) if records else []
    # dtype object keeps 1 and 1.0 and true apart until the column's role is known
    data = {name: pd.Series([record.get(name) for record in records], dtype=object) for name in picked}
    return Table(pd.DataFrame(data))


def _class_names(metadata: dict[bytes, bytes] | None) -> dict[str, tuple[str, ...]]:
    """ClassLabel names from the `huggingface` entry that datasets.Dataset.to_parquet writes."""
    try:
        features = json.loads((metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        return {
            name: tuple(feature["names"])
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (ValueError, KeyError, AttributeError, TypeError):
        return {}
