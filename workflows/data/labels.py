"""From the values of a label column to class ids, and from any column to text.

Ids follow the mapping's order of first appearance, else ClassLabel's order, else the sorted text of the values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainables.errors import BadInput, nearest

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

MAX_CLASSES = 1000
_SHOWN = 20
# What people write between labels.
_JOINS = ("|", ";", ",", "/", "+", "&")


@dataclass(frozen=True)
class Labels:
    """`names[id]` is a class; `ids` has one per row, −1 where the row's label is dropped; `dropped` counts those.

    `notes` are sentences on how a mapping was read where it could be read in two ways.
    """

    names: tuple[str, ...]
    ids: np.ndarray
    dropped: dict[str, int]
    notes: tuple[str, ...] = ()


def as_text(values: pd.Series, setting: str) -> pd.Series:
    """Values of any scalar type as text, missing stays missing: 1 and 1.0 give "1", true gives "true".

    `setting` names the column in messages. Raises BadInput for lists, bytes, objects and broken Unicode.
    """
    import pandas as pd

    if isinstance(values.dtype, pd.StringDtype):
        return values.astype("str")
    if pd.api.types.is_integer_dtype(values.dtype) and not values.hasnans:
        return values.astype("str")
    if wrong := sorted(kind.__name__ for kind in set(values.dropna().map(type)) if not _is_scalar(kind)):
        row = values.index[values.map(lambda value: type(value).__name__ in wrong)][0]
        raise BadInput(f"{setting}: must hold text, but row {row} (counted from 0) holds a value of type {wrong[0]}")
    try:
        return values.astype(object).map(_scalar_text, na_action="ignore").astype("str")
    except UnicodeEncodeError as error:
        raise BadInput(f"{setting}: holds half of a Unicode surrogate pair ({error.object[:40]!a})") from None


def label_text(values: pd.Series, class_names: tuple[str, ...] | None, setting: str) -> tuple[pd.Series, pd.Series]:
    """The raw value as text, and the class's name (the same unless the column is a ClassLabel). Blank is missing."""
    raw = as_text(values, setting)
    raw = raw.mask(raw.str.strip() == "")
    if class_names is None:
        return raw, raw
    return raw, raw.map(dict(zip(map(str, range(len(class_names))), class_names, strict=True))).astype("str")


def encode(
    raw: pd.Series, name: pd.Series, class_names: tuple[str, ...] | None, mapping: dict[str, str] | None
) -> Labels:
    """Give each row its class id.

    A mapping's keys are all names of a ClassLabel, or all raw values; rows that no key matches get −1 and are counted.
    Raises BadInput for a key that matches nothing, and for keys of both kinds.
    """
    final, notes = (name, ()) if mapping is None else mapped(raw, name, mapping)
    present = set(final.dropna().unique())
    if mapping is not None:
        order = list(dict.fromkeys(mapping.values()))
    else:
        order = [item for item in class_names if item in present] if class_names else sorted(present)
    ids = final.map({item: index for index, item in enumerate(order)}).fillna(-1).to_numpy("int64")
    dropped = name.where(name.notna(), raw)[ids < 0].value_counts()
    return Labels(tuple(order), ids, {str(key): int(count) for key, count in sorted(dropped.items())}, notes)


def mapped(raw: pd.Series, name: pd.Series, mapping: dict[str, str]) -> tuple[pd.Series, tuple[str, ...]]:
    """The mapping's value for each row, missing where no key matches, and notes on how its keys were read.

    That is decided once for all of them: names of classes may look like ids ("1" to "5" for the ids 0 to 4), and a key
    that was read as both would put two classes under one name. Raises BadInput as `encode` does.
    """
    names, values = set(name.dropna().unique()), set(raw.dropna().unique())
    _check_keys(mapping, names, values)
    if not names.issuperset(mapping):
        return raw.map(mapping), ()
    found = name.map(mapping)
    if not values.issuperset(mapping) or found.equals(raw.map(mapping)):
        return found, ()
    return found, (
        f"the keys of data.labels ({shown(mapping)}) are names of classes and raw values too, of other rows; they were "
        f"taken for names. If raw values are meant, write their names: {_renamed(raw, name, mapping)}",
    )


def check_classes(labels: Labels, setting: str) -> None:
    """Raise BadInput where there is nothing to learn, or where the column is no label at all."""
    import numpy as np

    counts = np.bincount(labels.ids[labels.ids >= 0], minlength=len(labels.names))
    rows, classes = int(counts.sum()), int((counts > 0).sum())
    if classes < 2:
        only = f"only '{labels.names[int(counts.argmax())]}'" if classes else "no class"
        raise BadInput(f"{setting}: {only} in {rows:,} rows; a classifier needs at least two classes")
    if classes > MAX_CLASSES or classes > rows / 2:
        raise BadInput(
            f"{setting}: {classes:,} classes in {rows:,} rows; it looks like an id or a regression target "
            f"(at most {MAX_CLASSES:,} classes, and at least two rows per class on average)"
        )


def several_note(names: tuple[str, ...]) -> list[str]:
    """A note where labels look like several in one, as in `comedy|drama` beside `comedy` and `drama`."""
    known = set(names)
    joined = [
        name
        for name in names
        for sign in _JOINS
        if len(parts := [part.strip() for part in name.split(sign)]) > 1 and known.issuperset(parts)
    ]
    if not joined:
        return []
    return [
        f"{shown(joined)} look like several labels in one; each is learned as a class of its own, because a text has "
        "one label here. Map them to one each in data.labels, or leave those rows out"
    ]


def shown(values: Any) -> str:
    """Values for a message, the first twenty of them."""
    items = [str(value) for value in values]
    return ", ".join(items[:_SHOWN]) + (f", … ({len(items):,} in all)" if len(items) > _SHOWN else "")


def _is_scalar(kind: type) -> bool:
    return issubclass(kind, str) or not (hasattr(kind, "__iter__") or issubclass(kind, (bytes, bytearray)))


def _scalar_text(value: Any) -> str:
    if isinstance(value, bool) or type(value).__name__ == "bool_":
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value)
    text.encode()
    return text


def _check_keys(mapping: dict[str, str], names: set[str], values: set[str]) -> None:
    for key in mapping:
        if key not in names | values:
            near = nearest(key, sorted(names)[:_SHOWN])
            raise BadInput(f"data.labels: no row has the label '{key}'; {near}")
    if names.issuperset(mapping) or values.issuperset(mapping):
        return
    named = next(key for key in mapping if key not in values)
    raw = next(key for key in mapping if key not in names)
    raise BadInput(
        f"data.labels: '{named}' is the name of a class, but '{raw}' a raw value; the keys must be all names "
        f"({shown(sorted(names))}) or all raw values ({shown(sorted(values))})"
    )


def _renamed(raw: pd.Series, name: pd.Series, mapping: dict[str, str]) -> str:
    """A mapping of raw values, as one that means the same by their names."""
    names = dict(zip(raw, name, strict=True))
    return "{" + shown(f"{names[key]}: {value}" for key, value in mapping.items()) + "}"
