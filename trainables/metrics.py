"""Scores of logits against labels, as one table: a new metric is one function and one line."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import log_softmax
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

from trainables.records import Evaluation

# The matrices of a batch of n texts over k classes: logits (n, k) float, labels (n,) int.
Score = Callable[[np.ndarray, np.ndarray], float]


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Share of texts whose highest logit is at their label."""
    return float(accuracy_score(labels, logits.argmax(axis=1)))


def f1_macro(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean over all classes of F1; a class that is never predicted and never there counts as 0."""
    classes = range(logits.shape[1])
    return float(f1_score(labels, logits.argmax(axis=1), labels=classes, average="macro", zero_division=0))


def loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross-entropy in nats, in double precision."""
    return float(example_losses(logits, labels).mean())


METRICS: dict[str, Score] = {"accuracy": accuracy, "f1_macro": f1_macro, "loss": loss}


def example_losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Cross-entropy of each text in nats, shape (n,)."""
    return -log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels]


def score(logits: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> Evaluation:
    """Every metric of the table, the confusion matrix (rows true, columns predicted) and scores per class.

    `names` gives the k label names in order of their ids.
    """
    classes = range(len(names))
    predicted = logits.argmax(axis=1)
    columns = precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0)
    keys = ("precision", "recall", "f1", "support")
    report = {
        name: {key: float(column[index]) for key, column in zip(keys, columns, strict=True)}
        for index, name in enumerate(names)
    }
    return Evaluation(
        metrics={name: metric(logits, labels) for name, metric in METRICS.items()},
        confusion_matrix=confusion_matrix(labels, predicted, labels=classes).tolist(),
        classification_report=report,
    )
