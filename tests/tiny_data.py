"""Small labelled data that a model can learn, made in code: the words decide the label."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.tiny import tiny_spec
from trainables.arguments import TrainingArguments, TrialSpec
from trainables.tokens import TokenSplit

_GOOD = ["good", "great", "love", "best", "happy", "nice", "beautiful"]
_BAD = ["bad", "worst", "hate", "terrible", "boring", "sad", "awful"]
_PLAIN = ["the", "a", "movie", "film", "story", "was", "is", "it", "this", "and", "with", "for"]


def reviews(count: int, seed: int = 0) -> tuple[list[str], list[int]]:
    """Texts of three to twelve words, no two alike, and their labels: 1 good, 0 bad."""
    generator = np.random.default_rng(seed)
    labels = [int(label) for label in generator.permutation(np.arange(count) % 2)]
    texts = []
    for index, label in enumerate(labels):
        words = [*generator.choice(_GOOD if label else _BAD, 2), *generator.choice(_PLAIN, generator.integers(1, 9))]
        texts.append(" ".join([*map(str, words), str(index)]))
    return texts, labels


def reviews_csv(path: Path, count: int = 160, **columns: Any) -> Path:
    """A csv with columns text, label (positive, negative) and whatever `columns` adds."""
    texts, labels = reviews(count)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label", *columns])
        for index, (text, label) in enumerate(zip(texts, labels, strict=True)):
            extra = [values[index] for values in columns.values()]
            writer.writerow([text, "positive" if label else "negative", *extra])
    return path


def trial_spec(model: Path, folder: Path, *, freeze: str = "full", seed: int = 1, **arguments: Any) -> TrialSpec:
    """A trial of a tiny model on prepared splits under `folder`, which are written when they are not there."""
    data = folder / "data"
    if not data.exists():
        data.mkdir(parents=True)
        for number, (split, count) in enumerate({"train": 64, "validation": 24, "test": 24}.items()):
            texts, labels = reviews(count, seed=number)
            pairs = pa.nulls(count, pa.string())
            table = pa.table({"row": range(count), "text": texts, "text_pair": pairs, "label": labels})
            pq.write_table(table, data / f"{split}.parquet")
    defaults = {"learning_rate": 3e-3, "num_train_epochs": 2, "per_device_train_batch_size": 8, "max_length": 32}
    return TrialSpec(
        trial_id=f"trial-{freeze}-{seed}",
        point_id=f"trial-{freeze}",
        seed=seed,
        model=tiny_spec(model),
        freeze=freeze,
        training=TrainingArguments.model_validate({**defaults, **arguments}),
        labels=("negative", "positive"),
        precision="fp32",
        data=str(data),
        data_fingerprint="tiny",
        cache=str(folder / "cache"),
        directory=str(folder / "trials" / f"trial-{freeze}-{seed}"),
    )


def token_split(
    texts: int, longest: int, *, types: bool = False, classes: int = 2, pad_token_id: int = 1
) -> TokenSplit:
    """Texts of 3 to `longest` - 1 random tokens, the same each time, with random labels."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(3, longest, texts)
    offsets = np.r_[0, np.cumsum(lengths)]
    return TokenSplit(
        input_ids=generator.integers(5, 60, offsets[-1]).astype(np.int32),
        offsets=offsets,
        token_type_ids=generator.integers(0, 2, offsets[-1]).astype(np.int8) if types else None,
        labels=generator.integers(0, classes, texts),
        rows=np.arange(texts),
        tokens_cut=np.zeros(texts, np.int64),
        pad_token_id=pad_token_id,
    )
