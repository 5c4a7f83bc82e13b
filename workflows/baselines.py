"""What any encoder must beat, on the same splits: a new baseline is one function and one line of the table.

A baseline learns from train, may choose on validation, and is scored on test once, like a trial.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.arguments import Metric
from trainables.directory import TrialDirectory
from trainables.files import write_parquet
from trainables.records import SPLITS, Result, Split

if TYPE_CHECKING:
    import numpy as np

# Inverse strength of regularisation: strong to weak, half a decade apart.
_C_GRID = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


@dataclass(frozen=True)
class Texts:
    """One split as a baseline sees it: texts (pairs joined), label ids of shape (texts,), rows in the source."""

    texts: list[str]
    labels: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True)
class Fitted:
    """A baseline that has learned: probabilities of shape (texts, classes) for any texts."""

    predict: Callable[[list[str]], np.ndarray]
    parameters: int | None


Fit = Callable[[Texts, Texts, int, Metric], Fitted]


def majority(train: Texts, _: Texts, classes: int, __: Metric) -> Fitted:
    """The share of each class in train, whatever the text says."""
    import numpy as np

    shares = np.bincount(train.labels, minlength=classes) / len(train.labels)
    return Fitted(lambda texts: np.tile(shares, (len(texts), 1)), None)


def tfidf(train: Texts, validation: Texts, classes: int, metric: Metric) -> Fitted:
    """TF-IDF of words and word pairs into logistic regression; its regularisation is chosen on validation.

    The strong linear baseline of Wang and Manning (2012), with word 1–2-grams and sublinear counts.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    known = vectorizer.fit_transform(train.texts)
    held_out = vectorizer.transform(validation.texts)

    def value(model: Any) -> float:
        return _rank_value(_spread(model, model.predict_proba(held_out), classes), validation.labels, metric)

    candidates = [LogisticRegression(C=strength, max_iter=1_000).fit(known, train.labels) for strength in _C_GRID]
    best = max(candidates, key=value)
    return Fitted(
        lambda texts: _spread(best, best.predict_proba(vectorizer.transform(texts)), classes),
        int(best.coef_.size + best.intercept_.size),
    )


BASELINES: dict[str, Fit] = {"majority": majority, "tfidf": tfidf}


def run_baseline(name: str, data: Path, labels: tuple[str, ...], metric: Metric, directory: TrialDirectory) -> Result:
    """Fit one baseline on prepared splits and leave its result and predictions in `directory`."""
    from threadpoolctl import threadpool_limits

    from trainables import predictions
    from trainables.metrics import score

    started = int(time.time() * 1000)
    splits = {split: _read(data / f"{split}.parquet") for split in SPLITS}
    # Two BLAS threads that wait for each other, while Ray starts on the same cores, can take minutes for seconds.
    began = time.perf_counter()
    with threadpool_limits(1):
        fitted = BASELINES[name](splits["train"], splits["validation"], len(labels), metric)
    train_seconds = time.perf_counter() - began
    logits: dict[Split, np.ndarray] = {
        split: _logits(fitted.predict(splits[split].texts)) for split in SPLITS if split != "train"
    }
    evaluations = {split: score(values, splits[split].labels, labels) for split, values in logits.items()}
    directory.root.mkdir(parents=True, exist_ok=True)
    scored = {
        split: predictions.Scored(splits[split].rows, splits[split].labels, values) for split, values in logits.items()
    }
    write_parquet(directory.predictions, predictions.table(scored))
    result = Result(
        kind="baseline",
        trial_id=name,
        status="DONE",
        metrics={
            f"{split}/{key}": value for split, found in evaluations.items() for key, value in found.metrics.items()
        },
        evaluations=evaluations,
        total_parameters=fitted.parameters,
        trainable_parameters=fitted.parameters,
        train_seconds=train_seconds,
        started=started,
        ended=int(time.time() * 1000),
    )
    result.write(directory.result)
    return result


def _rank_value(probabilities: np.ndarray, labels: np.ndarray, metric: Metric) -> float:
    from trainables.metrics import METRICS

    value = METRICS[metric](_logits(probabilities), labels)
    return -value if metric == "loss" else value


def _logits(probabilities: np.ndarray) -> np.ndarray:
    """Log-probabilities, which softmax turns back into the probabilities; a share of 0 stays finite."""
    import numpy as np

    return np.log(np.clip(probabilities, 1e-12, 1))


def _spread(model: Any, probabilities: np.ndarray, classes: int) -> np.ndarray:
    """Columns for every class, also for one that train does not hold."""
    import numpy as np

    full = np.zeros((len(probabilities), classes))
    full[:, model.classes_] = probabilities
    return full


def _read(path: Path) -> Texts:
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["row", "text", "text_pair", "label"])
    texts = table["text"].to_pylist()
    if table["text_pair"].null_count == 0 and len(texts):
        texts = [f"{text} {pair}" for text, pair in zip(texts, table["text_pair"].to_pylist(), strict=True)]
    return Texts(texts, table["label"].to_numpy(), table["row"].to_numpy())
