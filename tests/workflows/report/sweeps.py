"""Sweep directories with everything a report can show: predictions that agree with results, costs, prepared data.

What a trial predicts is random but seeded; its accuracy rises with `skill`. Records come from the same functions that
a real trial uses (`score`, `predictions.table`), so a figure can be recomputed from the predictions alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainables import predictions
from trainables.arguments import ModelSpec, TrainingArguments, TrialSpec
from trainables.directory import SweepDirectory, TrialDirectory
from trainables.files import write_json
from trainables.metrics import score
from trainables.predictions import Scored
from trainables.records import EpochRecord, InferenceCost, Result, Split, StepSeries
from workflows.inference import trial_graph
from workflows.plan import PlannedTrial

START = 1_790_000_000_000
LABELS = ("negative", "neutral", "positive")
TEXTS = 90
STEPS = 6


@dataclass(frozen=True)
class Trial:
    """One trial of the sweep. `status` RUNNING: it has epochs and no result; PENDING: neither."""

    freeze: str = "full"
    rate: float = 5e-5
    seed: int = 1
    skill: float = 2.0
    status: str = "DONE"
    epochs: int = 2
    model: str = "MiniLM"
    axes: dict[str, Any] = field(default_factory=dict)
    blocks: bool = False
    message: str = "the loss was not a number at step 3 <b>of 6</b>"
    own_id: str = ""

    @property
    def trial_id(self) -> str:
        if self.own_id:
            return self.own_id
        return f"{self.model[:4].lower()}{self.freeze}{self.rate:g}{self.seed}{''.join(map(str, self.axes.values()))}"


EVERYTHING = (
    Trial("full", 5e-5, skill=3.0),
    Trial("full", 1e-4, skill=2.5),
    Trial("top-2", 3e-4, skill=2.0, blocks=True),
    Trial("head", 1e-3, skill=1.0),
    Trial("lora", 3e-4, skill=2.2, axes={"lora_r": 4}),
    Trial("lora", 3e-4, skill=2.4, axes={"lora_r": 8}),
    Trial("full", 1e-2, status="FAILED"),
    Trial("top-2", 1e-2, status="STOPPED"),
)
_TRAINED = {"full": 22_700_000, "top-2": 3_700_000, "head": 150_000, "lora": 190_000}


def make(
    root: Path,
    trials: Sequence[Trial] = EVERYTHING,
    labels: Sequence[str] = LABELS,
    baselines: Sequence[str] = ("majority", "tfidf"),
    costs: bool = True,
    config: dict[str, Any] | None = None,
    text: str = "a fine film",
    texts: Sequence[str] = (),
) -> SweepDirectory:
    """Write a sweep directory at `root`, its prepared test split beside it, and no leaderboard.

    The first test texts are `texts`, the others `text` with a number.
    """
    sweep, data = SweepDirectory(root), root.parent / "data"
    _prepared(data, labels, [*texts, *(f"{text} number {index}" for index in range(len(texts), TEXTS))])
    specs = [_spec(sweep, trial, data, labels) for trial in trials]
    _manifest(sweep, specs, labels, baselines, config or {})
    for trial, spec in zip(trials, specs, strict=True):
        _record_trial(sweep, trial, spec, labels)
        if costs and trial.status == "DONE":
            for merged in (True, False) if trial.freeze == "lora" else (True,):
                _cost(sweep, trial_graph(spec, merged=merged), trial.model, 6.0 if merged else 9.0, merged)
    for skill, name in enumerate(baselines):
        _score(sweep.baseline(name), "baseline", name, 0.8 * skill, labels, tokens=False)
        if costs:
            _cost(sweep, name, name, 0.05 + 0.3 * skill, True)
    return sweep


def _prepared(data: Path, labels: Sequence[str], texts: Sequence[str]) -> None:
    data.mkdir(parents=True, exist_ok=True)
    columns = {"row": range(1000, 1000 + TEXTS), "text": texts, "text_pair": pa.nulls(TEXTS, pa.string())}
    pq.write_table(pa.table(columns | {"label": _true(labels)}), data / "test.parquet")


def _true(labels: Sequence[str]) -> np.ndarray:
    return np.arange(TEXTS) % len(labels)


def _spec(sweep: SweepDirectory, trial: Trial, data: Path, labels: Sequence[str]) -> TrialSpec:
    model = ModelSpec(
        name=trial.model,
        path="/models/minilm",
        sha256=f"{trial.model} weights",
        tokenizer_sha256="1" * 64,
        model_type="bert",
        num_hidden_layers=6,
        hidden_size=384,
    )
    training = TrainingArguments.model_validate(
        {"learning_rate": trial.rate, "num_train_epochs": trial.epochs, **trial.axes}
    )
    return TrialSpec(
        trial_id=trial.trial_id,
        point_id=trial.trial_id.replace(f"{trial.rate:g}{trial.seed}", f"{trial.rate:g}"),
        seed=trial.seed,
        model=model,
        freeze=trial.freeze,
        training=training,
        labels=tuple(labels),
        precision="fp32",
        data=str(data),
        data_fingerprint="f" * 64,
        cache="/cache",
        directory=str(sweep.trial(trial.trial_id).root),
    )


def _manifest(
    sweep: SweepDirectory,
    specs: list[TrialSpec],
    labels: Sequence[str],
    baselines: Sequence[str],
    config: dict[str, Any],
) -> None:
    counts = {label: int((_true(labels) == index).sum()) for index, label in enumerate(labels)}
    own = {
        "name": "reviews",
        "data": {"path": "reviews.csv", "seed": 42},
        "search": {"space": [{"model": "MiniLM", "freeze": "full"}], "seeds": [1]},
        "training": TrainingArguments().model_dump(mode="json"),
        "storage": "runs",
    }
    manifest = {
        "schema": 2,
        "sweep_id": "5eed5eed5eed5eed",
        "name": "reviews",
        "created": START,
        "config": own | config,
        "labels": list(labels),
        "data": {
            "path": "reviews.csv",
            "fingerprint": "f" * 64,
            "rows": {"train": 80, "validation": TEXTS, "test": TEXTS},
            "classes": {"train": counts, "validation": counts, "test": counts},
            "notes": ["validation was cut from train"],
        },
        "precision": "fp32",
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "trials": [spec.trial_id for spec in specs],
        "baselines": list(baselines),
    }
    write_json(sweep.manifest, manifest)


def _record_trial(sweep: SweepDirectory, trial: Trial, spec: TrialSpec, labels: Sequence[str]) -> None:
    directory = sweep.trial(trial.trial_id)
    planned = PlannedTrial(
        trial.trial_id, spec.point_id, trial.seed, spec.model, trial.freeze, spec.training, trial.axes
    )
    write_json(directory.spec, {"spec": spec.model_dump(mode="json"), "name": planned.name, "axes": trial.axes})
    if trial.status == "PENDING":
        return
    for number in range(1, trial.epochs + 1):
        _epoch(directory, trial, number)
    if trial.status == "DONE":
        _score(directory, "trial", trial.trial_id, trial.skill, labels, freeze=trial.freeze, seed=trial.seed)
    elif trial.status != "RUNNING":
        _ended(directory, trial)


def _epoch(directory: TrialDirectory, trial: Trial, number: int) -> None:
    first = (number - 1) * STEPS
    total = trial.epochs * STEPS
    rates = [trial.rate * (1 - (first + index) / total) for index in range(STEPS)]
    blocks = {f"layer-{layer}": [rate * 0.9 ** (2 - layer) for rate in rates] for layer in range(2)}
    steps = StepSeries(
        step=[first + index + 1 for index in range(STEPS)],
        learning_rate=rates,
        loss=[1 / (first + index + 1) for index in range(STEPS)],
        timestamp=[START + number] * STEPS,
        block_learning_rates=blocks | {"head": rates} if trial.blocks else {},
    )
    accuracy = min(0.4 + 0.1 * trial.skill + 0.02 * number, 1)
    metrics = {
        "train/loss": 1 / number,
        "validation/accuracy": accuracy,
        "validation/f1_macro": accuracy - 0.02,
        "validation/loss": 1 - accuracy,
    }
    EpochRecord(
        trial_id=trial.trial_id,
        epoch=number,
        step=first + STEPS,
        timestamp=START + number,
        seconds=9,
        train_seconds=8,
        metrics=metrics,
        steps=steps,
    ).write(directory.epoch(number))


def _ended(directory: TrialDirectory, trial: Trial) -> None:
    """A trial that failed, or that a scheduler stopped."""
    failed = {"reason": "nan", "message": trial.message}
    stopped = {"epoch": 1, "metrics": {"validation/accuracy": 0.5, "validation/loss": 0.9, "validation/f1_macro": 0.4}}
    Result.model_validate(
        {"kind": "trial", "trial_id": trial.trial_id, "status": trial.status, "started": START, "ended": START + 9000}
        | (failed if trial.status == "FAILED" else stopped)
    ).write(directory.result)


def _score(
    directory: TrialDirectory,
    kind: str,
    name: str,
    skill: float,
    labels: Sequence[str],
    freeze: str = "",
    seed: int = 0,
    tokens: bool = True,
) -> None:
    """Predictions of some skill, and the result that they mean."""
    generator = np.random.default_rng([seed, *name.encode()])
    true, rows = _true(labels), np.arange(1000, 1000 + TEXTS)
    seen = np.minimum(np.arange(TEXTS) + 5, 64) if tokens else None
    cut = np.arange(TEXTS) + 5 - seen if seen is not None else None
    scored: dict[Split, Scored] = {}
    for split in ("validation", "test"):
        logits = generator.normal(size=(TEXTS, len(labels)))
        logits[np.arange(TEXTS), true] += skill
        scored[split] = Scored(rows, true, logits.astype(np.float32), seen, cut)
    evaluations = {split: score(found.logits, found.labels, labels) for split, found in scored.items()}
    directory.root.mkdir(parents=True, exist_ok=True)
    written = predictions.write(directory.predictions, scored)
    Result.model_validate(
        {
            "kind": kind,
            "trial_id": name,
            "status": "DONE",
            "epoch": 2 if kind == "trial" else None,
            "metrics": {
                f"{split}/{key}": value for split, found in evaluations.items() for key, value in found.metrics.items()
            },
            "evaluations": evaluations,
            "trainable_parameters": _TRAINED.get(freeze) if kind == "trial" else 2_000,
            "total_parameters": 22_700_000,
            "device": "cpu",
            "train_seconds": 16.0 if kind == "trial" else 0.25,
            "peak_memory_bytes": 800_000_000 if kind == "trial" else None,
            "predictions_sha256": written,
            "started": START,
            "ended": START + 60_000,
        }
    ).write(directory.result)


def _cost(sweep: SweepDirectory, graph: str, model: str, milliseconds: float, merged: bool) -> None:
    InferenceCost(
        graph_id=graph,
        model=model,
        merged=merged,
        device="cpu",
        threads=1,
        texts=90,
        batch_size=32,
        latency_p50_ms=milliseconds,
        latency_p95_ms=1.5 * milliseconds,
        throughput=2000 / milliseconds,
        parameters=22_700_000,
        bytes=90_000_000,
        measured=START,
    ).write(sweep.inference_cost(graph))
