"""Where a classifier is wrong: its worst texts, the classes it confuses, and how length and cutting matter.

Pure functions of what a trial left (predictions.parquet) and of the prepared test split, so that MLflow and the
report show the same, and both can be made again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainables.arguments import Frozen
from trainables.directory import TrialDirectory
from trainables.records import Split
from workflows.soundness import read_parquet_batches, read_predictions

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

IncludeText = Literal["full", "preview", "none"]
PREVIEW = 200
_COUNTS = ("tokens", "tokens_cut")
_BINS = 5


class WorstText(Frozen):
    """A test text with a high loss. `row` counts from 0 in the source; probabilities are of `predicted` and `label`.

    `tokens` were seen, `tokens_cut` were beyond max_length (both null for a baseline); `text` is null where it is not
    to be shown.
    """

    row: int
    label: str
    predicted: str
    text: str | None
    probability: float
    probability_of_label: float
    loss: float
    tokens: int | None
    tokens_cut: int | None


class ConfusedPair(Frozen):
    """How many texts of one class were taken for another, and their share of that class."""

    label: str
    predicted: str
    count: int
    share: float


class AccuracyBin(Frozen):
    """Accuracy over the texts whose value lies from `low` to `high`, both included."""

    low: float
    high: float
    texts: int
    accuracy: float


def read_test(directory: TrialDirectory) -> pd.DataFrame:
    """The test rows of a trial's or baseline's predictions, in the order of the prepared split.

    Raises CorruptFile where they cannot be read, or are not what was scored.
    """
    return read_predictions(directory, "test").to_pandas()


def worst_texts(
    predicted: pd.DataFrame, data: Path, labels: Sequence[str], count: int, include_text: IncludeText
) -> list[WorstText]:
    """The `count` test texts with the highest loss, worst first; `data` is the folder of the prepared splits.

    Raises CorruptFile where these are not what was written.
    """
    import pandas as pd

    worst = predicted.sort_values(["loss", "row"], ascending=[False, True], kind="stable").head(count)
    texts = texts_of(data, "test", worst["row"].tolist(), include_text)
    found = []
    for row in worst.itertuples():
        counts = {name: None if pd.isna(value := getattr(row, name)) else int(value) for name in _COUNTS}
        found.append(
            WorstText(
                row=int(row.row),
                label=labels[row.label],
                predicted=labels[row.predicted],
                probability=float(row.probabilities[row.predicted]),
                probability_of_label=float(row.probabilities[row.label]),
                loss=float(row.loss),
                text=texts.get(int(row.row)),
                **counts,
            )
        )
    return found


def confused_pairs(matrix: Sequence[Sequence[int]], labels: Sequence[str], count: int = 10) -> list[ConfusedPair]:
    """The most frequent wrong pairs of a confusion matrix (rows true, columns predicted), most frequent first."""
    pairs = [
        ConfusedPair(label=labels[true], predicted=labels[other], count=number, share=number / sum(row))
        for true, row in enumerate(matrix)
        for other, number in enumerate(row)
        if other != true and number
    ]
    return sorted(pairs, key=lambda pair: (-pair.count, -pair.share, pair.label, pair.predicted))[:count]


def accuracy_by_length(predicted: pd.DataFrame, lengths: np.ndarray) -> list[AccuracyBin]:
    """Accuracy by text length in tokens, cut ones included, in fifths of the texts; `lengths` has shape (texts,)."""
    import numpy as np

    return _bins(_correct(predicted), lengths, np.quantile(lengths, np.linspace(0, 1, _BINS + 1)[1:-1]))


def accuracy_by_share_cut(predicted: pd.DataFrame, shares: np.ndarray) -> list[AccuracyBin]:
    """Accuracy of texts that were read whole, and of those of which a quarter, half, … was cut off."""
    import numpy as np

    correct, whole = _correct(predicted), shares == 0
    return _bins(correct[whole], shares[whole], []) + _bins(
        correct[~whole], shares[~whole], np.array([0.25, 0.5, 0.75])
    )


def text_lengths(predicted: pd.DataFrame) -> tuple[np.ndarray, np.ndarray] | None:
    """Tokens of each text, cut ones included, and the share of them that was cut; None for a baseline."""
    if predicted["tokens"].isna().any():
        return None
    whole = (predicted["tokens"] + predicted["tokens_cut"]).to_numpy()
    return whole, predicted["tokens_cut"].to_numpy() / whole


def _correct(predicted: pd.DataFrame) -> np.ndarray:
    found: np.ndarray = (predicted["label"] == predicted["predicted"]).to_numpy()
    return found


def _bins(correct: np.ndarray, values: np.ndarray, edges: Sequence[float] | np.ndarray) -> list[AccuracyBin]:
    """One entry per interval between the edges that holds a text; a value on an edge belongs below it."""
    import numpy as np

    places = np.searchsorted(np.asarray(edges, float), values, side="left")
    return [
        AccuracyBin(
            low=float(values[places == place].min()),
            high=float(values[places == place].max()),
            texts=int((places == place).sum()),
            accuracy=float(correct[places == place].mean()),
        )
        for place in np.unique(places)
    ]


def texts_of(data: Path, split: Split, rows: Sequence[int], include_text: IncludeText) -> dict[int, str]:
    """Texts of a split by their row in the source (pairs joined), as much of each as is to be shown.

    None where the prepared splits are gone from the folder `data`. Raises CorruptFile where they are not what was
    written.
    """
    path = data / f"{split}.parquet"
    if include_text == "none" or not path.exists():
        return {}
    joined = {item["row"]: " ¦ ".join(filter(None, (item["text"], item["text_pair"]))) for item in _picked(path, rows)}
    if include_text == "full":
        return joined
    return {row: text if len(text) <= PREVIEW else f"{text[:PREVIEW]}…" for row, text in joined.items()}


def _picked(path: Path, rows: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Some rows of a prepared split by their numbers in the source; of a large one a few stand in memory at a time."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pa.array(list(rows), pa.int64())
    for batch in read_parquet_batches(path, ["row", "text", "text_pair"]):
        yield from batch.filter(pc.is_in(batch["row"], value_set=wanted)).to_pylist()
