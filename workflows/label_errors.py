"""Labels that may well be wrong, by confident learning (Northcutt, Jiang and Chuang 2021), with cleanlab.

Probabilities must come from models that have not seen the label. For validation and test those are the champion's and
the trials' that cannot be told from it, on average; for train they are TF-IDF's by cross-validation. What is found is
kept as label_errors.json in the sweep directory, and made anew when it is of other predictions. cleanlab is an extra
(`label-errors`).
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from trainables.arguments import Frozen
from trainables.directory import SweepDirectory, TrialDirectory
from trainables.errors import CorruptFile
from trainables.files import sha256_json
from trainables.records import Record, Result, Split
from workflows import confidence
from workflows.confidence import Answers
from workflows.soundness import read_parquet_batches

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_LIBRARY = "cleanlab"
_VERSION = 1
_FOLDS = 5
# Of train so much text is judged at most: a few seconds on one core.
_MOST_CHARACTERS = 4_000_000
# In ten well-known test sets between 0.15 and 10 of 100 labels are wrong (Northcutt, Athalye and Mueller 2021).
_MOST_WRONG = 0.1
# As many as the confident joint says, and of those the least probable: the most precise of its ways on noisy tasks.
_FILTER = "low_self_confidence"


class Suspect(Frozen):
    """A text whose label may well be wrong: its row in the source, label ids, and probabilities of both."""

    row: int
    label: int
    suggested: int
    probability_of_label: float
    probability: float


class Judged(Frozen):
    """What was found in one split, the least probable label first, among so many of its `texts`."""

    split: Split
    texts: int
    suspects: tuple[Suspect, ...]

    @property
    def share(self) -> float:
        return len(self.suspects) / self.texts

    @property
    def is_telling(self) -> bool:
        """Whether so few labels are suspected that it may be the labels that are wrong, and not the models."""
        return self.share <= _MOST_WRONG


class LabelErrors(Record):
    """What was found in each split. `key` says of which predictions and data."""

    key: str
    trials: int
    splits: tuple[Judged, ...]

    @property
    def has_train(self) -> bool:
        return any(judged.split == "train" for judged in self.splits)


def is_installed() -> bool:
    """Whether the extra is there."""
    return importlib.util.find_spec(_LIBRARY) is not None


def find(sweep: SweepDirectory, trials: Sequence[TrialDirectory], train: Path | None, fingerprint: str) -> LabelErrors:
    """Labels to look at again in the splits of a sweep: as they were kept, else found and kept.

    `trials` are the champion and those that cannot be told from it, `train` is the prepared split (None where it is
    gone: then it is not judged) of data with that `fingerprint`. Raises CorruptFile for damaged predictions or data.
    """
    predictions = [Result.read(directory.result).predictions_sha256 for directory in trials]
    version = [_VERSION, importlib.metadata.version(_LIBRARY)]
    key = sha256_json({"version": version, "predictions": predictions, "data": fingerprint})
    with contextlib.suppress(FileNotFoundError, CorruptFile, ValidationError):
        kept = LabelErrors.read(sweep.label_errors)
        if kept.key == key and (train is None or kept.has_train):
            return kept
    splits = (*_held_out(trials), *([_train(train)] if train is not None else []))
    found = LabelErrors(key=key, trials=len(trials), splits=splits)
    found.write(sweep.label_errors)
    return found


def suspects(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Indices of the labels (texts,) that may well be wrong, by probabilities (texts, classes), the worst first."""
    import numpy as np
    from cleanlab.filter import find_label_issues

    if len(np.unique(labels)) < 2:
        return np.empty(0, int)
    with warnings.catch_warnings():
        # Of a class with a handful of texts cleanlab says that it knows little.
        warnings.simplefilter("ignore")
        found: np.ndarray = find_label_issues(
            labels, probabilities, filter_by=_FILTER, return_indices_ranked_by="self_confidence", n_jobs=1
        )
    return found


