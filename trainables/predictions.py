"""The table of predictions that every trial and baseline leaves: one row per scored text."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from scipy.special import softmax

from trainables.metrics import example_losses
from trainables.records import Split


def table(scored: Mapping[Split, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> pa.Table:
    """Columns split, row (in the source), label, predicted, loss (nats), logits, probabilities.

    `scored` gives, per split, rows (n,), labels (n,) and logits (n, classes).
    """
    return pa.concat_tables([_one(split, *values) for split, values in scored.items()])


def _one(split: Split, rows: np.ndarray, labels: np.ndarray, logits: np.ndarray) -> pa.Table:
    columns = {
        "split": pa.array([split] * len(labels)),
        "row": pa.array(np.asarray(rows)),
        "label": pa.array(np.asarray(labels)),
        "predicted": pa.array(logits.argmax(axis=1)),
        "loss": pa.array(example_losses(logits, labels)),
        "logits": pa.array(logits.tolist(), pa.list_(pa.float32())),
        "probabilities": pa.array(softmax(logits, axis=1).tolist(), pa.list_(pa.float32())),
    }
    return pa.table(columns)
