"""Metrics against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trainables.arguments import better
from trainables.metrics import METRICS, example_losses, score

# Four texts, three classes: predicted 0, 1, 1, 0 for labels 0, 1, 0, 0; class 2 never occurs.
LOGITS = np.log(np.array([[0.5, 0.25, 0.25], [0.2, 0.6, 0.2], [0.1, 0.8, 0.1], [0.9, 0.05, 0.05]], np.float32))
LABELS = np.array([0, 1, 0, 0])


def test_the_values_are_those_worked_out_by_hand() -> None:
    assert METRICS["accuracy"](LOGITS, LABELS) == pytest.approx(0.75)
    # Class 0: precision 1, recall 2/3, F1 0.8. Class 1: precision 1/2, recall 1, F1 2/3. Class 2: 0.
    assert METRICS["f1_macro"](LOGITS, LABELS) == pytest.approx((0.8 + 2 / 3 + 0) / 3)
    by_hand = -np.mean([math.log(p) for p in (0.5, 0.6, 0.1, 0.9)])
    assert METRICS["loss"](LOGITS, LABELS) == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_best_for_a_perfect_prediction(name: str) -> None:
    perfect = np.eye(3, dtype=np.float32)[[0, 1, 2, 1]] * 20
    labels = np.array([0, 1, 2, 1])
    value, other = METRICS[name](perfect, labels), METRICS[name](-perfect, labels)
    assert better(name, value, than=other)  # type: ignore[arg-type]
    assert not better(name, value, than=value)  # type: ignore[arg-type]


def test_the_confusion_matrix_has_true_labels_as_rows() -> None:
    found = score(LOGITS, LABELS, ["a", "b", "c"])
    assert found.confusion_matrix == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert found.classification_report["a"] == pytest.approx({"precision": 1, "recall": 2 / 3, "f1": 0.8, "support": 3})
    assert found.classification_report["c"]["support"] == 0


def test_the_loss_of_an_example_is_minus_the_log_of_its_probability() -> None:
    assert example_losses(LOGITS, LABELS) == pytest.approx([-math.log(p) for p in (0.5, 0.6, 0.1, 0.9)], rel=1e-6)
