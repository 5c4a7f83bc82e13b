"""The columns that settings name, and the texts in them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from trainables.errors import BadInput
from workflows.data.formats import Columns
from workflows.data.labels import as_text

if TYPE_CHECKING:
    import pandas as pd

_FIRST = 5
# White space, controls, and what has no width: zero-width spaces and joiners, direction marks, the byte order mark.
_NOTHING_TO_SEE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]*")


def named_columns(settings: Mapping[str, str | Sequence[str] | None], optional: tuple[str, ...] = ()) -> Columns:
    """The columns that settings name; a setting that is None names none, a list names several."""
    required: list[tuple[str, str]] = []
    for setting, value in settings.items():
        columns = [value] if isinstance(value, str) else value or []
        required.extend((setting, column) for column in columns)
    return Columns(tuple(required), optional)


def text_frame(
    frame: pd.DataFrame, text_column: str | Sequence[str], pair_column: str | None, prefix: str
) -> pd.DataFrame:
    """Columns row, text, text_pair, with the index of `frame`; several text columns are joined with a space.

    `prefix` stands before the names of settings in messages. Raises BadInput for missing values.
    """
    import pandas as pd

    names = [text_column] if isinstance(text_column, str) else list(text_column)
    parts = [whole_text(frame[name], f"{prefix}text_column '{name}'") for name in names]
    text = parts[0].str.cat(parts[1:], sep=" ") if len(parts) > 1 else parts[0]
    pair = None if pair_column is None else whole_text(frame[pair_column], f"{prefix}text_pair_column '{pair_column}'")
    return pd.DataFrame({"row": frame.index.to_numpy("int64"), "text": text, "text_pair": pair}, index=frame.index)


def whole_text(values: pd.Series, setting: str) -> pd.Series:
    """A column as text, none of it missing."""
    text = as_text(values, setting)
    refuse_missing(text, setting)
    return text


def refuse_missing(values: pd.Series, setting: str) -> None:
    """Raise BadInput with the number of missing values and the first rows that lack one."""
    rows = values.index[values.isna()]
    if len(rows):
        first = ", ".join(map(str, rows[:_FIRST])) + (", …" if len(rows) > _FIRST else "")
        raise BadInput(
            f"{setting}: {len(rows):,} of {len(values):,} rows have no value (rows {first}, counted from 0); "
            "fill them or remove those rows"
        )


def blank_note(text: pd.Series, setting: str) -> list[str]:
    """A note where some texts are blank; raises BadInput where all are."""
    blank = sum(_NOTHING_TO_SEE.fullmatch(value) is not None for value in text)
    if blank == len(text):
        raise BadInput(f"{setting}: all {blank:,} texts are blank")
    return [f"{blank:,} of {len(text):,} texts are blank; they were kept"] if blank else []
