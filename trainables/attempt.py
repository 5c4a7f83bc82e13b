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
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trainables import checkpoint, models, state
from trainables.arguments import TrialSpec, better
from trainables.background import Background
from trainables.directory import TrialDirectory
from trainables.errors import WORTH_ANOTHER_TRY, BadInput, FleetuneError, Reason, Superseded, TrialFailure
from trainables.files import make_folder, remove_scratch
from trainables.midway import Midway
from trainables.optimization import Optimization
from trainables.records import EpochRecord, Result
from trainables.redaction import redact
from trainables.state import StateInfo, TrialState

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

Report = Callable[[dict[str, Any]], None]
_PROGRESS_SECONDS = 1.0


@dataclass(frozen=True)
class Best:
    """The epoch with the best validation metric so far, and its validation logits."""

    record: EpochRecord
    logits: np.ndarray


class Attempt:
    """A trial that is under way: from where an earlier attempt left it, else from its beginning.

    An epoch counts when it is committed: first its state, then the checkpoint where it is the best, its record last.
    That is written beside the training of the next epoch, and only then `report` is told of it. In the middle of an
    epoch there is a state alone to commit, and nothing to report. `report` takes {"epoch", "step", "total_steps", and
    after an epoch its "metrics"}.
    """

    def __init__(self, spec: TrialSpec, report: Report = lambda _: None) -> None:
        self.spec, self.report = spec, report
        self.directory = TrialDirectory(Path(spec.directory))
        self.started = now()
        self.result: Result | None = None
        self._background = Background()
        self._unreported: dict[str, Any] | None = None
        self.begin()

    def begin(self, at_most: int | None = None) -> None:
        """Find the newest state, or with `at_most` the newest at the end of such an epoch; forget what lies beyond."""
        _check_own(self.directory)
        kept = _kept_epoch(self.directory)
        with logged(self):
            self.state = state.latest(self.directory, lambda found: _is_usable(found, kept), at_most)
        self.best = None if self.state is None else _best(self.state, kept)
        self.last = None if self.state is None else self.state.info.record
        self.train_seconds = 0.0 if self.state is None else self.state.info.train_seconds
        _forget(self.directory, beyond=self.state)

    @property
    def epoch(self) -> int:
        """How many epochs an earlier attempt has finished."""
        return 0 if self.state is None else self.state.epoch

    @property
    def texts_at_once(self) -> int | None:
        """How many texts fitted the device at once when an earlier attempt ended; None where it met no limit."""
        record = self.state.info.record if self.state else None
        return record.texts_at_once if record else None

    @property
    def midway(self) -> Midway | None:
        """Where in the epoch after these an earlier attempt has left off, if not at its beginning."""
        return None if self.state is None else self.state.info.midway

    def resume(self, model: PreTrainedModel, optimization: Optimization) -> None:
        """Put the model and its optimizer where the state has them, and complete what was not written after it."""
        if self.state is None:
            return
        found, self.state = self.state, None
        checkpoint.put(found.weights, model, self.directory.state)
        optimization.restore(found.moments, found.info.schedule)
        if found.is_best and _kept_epoch(self.directory) != found.epoch:
            _write_checkpoint(found, models.unwrapped(model).config, self.spec, self.directory)
        if found.info.record:
            found.info.record.write(self.directory.epoch(found.epoch))

    @contextlib.contextmanager
    def recorded(self) -> Iterator[None]:
        """Inside the block warnings and errors go to the trial's log, and an exception ends the trial as FAILED.

        Where the trial is another attempt's by now, whatever went wrong here is none of its: raises Superseded.
        """
        with logged(self):
            try:
                yield
            except Exception as error:  # noqa: BLE001 - recorded with its reason; the sweep goes on
                self.give_up()
                _check_own(self.directory)
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

    def commit(
        self, record: EpochRecord, logits: np.ndarray, model: PreTrainedModel, optimization: Optimization, steps: int
    ) -> None:
        """Begin to commit an epoch, with its validation logits; `steps` are those of all epochs."""
        self.train_seconds += record.train_seconds or 0.0
        metric = self.spec.training.metric_for_best_model
        key = f"validation/{metric}"
        if self.best is None or better(metric, record.metrics[key], than=self.best.record.metrics[key]):
            self.best = Best(record, logits)
        self.last = record
        reached = self._reached(model, optimization)
        self.settle()
        self._unreported = {
            "epoch": record.epoch,
            "step": record.step,
            "total_steps": steps,
            "metrics": record.metrics,
        }
        config = models.unwrapped(model).config
        self._background.start(_commit, reached, record, config, self.spec, self.directory)

    def commit_midway(self, midway: Midway, model: PreTrainedModel, optimization: Optimization) -> None:
        """Begin to commit the state in the middle of an epoch."""
        reached = self._reached(model, optimization, midway)
        self.settle()
        self._background.start(_save, reached, self.directory)

    def settle(self, *, wait: bool = True) -> None:
        """Report the epoch that was committed last; raises what went wrong with it. `wait` for one under way."""
        if wait or self._background.is_done():
            self._background.wait()
            unreported, self._unreported = self._unreported, None
            if unreported:
                self.report(unreported)

    def give_up(self) -> None:
        """Leave nothing behind that still writes to the trial's folder."""
        self._unreported = None
        with contextlib.suppress(Exception):
            self._background.wait()

    def end(self, result: Result) -> None:
        """Write how the trial has ended. Its state stays where another try may do better."""
        _check_own(self.directory)
        result.write(self.directory.result)
        self.result = result
        if result.reason not in WORTH_ANOTHER_TRY:
            state.forget(self.directory)

    def _reached(self, model: PreTrainedModel, optimization: Optimization, midway: Midway | None = None) -> TrialState:
        """A copy of where the trial stands: training may go on meanwhile."""
        info = StateInfo(
            record=self.last,
            best=self.best and self.best.record,
            train_seconds=self.train_seconds,
            schedule=optimization.schedule(),
            midway=midway,
        )
        best_logits = None if self.best is None else torch.from_numpy(self.best.logits)
        return TrialState(info, checkpoint.trained_weights(model), optimization.moments(), best_logits)


