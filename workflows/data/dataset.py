"""From `data` of a sweep file to three Parquet files with class ids: read → label → split → cap → write.

prepared = prepare(config.data, sweep.cache)  is what a sweep trains on;
texts, pairs = read_texts("reviews.csv")      is what `fleetune predict` reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.arguments import Frozen
from trainables.directory import CacheDirectory
from trainables.errors import BadInput, CorruptFile
from trainables.files import new_directory, verify
from trainables.records import SPLITS
from workflows.config import DataConfig
from workflows.data.formats import Columns
from workflows.data.labels import Labels, as_text, check_classes, encode, label_text, several_note, shown
from workflows.data.sources import Request, load
from workflows.data.split_names import SPLIT_COLUMN, Assigned, read_splits
from workflows.data.splits import cut, normalised, subsample, units_of
from workflows.data.texts import blank_note, named_columns, refuse_missing, text_frame

if TYPE_CHECKING:
    import pandas as pd

_CHUNK = 10_000


class LabelledData(Frozen):
    """Splits that are ready to be trained on, and what was decided on the way.

    `directory` holds train.parquet, validation.parquet and test.parquet with the columns row (int64, in the source,
    from 0; in the first one where several held the same texts), text, text_pair (null where there is none) and label
    (int64, an index into `labels`). `classes` counts the rows of each label per split; `dropped_*` count the rows left
    out, by their label, their split, or because another split has their text.
    """

    labels: tuple[str, ...]
    rows: dict[str, int]
    classes: dict[str, dict[str, int]]
    dropped_labels: dict[str, int]
    dropped_splits: dict[str, int]
    fingerprint: str
    directory: Path
    notes: tuple[str, ...]
    dropped_overlap: int = 0


def _silent(_: str) -> None:
    pass


def prepare(
    config: DataConfig, cache: CacheDirectory, progress: Callable[[str], None] = _silent, *, drop_overlap: bool = False
) -> LabelledData:
    """Read, check, split and store labelled text. The same input and seed give the same rows in the same order.

    With `drop_overlap`, rows of train whose normalised text stands in a validation or test split that the source
    brings are left out before anything is cut. `progress` gets one line before each step. A whole folder that is there
    already is used as it is. Raises BadInput for all that is wrong with the data, with the setting or file:line, and
    what would be right.
    """
    progress(f"reading {config.path}")
    assigned = read_splits(config, _columns(config))
    notes = list(assigned.notes)
    progress("checking labels and texts")
    frame, labels = _labelled(assigned, config, notes)
    progress("splitting")
    before = len(frame)
    frame = _units(frame, config)
    if drop_overlap:
        frame = _without_overlap(frame, notes)
    dropped = before - len(frame)
    frame = _cap(_cut(frame, labels.names, config, notes), config, notes)
    fingerprint = fingerprint_of(frame, labels.names)
    progress("writing the splits")
    _write(frame, cache.data(fingerprint))
    notes.extend(_numbering_note(frame, cache.data(fingerprint), config.path))
    return LabelledData(
        labels=labels.names,
        rows={split: int((frame["split"] == split).sum()) for split in SPLITS},
        classes={split: _class_counts(frame, split, labels.names) for split in SPLITS},
        dropped_labels=labels.dropped,
        dropped_splits=assigned.dropped,
        fingerprint=fingerprint,
        directory=cache.data(fingerprint),
        notes=tuple(notes),
        dropped_overlap=dropped,
    )


def read_rows(
    path: str,
    text_column: str | list[str] = "text",
    text_pair_column: str | None = None,
    label_column: str | None = None,
    name: str | None = None,
    revision: str | None = None,
) -> pd.DataFrame:
    """All rows of any source, unsplit: columns row, text, text_pair, label (as text; a ClassLabel's name), split.

    text_pair, label and split are null where the source has none. Raises BadInput as `prepare` does.
    """
    settings = {"text_column": text_column, "text_pair_column": text_pair_column, "label_column": label_column}
    rows = load(Request(path, named_columns(settings), name, revision))
    frame = text_frame(rows.frame, text_column, text_pair_column, "")
    frame["label"] = None
    if label_column is not None:
        setting = f"label_column '{label_column}'"
        frame["label"] = label_text(rows.frame[label_column], rows.class_names.get(label_column), setting)[1]
        refuse_missing(frame["label"], setting)
    return frame.assign(split=rows.split)


def read_texts(
    path: str, text_column: str | list[str] = "text", text_pair_column: str | None = None
) -> tuple[list[str], list[str] | None]:
    """Texts, and the second sentences where a column is named, of any source."""
    frame = read_rows(path, text_column, text_pair_column)
    return frame["text"].tolist(), frame["text_pair"].tolist() if text_pair_column else None


def read_labelled(
    path: str, text_column: str | list[str] = "text", text_pair_column: str | None = None, label_column: str = "label"
) -> tuple[list[str], list[str] | None, list[str]]:
    """Texts, second sentences (or None) and labels as text, of any source."""
    frame = read_rows(path, text_column, text_pair_column, label_column)
    pairs = frame["text_pair"].tolist() if text_pair_column else None
    return frame["text"].tolist(), pairs, frame["label"].tolist()


def fingerprint_of(frame: pd.DataFrame, labels: tuple[str, ...]) -> str:
    """sha256 over the labels in order of their ids, then per split over text, text_pair, label and group in row order.

    Each value goes in with its length in bytes (−1 where missing), so no two tables share a stream by accident.
    Where the rows came from does not enter: a CSV and a Parquet file with the same rows give the same hash.
    """
    digest = hashlib.sha256()
    _hash_texts(digest, labels)
    for split in SPLITS:
        part = frame[frame["split"] == split]
        digest.update(f"{split}:{len(part)}:".encode())
        for column in ("text", "text_pair", "group"):
            _hash_texts(digest, part[column].array)
        digest.update(part["label"].to_numpy("<i8").tobytes())
    return digest.hexdigest()


def _hash_texts(digest: hashlib._Hash, texts: Sequence[Any]) -> None:
    """The lengths of all texts, then the texts; a few are encoded at a time, and twice, so that they need no room."""
    import numpy as np

    lengths = [
        np.fromiter((-1 if text is None else len(text) for text in some), dtype="<i8", count=len(some))
        for some in _encoded(texts)
    ]
    digest.update(b"".join(part.tobytes() for part in lengths))
    for some in _encoded(texts):
        digest.update(b"".join(filter(None, some)))


def _encoded(texts: Sequence[Any]) -> Iterator[list[bytes | None]]:
    """Texts in UTF-8, missing ones as None, so many at a time."""
    import numpy as np

    for start in range(0, len(texts), _CHUNK):
        some = np.asarray(texts[start : start + _CHUNK], dtype=object).tolist()
        yield [text.encode() if isinstance(text, str) else None for text in some]


def _columns(config: DataConfig) -> Columns:
    settings = {
        "data.text_column": config.text_column,
        "data.text_pair_column": config.text_pair_column,
        "data.label_column": config.label_column,
        "data.group_column": config.group_column,
        "data.split_column": config.split_column,
    }
    return named_columns(settings, optional=(SPLIT_COLUMN,))


def _labelled(assigned: Assigned, config: DataConfig, notes: list[str]) -> tuple[pd.DataFrame, Labels]:
    """Columns row, split, label, text, text_pair, group of the rows that have a split and a label."""
    rows = assigned.rows
    kept = assigned.split.notna()
    source, split = rows.frame[kept], assigned.split[kept]
    setting = f"data.label_column '{config.label_column}'"
    class_names = rows.class_names.get(config.label_column)
    raw, name = label_text(source[config.label_column], class_names, setting)
    _refuse_hidden(raw, split)
    refuse_missing(name, setting)
    labels = encode(raw, name, class_names, config.labels)
    check_classes(labels, setting)
    chosen = labels.ids >= 0
    source = source[chosen]
    frame = text_frame(source, config.text_column, config.text_pair_column, "data.")
    frame["split"], frame["label"] = split[chosen], labels.ids[chosen]
    frame["group"] = None
    if config.group_column is not None:
        frame["group"] = as_text(source[config.group_column], f"data.group_column '{config.group_column}'")
    notes.extend([*labels.notes, *_dropped_notes(assigned, labels), *several_note(labels.names)])
    notes.extend(blank_note(frame["text"], "data.text_column"))
    return frame.reset_index(drop=True), labels


def _refuse_hidden(raw: pd.Series, split: pd.Series) -> None:
    """GLUE and others publish test sets whose labels are all −1."""
    for name in ("validation", "test"):
        part = raw[split == name]
        if len(part) and (part == "-1").all() and not (raw[split == "train"] == "-1").any():
            raise BadInput(
                f"the {name} split has no labels (all are -1, hidden by its publishers, as in GLUE); "
                f"cut one from train instead: in data.splits write {name}: null"
            )


def _dropped_notes(assigned: Assigned, labels: Labels) -> list[str]:
    found = []
    for dropped, what in ((assigned.dropped, "splits"), (labels.dropped, "labels")):
        if dropped:
            found.append(f"{sum(dropped.values()):,} rows with other {what} were dropped ({shown(dropped)})")
    return found


def _units(frame: pd.DataFrame, config: DataConfig) -> pd.DataFrame:
    """With the columns same, a number for each distinct normalised text, and unit, one for what must stay together."""
    texts = units_of(normalised(frame["text"], frame["text_pair"] if config.text_pair_column else None))
    frame["same"], frame["unit"] = texts, texts
    if config.group_column is not None:
        frame["unit"] = units_of(texts, frame["group"])
    return frame


def _without_overlap(frame: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Leave out the rows of train whose text another split has."""
    trained = frame["split"] == "train"
    shared = trained & frame["same"].isin(frame.loc[~trained, "same"].unique())
    if not shared.any():
        return frame
    if shared.sum() == trained.sum():
        raise BadInput("check.drop_overlap: every row of train stands in validation or test too; none would be left")
    notes.append(
        f"{int(shared.sum()):,} of {int(trained.sum()):,} rows of train were dropped, because validation or test has "
        "their text too (check.drop_overlap)"
    )
    return frame[~shared].reset_index(drop=True)


def _cut(frame: pd.DataFrame, names: tuple[str, ...], config: DataConfig, notes: list[str]) -> pd.DataFrame:
    """Cut test, then validation from train where the source has none."""
    grouped = config.group_column is not None
    for split, fraction in (("test", config.test_fraction), ("validation", config.validation_fraction)):
        if (frame["split"] == split).any():
            continue
        train = frame[frame["split"] == "train"]
        chosen = cut(
            train["unit"].to_numpy(), train["label"].to_numpy(), fraction, config.seed, names, grouped, f"the {split}"
        )
        frame.loc[train.index[chosen], "split"] = split
        kind = f"grouped by {config.group_column}" if grouped else "equal texts together"
        notes.append(
            f"{split} was cut from train: {100 * fraction:.4g} % ({int(chosen.sum()):,} of {len(train):,} rows), "
            f"stratified, {kind}, seed {config.seed}"
        )
    _check_classes_of_splits(frame, names)
    notes.extend(_shared_notes(frame, grouped))
    return frame


def _check_classes_of_splits(frame: pd.DataFrame, names: tuple[str, ...]) -> None:
    trained = set(frame.loc[frame["split"] == "train", "label"])
    for split in SPLITS[1:]:
        unknown = sorted(set(frame.loc[frame["split"] == split, "label"]) - trained)
        if unknown:
            raise BadInput(
                f"the label '{names[unknown[0]]}' is in {split} but in no row of train, so it cannot be learned; "
                f"train has {shown(names[index] for index in sorted(trained))}. Drop it (data.labels), or split anew"
            )


def _shared_notes(frame: pd.DataFrame, grouped: bool) -> list[str]:
    """Splits that the source brings may share texts with train; they are kept as they are, but said."""
    trained = set(frame.loc[frame["split"] == "train", "unit"])
    what = "share their text or group with" if grouped else "stand, equal after normalisation, in"
    found = []
    for split in SPLITS[1:]:
        shared = int(frame.loc[frame["split"] == split, "unit"].isin(trained).sum())
        if shared:
            found.append(f"{shared:,} rows of {split} {what} train too, as the source brings them; they were kept")
    return found


def _cap(frame: pd.DataFrame, config: DataConfig, notes: list[str]) -> pd.DataFrame:
    """Keep at most `sizes` rows of each split, in the order of the source."""
    import numpy as np

    keep = np.ones(len(frame), dtype=bool)
    for split, size in config.sizes.model_dump().items():
        rows = np.flatnonzero(frame["split"] == split)
        if size is None or size >= len(rows):
            continue
        keep[rows] = subsample(frame["label"].to_numpy()[rows], size, config.seed, f"data.sizes.{split}")
        notes.append(f"{split} was capped: {size:,} of {len(rows):,} rows, stratified, seed {config.seed}")
    return frame[keep]


def _class_counts(frame: pd.DataFrame, split: str, names: tuple[str, ...]) -> dict[str, int]:
    counts = frame.loc[frame["split"] == split, "label"].value_counts()
    return {name: int(counts.get(index, 0)) for index, name in enumerate(names)}


def _write(frame: pd.DataFrame, directory: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        verify(directory)
        return
    except CorruptFile:
        pass
    text = pa.large_string()
    schema = pa.schema([("row", pa.int64()), ("text", text), ("text_pair", text), ("label", pa.int64())])
    with new_directory(directory) as scratch:
        for split in SPLITS:
            part = frame.loc[frame["split"] == split, schema.names]
            pq.write_table(pa.Table.from_pandas(part, schema, preserve_index=False), scratch / f"{split}.parquet")


def _numbering_note(frame: pd.DataFrame, directory: Path, path: str) -> list[str]:
    """A note where the folder is from another source of the same texts, such as one with more rows that are dropped.

    Its numbers of rows stay: predictions were recorded by them, and are compared and shown by them.
    """
    import numpy as np
    import pyarrow.parquet as pq

    for split in SPLITS:
        stored = pq.read_table(directory / f"{split}.parquet", columns=["row"])["row"].to_numpy()
        if not np.array_equal(stored, frame.loc[frame["split"] == split, "row"].to_numpy()):
            return [
                "rows are numbered as in an earlier source of the same texts, by which sweeps in this storage have "
                f"recorded predictions; in {path} some have other numbers"
            ]
    return []
