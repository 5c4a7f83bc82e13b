"""Where labelled rows come from: a file, a folder, a glob, a package, a folder of `save_to_disk`, or the Hub.

`SOURCES` is the table: one kind = one function from a Request to Rows. `kind_of` says which one a path is;
what exists on this machine wins over the Hub. Paths are relative to the current directory, `~` is expanded.
"""

from __future__ import annotations

import difflib
import glob
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.errors import BadInput
from workflows.data import packages
from workflows.data.formats import FORMATS, Columns, Table, extensions, from_arrow, read_file

if TYPE_CHECKING:
    import pandas as pd

FORMS = (
    "a data file (csv, tsv, jsonl, json, parquet; also .gz .bz2 .xz .zst), a folder, a glob such as data/*.csv, "
    "pkg://package/path, or a Hub id such as stanfordnlp/imdb"
)
ALIASES = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
_SPLIT_FILE = re.compile(rf"({'|'.join(ALIASES)})(ing|set)?(?![a-z])", re.IGNORECASE)
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True)
class Request:
    """What to read: a path as the user wrote it, the columns, and `load_dataset`'s name and revision."""

    path: str
    columns: Columns
    name: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class Rows:
    """All rows of a source, numbered from 0.

    `split` names the split of each row where the source itself has named splits (Hub, folder), else None.
    """

    frame: pd.DataFrame
    class_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    split: pd.Series | None = None


def load(request: Request) -> Rows:
    """Read every row of a source. Raises BadInput with what is wrong and what would be right."""
    kind = kind_of(request.path)
    for setting in ("name", "revision"):
        if kind != "hub" and getattr(request, setting) is not None:
            raise BadInput(f"data.{setting}: is for Hub data sets only, but {request.path} is a {kind}")
    rows = SOURCES[kind](request)
    if rows.frame.empty:
        raise BadInput(f"{request.path}: there are no rows")
    return rows


def kind_of(path: str) -> str:
    """Say which line of `SOURCES` a path belongs to; raise BadInput where it is none of them."""
    if packages.is_package_uri(path):
        return "package"
    if "://" in path:
        scheme = path.split("://")[0]
        raise BadInput(f"'{path}': {scheme}:// is not supported yet; name {FORMS}")
    try:
        local = Path(path).expanduser()
        found = "" if not path.strip() else "folder" if local.is_dir() else "file" if local.is_file() else ""
    except (OSError, RuntimeError) as error:
        raise BadInput(f"'{path[:100]}': cannot be a path here: {error}. A source is {FORMS}") from None
    if found:
        return "saved" if found == "folder" and _is_saved(local) else found
    if glob.has_magic(path):
        return "glob"
    if _HUB_ID.fullmatch(path) and not is_file_name(path) and not path.startswith("."):
        return "hub"
    raise BadInput(f"'{path}': no such file or folder{_nearest_file(local)} A source is {FORMS}")


def is_file_name(name: str) -> bool:
    """Whether a name ends like a data file, existing or not."""
    return bool(extensions(name)[0])


def from_file(request: Request) -> Rows:
    return _rows(read_file(Path(request.path).expanduser(), request.columns))


def from_package(request: Request) -> Rows:
    path = packages.locate(request.path)
    kind = "file" if path.is_file() else kind_of(str(path))
    return SOURCES[kind](Request(str(path), request.columns))


def from_glob(request: Request) -> Rows:
    pattern = str(Path(request.path).expanduser())
    paths = sorted(Path(path) for path in glob.glob(pattern, recursive=True) if Path(path).is_file())  # noqa: PTH207
    if not paths:
        raise BadInput(f"'{request.path}': no file matches this pattern")
    return _concatenate([(None, path) for path in paths], request)


def from_folder(request: Request) -> Rows:
    """Files, or the folders they are in, named train*, validation* (valid, val, dev) and test* are splits and the
    only ones read; where none is named so, all data files are read together.
    """
    root = Path(request.path).expanduser()
    try:
        paths = sorted(path for path in root.rglob("*") if is_file_name(path.name) and _visible(path, root))
    except OSError as error:
        raise BadInput(f"'{request.path}': the folder cannot be read: {error.strerror} {error.filename}") from None
    if not paths:
        raise BadInput(f"'{request.path}': the folder holds no data file ({', '.join(FORMATS)})")
    splits = [(_split_of(path.relative_to(root)), path) for path in paths]
    named = sorted((part for part in splits if part[0] is not None), key=lambda part: list(ALIASES).index(str(part[0])))
    return _concatenate(named or splits, request)


