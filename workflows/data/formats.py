"""File formats of labelled text: bytes of one file in, a table of the wanted columns out.

`FORMATS` and `COMPRESSIONS` are the tables; every format can be compressed with every compression.
Values stay what the file says: CSV is read as text only, so "NA", "null" and "007" are kept.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.errors import BadInput, nearest

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
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{where}: cannot be read: {error.strerror}") from None
    if compression:
        content = _decompress(content, compression, where)
    if not content.strip():
        raise BadInput(f"{where}: the file is empty")
    return FORMATS[extension](content, where, columns)


def extensions(name: str) -> tuple[str, str]:
    """Split a file name into its format and compression: `a.csv.gz` gives (`.csv`, `.gz`), `a.md` (``, ``)."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSIONS else ""
    return (suffixes[-1], compression) if suffixes and suffixes[-1] in FORMATS else ("", compression)


def read_csv(content: bytes, where: str, columns: Columns, separator: str = ",") -> Table:
    """Comma-separated text with a header line, quoted as in RFC 4180."""
    import pandas as pd

    text = _decode(content, where)
    header = _header(text, where, separator)
    picked = columns.pick(header, where)
    try:
        frame = pd.read_csv(io.StringIO(text), sep=separator, header=None, dtype=str, keep_default_na=False)
    except pd.errors.ParserError as error:
        raise _csv_error(text, where, separator, len(header), error) from None
    # pandas pads a short row with empty text, so only a file with empty last fields can hold one
    if (frame.iloc[:, -1] == "").any() and (bad := _ragged(text, separator, len(header))):
        raise BadInput(f"{where}:{bad[0]}: {bad[1]} fields, but the header has {len(header)}")
    rows = frame.iloc[1:, [header.index(name) for name in picked]].reset_index(drop=True)
    return Table(rows.set_axis(picked, axis=1))


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
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise BadInput(f"{where}: not a whole Parquet file: {reason}") from None
    return from_arrow(table, _class_names(file.schema_arrow.metadata))


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


def gunzip(content: bytes) -> bytes:
    import gzip

    return gzip.decompress(content)


def bunzip(content: bytes) -> bytes:
    import bz2

    return bz2.decompress(content)


def unxz(content: bytes) -> bytes:
    import lzma

    return lzma.decompress(content)


def unzstd(content: bytes) -> bytes:
    import zstandard

    # frame by frame, because zstandard's stream reader ends a file that is cut off without an error
    frames = []
    while content:
        frame = zstandard.ZstdDecompressor().decompressobj()
        frames.append(frame.decompress(content))
        if not frame.eof:
            raise EOFError("the file ends inside a frame")
        content = frame.unused_data
    return b"".join(frames)


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {".gz": gunzip, ".bz2": bunzip, ".xz": unxz, ".zst": unzstd}


def _decompress(content: bytes, compression: str, where: str) -> bytes:
    import lzma
    import zlib

    import zstandard

    try:
        return COMPRESSIONS[compression](content)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
        raise BadInput(f"{where}: not a whole {compression} file: {error}") from None


def _decode(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        offset = error.start + (len(codecs.BOM_UTF8) if content.startswith(codecs.BOM_UTF8) else 0)
        line = content.count(b"\n", 0, offset) + 1
        raise BadInput(
            f"{where}:{line}: not UTF-8 text (byte {offset} is 0x{content[offset]:02x}); save the file as UTF-8, "
            f"for example: iconv -f WINDOWS-1252 -t UTF-8"
        ) from None


def _header(text: str, where: str, separator: str) -> list[str]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
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
        for fields in reader:
            if fields and len(fields) != width:
                return start, len(fields)
            start = reader.line_num + 1
    except csv.Error:
        return (start, 0) if strict else None
    return None


def _record(line: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise BadInput(f"{where}: not valid JSON: {error.msg} (column {error.colno})") from None
    except RecursionError:
        raise BadInput(f"{where}: not valid JSON: nested too deeply") from None
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
