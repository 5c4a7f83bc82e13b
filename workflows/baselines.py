"""What any encoder must beat, on the same splits: a new baseline is one class and one line of the table.

A baseline learns from train, may choose on validation, and is scored on test once, like a trial. What it has learned
is plain values, written as JSON and never pickled; `load_baseline` gives the same probabilities from them.
"""

from __future__ import annotations

import contextlib
import re
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import ValidationError, model_validator

from trainables.arguments import Frozen, Metric
from trainables.directory import TrialDirectory
from trainables.errors import BadInput, InfrastructureError, nearest
from trainables.files import read_json, write_json
from trainables.records import SPLITS, Result, Split

if TYPE_CHECKING:
    import numpy as np

# Inverse strength of regularisation: strong to weak, half a decade apart.
_C_GRID = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
# What a term is: a word of two characters or more (sklearn's default), where train has none a word of any length, else
# a character. The last one finds something in every text, an empty term where there is no character.
_TOKEN_PATTERNS = (r"(?u)\b\w\w+\b", r"(?u)\b\w+\b", r"\S|^")
_KIND = "baseline"


@dataclass(frozen=True)
class Texts:
    """One split as a baseline sees it: texts (pairs joined), label ids of shape (texts,), rows in the source."""

    texts: list[str]
    labels: np.ndarray
    rows: np.ndarray


class Baseline(Frozen):
    """A baseline that has learned: its fields are all that it knows. `labels[i]` names class i."""

    labels: tuple[str, ...]

    @classmethod
    @abstractmethod
    def fit(cls, train: Texts, validation: Texts, labels: tuple[str, ...], metric: Metric) -> Self:
        """Learn from train; validation may decide between candidates by `metric`."""

    @property
    @abstractmethod
    def parameters(self) -> int | None:
        """How many numbers were fitted; None where that means nothing."""

    @abstractmethod
    def probabilities(self, texts: list[str]) -> np.ndarray:
        """Probabilities, float64, shape (texts, classes), for any texts."""

    def logits(self, texts: list[str], pairs: list[str] | None = None) -> np.ndarray:
        """Log-probabilities, shape (texts, classes); a pair is read as one text, as in training."""
        return _logits(self.probabilities(texts if pairs is None else _joined(texts, pairs)))


class Majority(Baseline):
    """The share of each class in train, whatever the text says."""

    shares: tuple[float, ...]

    @model_validator(mode="after")
    def _one_share_per_class(self) -> Self:
        if len(self.shares) != len(self.labels):
            raise ValueError("there must be one share per label")
        return self

    @classmethod
    def fit(cls, train: Texts, _: Texts, labels: tuple[str, ...], __: Metric) -> Self:
        import numpy as np

        shares = np.bincount(train.labels, minlength=len(labels)) / len(train.labels)
        return cls(labels=labels, shares=tuple(shares.tolist()))

    @property
    def parameters(self) -> None:
        return None

    def probabilities(self, texts: list[str]) -> np.ndarray:
        import numpy as np

        return np.tile(np.array(self.shares), (len(texts), 1))


class Tfidf(Baseline):
    """TF-IDF of words and word pairs into logistic regression; its regularisation is chosen on validation.

    The strong linear baseline of Wang and Manning (2012), with word 1–2-grams and sublinear counts; characters stand in
    for words where train has none. `classes` are the ids that train holds, `terms` the features in order of column,
    each with the number of train texts that hold it (of `texts` in all; idf is made of these, as in sklearn with
    smooth_idf). `coefficients` has a row per class, or one for two classes; the other fields are arguments of sklearn's
    TfidfVectorizer.
    """

    classes: tuple[int, ...]
    texts: int
    ngram_range: tuple[int, int]
    sublinear_tf: bool
    lowercase: bool
    token_pattern: str
    intercepts: tuple[float, ...]
    terms: tuple[str, ...]
    document_frequencies: tuple[int, ...]
    coefficients: tuple[tuple[float, ...], ...]

    @model_validator(mode="after")
    def _sizes_agree(self) -> Self:
        rows = 1 if len(self.classes) == 2 else len(self.classes)
        sizes = {len(self.terms), len(set(self.terms)), len(self.document_frequencies), *map(len, self.coefficients)}
        if len(sizes) != 1 or {len(self.coefficients), len(self.intercepts)} != {rows}:
            raise ValueError("terms, frequencies, coefficients and intercepts differ in number")
        if list(self.classes) != sorted(set(self.classes) & set(range(len(self.labels)))):
            raise ValueError("classes must be ids of labels, in order")
        if not all(1 <= count <= self.texts for count in self.document_frequencies):
            raise ValueError("a term must be in at least 1 and at most all of the texts")
        re.compile(self.token_pattern)
        return self

    @classmethod
    def fit(cls, train: Texts, validation: Texts, labels: tuple[str, ...], metric: Metric) -> Self:
        import numpy as np
        from sklearn.linear_model import LogisticRegression

        vectorizer, known = _fitted_vectorizer(train.texts)
        held_out = vectorizer.transform(validation.texts)

        def value(model: Any) -> float:
            found = _spread(model.predict_proba(held_out), model.classes_, len(labels))
            return _rank_value(found, validation.labels, metric)

        candidates = [LogisticRegression(C=strength, max_iter=1_000).fit(known, train.labels) for strength in _C_GRID]
        best = max(candidates, key=value)
        return cls(
            labels=labels,
            classes=tuple(best.classes_.tolist()),
            texts=len(train.texts),
            ngram_range=vectorizer.ngram_range,
            sublinear_tf=vectorizer.sublinear_tf,
            lowercase=vectorizer.lowercase,
            token_pattern=vectorizer.token_pattern,
            intercepts=tuple(best.intercept_.tolist()),
            terms=tuple(vectorizer.get_feature_names_out().tolist()),
            document_frequencies=tuple(np.bincount(known.indices, minlength=known.shape[1]).tolist()),
            coefficients=tuple(map(tuple, best.coef_.tolist())),
        )

    @property
    def parameters(self) -> int:
        return len(self.intercepts) * (len(self.terms) + 1)

    def probabilities(self, texts: list[str]) -> np.ndarray:
        features = self._vectorizer.transform(texts)
        return _spread(self._model.predict_proba(features), self.classes, len(self.labels))

    @cached_property
    def _vectorizer(self) -> Any:
        """sklearn's vectorizer as it was after fitting."""
        import numpy as np
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectorizer = TfidfVectorizer(
            ngram_range=self.ngram_range,
            sublinear_tf=self.sublinear_tf,
            lowercase=self.lowercase,
            token_pattern=self.token_pattern,
            vocabulary={term: column for column, term in enumerate(self.terms)},
        )
        # the same operations in the same order as sklearn's TfidfTransformer.fit, so that every bit agrees
        vectorizer.idf_ = np.log((self.texts + 1.0) / (np.array(self.document_frequencies) + 1.0)) + 1.0
        return vectorizer

    @cached_property
    def _model(self) -> Any:
        """sklearn's logistic regression as it was after fitting."""
        import numpy as np
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression()
        model.classes_ = np.array(self.classes)
        model.coef_, model.intercept_ = np.array(self.coefficients), np.array(self.intercepts)
        return model


