"""How trials end that cannot say so themselves: stopped by a scheduler, or lost with their workers."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass

from trainables.arguments import TrialSpec, better
from trainables.directory import TrialDirectory
from trainables.errors import Reason
from trainables.files import is_listed, read_json
from trainables.records import EpochRecord, Result


def record_stopped(directory: TrialDirectory) -> Result:
    """Record a trial that a scheduler has stopped after an epoch: STOPPED, with its best validation scores so far.

    Its worker has ended where it last reported, so the epochs that it recorded are all there is.
    """
    spec = TrialSpec.model_validate(read_json(directory.spec)["spec"])
    metric = spec.training.metric_for_best_model
    records = [EpochRecord.read(path) for path in directory.epochs()]
    best = records[0]
    for record in records[1:]:
        if better(metric, record.metrics[f"validation/{metric}"], than=best.metrics[f"validation/{metric}"]):
            best = record
    result = Result(
        kind="trial",
        trial_id=spec.trial_id,
        status="STOPPED",
        epoch=best.epoch,
        step=best.step,
        metrics={key: value for key, value in best.metrics.items() if key.startswith("validation/")},
        train_seconds=sum(record.train_seconds or 0.0 for record in records),
        texts_at_once=records[-1].texts_at_once,
        started=records[0].timestamp - round(records[0].seconds * 1000),
        ended=_now(),
    )
    result.write(directory.result)
    shutil.rmtree(directory.state, ignore_errors=True)
    return result


@dataclass(frozen=True)
class Loss:
    """Why a worker has gone, as far as anybody knows: `for_memory`, or by an exception that `said` something.

    `address` is that of the node whose memory ran out, where that is known. `silence` is set where the driver has
    ended the worker itself: the seconds that it had not heard of it.
    """

    for_memory: bool = False
    said: str | None = None
    address: str | None = None
    silence: float | None = None

    @property
    def reason(self) -> Reason:
        """What the leaderboard calls it."""
        if self.for_memory:
            return "host-oom"
        return "infra" if self.silence is None else "timeout"

    def message(self, times: int) -> str:
        """What the leaderboard says of a trial that was lost so often."""
        if self.for_memory:
            return (
                f"its worker was ended {times} times because the node's memory ran out, the last times with nothing "
                "beside it; a smaller per_device_train_batch_size or max_length helps"
            )
        if self.silence is not None:
            return f"its worker gave no sign of life for {self.silence:g} seconds, {times} times, and was ended"
        if self.said:
            return f"its worker failed {times} times: {self.said}"
        return f"its worker was lost {times} times; what Ray said of it is in driver.log"


def record_lost(directory: TrialDirectory, loss: Loss, times: int) -> Result:
    """Record a trial that is given up, because its worker was lost again and again, and how it was lost last.

    A result that is there stays, and is returned: a worker may have been lost after it had written one.
    """
    if is_listed(directory.result):
        return Result.read(directory.result)
    result = Result(
        kind="trial",
        trial_id=directory.root.name,
        status="FAILED",
        reason=loss.reason,
        message=loss.message(times),
        started=_now(),
        ended=_now(),
    )
    result.write(directory.result)
    return result


def _now() -> int:
    return int(time.time() * 1000)
