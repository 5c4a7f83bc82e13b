"""What a trial or baseline leaves behind, as values: one EpochRecord per finished epoch, one Result at its end.

Leaderboard, MLflow and the report are derived from these files alone. Metrics are named
`train/loss`, `validation/accuracy`, `test/f1_macro`, …; timestamps are milliseconds since 1970 and are fixed when
the metric is measured, so that delivering one twice changes nothing. Step = optimizer step, from 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import AliasChoices, Field

from trainables.arguments import Frozen
from trainables.errors import WORTH_ANOTHER_TRY, Reason
from trainables.files import read_json, write_json

Status = Literal["PENDING", "RUNNING", "DONE", "STOPPED", "FAILED"]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class Record(Frozen):
    """A value that is stored as one sealed JSON file."""

    def write(self, path: Path) -> None:
        write_json(path, self.model_dump(mode="json"))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises FileNotFoundError or CorruptFile."""
        return cls.model_validate(read_json(path))


class StepSeries(Frozen):
    """What was applied at each optimizer step of one epoch: lists of equal length.

    `learning_rate` is the head's. With layer-wise decay `block_learning_rates` has those of every trained block,
    the head's too; without it all blocks learn at the same rate and it is empty.
    """

    step: list[int]
    learning_rate: list[float]
    loss: list[float]
    timestamp: list[int]
    block_learning_rates: dict[str, list[float]] = Field(default_factory=dict)


class EpochRecord(Record):
    """One finished epoch: mean training loss and validation metrics, with the steps that led there.

    `seconds` is the whole epoch, `train_seconds` its optimizer steps alone; `texts_at_once` as in Result.
    """

    trial_id: str
    epoch: int
    step: int
    timestamp: int
    seconds: float
    train_seconds: float | None = None
    metrics: dict[str, float]
    steps: StepSeries
    texts_at_once: int | None = None


class Evaluation(Frozen):
    """Scores of one set of weights on one split. Rows of the confusion matrix are true labels, columns predicted."""

    metrics: dict[str, float]
    confusion_matrix: list[list[int]]
    classification_report: dict[str, dict[str, float]]


class InferenceCost(Record):
    """What predicting costs with one inference graph, from text to probabilities, tokenizing included, in fp32.

    Measured on a worker with a trial's resources and nothing else running. `latency_*` are milliseconds for one text
    at a time, `throughput` is texts per second in batches of `batch_size`; both over `texts` texts of the test split.
    `merged` tells the two graphs of a LoRA trial apart; `bytes` is the whole model as it would be shipped.
    """

    graph_id: str
    model: str
    merged: bool
    device: str
    threads: int
    texts: int
    batch_size: int
    latency_p50_ms: float
    latency_p95_ms: float
    throughput: float
    parameters: int | None
    bytes: int | None
    measured: int


class Result(Record):
    """The end of a trial or baseline: exactly one state, and for DONE the scores of the best epoch's weights.

    `trial_id` is a baseline's name for baselines. `metrics` holds `validation/*` of the best epoch and, for DONE,
    `test/*`. `evaluations` has an entry per scored split. `reason` and `message` are set for FAILED only.
    `train_seconds` is the time of training (of fitting, for a baseline) without any scoring;
    `peak_memory_bytes` is what the device held at most, or on a CPU the worker's process (null where unknown).
    `predictions_sha256` is the hash of predictions.parquet; null without one or from an earlier version.
    `texts_at_once` is set where the device was out of memory: how many texts it ran at most in one pass from then on.
    Batches stayed what they were.
    `frozen_hashes` are hashes of the frozen weights before training and at its end; null where all weights train.
    `moved` is how far the weights that train are from where they began, relative to their norm there (an estimate from
    a sample). Both are null in records of early versions; later ones called the first `frozen_sha256`.
    """

    kind: Literal["trial", "baseline"]
    trial_id: str
    status: Status
    reason: Reason | None = None
    message: str | None = None
    epoch: int | None = None
    step: int | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    evaluations: dict[Split, Evaluation] = Field(default_factory=dict)
    trainable_parameters: int | None = None
    total_parameters: int | None = None
    device: str | None = None
    train_seconds: float | None = None
    peak_memory_bytes: int | None = None
    predictions_sha256: str | None = None
    texts_at_once: int | None = None
    frozen_hashes: tuple[str, str] | None = Field(None, validation_alias=AliasChoices("frozen_hashes", "frozen_sha256"))
    moved: float | None = None
    started: int
    ended: int

    @property
    def seconds(self) -> float:
        return (self.ended - self.started) / 1000

    @property
    def is_final(self) -> bool:
        """Whether a result stays: what failed for want of a worker, of memory on it, or of time is tried again."""
        return self.status != "FAILED" or self.reason not in WORTH_ANOTHER_TRY

    def outcome(self) -> dict[str, Any]:
        """What the driver shows of the end of a trial: status, metrics, and why it failed."""
        message = f"{self.reason}: {self.message}" if self.status == "FAILED" else ""
        return {"status": self.status, "metrics": self.metrics, "message": message}
