"""One trial, top to bottom: tokenize → train → evaluate.

`run_trial` is a plain function: Ray Tune calls it on a worker, a test, a notebook or a debugger calls it just so.
All that it learns is in the trial's folder when it returns. `trainables.group` runs several at once, by the same
parts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import nn

from trainables import checkpoint, dropout, freeze, memory, models, movement, predictions, prefix, trained_rows
from trainables.arguments import TrialSpec
from trainables.attempt import Attempt, Progress, Report, now
from trainables.errors import TrialFailure
from trainables.graphed import GraphedSteps, Work
from trainables.metrics import score
from trainables.midway import Midway
from trainables.movement import Start
from trainables.optimization import Optimization
from trainables.precision import without_denormals
from trainables.records import EpochRecord, Result, Split, StepSeries
from trainables.room import Room
from trainables.tokens import TokenSplit, tokenize
from trainables.training import pick_device, predict_logits, train_epoch


def run_trial(spec: TrialSpec, report: Report = lambda _: None) -> Result:
    """Run one trial and return its end, which is also in `result.json`. Never raises for what the trial did wrong.

    `report` is told of progress as {"epoch", "step", "total_steps", and after an epoch its "metrics"}.
    """
    attempt = Attempt(spec, report)
    with attempt.recorded():
        _train_and_evaluate(attempt)
    return _ended(attempt)


@dataclass
class Setting:
    """What a trial trains on: its device, its model with the policy applied, its tokens; `total_steps` of all epochs.

    Trials of one group share a setting, and with it the `room` that they have on the device.
    """

    device: torch.device
    model: nn.Module
    splits: dict[Split, TokenSplit]
    total_steps: int
    measured: bool
    room: Room
    start: Start

    @classmethod
    def of(cls, spec: TrialSpec) -> Setting:
        """Tokenize, load and freeze as a trial says, and begin to measure memory."""
        torch.set_num_threads(spec.num_threads)
        device = pick_device()
        measured = memory.start_measuring(device)
        memory.keep_freed()
        splits = tokenize(spec)
        model = models.load_model(spec.model, spec.labels, spec.seed)
        model = freeze.apply(model, spec.freeze, spec.training, spec.seed).to(device)
        dropout.replace(model)
        trained_rows.replace(model, splits["train"])
        steps = spec.training.num_train_epochs * spec.training.optimizer_steps(len(splits["train"]))
        return cls(device, model, splits, steps, measured, Room(device), Start.of(model))

    @cached_property
    def frozen_hashes(self) -> tuple[str, str] | None:
        """Hashes of what is frozen, before training and now; for when all training here is over."""
        after = movement.frozen_hash(self.model)
        return (self.start.frozen, after) if self.start.frozen and after else None

    def attach(self, spec: TrialSpec, split: Split, alive: Callable[[], None]) -> float:
        """Give a split what the frozen layers give for it, once; returns the seconds that this took."""
        began = time.perf_counter()
        if self.splits[split].hidden is None:
            self.splits[split] = prefix.attach(spec, self.model, self.splits[split], split, alive, self.room)
        return time.perf_counter() - began


@without_denormals()
def _train_and_evaluate(attempt: Attempt) -> None:
    spec = attempt.spec
    setting = Setting.of(spec)
    setting.room.restrict(attempt.texts_at_once)
    alive = Progress([attempt], 1, setting.total_steps).alive
    # What frozen layers give for the training texts is part of training, where no trial before has computed it.
    attempt.train_seconds += setting.attach(spec, "train", alive)
    setting.attach(spec, "validation", alive)
    model = setting.model
    optimization = Optimization.of(model, spec.training, setting.total_steps)
    first, midway = attempt.epoch + 1, attempt.midway
    attempt.resume(model, optimization)
    graphed = GraphedSteps.of(Work(model, setting.splits["train"], optimization, spec.precision))
    for epoch in range(first, spec.training.num_train_epochs + 1):
        _epoch(attempt, setting, optimization, graphed, epoch, midway if epoch == first else None)
    # Their memory is for scoring now.
    del graphed
    evaluate(attempt, setting)


def _epoch(
    attempt: Attempt,
    setting: Setting,
    optimization: Optimization,
    graphed: GraphedSteps | None,
    epoch: int,
    midway: Midway | None,
) -> None:
    """Train for an epoch, or for what is left of it, and score validation."""
    spec, model = attempt.spec, setting.model
    began = time.perf_counter() - (midway.train_seconds if midway else 0.0)

    def save(steps: StepSeries) -> None:
        seconds = time.perf_counter() - began
        attempt.commit_midway(Midway.of(steps, seconds, setting.device), model, optimization)

    steps = train_epoch(
        model,
        setting.splits["train"],
        optimization,
        seed=spec.seed,
        epoch=epoch,
        precision=spec.precision,
        on_step=Progress([attempt], epoch, setting.total_steps),
        room=setting.room,
        on_save=save,
        midway=midway,
        graphed=graphed,
    )
    end_epoch(attempt, setting, optimization, epoch, steps, time.perf_counter() - began)


def end_epoch(
    attempt: Attempt,
    setting: Setting,
    optimization: Optimization,
    epoch: int,
    steps: StepSeries,
    train_seconds: float,
) -> None:
    """Score validation after an epoch, and begin to commit it.

    Raises TrialFailure("nan") where a logit is not finite.
    """
    spec, began = attempt.spec, time.perf_counter()
    progress = Progress([attempt], epoch, setting.total_steps, step=steps.step[-1])
    logits = _logits(attempt, setting, "validation", progress)
    if not np.isfinite(logits).all():
        raise TrialFailure("nan", f"logits on validation are not finite after step {steps.step[-1]}")
    found = score(logits, setting.splits["validation"].labels, spec.labels)
    record = EpochRecord(
        trial_id=spec.trial_id,
        epoch=epoch,
        step=steps.step[-1],
        timestamp=now(),
        seconds=train_seconds + time.perf_counter() - began,
        train_seconds=train_seconds,
        metrics={
            "train/loss": float(np.mean(steps.loss)),
            **{f"validation/{name}": value for name, value in found.metrics.items()},
        },
        steps=steps,
        texts_at_once=setting.room.texts_at_once,
    )
    attempt.commit(record, logits, setting.model, optimization, setting.total_steps)


def evaluate(attempt: Attempt, setting: Setting) -> None:
    """Score test with the weights of the best epoch, and end the trial as DONE."""
    attempt.settle()
    spec, best = attempt.spec, attempt.best
    if best is None:
        raise TrialFailure("user", "no epoch was trained")
    checkpoint.restore(setting.model, attempt.directory.checkpoint)
    trainable, total = freeze.count_parameters(setting.model)
    progress = Progress([attempt], spec.training.num_train_epochs, setting.total_steps, step=setting.total_steps)
    setting.attach(spec, "test", progress.alive)
    logits: dict[Split, np.ndarray] = {"validation": best.logits, "test": _logits(attempt, setting, "test", progress)}
    splits = setting.splits
    evaluations = {split: score(values, splits[split].labels, spec.labels) for split, values in logits.items()}
    scored = {split: predictions.Scored.of(splits[split], values) for split, values in logits.items()}
    written = predictions.write(attempt.directory.predictions, scored)
    attempt.end(
        Result(
            kind="trial",
            trial_id=spec.trial_id,
            status="DONE",
            epoch=best.record.epoch,
            step=best.record.step,
            metrics={f"{split}/{name}": v for split, found in evaluations.items() for name, v in found.metrics.items()},
            evaluations=evaluations,
            trainable_parameters=trainable,
            total_parameters=total,
            device=str(setting.device),
            train_seconds=attempt.train_seconds,
            peak_memory_bytes=memory.peak_bytes(setting.device) if setting.measured else None,
            predictions_sha256=written,
            texts_at_once=setting.room.texts_at_once,
            frozen_hashes=setting.frozen_hashes,
            moved=setting.start.distance(setting.model),
            started=attempt.started,
            ended=now(),
        )
    )


def _ended(attempt: Attempt) -> Result:
    """How an attempt has ended."""
    if attempt.result is None:
        raise RuntimeError(f"trial {attempt.spec.trial_id} has not ended")
    return attempt.result


def _logits(attempt: Attempt, setting: Setting, split: Split, progress: Progress) -> np.ndarray:
    spec = attempt.spec
    batch_size = spec.training.per_device_eval_batch_size
    tokens = setting.splits[split]
    return predict_logits(setting.model, tokens, batch_size, spec.precision, progress.alive, setting.room)