def _commit(
    reached: TrialState, record: EpochRecord, config: PretrainedConfig, spec: TrialSpec, directory: TrialDirectory
) -> None:
    """Write a state and what follows from it, in the order in which each can be made again from what is there."""
    _save(reached, directory)
    if reached.is_best:
        _write_checkpoint(reached, config, spec, directory)
    record.write(directory.epoch(record.epoch))


def _save(reached: TrialState, directory: TrialDirectory) -> None:
    _check_own(directory)
    state.save(reached, directory)


def _check_own(directory: TrialDirectory) -> None:
    """Raise Superseded where the trial is not this attempt's any more.

    What comes too late after that all the same finds no folder: see `workflows.attempts`.
    """
    if directory.is_superseded:
        raise Superseded(f"trial {directory.root.name} was handed out again, or has ended: it is not this attempt's")


def _is_usable(found: TrialState, kept: int | None) -> bool:
    """Whether the best epoch's weights are there, or will be: the checkpoint holds those of the epoch `kept`.

    Where that is the epoch to go on with, it has beaten all before it, and will again.
    """
    return found.info.best is None or _best(found, kept) is not None or kept == found.epoch + 1


def _best(found: TrialState, kept: int | None) -> Best | None:
    """The best epoch so far, if its weights are in the state itself or in the checkpoint."""
    best, logits = found.info.best, found.best_logits
    if best is None or logits is None or not (found.is_best or best.epoch == kept):
        return None
    return Best(best, logits.numpy())


def _write_checkpoint(best: TrialState, config: PretrainedConfig, spec: TrialSpec, directory: TrialDirectory) -> None:
    checkpoint.write(best.weights, config, spec, best.epoch, directory.checkpoint)


def _kept_epoch(directory: TrialDirectory) -> int | None:
    """The epoch whose weights the checkpoint holds; None where there is no sound one."""
    try:
        return checkpoint.read_info(directory.checkpoint).epoch
    except FleetuneError:
        return None


class Progress:
    """Passes the steps of an epoch on to the reports of one or several trials, in turn, one report a second."""

    def __init__(self, attempts: Sequence[Attempt], epoch: int, total_steps: int, step: int = 0) -> None:
        self.attempts, self.epoch, self.total_steps, self.step = list(attempts), epoch, total_steps, step
        self.told = time.monotonic()

    def __call__(self, step: int) -> None:
        self.step = step
        self.alive()

    def alive(self, _: int = 0) -> None:
        """Tell the driver what has happened and that work goes on, also while no optimizer step is made."""
        for attempt in list(self.attempts):
            attempt.settle(wait=False)
        if time.monotonic() - self.told >= _PROGRESS_SECONDS:
            self.told = time.monotonic()
            self.attempts.append(self.attempts.pop(0))
            self.attempts[-1].report({"epoch": self.epoch, "step": self.step, "total_steps": self.total_steps})


@contextlib.contextmanager
def logged(*attempts: Attempt) -> Iterator[None]:
    """Send warnings and errors inside the block to the logs of these trials, without secrets.

    The screen shows one line only.
    """
    root, handlers = logging.getLogger(), []
    for attempt in attempts:
        make_folder(attempt.directory.root)
        handlers.append(logging.FileHandler(attempt.directory.log, delay=True, encoding="utf-8"))
        handlers[-1].setFormatter(_Redacted("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root.addHandler(handlers[-1])
    try:
        yield
    finally:
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()


class _Redacted(logging.Formatter):
    """Lines of a log, tracebacks too, without the secrets that a message may carry: logs are copied and shown about."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def now() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)


def _explain(error: Exception) -> tuple[Reason, str]:
    """The leaderboard's reason and one line, without secrets, for an exception."""
    line = redact(" ".join(str(error).split())) or type(error).__name__
    if isinstance(error, TrialFailure):
        return error.reason, line
    if isinstance(error, BadInput):
        return "user", line
    if isinstance(error, torch.OutOfMemoryError):
        return "oom", f"out of memory on the device; a smaller per_device_train_batch_size or max_length helps ({line})"
    if isinstance(error, MemoryError):
        return "host-oom", "out of memory on the worker"
    return "infra", f"{type(error).__name__}: {line}"


def _forget(directory: TrialDirectory, beyond: TrialState | None) -> None:
    """Delete what lies beyond a state; without one all that an earlier attempt left."""
    finished = 0 if beyond is None else beyond.epoch
    for path in (directory.result, directory.predictions, *directory.epochs()[finished:]):
        path.unlink(missing_ok=True)
    for folder in (directory.root, directory.state):
        remove_scratch(folder)
    state.forget(directory, beyond)
    if not finished:
        shutil.rmtree(directory.checkpoint, ignore_errors=True)
