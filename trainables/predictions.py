"""The table of predictions that every trial and baseline leaves: one row per scored text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa
from scipy.special import softmax

from trainables.files import sha256_file, write_parquet
from trainables.metrics import example_losses
from trainables.records import Split

if TYPE_CHECKING:
    from trainables.tokens import TokenSplit


@dataclass(frozen=True)
class Scored:
    """One split as it was scored: rows in the source (n,), labels (n,), logits (n, classes).

    `tokens` (n,) are those that the model saw, special ones included, and `tokens_cut` (n,) those beyond max_length;
    both are None for a baseline, which has no tokenizer.
    """

    rows: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    tokens: np.ndarray | None = None
    tokens_cut: np.ndarray | None = None

    @classmethod
    def of(cls, split: TokenSplit, logits: np.ndarray) -> Self:
        """A tokenised split with its logits."""
        return cls(split.rows, split.labels, logits, split.lengths, split.tokens_cut)


def write(path: Path, scored: Mapping[Split, Scored]) -> str:
    """Write the table, and return the sha256 of the file, which belongs into the result (`predictions_sha256`).

    Columns split, row (in the source), label, predicted, loss (nats), logits, probabilities, tokens, tokens_cut.
    """
    write_parquet(path, pa.concat_tables([_one(split, values) for split, values in scored.items()]))
    return sha256_file(path)


def _one(split: Split, scored: Scored) -> pa.Table:
    columns = {
        "split": pa.array([split] * len(scored.labels)),
        "row": pa.array(np.asarray(scored.rows)),
        "label": pa.array(np.asarray(scored.labels)),
        "predicted": pa.array(scored.logits.argmax(axis=1)),
        "loss": pa.array(example_losses(scored.logits, scored.labels)),
        "logits": pa.array(scored.logits.tolist(), pa.list_(pa.float32())),
        "probabilities": pa.array(softmax(scored.logits, axis=1).tolist(), pa.list_(pa.float32())),
        "tokens": _counts(scored.tokens, len(scored.labels)),
        "tokens_cut": _counts(scored.tokens_cut, len(scored.labels)),
    }
    return pa.table(columns)


def _counts(values: np.ndarray | None, length: int) -> pa.Array:
    return pa.nulls(length, pa.int64()) if values is None else pa.array(np.asarray(values, np.int64))
