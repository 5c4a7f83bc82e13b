"""Which rows the source itself puts into train, validation and test: by Hub split, file or split column."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.errors import BadInput, nearest
from workflows.config import DataConfig
from workflows.data.formats import Columns
from workflows.data.labels import as_text, shown
from workflows.data.sources import ALIASES, Request, Rows, is_file_name, load

if TYPE_CHECKING:
    import pandas as pd

SPLIT_COLUMN = "split"


@dataclass(frozen=True)
class Assigned:
    """`split` is train, validation or test for each row, missing where the row is dropped; `dropped` counts those."""

    rows: Rows
    split: pd.Series
    dropped: dict[str, int]
    notes: tuple[str, ...]


def read_splits(config: DataConfig, columns: Columns) -> Assigned:
    """Read the source, and the files that `data.splits` names, and say which split each row belongs to.

    Raises BadInput for a named split that does not exist, showing those found.
    """
    wanted = _wanted(config)
    files = {name: _beside(config.path, name) for name in wanted if _is_file(name)}
    parts, notes = [], []
    if len(files) < len(wanted) or not wanted:
        main, said = _main(config, columns, [name for name in wanted if name not in files])
        parts.append(main)
        notes.extend(said)
    parts.extend(_whole(load(Request(path, columns)), name) for name, path in files.items())
    rows = _stack(parts)
    assert rows.split is not None  # noqa: S101  every part has been given one
    split = rows.split.map(wanted or ALIASES)
    dropped = rows.split.fillna("null")[split.isna()].value_counts()
    _check(config, rows, split, wanted)
    return Assigned(rows, split, {str(key): int(count) for key, count in sorted(dropped.items())}, tuple(notes))


def _wanted(config: DataConfig) -> dict[str, str]:
    """Name in the source → split, as `data.splits` says; empty where splits are found by their usual names."""
    if config.splits is None:
        return {}
    named = {split: name for split, name in config.splits.model_dump().items() if name is not None}
    wanted = {name: split for split, name in named.items()}
    if len(wanted) < len(named):
        raise BadInput(f"data.splits: two splits have the same name ({shown(named.values())}); each needs its own")
    return wanted


def _main(config: DataConfig, columns: Columns, names: list[str]) -> tuple[Rows, list[str]]:
    """The rows of `data.path`, each with the name of its split."""
    rows = load(Request(config.path, columns, config.name, config.revision))
    if config.split_column is not None:
        return Rows(rows.frame, rows.class_names, _values(rows, config.split_column, "data.split_column")), []
    if rows.split is not None:
        return rows, []
    known = set(names) if config.splits else set(ALIASES)
    notes = []
    if SPLIT_COLUMN in rows.frame:
        values = _values(rows, SPLIT_COLUMN, "the column 'split'")
        if set(values.unique()) <= known:
            return Rows(rows.frame, rows.class_names, values), []
        found = shown(sorted(values.fillna("null").unique()))
        expected = "named in data.splits" if config.splits else f"among {', '.join(ALIASES)}"
        notes.append(
            f"the column 'split' was ignored, because not all its values ({found}) are {expected}; "
            "to use it, set data.split_column: split"
        )
    if config.splits and (absent := [name for name in names if name != "train"]):
        reason = f" ({notes[0]})" if notes else ""
        raise BadInput(
            f"data.splits: '{absent[0]}' is not in {config.path}, which has no splits of its own{reason}; "
            "name a data file, set data.split_column, or write null to cut it from train"
        )
    return _whole(rows, "train"), notes


def _values(rows: Rows, column: str, setting: str) -> pd.Series:
    names = rows.class_names.get(column)
    text = as_text(rows.frame[column], setting)
    return text if names is None else text.map({str(index): name for index, name in enumerate(names)})


def _whole(rows: Rows, name: str) -> Rows:
    import pandas as pd

    return Rows(rows.frame, rows.class_names, pd.Series(name, index=rows.frame.index, dtype="str"))


def _stack(parts: list[Rows]) -> Rows:
    import pandas as pd

    if any(part.class_names != parts[0].class_names for part in parts):
        raise BadInput("data.splits: the ClassLabel names of the named files differ")
    frame = pd.concat([part.frame for part in parts], ignore_index=True)
    return Rows(frame, parts[0].class_names, pd.concat([part.split for part in parts], ignore_index=True))


def _check(config: DataConfig, rows: Rows, split: pd.Series, wanted: dict[str, str]) -> None:
    assert rows.split is not None  # noqa: S101
    found = sorted(rows.split.dropna().unique())
    for name in wanted:
        if name not in found:
            raise BadInput(f"data.splits: {config.path} has no split '{name}'; {nearest(name, found)}")
    if not (split == "train").any():
        raise BadInput(
            f"{config.path}: no row belongs to train; the splits found are {shown(found)}. "
            "Say which is which: data.splits: {train: …}"
        )


def _is_file(name: str) -> bool:
    return is_file_name(name) or "/" in name


def _beside(path: str, name: str) -> str:
    """A file named in `data.splits` may stand in the folder that `data.path` names."""
    folder = Path(path).expanduser()
    inside = folder / name
    pattern = str(inside)
    found = folder.is_dir() and (inside.exists() or bool(glob.glob(pattern)))  # noqa: PTH207
    return pattern if found else name
