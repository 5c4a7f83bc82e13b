"""Groups of trials onto workers: Ray Tune as the executor, one Tune trial per group, processes reused.

Groups come from a source, one whenever a slot is free, so that a search can learn from what has ended before. Tune
keeps nothing that matters. Its own files go to a scratch folder that is deleted at the end; what a trial left is in
the sweep directory, and a group that Tune lost is simply dispatched again.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from trainables.arguments import Metric, TrialSpec
from trainables.directory import TrialDirectory
from trainables.errors import InfrastructureError
from trainables.files import read_json
from trainables.records import EpochRecord
from trainables.trainable import SCORE, score, train_group
from workflows import attempts, cluster
from workflows.cluster import Request
from workflows.endings import Loss, record_stopped
from workflows.handed import Group, Handed, OnReport, Source
from workflows.silence import Silence

# How Ray's messages tell of a worker that its memory monitor killed.
_NO_MEMORY = "running low on memory"
# How they begin where a worker has raised an exception: by the name of its task.
_RAISED = "ray::"
# What a worker has beyond `trial_timeout` to say by itself that its trial hangs, and to import what it needs before
# it can say anything.
_GRACE_SECONDS = 60.0
_LOOK_SECONDS = 1.0
# As long as a node may take to come back, or to be brought by an autoscaler.
_SHORTAGE_SECONDS = 300.0
_NODES = "nodes"
# Where Linux counts, among much else, the processes that it has killed for want of memory.
_COUNTERS = Path("/proc/vmstat")


@dataclass(frozen=True)
class Halving:
    """Asynchronous successive halving (ASHA, Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning").

    A trial that reaches a rung, `grace_period` × `reduction_factor`^k epochs, is stopped unless its validation
    `metric` is among the best 1/`reduction_factor` that reached it. `max_epochs` is the most that a trial trains;
    `tried` are trials that may have trained before, to their end or not, whose epochs count on the rungs.
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
) -> None:
    """Run the groups of a source in its order, `slots` at a time, until every trial has its result.

    A trial without a step for `trial_timeout` seconds is ended by its worker; a worker that is not heard of for still
    longer is ended from here, and counts as lost. `on_report` is called in this thread with each report of a worker:
    {"trial", "status", …}. `log` is where what Tune prints goes by now. Tune gives up as a whole when Ray's memory
    monitor kills a worker (it handles only actor errors), so what is left is dispatched again, what may have taken the
    memory first and alone. Raises OSError where the storage does not take a trial's end,
    InfrastructureError where Tune ends without having run anything, or where for five minutes (or `trial_timeout`, if
    that is shorter) no node was there that could run a trial.
    """
    _set_up_tune()
    handed = Handed(source, on_report)
    while handed.more():
        before = len(handed.seen)
        loss = _fit(handed, request, 1 if handed.is_alone else slots, trial_timeout, on_report, halving)
        handed.take_back(loss)
        if len(handed.seen) == before:
            raise InfrastructureError(f"Ray Tune ended before it ran a trial; what it said is in {log}")


def _fit(
    handed: Handed,
    request: Request,
    slots: int,
    trial_timeout: float,
    on_report: OnReport,
    halving: Halving | None,
) -> Loss:
    """One run of Tune, until there are no more groups or it gives up; returns how it lost those that are open."""
    from ray import tune

    resources = {"cpu": request.cpus, "gpu": request.gpus} if request.gpus else {"cpu": request.cpus}
    silence, shortage = Silence(trial_timeout + _GRACE_SECONDS), Silence(min(trial_timeout, _SHORTAGE_SECONDS))
    with tempfile.TemporaryDirectory(prefix="fleetune-tune-") as scratch:
        tuner = tune.Tuner(
            tune.with_resources(train_group, resources),
            param_space={"gpus": request.gpus, "trial_timeout": trial_timeout},
            tune_config=tune.TuneConfig(
                search_alg=_searcher(handed, lambda: cluster.warm_up(request)),
                scheduler=_scheduler(halving, handed.seen) if halving else None,
                num_samples=-1,
                max_concurrent_trials=slots,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=scratch,
                verbose=0,
                callbacks=[_listener(handed, on_report, silence), _watcher(silence, shortage, request)],
                # What is lost is handed out again by us, who know what else was lost with it.
                failure_config=tune.FailureConfig(max_failures=0),
            ),
        )
        try:
            tuner.fit()
        except RuntimeError as error:
            # How Tune reports a worker that the memory monitor killed.
            sys.stderr.write(f"{error}\n")
            return _loss(str(error))
        except tune.TuneError as error:
            # How Tune reports what went wrong in a callback.
            raise (_cause(error) or error) from None
    return Loss()


