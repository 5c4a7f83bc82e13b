"""One trial, top to bottom: tokenize → train → evaluate.

`run_trial` is a plain function: Ray Tune calls it on a worker, a test, a notebook or a debugger calls it just so.
All that it learns is in the trial's folder when it returns.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from trainables import checkpoint, freeze, memory, models, predictions, prefix
from trainables.arguments import TrialSpec, better
from trainables.directory import TrialDirectory
from trainables.errors import BadInput, Reason, TrialFailure
from trainables.files import write_parquet
from trainables.metrics import score
from trainables.records import EpochRecord, Result, Split
from trainables.tokens import TokenSplit, tokenize
from trainables.training import Optimization, optimizer_steps, pick_device, predict_logits, train_epoch

Report = Callable[[dict[str, Any]], None]
_PROGRESS_SECONDS = 1.0


def run_trial(spec: TrialSpec, report: Report = lambda _: None) -> Result:
    """Run one trial and return its end, which is also in `result.json`. Never raises for what the trial did wrong.

    `report` is told of progress as {"epoch", "step", "total_steps", and after an epoch its "metrics"}.
    """
    directory = TrialDirectory(Path(spec.directory))
    started = _now()
    _forget_earlier_attempt(directory)
    with _logged(directory.log):
        try:
            result = _train_and_evaluate(spec, directory, report, started)
        except Exception as error:  # noqa: BLE001 - recorded with its reason; the sweep goes on
            reason, message = _explain(error)
            logging.getLogger(__name__).error("FAILED(%s): %s\n%s", reason, message, traceback.format_exc())
            result = Result(
                kind="trial",
                trial_id=spec.trial_id,
                status="FAILED",
                reason=reason,
                message=message,
                started=started,
                ended=_now(),
            )
    result.write(directory.result)
    return result


def _train_and_evaluate(spec: TrialSpec, directory: TrialDirectory, report: Report, started: int) -> Result:
    torch.set_num_threads(spec.num_threads)
    device = pick_device()
    measured = memory.start_measuring(device)
    splits = tokenize(spec)
    model = models.load_model(spec.model, spec.labels, spec.seed)
    model = freeze.apply(model, spec.freeze, spec.training, spec.seed).to(device)
    trainable, total = freeze.count_parameters(model)

    best, train_seconds = _train(spec, model, splits, directory, report)

    checkpoint.restore(model, directory.checkpoint)
    test = _score_test(spec, model, splits, report)
    logits: dict[Split, np.ndarray] = {"validation": best.logits, "test": test}
    evaluations = {split: score(values, splits[split].labels, spec.labels) for split, values in logits.items()}
    scored = {split: predictions.Scored.of(splits[split], values) for split, values in logits.items()}
    write_parquet(directory.predictions, predictions.table(scored))
    return Result(
        kind="trial",
        trial_id=spec.trial_id,
        status="DONE",
        epoch=best.record.epoch,
        step=best.record.step,
        metrics={f"{split}/{name}": v for split, found in evaluations.items() for name, v in found.metrics.items()},
        evaluations=evaluations,
        trainable_parameters=trainable,
        total_parameters=total,
        device=str(device),
        train_seconds=train_seconds,
        peak_memory_bytes=memory.peak_bytes(device) if measured else None,
        started=started,
        ended=_now(),
    )


@dataclass(frozen=True)
class _Best:
    """The epoch with the best validation metric so far, and its validation logits."""

    record: EpochRecord
    logits: np.ndarray


def _train(
    spec: TrialSpec, model: nn.Module, splits: dict[Split, TokenSplit], directory: TrialDirectory, report: Report
) -> tuple[_Best, float]:
    """All epochs. Each leaves its record; the best one so far leaves its weights in the checkpoint folder.

    Returns the best epoch, and how many seconds training took: the optimizer steps of all epochs, and what frozen
    layers gave for the training texts, where no trial before has computed that.
    """
    epochs = spec.training.num_train_epochs
    steps = optimizer_steps(spec.training, len(splits["train"]))
    began = time.perf_counter()
    alive = _Progress(report, 1, epochs * steps).alive
    splits["train"] = prefix.attach(spec, model, splits["train"], "train", alive)
    train_seconds = time.perf_counter() - began
    splits["validation"] = prefix.attach(spec, model, splits["validation"], "validation", alive)
    optimization = Optimization(model, spec.training, epochs * steps)
    best: _Best | None = None
    for epoch in range(1, epochs + 1):
        progress = _Progress(report, epoch, epochs * steps)
        record, logits = _epoch(spec, model, splits, optimization, epoch, progress)
        record.write(directory.epoch(epoch))
        train_seconds += record.train_seconds or 0.0
        if best is None or _beats(spec, record, best.record):
            best = _Best(record, logits)
            checkpoint.save(model, spec, epoch, directory.checkpoint)
        report({"epoch": epoch, "step": record.step, "total_steps": epochs * steps, "metrics": record.metrics})
    if best is None:
        raise TrialFailure("user", "no epoch was trained")
    return best, train_seconds


def _score_test(spec: TrialSpec, model: nn.Module, splits: dict[Split, TokenSplit], report: Report) -> np.ndarray:
    """Logits of the test texts with the weights of the best epoch."""
    steps = spec.training.num_train_epochs * optimizer_steps(spec.training, len(splits["train"]))
    progress = _Progress(report, spec.training.num_train_epochs, steps, step=steps)
    splits["test"] = prefix.attach(spec, model, splits["test"], "test", progress.alive)
    batch_size = spec.training.per_device_eval_batch_size
    return predict_logits(model, splits["test"], batch_size, spec.precision, progress.alive)


def _epoch(
    spec: TrialSpec,
    model: nn.Module,
    splits: dict[Split, TokenSplit],
    optimization: Optimization,
    epoch: int,
    progress: _Progress,
) -> tuple[EpochRecord, np.ndarray]:
    """Train one epoch, then score validation; returns its record and the validation logits."""
    began = time.perf_counter()
    steps = train_epoch(
        model, splits["train"], optimization, seed=spec.seed, epoch=epoch, precision=spec.precision, on_step=progress
    )
    trained = time.perf_counter()
    logits = predict_logits(
        model, splits["validation"], spec.training.per_device_eval_batch_size, spec.precision, progress.alive
    )
    if not np.isfinite(logits).all():
        raise TrialFailure("nan", f"logits on validation are not finite after step {steps.step[-1]}")
    found = score(logits, splits["validation"].labels, spec.labels)
    record = EpochRecord(
        trial_id=spec.trial_id,
        epoch=epoch,
        step=steps.step[-1],
        timestamp=_now(),
        seconds=time.perf_counter() - began,
        train_seconds=trained - began,
        metrics={
            "train/loss": float(np.mean(steps.loss)),
            **{f"validation/{name}": value for name, value in found.metrics.items()},
        },
        steps=steps,
    )
    return record, logits


def _beats(spec: TrialSpec, record: EpochRecord, best: EpochRecord) -> bool:
    metric = spec.training.metric_for_best_model
    key = f"validation/{metric}"
    return better(metric, record.metrics[key], than=best.metrics[key])


class _Progress:
    """Passes steps on to `report`, at most one a second."""

    def __init__(self, report: Report, epoch: int, total_steps: int, step: int = 0) -> None:
        self.report, self.epoch, self.total_steps, self.step = report, epoch, total_steps, step
        self.told = time.monotonic()

    def __call__(self, step: int) -> None:
        self.step = step
        self.alive()

    def alive(self, _: int = 0) -> None:
        """Tell the driver that work goes on, also while no optimizer step is made."""
        if time.monotonic() - self.told >= _PROGRESS_SECONDS:
            self.told = time.monotonic()
            self.report({"epoch": self.epoch, "step": self.step, "total_steps": self.total_steps})


def _explain(error: Exception) -> tuple[Reason, str]:
    """The leaderboard's reason and one line for an exception."""
    line = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, TrialFailure):
        return error.reason, line
    if isinstance(error, BadInput):
        return "user", line
    if isinstance(error, torch.OutOfMemoryError):
        return "oom", f"out of memory on the device; a smaller per_device_train_batch_size or max_length helps ({line})"
    if isinstance(error, MemoryError):
        return "host-oom", "out of memory on the worker"
    return "infra", f"{type(error).__name__}: {line}"


def _forget_earlier_attempt(directory: TrialDirectory) -> None:
    """A trial without a result begins anew: what an interrupted attempt left must not mix with this one."""
    for path in (directory.result, directory.predictions, *directory.epochs()):
        path.unlink(missing_ok=True)
    for folder in (directory.checkpoint, *directory.root.glob(f".{directory.checkpoint.name}.*")):
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Send warnings and errors of this trial to its log file; the screen shows one line only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, delay=True, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


def _now() -> int:
    return int(time.time() * 1000)
