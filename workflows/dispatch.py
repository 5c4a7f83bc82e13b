"""Groups of trials onto workers: Ray Tune as the executor, one Tune trial per group, processes reused.

Groups come from a source, one whenever a slot is free, so that a search can learn from what has ended before. Tune
keeps nothing that matters. Its own files go to a scratch folder that is deleted at the end; what a trial left is in
the sweep directory, and a group that Tune lost is simply dispatched again.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

from trainables.arguments import Metric
from trainables.directory import TrialDirectory
from trainables.records import EpochRecord
from trainables.trainable import SCORE, train_group
from workflows.cluster import Request
from workflows.endings import record_stopped

Group = list[TrialDirectory]
OnReport = Callable[[dict[str, Any]], None]

WORKER_RETRIES = 2
_DISPATCHES = 3


class Source(Protocol):
    """Where groups come from."""

    def next(self) -> Group | None:
        """The group to run next, or None where there is no more."""

    def ended(self, group: Group) -> None:
        """Take note that every trial of a group has its result."""

    def waiting(self) -> list[Group]:
        """Groups that are planned and that nobody has asked for."""


@dataclass(frozen=True)
class Halving:
    """Asynchronous successive halving (ASHA, Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning").

    A trial that reaches a rung, `grace_period` × `reduction_factor`^k epochs, is stopped unless its validation
    `metric` is among the best 1/`reduction_factor` that reached it. `max_epochs` is the most that a trial trains;
    `tried` are trials that have ended before, whose epochs count on the rungs.
    """

    metric: Metric
    grace_period: int
    reduction_factor: float
    max_epochs: int
    tried: Sequence[TrialDirectory]


def dispatch(
    source: Source,
    request: Request,
    slots: int,
    *,
    trial_timeout: float,
    on_report: OnReport,
    log: Path,
    halving: Halving | None = None,
) -> list[TrialDirectory]:
    """Run the groups of a source in its order, `slots` at a time; returns the trials that ended without a result.

    A trial without a step for `trial_timeout` seconds is ended. `on_report` is called in this thread with each
    report of a worker: {"trial", "status", …}. `log` takes what Ray and Tune would print. Tune gives up as a whole
    when Ray's memory monitor kills a worker (it handles only actor errors), so what is left is dispatched again, a
    bounded number of times.
    """
    handed = _Handed(source)
    for _ in range(_DISPATCHES):
        if not handed.more():
            break
        before = handed.ended_count
        # RuntimeError is how Tune reports a worker that the memory monitor killed.
        with _quiet(log), contextlib.suppress(RuntimeError):
            _fit(handed, request, slots, trial_timeout, on_report, halving)
        handed.take_back()
        if handed.ended_count == before:
            break
    return [trial for group in [*handed.again, *source.waiting()] for trial in group]


class _Handed:
    """What Tune was given, so that what it loses is given to it again before anything new."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.open: list[Group] = []
        self.again: list[Group] = []
        self.ended_count = 0

    def more(self) -> bool:
        """Whether there is a group to run; one is taken from the source to know."""
        if not self.again and (group := self.source.next()):
            self.again.append(group)
        return bool(self.again)

    def next(self) -> Group | None:
        group = self.again.pop(0) if self.again else self.source.next()
        if group:
            self.open.append(group)
        return group

    def ended(self, group: Group) -> None:
        """Tune is done with a group. Where a trial has no result, it was lost, and the group stays open."""
        if not _unfinished(group):
            self.open.remove(group)
            self.ended_count += 1
            self.source.ended(group)

    def take_back(self) -> None:
        """What Tune has not ended is to be handed out again, without its finished trials."""
        for group in list(self.open):
            self.ended(group)
        self.again = [_unfinished(group) for group in self.open] + self.again
        self.open = []


def _unfinished(group: Group) -> Group:
    return [trial for trial in group if not trial.result.exists()]


def _fit(
    handed: _Handed,
    request: Request,
    slots: int,
    trial_timeout: float,
    on_report: OnReport,
    halving: Halving | None,
) -> None:
    """One run of Tune over all groups, until the source has no more."""
    from ray import tune

    resources = {"cpu": request.cpus, "gpu": request.gpus} if request.gpus else {"cpu": request.cpus}
    with tempfile.TemporaryDirectory(prefix="fleetune-tune-") as scratch:
        tune.Tuner(
            tune.with_resources(train_group, resources),
            param_space={"gpus": request.gpus, "trial_timeout": trial_timeout},
            tune_config=tune.TuneConfig(
                search_alg=_searcher(handed),
                scheduler=_scheduler(halving) if halving else None,
                num_samples=-1,
                max_concurrent_trials=slots,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=scratch,
                verbose=0,
                callbacks=[_listener(on_report)],
                failure_config=tune.FailureConfig(max_failures=WORKER_RETRIES),
            ),
        ).fit()


def _searcher(handed: _Handed) -> Any:
    """Tune's way to ask for the next group. Tune pickles its searcher, so what it asks is left out of its state."""
    from ray.tune.search import Searcher

    class Groups(Searcher):
        def __init__(self, handed: _Handed | None) -> None:
            super().__init__()
            self.handed = handed
            self.running: dict[str, Group] = {}

        def __getstate__(self) -> dict[str, Any]:
            return self.__dict__ | {"handed": None, "running": {}}

        def suggest(self, trial_id: str) -> Any:
            group = self.handed.next() if self.handed else None
            if group is None:
                return Searcher.FINISHED
            self.running[trial_id] = group
            return {"trials": [str(trial.root) for trial in group]}

        def on_trial_complete(self, trial_id: str, **_: Any) -> None:
            if self.handed:
                self.handed.ended(self.running.pop(trial_id))

        def save(self, checkpoint_path: str) -> None:
            """The sweep directory is what is kept."""

        def restore(self, checkpoint_path: str) -> None:
            """The sweep directory is what is kept."""

    return Groups(handed)


def _scheduler(halving: Halving) -> Any:
    """Ray's ASHA, its rungs filled with what has ended before: a continued sweep judges as one that never paused."""
    from ray.tune.schedulers import ASHAScheduler

    scheduler = ASHAScheduler(
        time_attr="epoch",
        metric=SCORE,
        mode="min" if halving.metric == "loss" else "max",
        max_t=halving.max_epochs,
        grace_period=halving.grace_period,
        reduction_factor=halving.reduction_factor,
        stop_last_trials=False,
    )
    for directory in halving.tried:
        earlier = SimpleNamespace(trial_id=directory.root.name)
        scheduler.on_trial_add(None, earlier)
        for record in map(EpochRecord.read, directory.epochs()):
            found = {"epoch": record.epoch, SCORE: record.metrics[f"validation/{halving.metric}"]}
            scheduler.on_trial_result(None, earlier, found)
        scheduler.on_trial_remove(None, earlier)
    return scheduler


def _listener(on_report: OnReport) -> Any:
    """A Tune callback that passes reports on. Tune pickles its callbacks, so `on_report` is left out of its state."""
    from ray import tune

    class Listener(tune.Callback):
        def __init__(self, on_report: OnReport) -> None:
            self.on_report: OnReport | None = on_report

        def __getstate__(self) -> dict[str, Any]:
            return {"on_report": None}

        def on_trial_result(self, *_: Any, trial: Any, result: dict[str, Any], **__: Any) -> None:
            if self.on_report is None or "status" not in result:
                return
            self.on_report(result)
            # A trial that reports again is done only where a scheduler says so; its worker hears no more of it.
            if result["status"] == "RUNNING" and result.get("done"):
                (folder,) = [folder for folder in trial.config["trials"] if Path(folder).name == result["trial"]]
                stopped = record_stopped(TrialDirectory(Path(folder)))
                self.on_report({"trial": result["trial"], **stopped.outcome()})

    return Listener(on_report)


@contextlib.contextmanager
def _quiet(log: Path) -> Iterator[None]:
    """Send what Ray and Tune print to a file. The progress table writes to the real terminal all the same."""
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "4")
    # Only the end of an epoch has a score; the reports between have none.
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"
    # Ctrl-C is ours: Tune would swallow the first one.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    with (
        log.open("a", encoding="utf-8") as stream,
        contextlib.redirect_stdout(stream),
        contextlib.redirect_stderr(stream),
    ):
        yield