def _held_out(trials: Sequence[TrialDirectory]) -> list[Judged]:
    """Validation and test, judged together: the more texts, the better each class is known."""
    import numpy as np

    from workflows import calibration

    splits: tuple[Split, ...] = ("validation", "test")
    means, answers = [], []
    for split in splits:
        own = [Answers.read(directory, split) for directory in trials]
        same = [index for index, each in enumerate(own) if np.array_equal(each.rows, own[0].rows)]
        values = [
            calibration.probabilities(own[index].logits, confidence.of(trials[index]).temperature) for index in same
        ]
        means.append(np.mean(values, axis=0))
        answers.append(own[0])
    labels = np.concatenate([each.labels for each in answers])
    wrong = suspects(np.concatenate(means), labels)
    first = len(answers[0].labels)
    parts = (wrong[wrong < first], wrong[wrong >= first] - first)
    return [
        _judged(split, mean, each.labels, each.rows, part)
        for split, mean, each, part in zip(splits, means, answers, parts, strict=True)
    ]


def _train(path: Path) -> Judged:
    """Train, by TF-IDF and logistic regression, whose label each text is held back from."""
    import numpy as np

    lengths = np.concatenate([_lengths(batch) for batch in read_parquet_batches(path, ["text", "text_pair"])])
    kept = int(np.searchsorted(np.cumsum(lengths), _MOST_CHARACTERS, side="right"))
    chosen = np.unique(np.linspace(0, len(lengths) - 1, max(kept, 1)).astype(int))
    texts, labels, rows = _chosen(path, chosen)
    probabilities = _crossed(texts, labels)
    return _judged("train", probabilities, labels, rows, suspects(probabilities, labels))


def _lengths(batch: pa.RecordBatch) -> np.ndarray:
    """Characters of each text, pairs joined."""
    import numpy as np

    return np.fromiter(map(len, _joined(batch)), np.int64, len(batch))


def _joined(batch: pa.RecordBatch) -> list[str]:
    pairs = zip(batch["text"].to_pylist(), batch["text_pair"].to_pylist(), strict=True)
    return [" ".join(filter(None, pair)) for pair in pairs]


def _chosen(path: Path, chosen: np.ndarray) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Texts, labels and rows in the source of some rows of a split, which are in order; no others are kept."""
    import numpy as np

    texts: list[str] = []
    labels, rows, first = [], [], 0
    for batch in read_parquet_batches(path, ["row", "text", "text_pair", "label"]):
        start, end = np.searchsorted(chosen, [first, first + len(batch)])
        some = batch.take(chosen[start:end] - first)
        texts += _joined(some)
        labels.append(some["label"].to_numpy())
        rows.append(some["row"].to_numpy())
        first += len(batch)
    return texts, np.concatenate(labels), np.concatenate(rows)


def _crossed(texts: list[str], labels: np.ndarray) -> np.ndarray:
    """Probabilities (texts, classes up to the highest label) by cross-validation, with features as the baseline's.

    Where there is nothing to learn from (no two classes of two texts, no words, fewer texts than folds) no label is
    doubted, nor is that of the only text of its class.
    """
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from threadpoolctl import threadpool_limits

    certain = np.zeros((len(labels), int(labels.max()) + 1))
    certain[np.arange(len(labels)), labels] = 1.0
    present, known = np.unique(labels, return_inverse=True)
    counts = np.bincount(known)
    # Without a fold, too, two classes must be left to tell apart.
    if counts.max() < _FOLDS or (counts > 1).sum() < 2:
        return certain
    with threadpool_limits(1), warnings.catch_warnings():
        # Of classes with fewer texts than folds.
        warnings.simplefilter("ignore")
        try:
            # What words weigh is learned without labels, so once is enough.
            features = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit_transform(texts)
        except ValueError:
            # There is no word in any text.
            return certain
        folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
        model = LogisticRegression(C=10.0, max_iter=1_000)
        found = cross_val_predict(model, features, known, cv=folds, method="predict_proba")
    probabilities = np.zeros_like(certain)
    probabilities[:, present] = found
    # Who is held back as the only one of its class is unlike anything that was learned.
    alone = counts[known] < 2
    probabilities[alone] = certain[alone]
    return probabilities


def _judged(split: Split, probabilities: np.ndarray, labels: np.ndarray, rows: np.ndarray, wrong: np.ndarray) -> Judged:
    return Judged(
        split=split,
        texts=len(labels),
        suspects=tuple(
            Suspect(
                row=int(rows[index]),
                label=int(labels[index]),
                suggested=int(probabilities[index].argmax()),
                probability_of_label=float(probabilities[index, labels[index]]),
                probability=float(probabilities[index].max()),
            )
            for index in wrong
        ),
    )