def _loss(said: str) -> Loss:
    """What Ray says of how a worker was lost. Where it raised something, that is the last line of where it was."""
    if _NO_MEMORY in said:
        address = re.search(r"IP: ([^\s,)]+)", said)
        return Loss(for_memory=True, address=address[1] if address else None)
    return Loss(said=said.strip().splitlines()[-1].strip() if _RAISED in said else None)


class _Kernel:
    """Tells whether the kernel of this machine has killed a process for want of memory since it was last asked."""

    def __init__(self) -> None:
        self._known = self._kills()

    def has_killed(self) -> bool:
        """One kill explains one lost worker."""
        found = self._kills() > self._known
        self._known += found
        return found

    def _kills(self) -> int:
        with contextlib.suppress(OSError):
            counted = re.search(r"^oom_kill (\d+)$", _COUNTERS.read_text(), re.MULTILINE)
            return int(counted[1]) if counted else 0
        return 0


def _cause(error: BaseException) -> OSError | InfrastructureError | None:
    """The error of the storage or of the cluster that another one tells of."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, OSError | InfrastructureError):
        found = found.__cause__ or found.__context__
    return found


def _searcher(handed: Handed, on_idle: Callable[[], None]) -> Any:
    """Tune's way to ask for the next group. Tune pickles its searcher, so what it asks is left out of its state.

    `on_idle` is called once, when a slot has nothing left to run while others run.
    """
    from ray.tune.search import Searcher

    class Groups(Searcher):
        def __init__(self, handed: Handed | None, on_idle: Callable[[], None] | None) -> None:
            super().__init__()
            self.handed = handed
            self.on_idle = on_idle

        def __getstate__(self) -> dict[str, Any]:
            return self.__dict__ | {"handed": None, "on_idle": None}

        def suggest(self, trial_id: str) -> Any:  # noqa: ARG002 - Tune's name for it
            group = self.handed.next() if self.handed else None
            if group:
                return {
                    "trials": [str(trial.root) for trial in group],
                    "attempts": [str(way) for way in attempts.begin(group)],
                }
            if self.on_idle and self.handed and self.handed.open:
                self.on_idle()
                self.on_idle = None
            return None if self.handed and self.handed.may_have_more() else Searcher.FINISHED

        def on_trial_complete(self, trial_id: str, **_: Any) -> None:
            """The listener hears how a trial has ended."""

        def save(self, checkpoint_path: str) -> None:
            """The sweep directory is what is kept."""

        def restore(self, checkpoint_path: str) -> None:
            """The sweep directory is what is kept."""

    return Groups(handed, on_idle)


def _scheduler(halving: Halving, seen: Sequence[TrialDirectory]) -> Any:
    """Ray's ASHA, its rungs filled with what has run before: a continued sweep judges as one that never paused.

    It knows trials by their folders: Tune has a new name for one that was lost and is run again. Such a one will report
    what comes after its committed epochs, so these are put on the rungs when it is added.
    """
    from ray.tune.schedulers import ASHAScheduler

    class Rungs(ASHAScheduler):
        def on_trial_add(self, controller: Any, trial: Any) -> None:
            super().on_trial_add(controller, _named(trial))
            for report in _reported(TrialDirectory(Path(trial.config["trials"][0]))):
                super().on_trial_result(controller, _named(trial), report)

        def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> Any:
            return super().on_trial_result(controller, _named(trial), result)

        def on_trial_complete(self, controller: Any, trial: Any, result: dict[str, Any]) -> None:
            super().on_trial_complete(controller, _named(trial), result)

        def on_trial_remove(self, controller: Any, trial: Any) -> None:
            super().on_trial_remove(controller, _named(trial))

    scheduler = Rungs(
        time_attr="epoch",
        metric=SCORE,
        mode="min" if halving.metric == "loss" else "max",
        max_t=halving.max_epochs,
        grace_period=halving.grace_period,
        reduction_factor=halving.reduction_factor,
        stop_last_trials=False,
    )
    for directory in dict.fromkeys([*halving.tried, *seen]):
        earlier = SimpleNamespace(config={"trials": [str(directory.root)]})
        scheduler.on_trial_add(None, earlier)
        scheduler.on_trial_remove(None, earlier)
    return scheduler


def _reported(directory: TrialDirectory) -> list[dict[str, Any]]:
    """What a trial's worker has reported after each epoch that it has committed, as far as a scheduler reads it."""
    epochs = directory.epochs()
    if not epochs:
        return []
    spec = TrialSpec.model_validate(read_json(directory.spec)["spec"])
    records = map(EpochRecord.read, epochs)
    return [{"epoch": record.epoch, **score(spec, record.epoch, record.metrics)} for record in records]