def from_saved(request: Request) -> Rows:
    """A folder written by `datasets.Dataset.save_to_disk` or `DatasetDict.save_to_disk`."""
    import datasets

    try:
        found = datasets.load_from_disk(str(Path(request.path).expanduser()))
    except (OSError, ValueError, KeyError, datasets.exceptions.DatasetsError) as error:
        raise BadInput(f"'{request.path}': cannot be read as a folder of save_to_disk: {_line(error)}") from None
    return _from_datasets(found, request)


def from_hub(request: Request) -> Rows:
    """`datasets.load_dataset(path, name, revision=revision)`, all splits."""
    import datasets

    try:
        found = datasets.load_dataset(request.path, request.name, revision=request.revision)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise BadInput(f"'{request.path}': {_hub_hint(error)}") from None
    return _from_datasets(found, request)


SOURCES: dict[str, Callable[[Request], Rows]] = {
    "file": from_file,
    "folder": from_folder,
    "saved": from_saved,
    "glob": from_glob,
    "package": from_package,
    "hub": from_hub,
}


def _rows(table: Table) -> Rows:
    return Rows(table.frame, table.class_names)


def _concatenate(parts: list[tuple[str | None, Path]], request: Request) -> Rows:
    formats = sorted({extensions(path.name)[0] or path.name for _, path in parts})
    if len(formats) > 1:
        raise BadInput(
            f"'{request.path}': holds {' and '.join(formats)} files together; "
            f"name those of one format, as in folder/*{formats[0]}"
        )
    tables = [(split, str(path), read_file(path, request.columns)) for split, path in parts]
    return _join(tables)


def _from_datasets(found: Any, request: Request) -> Rows:
    splits = found if isinstance(found, dict) else {None: found}
    tables = []
    for split, dataset in splits.items():
        where = f"{request.path} ({split})" if split else request.path
        picked = request.columns.pick(dataset.column_names, where)
        names = {column: tuple(dataset.features[column].names) for column in picked if _is_class_label(dataset, column)}
        arrow = dataset.select_columns(picked).with_format("arrow")[:]
        tables.append((split, where, from_arrow(arrow, names)))
    return _join(tables)


def _join(tables: list[tuple[str | None, str, Table]]) -> Rows:
    """One under the other; the split of each row is kept where there are named splits."""
    import pandas as pd

    first = tables[0][2].class_names
    for _, where, table in tables:
        if table.class_names != first:
            raise BadInput(f"{where}: its ClassLabel names differ from those of {tables[0][1]}")
    frame = pd.concat([table.frame for _, _, table in tables], ignore_index=True)
    if tables[0][0] is None:
        return Rows(frame, first)
    split = pd.Series([name for name, _, _ in tables]).repeat([len(table.frame) for _, _, table in tables])
    return Rows(frame, first, split.reset_index(drop=True))


def _is_saved(folder: Path) -> bool:
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def _is_class_label(dataset: Any, column: str) -> bool:
    return type(dataset.features[column]).__name__ == "ClassLabel"


def _split_of(relative: Path) -> str | None:
    for part in reversed(relative.parts):
        if match := _SPLIT_FILE.match(part):
            return match[1].lower()
    return None


def _visible(path: Path, root: Path) -> bool:
    return path.is_file() and not any(part.startswith((".", "_")) for part in path.relative_to(root).parts)


def _nearest_file(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f" (nor a folder {folder})."
    close = difflib.get_close_matches(path.name, [entry.name for entry in folder.iterdir()], n=1)
    return f"; did you mean '{folder / close[0]}'?" if close else "."


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _hub_hint(error: Exception) -> str:
    """Say what to do about an error of load_dataset; its own first line is kept."""
    reason = _line(error)
    low = str(error).lower()
    if "gated" in low or "authenticat" in low or "401" in low or "403" in low:
        return f"the Hub wants a login: accept its terms on the Hub, then `hf auth login`. ({reason})"
    if "scripts are" in low:
        return f"this data set is a script, which is never run here; name its Parquet files instead. ({reason})"
    if "config name" in low or "builderconfig" in low:
        return f"set data.name to one of its configurations. ({reason})"
    if "doesn't exist" in low or "notfound" in type(error).__name__.lower():
        return f"no such data set on the Hub, and no such local path. A source is {FORMS}. ({reason})"
    return f"there is no such local path, and the Hub cannot be used. A source is {FORMS}. ({reason})"
