"""Sweep directories as a real sweep leaves them, written record by record, without training anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainables import predictions
from trainables.arguments import ModelSpec, TrainingArguments, TrialSpec
from trainables.directory import SweepDirectory
from trainables.files import read_json, write_json, write_text
from trainables.metrics import score
from trainables.records import EpochRecord, InferenceCost, Result, StepSeries
from workflows.inference import trial_graph

LABELS = ("negative", "positive")
START = 1_790_000_000_000
STEPS = 3
TRIALS = ("aaaaaaaaaaaa", "bbbbbbbbbbbb")


def begin(root: Path, labels: Sequence[str] = LABELS, trials: Sequence[str] = TRIALS, **config: Any) -> SweepDirectory:
    """A sweep with a manifest, laid-out trials and no result yet."""
    sweep = SweepDirectory(root)
    tracking = {"uri": None, "experiment": None, "register_as": None, "checkpoints": "none"} | config
    manifest = {
        "schema": 2,
        "sweep_id": "5eed5eed5eed5eed",
        "name": root.name,
        "created": START,
        "config": {"name": root.name, "data": {"path": "reviews.csv"}, "tracking": tracking},
        "labels": list(labels),
        "data": {
            "path": "reviews.csv",
            "fingerprint": "f" * 64,
            "rows": {"train": 80, "validation": 10, "test": 10},
            "classes": {"train": dict.fromkeys(labels, 3)},
        },
        "precision": "fp32",
        "versions": {"torch": "2.13.0"},
        "trials": list(trials),
        "baselines": ["majority"],
    }
    write_json(sweep.manifest, manifest)
    for seed, trial_id in enumerate(trials):
        spec = _spec(sweep, trial_id, seed, labels)
        name = f"MiniLM · full · lr 5e-05 · seed {seed}"
        write_json(sweep.trial(trial_id).spec, {"spec": spec, "name": name, "axes": {"warmup_steps": 0.5}})
    return sweep


def epoch(sweep: SweepDirectory, trial_id: str, number: int, start: int = START, accuracy: float = 0.5) -> None:
    """Record one finished epoch of three steps."""
    first, ended = (number - 1) * STEPS, start + number * 1000
    steps = StepSeries(
        step=[first + index + 1 for index in range(STEPS)],
        learning_rate=[1e-4 / (first + index + 1) for index in range(STEPS)],
        loss=[1.0 / (first + index + 1) for index in range(STEPS)],
        timestamp=[ended - 300 + 100 * index for index in range(STEPS)],
    )
    metrics = {"train/loss": 0.5, "validation/accuracy": accuracy, "validation/loss": 0.7, "validation/f1_macro": 0.4}
    EpochRecord(
        trial_id=trial_id,
        epoch=number,
        step=first + STEPS,
        timestamp=ended,
        seconds=1.0,
        metrics=metrics,
        steps=steps,
    ).write(sweep.trial(trial_id).epoch(number))


def result(
    sweep: SweepDirectory,
    name: str,
    status: str = "DONE",
    best: int | None = 1,
    accuracy: float = 0.5,
    labels: Sequence[str] = LABELS,
    kind: str = "trial",
    **more: Any,
) -> None:
    """Record the end of a trial or baseline, with evaluations for DONE."""
    splits = ("validation", "test") if status == "DONE" else ()
    rows = np.arange(2 * len(labels)) % len(labels)
    logits = np.eye(len(labels))[rows]
    evaluations = {split: score(logits, rows, labels) for split in splits}
    metrics = {"validation/accuracy": accuracy, "validation/loss": 0.7, "validation/f1_macro": 0.4}
    tested = {"test/accuracy": 0.75, "test/loss": 0.6, "test/f1_macro": 0.7}
    directory = sweep.trial(name) if kind == "trial" else sweep.baseline(name)
    written = None
    if splits:
        counts = {"tokens": rows + 3, "tokens_cut": rows} if kind == "trial" else {}
        scored = {split: predictions.Scored(np.arange(len(rows)), rows, logits, **counts) for split in splits}
        directory.root.mkdir(parents=True, exist_ok=True)
        written = predictions.write(directory.predictions, scored)
    values = {
        "kind": kind,
        "trial_id": name,
        "status": status,
        "epoch": best if kind == "trial" else None,
        "step": best * STEPS if best and kind == "trial" else None,
        "metrics": metrics | tested if status == "DONE" else {},
        "evaluations": evaluations,
        "trainable_parameters": 10 if kind == "trial" else None,
        "predictions_sha256": written,
        "started": START,
        "ended": START + 60_000,
    }
    Result.model_validate(values | more).write(directory.result)


def graph_id(sweep: SweepDirectory) -> str:
    """The inference graph that all recorded trials share."""
    return trial_graph(TrialSpec.model_validate(read_json(sweep.trial(TRIALS[0]).spec)["spec"]))


def cost(sweep: SweepDirectory, graph_id: str, **more: Any) -> None:
    """Record what predicting with a graph, or with a baseline of that name, costs."""
    values = {
        "graph_id": graph_id,
        "model": "MiniLM",
        "merged": True,
        "device": "cpu",
        "threads": 1,
        "texts": 10,
        "batch_size": 32,
        "latency_p50_ms": 10.0,
        "latency_p95_ms": 20.0,
        "throughput": 150.0,
        "parameters": 100,
        "bytes": 400,
        "measured": START + 90_000,
    }
    InferenceCost.model_validate(values | more).write(sweep.inference_cost(graph_id))


def finish(sweep: SweepDirectory, trials: Sequence[str] = TRIALS, labels: Sequence[str] = LABELS) -> None:
    """Record two epochs and a result of every trial, the baseline, and a leaderboard with the first as champion."""
    for trial_id in trials:
        epoch(sweep, trial_id, 1, accuracy=0.8)
        epoch(sweep, trial_id, 2, accuracy=0.6)
        result(sweep, trial_id, best=1, accuracy=0.8, labels=labels)
    result(sweep, "majority", kind="baseline", labels=labels)
    leaderboard(sweep, trials[0])


def leaderboard(sweep: SweepDirectory, champion: str | None) -> None:
    """Record a leaderboard of one row."""
    row = {"rank": 1, "kind": "trial", "trial_id": champion, "model": "MiniLM", "status": "DONE"}
    row["validation/accuracy"] = 0.8
    write_json(sweep.leaderboard_json, {"metric": "accuracy", "champion": champion, "rows": [row]})
    write_text(sweep.leaderboard_csv, "rank,trial_id\n1,x\n")


def _spec(sweep: SweepDirectory, trial_id: str, seed: int, labels: Sequence[str]) -> dict[str, Any]:
    model = ModelSpec(
        name="MiniLM",
        path="/models/minilm",
        sha256="0" * 64,
        tokenizer_sha256="1" * 64,
        model_type="bert",
        num_hidden_layers=6,
        hidden_size=384,
    )
    spec = TrialSpec(
        trial_id=trial_id,
        point_id="p" * 12,
        seed=seed,
        model=model,
        freeze="full",
        training=TrainingArguments(num_train_epochs=2),
        labels=tuple(labels),
        precision="fp32",
        data="/data",
        data_fingerprint="f" * 64,
        cache="/cache",
        directory=str(sweep.trial(trial_id).root),
    )
    return spec.model_dump(mode="json")
