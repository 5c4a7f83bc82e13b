"""Labelled text without a fault, and with faults planted one at a time, each with the count that must be found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from tests.tiny_data import reviews
from trainables.directory import CacheDirectory
from workflows.audit.checks import check_data
from workflows.audit.finding import Checked
from workflows.config import CheckConfig, DataConfig
from workflows.data.dataset import LabelledData, prepare

# (name of the finding, its splits) → count
Expected = dict[tuple[str, tuple[str, ...]], int]
_SPACES = ["", "  ", "\t\n", "\u200b", "\u2060\ufeff"]
_NOTHING = ["N/A", "null", "[Deleted]", " None ", "#REF!"]


def clean(rows: int = 1000) -> pd.DataFrame:
    """Distinct texts of two classes: 700 rows of train, 100 of validation, 200 of test in a thousand."""
    texts, labels = reviews(rows)
    names = np.where(np.asarray(labels) == 1, "positive", "negative")
    tens = np.arange(rows) % 10
    split = np.select([tens < 2, tens == 2], ["test", "validation"], "train")
    return pd.DataFrame({"text": texts, "label": names, "split": split})


def of(frame: pd.DataFrame, split: str, count: int) -> pd.Index:
    """The first rows of a split."""
    return frame.index[frame["split"] == split][:count]


def copied(frame: pd.DataFrame, rows: pd.Index, **changes: object) -> pd.DataFrame:
    """With copies of some rows at the end, changed in some columns."""
    return pd.concat([frame, frame.loc[rows].assign(**changes)], ignore_index=True)


def leak(frame: pd.DataFrame) -> tuple[pd.DataFrame, Expected]:
    """Five in a hundred test rows copied into train."""
    return copied(frame, of(frame, "test", 10), split="train"), {("overlap", ("test", "train")): 10}


def disguised_leak(frame: pd.DataFrame) -> tuple[pd.DataFrame, Expected]:
    """The same, in capitals and with other spaces."""
    rows = of(frame, "test", 10)
    texts = " " + frame.loc[rows, "text"].str.upper().str.replace(" ", "  ")
    return copied(frame, rows, split="train", text=texts), {("normalised_overlap", ("test", "train")): 10}


def conflicts(frame: pd.DataFrame) -> tuple[pd.DataFrame, Expected]:
    """Seven rows of train, copied with the other label."""
    rows = of(frame, "train", 7)
    other = frame.loc[rows, "label"].map({"positive": "negative", "negative": "positive"})
    expected = {("conflicting_labels", ("train",)): 14, ("duplicates", ("train",)): 7}
    return copied(frame, rows, label=other), expected


def blanks(frame: pd.DataFrame) -> tuple[pd.DataFrame, Expected]:
    """Two in a hundred texts replaced by what nobody sees."""
    return _muted(frame, _SPACES, "blank_texts")


def placeholders(frame: pd.DataFrame) -> tuple[pd.DataFrame, Expected]:
    """Two in a hundred texts replaced by what exports write where there is none."""
    return _muted(frame, _NOTHING, "placeholder_texts")


def one_class(frame: pd.DataFrame) -> tuple[pd.DataFrame, Expected]:
    """A validation split of one class."""
    gone = (frame["split"] == "validation") & (frame["label"] == "positive")
    left = int((frame["split"] == "validation").sum() - gone.sum())
    return frame[~gone].reset_index(drop=True), {("one_class", ("validation",)): left}


def missing_class(frame: pd.DataFrame) -> tuple[pd.DataFrame, Expected]:
    """A third class of train that no row of test or validation has."""
    frame.loc[of(frame, "train", 50), "label"] = "mixed"
    return frame, {("missing_classes", (split,)): 1 for split in ("validation", "test")}


def rare_class(frame: pd.DataFrame) -> tuple[pd.DataFrame, Expected]:
    """A third class with four rows of train and one each of validation and test."""
    for split, count in {"train": 4, "validation": 1, "test": 1}.items():
        frame.loc[of(frame, split, count), "label"] = "mixed"
    return frame, {("rare_classes", (split,)): 1 for split in ("train", "validation", "test")}


def spelling(frame: pd.DataFrame) -> tuple[pd.DataFrame, Expected]:
    """One class, spelled in two ways."""
    positive = frame.index[frame["label"] == "positive"]
    frame.loc[positive[:150], "label"] = "Positive "
    return frame, {("label_spelling", ("train", "validation", "test")): 2}


def quantity(frame: pd.DataFrame) -> tuple[pd.DataFrame, Expected]:
    """A number in the place of the label."""
    frame["label"] = (np.arange(len(frame)) // 10 % 25).astype(str)
    return frame, {("id_like_labels", ("train",)): 25}


def copies(frame: pd.DataFrame) -> tuple[pd.DataFrame, Expected]:
    """Rows of each split that stand there twice or three times."""
    frame = copied(copied(frame, of(frame, "train", 6)), of(frame, "train", 2))
    return copied(frame, of(frame, "test", 3)), {("duplicates", ("train",)): 8, ("duplicates", ("test",)): 3}


def disguised_copies(frame: pd.DataFrame) -> tuple[pd.DataFrame, Expected]:
    """Rows of train that stand there a second time, in full-width letters."""
    rows = of(frame, "train", 6)
    wide = frame.loc[rows, "text"].map(lambda text: "".join(chr(ord(c) + 0xFEE0) if c != " " else c for c in text))
    return copied(frame, rows, text=wide), {("normalised_duplicates", ("train",)): 6}


PLANTED: dict[str, Callable[[pd.DataFrame], tuple[pd.DataFrame, Expected]]] = {
    "overlap": leak,
    "normalised_overlap": disguised_leak,
    "conflicting_labels": conflicts,
    "blank_texts": blanks,
    "placeholder_texts": placeholders,
    "one_class": one_class,
    "missing_classes": missing_class,
    "rare_classes": rare_class,
    "label_spelling": spelling,
    "id_like_labels": quantity,
    "duplicates": copies,
    "normalised_duplicates": disguised_copies,
}


def prepared(folder: Path, frame: pd.DataFrame, **settings: object) -> LabelledData:
    """The splits that a sweep would train on."""
    folder.mkdir(exist_ok=True)
    frame.to_parquet(folder / "data.parquet")
    config = DataConfig.model_validate({"path": str(folder / "data.parquet"), **settings})
    return prepare(config, CacheDirectory(folder / "cache"))


def checked(folder: Path, frame: pd.DataFrame, **grades: str) -> Checked:
    """What the check finds in them."""
    return check_data(prepared(folder, frame), CheckConfig.model_validate(grades))


def counts(found: Checked) -> Expected:
    """Findings by name and splits."""
    return {(finding.name, finding.splits): finding.count for finding in found.findings}


def _muted(frame: pd.DataFrame, texts: list[str], name: str) -> tuple[pd.DataFrame, Expected]:
    chosen = frame.index[::50]
    frame.loc[chosen, "text"] = [texts[index % len(texts)] for index in range(len(chosen))]
    hit = frame.loc[chosen, "split"].value_counts()
    return frame, {(name, (split,)): int(count) for split, count in hit.items()}
