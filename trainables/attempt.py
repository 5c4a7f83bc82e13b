"""One attempt at a trial: what it leaves in the trial's folder as it goes, whether it trains alone or in a group.

An attempt ends in exactly one result, and an error inside `recorded` is such an end too.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainables.arguments import TrialSpec, better
from trainables.checkpoint import Background
from trainables.directory import TrialDirectory
from trainables.errors import BadInput, Reason, TrialFailure
from trainables.records import EpochRecord, Result

Report = Callable[[dict[str, Any]], None]
_PROGRESS_SECONDS = 1.0


@dataclass(frozen=True)
class Best:
    """The epoch with the best validation metric so far, and its validation logits."""

    record: EpochRecord
    logits: np.ndarray


class Attempt:
    """A trial that is under way. What an earlier attempt left is gone when this one begins.

    `report` is told of progress as {"epoch", "step", "total_steps", and after an epoch its "metrics"}.
    """

    def __init__(self, spec: TrialSpec, report: Report = lambda _: None) -> None:
        self.spec, self.report = spec, report
        self.directory = TrialDirectory(Path(spec.directory))
        self.started = now()
        self.train_seconds = 0.0
        self.best: Best | None = None
        self.result: Result | None = None
        self.checkpoints = Background(self.directory.checkpoint)
        _forget_earlier_attempt(self.directory)

    @contextlib.contextmanager
    def recorded(self) -> Iterator[None]:
        """Inside the block warnings and errors go to the trial's log, and an exception ends the trial as FAILED."""
        with logged(self):
            try:
                yield
            except Exception as error:  # noqa: BLE001 - recorded with its reason; the sweep goes on
                self.give_up()
                reason, message = _explain(error)
                logging.getLogger(__name__).error("FAILED(%s): %s\n%s", reason, message, traceback.format_exc())
                self.end(
                    Result(
                        kind="trial",
                        trial_id=self.spec.trial_id,
                        status="FAILED",
                        reason=reason,
                        message=message,
                        started=self.started,
                        ended=now(),
                    )
                )

    def take(self, record: EpochRecord, logits: np.ndarray) -> bool:
        """Write the record of an epoch; returns whether it is the best one so far."""
        record.write(self.directory.epoch(record.epoch))
        self.train_seconds += record.train_seconds or 0.0
        metric = self.spec.training.metric_for_best_model
        key = f"validation/{metric}"
        if self.best and not better(metric, record.metrics[key], than=self.best.record.metrics[key]):
            return False
        self.best = Best(record, logits)
        return True

    def give_up(self) -> None:
        """Leave nothing behind that still writes to the trial's folder."""
        with contextlib.suppress(Exception):
            self.checkpoints.wait()

    def end(self, result: Result) -> None:
        """Write how the trial has ended."""
        result.write(self.directory.result)
        self.result = result


class Progress:
    """Passes the steps of an epoch on to the reports of one or several trials, in turn, one report a second."""

    def __init__(self, attempts: Sequence[Attempt], epoch: int, total_steps: int, step: int = 0) -> None:
        self.attempts, self.epoch, self.total_steps, self.step = list(attempts), epoch, total_steps, step
        self.told = time.monotonic()

    def __call__(self, step: int) -> None:
        self.step = step
        self.alive()

    def alive(self, _: int = 0) -> None:
        """Tell the driver that work goes on, also while no optimizer step is made."""
        if time.monotonic() - self.told >= _PROGRESS_SECONDS:
            self.told = time.monotonic()
            self.attempts.append(self.attempts.pop(0))
            self.attempts[-1].report({"epoch": self.epoch, "step": self.step, "total_steps": self.total_steps})


@contextlib.contextmanager
def logged(*attempts: Attempt) -> Iterator[None]:
    """Send warnings and errors inside the block to the logs of these trials; the screen shows one line only."""
    root, handlers = logging.getLogger(), []
    for attempt in attempts:
        attempt.directory.root.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(attempt.directory.log, delay=True, encoding="utf-8"))
        handlers[-1].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root.addHandler(handlers[-1])
    try:
        yield
    finally:
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()


def now() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)


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
