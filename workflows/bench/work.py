"""The work that every contender gets: the trials of a sweep file's grid, on splits that are cut already."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from trainables.arguments import Frozen, ModelSpec, TrainingArguments
from trainables.directory import CacheDirectory
from trainables.errors import BadInput
from trainables.freeze import frozen_layers
from workflows import plan
from workflows.config import SweepConfig
from workflows.data import dataset
from workflows.resolve import resolve_models


class BenchTrial(Frozen):
    """One trial of the grid."""

    name: str
    model: ModelSpec
    freeze: str
    training: TrainingArguments


class Work(Frozen):
    """All trials, and the folder with train.parquet, validation.parquet and test.parquet (text, label)."""

    data: Path
    labels: tuple[str, ...]
    seed: int
    trials: tuple[BenchTrial, ...]

    @classmethod
    def of(cls, config: SweepConfig, storage: Path) -> Work:
        """What a sweep file means. Raises BadInput where it is no grid, or has sentence pairs."""
        if config.search.algorithm != "grid" or config.data.text_pair_column:
            raise BadInput("a benchmark needs a sweep file with search.algorithm: grid and single texts")
        points = plan.points(config)
        models = resolve_models(points)
        data = dataset.prepare(config.data, CacheDirectory(storage / "cache"), drop_overlap=config.check.drop_overlap)
        trials = tuple(
            BenchTrial(
                name=trial_name(point.model.name, point.freeze, point.training.learning_rate),
                model=models[point.model],
                freeze=point.freeze,
                training=point.training,
            )
            for point in points
        )
        return cls(data=data.directory, labels=tuple(data.labels), seed=config.search.seeds[0], trials=trials)

    def texts(self, split: str) -> tuple[list[str], list[int]]:
        """Texts and label ids of one split."""
        import pyarrow.parquet as pq

        table = pq.read_table(self.data / f"{split}.parquet", columns=["text", "label"])
        return table["text"].to_pylist(), table["label"].to_pylist()


def trial_name(model: str, freeze: str, learning_rate: float) -> str:
    """What every contender calls the same trial."""
    return f"{model} · {freeze} · lr {learning_rate:g}"


def flops(work: Work) -> float:
    """Floating-point operations of the matrix products of all trials, each by itself, without padding or repeats.

    Per token and layer two for each weight forward, four backward where the layer trains and two where it holds
    adapters (Kaplan et al. 2020, arXiv:2001.08361, section 2.1), and attention's own two products.
    """
    total = 0.0
    lengths = {}
    for trial in work.trials:
        key = (trial.model.path, trial.training.max_length)
        if key not in lengths:
            lengths[key] = {split: _lengths(work, trial, split) for split in ("train", "validation", "test")}
        total += _trial_flops(trial, lengths[key])
    return total


def _trial_flops(trial: BenchTrial, lengths: dict[str, np.ndarray]) -> float:
    layers, epochs = trial.model.num_hidden_layers, trial.training.num_train_epochs
    frozen = frozen_layers(trial.freeze, layers) or 0
    backward = 1.0 if trial.freeze == "lora" else 2.0
    forward = {split: _forward_flops(trial.model, values) for split, values in lengths.items()}
    trained = forward["train"] * (layers + backward * (layers - frozen))
    scored = forward["validation"] * layers
    return epochs * (trained + scored) + forward["test"] * layers


def _forward_flops(model: ModelSpec, lengths: np.ndarray) -> float:
    """Of one layer over some texts."""
    config = json.loads((Path(model.path) / "config.json").read_text(encoding="utf-8"))
    inner = config.get("intermediate_size") or config.get("hidden_dim") or 4 * model.hidden_size
    return layer_flops(model.hidden_size, int(inner), lengths)


def layer_flops(hidden: int, inner: int, lengths: np.ndarray) -> float:
    """Of the matrix products of one layer's forward pass over texts of some lengths."""
    weights = 4 * hidden**2 + 2 * hidden * inner
    return float((2 * weights * lengths + 4 * hidden * lengths.astype(np.float64) ** 2).sum())


def _lengths(work: Work, trial: BenchTrial, split: str) -> np.ndarray:
    """Tokens of each text of a split."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(trial.model.path, local_files_only=True)
    found = tokenizer(work.texts(split)[0], truncation=True, max_length=trial.training.max_length, padding=False)
    return np.array([len(ids) for ids in found["input_ids"]])