def _named(trial: Any) -> Any:
    """A Tune trial by the name of the trial that it runs; with a scheduler every group has one."""
    return SimpleNamespace(trial_id=Path(trial.config["trials"][0]).name)


def _listener(handed: Handed, on_report: OnReport, silence: Silence) -> Any:
    """A Tune callback that passes on what happens.

    Tune pickles its callbacks, so what they do it with is left out of their state.
    """
    from ray import tune

    class Listener(tune.Callback):
        def __init__(self, handed: Handed, on_report: OnReport, silence: Silence) -> None:
            self.handed: Handed | None = handed
            self.on_report: OnReport | None = on_report
            self.silence: Silence | None = silence
            self.kernel = _Kernel()

        def __getstate__(self) -> dict[str, Any]:
            return {"handed": None, "on_report": None, "silence": None, "kernel": None}

        def on_trial_result(self, *_: Any, trial: Any, result: dict[str, Any], **__: Any) -> None:
            if self.on_report is None or self.handed is None or "status" not in result:
                return
            self.handed.addresses[result["trial"]] = result["node_ip"]
            self.on_report(result)
            # A trial that reports again is done only where a scheduler says so; its worker hears no more of it.
            if result["status"] == "RUNNING" and result.get("done"):
                (directory,) = [one for one in _group(trial) if one.root.name == result["trial"]]
                self.on_report({"trial": result["trial"], **record_stopped(directory).outcome()})

        def on_trial_complete(self, *_: Any, trial: Any, **__: Any) -> None:
            # Tune keeps 33 KB of means over steps of each trial, to its end; nobody reads them.
            trial.metric_analysis.clear()
            trial.metric_n_steps.clear()
            if self.handed:
                self.handed.ended(_group(trial))

        def on_trial_error(self, *_: Any, trial: Any, **__: Any) -> None:
            if self.handed is None:
                return
            loss = _loss(Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else "")
            if self.silence and trial.trial_id in self.silence.overdue:
                loss = Loss(silence=self.silence.limit)
            if loss == Loss() and self.kernel.has_killed():
                loss = Loss(for_memory=True)
            self.handed.lost(_group(trial), loss)

    return Listener(handed, on_report, silence)


def _watcher(silence: Silence, shortage: Silence, request: Request) -> Any:
    """A Tune callback that ends workers of which nothing is heard, and the sweep where no node can run a trial.

    (Tune itself would wait for one for ever.)
    """
    import ray
    from ray import tune

    class Watcher(tune.Callback):
        def __init__(self, silence: Silence, shortage: Silence) -> None:
            self.silence: Silence | None = silence
            self.shortage: Silence | None = shortage
            self.looked = time.monotonic()

        def __getstate__(self) -> dict[str, Any]:
            return {"silence": None, "shortage": None}

        def on_step_end(self, *_: Any, trials: list[Any], **__: Any) -> None:
            """Tune comes here several times a second, whatever its workers do."""
            if self.silence is None or self.shortage is None or time.monotonic() - self.looked < _LOOK_SECONDS:
                return
            self.looked = time.monotonic()
            actors = {trial.trial_id: trial.temporary_state.ray_actor for trial in trials if not trial.is_finished()}
            for name in self.silence.too_long(name for name, actor in actors.items() if actor):
                ray.kill(actors[name])
            if any(actors.values()) or cluster.is_able_now(request):
                self.shortage.heard(_NODES)
            if self.shortage.too_long([_NODES]):
                raise InfrastructureError(
                    f"for {self.shortage.limit:g} seconds no node was there that has {request}, as every trial asks "
                    "for; nodes were lost. What was done is kept; the same command continues"
                )

        def on_trial_start(self, *_: Any, trial: Any, **__: Any) -> None:
            if self.silence:
                self.silence.heard(trial.trial_id)

        def on_trial_result(self, *_: Any, trial: Any, **__: Any) -> None:
            if self.silence:
                self.silence.heard(trial.trial_id)

    return Watcher(silence, shortage)


def _group(trial: Any) -> Group:
    """The group that a Tune trial runs."""
    return [TrialDirectory(Path(folder)) for folder in trial.config["trials"]]


def _set_up_tune() -> None:
    """Tune takes these from the environment only."""
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "4")
    # Tune would write all that it knows of all trials again and again; nobody reads it.
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "1e9"
    # Only the end of an epoch has a score; the reports between have none.
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"
    # Ctrl-C is ours: Tune would swallow the first one.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