BASELINES: dict[str, type[Baseline]] = {"majority": Majority, "tfidf": Tfidf}


def load_baseline(directory: TrialDirectory) -> Baseline:
    """Read a fitted baseline. Raises CorruptFile where the file was changed, BadInput where it is something else."""
    content = read_json(directory.model)
    name = content.pop(_KIND, None)
    if name not in BASELINES:
        raise BadInput(f"{directory.model}: {name!r} is not the name of a baseline; {nearest(str(name), BASELINES)}")
    try:
        return BASELINES[name].model_validate(content)
    except (ValidationError, re.error) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise BadInput(f"{directory.model}: does not hold a fitted {name} baseline: {reason}") from None


def run_baseline(
    name: str,
    data: Path,
    labels: tuple[str, ...],
    metric: Metric,
    directory: TrialDirectory,
    given_up: Callable[[], bool] = lambda: False,
) -> Result:
    """Fit one baseline on prepared splits and leave its model, predictions and result in `directory`.

    Raises InfrastructureError, and leaves nothing, where it is given up meanwhile.
    """
    from threadpoolctl import threadpool_limits

    from trainables import predictions
    from trainables.metrics import score

    started = int(time.time() * 1000)
    splits = {split: _read(data / f"{split}.parquet") for split in SPLITS}
    # Two BLAS threads that wait for each other, while Ray starts on the same cores, can take minutes for seconds.
    began = time.perf_counter()
    with threadpool_limits(1):
        fitted = BASELINES[name].fit(splits["train"], splits["validation"], labels, metric)
    train_seconds = time.perf_counter() - began
    logits: dict[Split, np.ndarray] = {
        split: fitted.logits(splits[split].texts) for split in SPLITS if split != "train"
    }
    evaluations = {split: score(values, splits[split].labels, labels) for split, values in logits.items()}
    if given_up():
        raise InfrastructureError(f"nobody waits for the baseline {name} any more")
    directory.root.mkdir(parents=True, exist_ok=True)
    write_json(directory.model, {_KIND: name, **fitted.model_dump(mode="json")}, flat=True)
    scored = {
        split: predictions.Scored(splits[split].rows, splits[split].labels, values) for split, values in logits.items()
    }
    written = predictions.write(directory.predictions, scored)
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
        predictions_sha256=written,
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


def _fitted_vectorizer(texts: list[str]) -> tuple[Any, Any]:
    """sklearn's vectorizer by the first pattern that finds a term, and the features of the texts (texts, terms)."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    *longer, last = _TOKEN_PATTERNS
    for pattern in longer:
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=pattern)
        # How sklearn says that there is no term.
        with contextlib.suppress(ValueError):
            return vectorizer, vectorizer.fit_transform(texts)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=last)
    return vectorizer, vectorizer.fit_transform(texts)


def _spread(probabilities: np.ndarray, present: Sequence[int] | np.ndarray, classes: int) -> np.ndarray:
    """Columns for every class, also for one that train does not hold."""
    import numpy as np

    full = np.zeros((len(probabilities), classes))
    full[:, present] = probabilities
    return full


def _joined(texts: list[str], pairs: list[str]) -> list[str]:
    return [f"{text} {pair}" for text, pair in zip(texts, pairs, strict=True)]


def _read(path: Path) -> Texts:
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["row", "text", "text_pair", "label"])
    texts = table["text"].to_pylist()
    if table["text_pair"].null_count == 0 and len(texts):
        texts = _joined(texts, table["text_pair"].to_pylist())
    return Texts(texts, table["label"].to_numpy(), table["row"].to_numpy())
