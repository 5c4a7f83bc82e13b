"""Groups of trials onto workers: Ray Tune as the executor, one Tune trial per group, processes reused.

Tune keeps nothing that matters. Its own files go to a scratch folder that is deleted at the end; what a trial
left is in the sweep directory, and a group that Tune lost is simply dispatched again.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from trainables.directory import TrialDirectory
from trainables.trainable import train_group
from workflows.cluster import Request

Group = Sequence[TrialDirectory]
OnReport = Callable[[dict[str, Any]], None]

WORKER_RETRIES = 2
_DISPATCHES = 3


def dispatch(
    groups: Sequence[Group], request: Request, slots: int, *, trial_timeout: float, on_report: OnReport, log: Path
) -> list[TrialDirectory]:
    """Run groups in the given order, `slots` at a time; returns the trials that ended without a result.

    A trial without a step for `trial_timeout` seconds is ended. `on_report` is called in this thread with each
    report of a worker: {"trial", "status", …}. `log` takes what Ray and Tune would print. Tune gives up as a whole
    when Ray's memory monitor kills a worker (it handles only actor errors), so what is left is dispatched again, a
    bounded number of times.
    """
    waiting = _unfinished(groups)
    for _ in range(_DISPATCHES):
        if not waiting:
            break
        # RuntimeError is how Tune reports a worker that the memory monitor killed.
        with _quiet(log), contextlib.suppress(RuntimeError):
            _fit(waiting, request, slots, trial_timeout, on_report)
        left = _unfinished(waiting)
        if len(left) == len(waiting):
            break
        waiting = left
    return [trial for group in _unfinished(groups) for trial in group]


def _fit(groups: Sequence[Group], request: Request, slots: int, trial_timeout: float, on_report: OnReport) -> None:
    """One run of Tune over all groups; grid_search keeps their order."""
    from ray import tune

    resources = {"cpu": request.cpus, "gpu": request.gpus} if request.gpus else {"cpu": request.cpus}
    folders = [[str(trial.root) for trial in group] for group in groups]
    with tempfile.TemporaryDirectory(prefix="fleetune-tune-") as scratch:
        tune.Tuner(
            tune.with_resources(train_group, resources),
            param_space={
                "trials": tune.grid_search(folders),
                "gpus": request.gpus,
                "trial_timeout": trial_timeout,
            },
            tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=slots),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=scratch,
                verbose=0,
                callbacks=[_listener(on_report)],
                failure_config=tune.FailureConfig(max_failures=WORKER_RETRIES),
            ),
        ).fit()


def _listener(on_report: OnReport) -> Any:
    """A Tune callback that passes reports on. Tune pickles its callbacks, so `on_report` is left out of its state."""
    from ray import tune

    class Listener(tune.Callback):
        def __init__(self, on_report: OnReport) -> None:
            self.on_report: OnReport | None = on_report

        def __getstate__(self) -> dict[str, Any]:
            return {"on_report": None}

        def on_trial_result(self, *_: Any, result: dict[str, Any], **__: Any) -> None:
            if self.on_report and "status" in result:
                self.on_report(result)

    return Listener(on_report)


def _unfinished(groups: Sequence[Group]) -> list[Group]:
    return [left for group in groups if (left := [trial for trial in group if not trial.result.exists()])]


@contextlib.contextmanager
def _quiet(log: Path) -> Iterator[None]:
    """Send what Ray and Tune print to a file. The progress table writes to the real terminal all the same."""
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "4")
    # Ctrl-C is ours: Tune would swallow the first one.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    with (
        log.open("a", encoding="utf-8") as stream,
        contextlib.redirect_stdout(stream),
        contextlib.redirect_stderr(stream),
    ):
        yield
