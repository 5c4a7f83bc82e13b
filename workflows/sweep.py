"""A sweep from end to end: check → resolve → prepare → plan → dispatch → rank → publish.

Everything up to `connect` costs seconds and starts nothing; that is where bad input ends. From there on, whatever
happens, the sweep directory holds what was done, and the same command continues it.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from trainables.arguments import Precision, TrialSpec
from trainables.directory import SweepDirectory, TrialDirectory
from trainables.errors import Interrupted
from trainables.files import write_json
from trainables.records import Result
from workflows import cluster, leaderboard, manifest, plan
from workflows.baselines import BASELINES, run_baseline
from workflows.cluster import Cluster, Request
from workflows.config import seconds
from workflows.dispatch import dispatch
from workflows.export import export_trial
from workflows.leaderboard import Leaderboard
from workflows.plan import PlannedTrial
from workflows.prepare import Prepared, phase, prepare
from workflows.progress import Board
from workflows.sweep_file import load
from workflows.tracking.mark import Mark
from workflows.tracking.writer import Writer

# `ray job stop` kills three seconds after it asks.
_LAST_WORDS_SECONDS = 2.0
_EXPORTS = ".export."
# What would fail again is kept; these may go well the next time.
_WORTH_ANOTHER_TRY = ("infra", "host-oom", "timeout")


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended."""

    sweep: SweepDirectory
    leaderboard: Leaderboard
    tracking_uri: str
    tracking_error: str | None = None
    already_finished: bool = False

    @property
    def failed(self) -> int:
        """Trials that ended as FAILED."""
        return sum(row["status"] == "FAILED" for row in self.leaderboard.rows)

    @property
    def exit_code(self) -> int:
        """0 all done, 3 some trials failed, 4 MLflow has not got everything."""
        if self.tracking_error:
            return 4
        return 3 if self.failed else 0


def run_sweep(path: Path, overrides: Sequence[str], console: Console) -> Outcome:
    """Run the sweep that a file describes, or continue it; `console` shows progress.

    Raises BadInput before anything is started, InfrastructureError where storage or cluster fail, Interrupted
    after Ctrl-C or SIGTERM (what was done is kept).
    """
    prepared = prepare(load(path, overrides), console)
    finished = _finished(prepared)
    if finished is not None:
        return finished
    try:
        with _interruptible():
            return _run(prepared, console)
    except KeyboardInterrupt:
        again = " ".join(["fleetune sweep", str(path), *(f"--set {override}" for override in overrides)])
        raise Interrupted(f"interrupted; finished trials are kept. Continue with: {again}") from None


def _finished(prepared: Prepared) -> Outcome | None:
    """The outcome of a sweep that has nothing left to do."""
    if prepared.earlier is None:
        return None
    planned = prepared.plan(prepared.earlier["precision"])
    results = _results(prepared, planned)
    names = [trial.trial_id for trial in planned] + list(prepared.config.baselines)
    if any(name not in results or _again(results[name]) for name in names):
        return None
    ranked = _rank(prepared, planned)
    if not Writer.is_complete(prepared.sweep, prepared.tracking_uri):
        return None
    return Outcome(prepared.sweep, ranked, prepared.tracking_uri, already_finished=True)


def _run(prepared: Prepared, console: Console) -> Outcome:
    """Connect, plan, dispatch, rank, publish. Baselines are fitted while Ray starts."""
    config, sweep = prepared.config, prepared.sweep
    with ThreadPoolExecutor(1) as background, contextlib.ExitStack() as stack:
        baselines = background.submit(_run_baselines, prepared)
        with phase(console, "starting Ray"):
            found = stack.enter_context(cluster.connect())
            request = found.request(config.resources)
            precision = _precision(prepared, request)
            baselines.result()
        planned = prepared.plan(precision)
        manifest.write(sweep, config, prepared.data, precision, planned, prepared.earlier)
        for trial in planned:
            _lay_out(prepared, trial, precision)
        for left_over in sweep.root.glob(f"{_EXPORTS}*"):
            shutil.rmtree(left_over, ignore_errors=True)
        writer = Writer(sweep, prepared.tracking_uri, prepared.experiment)
        with _tracked(writer, console), tempfile.TemporaryDirectory(dir=sweep.root, prefix=_EXPORTS) as exports:
            _run_trials(prepared, planned, found, request, writer, console)
            ranked = _rank(prepared, planned)
            with phase(console, "checking and publishing the champion"):
                _publish(prepared, ranked, request, writer, Path(exports))
            _finish(writer, ranked, console)
    return Outcome(sweep, ranked, prepared.tracking_uri, writer.last_error)


def _run_baselines(prepared: Prepared) -> None:
    """Fit the baselines that have no result yet.

    Without a manifest nothing says which data an earlier result was from, so it does not count.
    """
    for name in prepared.config.baselines:
        directory = prepared.sweep.baseline(name)
        if prepared.earlier and directory.result.exists():
            continue
        metric = prepared.config.training.metric_for_best_model
        run_baseline(name, prepared.data.directory, prepared.data.labels, metric, directory)


def _precision(prepared: Prepared, request: Request) -> Precision:
    """Resolved once per sweep; a continued sweep keeps what it began with."""
    if prepared.earlier:
        kept: Precision = prepared.earlier["precision"]
        return kept
    return cluster.choose_precision(prepared.config.training.bf16, request)


def _lay_out(prepared: Prepared, trial: PlannedTrial, precision: Precision) -> None:
    """Write what a worker needs to run a trial, and clear a result that is worth another try."""
    directory = prepared.sweep.trial(trial.trial_id)
    if directory.result.exists() and _again(Result.read(directory.result)):
        directory.result.unlink()
    spec = TrialSpec(
        trial_id=trial.trial_id,
        point_id=trial.point_id,
        seed=trial.seed,
        model=trial.model,
        freeze=trial.freeze,
        training=trial.training,
        labels=prepared.data.labels,
        precision=precision,
        data=str(prepared.data.directory),
        data_fingerprint=prepared.data.fingerprint,
        cache=str(prepared.sweep.cache.root),
        directory=str(directory.root),
        num_threads=prepared.config.resources.cpus_per_trial,
    )
    write_json(directory.spec, {"spec": spec.model_dump(mode="json"), "name": trial.name, "axes": trial.axes})


def _run_trials(
    prepared: Prepared,
    planned: Sequence[PlannedTrial],
    found: Cluster,
    request: Request,
    writer: Writer,
    console: Console,
) -> None:
    """Dispatch what is not finished, longest first, and record what was lost with its workers."""
    config, sweep = prepared.config, prepared.sweep
    metric = config.training.metric_for_best_model
    results = _results(prepared, planned)
    finished = {name: results[name].metrics.get(f"validation/{metric}") for name in results if name not in BASELINES}
    waiting = sorted((trial for trial in planned if trial.trial_id not in results), key=plan.work, reverse=True)
    slots = found.slots(request, config.resources.max_concurrent_trials)
    at_once = min(slots, len(waiting))
    console.print(f"{len(waiting)} of {len(planned)} trials to run, {at_once} at a time, each on {request}")
    with Board(planned, {trial.trial_id: plan.work(trial) for trial in planned}, metric, console, finished) as board:

        def on_report(report: dict[str, Any]) -> None:
            board.on_report(report)
            if "metrics" in report:
                writer.notify()

        lost = dispatch(
            [[sweep.trial(trial.trial_id)] for trial in waiting],
            request,
            slots,
            trial_timeout=seconds(config.resources.trial_timeout),
            on_report=on_report,
            log=sweep.driver_log,
        )
        for directory in lost:
            _record_lost(directory)
        # Whoever lost its process could not tell the driver how it ended.
        for trial_id in board.unfinished():
            on_report({"trial": trial_id, **Result.read(sweep.trial(trial_id).result).outcome()})


def _record_lost(directory: TrialDirectory) -> None:
    now = int(time.time() * 1000)
    Result(
        kind="trial",
        trial_id=directory.root.name,
        status="FAILED",
        reason="infra",
        message="its worker was lost again and again; what Ray said of it is in driver.log",
        started=now,
        ended=now,
    ).write(directory.result)


def _results(prepared: Prepared, planned: Sequence[PlannedTrial]) -> dict[str, Result]:
    """What is finished: by trial id, and by name for baselines."""
    directories = {trial.trial_id: prepared.sweep.trial(trial.trial_id) for trial in planned}
    directories |= {name: prepared.sweep.baseline(name) for name in prepared.config.baselines}
    return {name: Result.read(directory.result) for name, directory in directories.items() if directory.result.exists()}


def _again(result: Result) -> bool:
    return result.status == "FAILED" and result.reason in _WORTH_ANOTHER_TRY


def _value(results: dict[str, Result], trial: PlannedTrial, metric: str) -> float | None:
    return results[trial.trial_id].metrics.get(f"validation/{metric}")


def _rank(prepared: Prepared, planned: Sequence[PlannedTrial]) -> Leaderboard:
    metric = prepared.config.training.metric_for_best_model
    ranked = leaderboard.build(planned, _results(prepared, planned), prepared.config.baselines, metric)
    ranked.write(prepared.sweep)
    return ranked


def _publish(prepared: Prepared, ranked: Leaderboard, request: Request, writer: Writer, exports: Path) -> None:
    """Hand the checkpoints that MLflow is to have to the writer, exported and checked on a worker.

    Nothing is exported twice: a champion that MLflow has already is left as it is.
    """
    tracking = prepared.config.tracking
    done = [row["trial_id"] for row in ranked.rows if row["kind"] == "trial" and row["status"] == "DONE"]
    wanted = {"none": [], "champion": done[:1], "all": done}[tracking.checkpoints]
    if tracking.register_as and ranked.champion and ranked.champion not in wanted:
        wanted.append(ranked.champion)
    for trial_id in wanted:
        name = tracking.register_as if trial_id == ranked.champion else None
        if _is_published(prepared, trial_id, name):
            continue
        cluster.run_on_worker(export_trial, request, prepared.sweep, trial_id, exports / trial_id)
        writer.publish(trial_id, exports / trial_id, name)


def _is_published(prepared: Prepared, trial_id: str, name: str | None) -> bool:
    mark = Mark.read(prepared.sweep, prepared.tracking_uri, prepared.experiment)
    run = mark.runs.get(trial_id)
    if run is None or run.published is None:
        return False
    return name is None or mark.registered == [name, trial_id, run.published]


def _finish(writer: Writer, ranked: Leaderboard, console: Console) -> None:
    failed = any(row["status"] == "FAILED" for row in ranked.rows)
    with phase(console, "delivering to MLflow"):
        writer.finish("FAILED" if failed and ranked.champion is None else "FINISHED")


@contextlib.contextmanager
def _tracked(writer: Writer, console: Console) -> Iterator[None]:
    """Whatever ends the block early, no run stays RUNNING."""
    try:
        yield
    except KeyboardInterrupt:
        console.print("interrupted; closing the runs in MLflow …")
        writer.finish("KILLED", timeout=_LAST_WORDS_SECONDS)
        raise
    except BaseException:
        writer.finish("FAILED", timeout=_LAST_WORDS_SECONDS)
        raise


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM (`ray job stop`) both raise KeyboardInterrupt, once; the second ends the process at once."""

    def interrupt(number: int, _: FrameType | None) -> None:
        for known in (signal.SIGINT, signal.SIGTERM):
            signal.signal(known, signal.SIG_DFL)
        raise KeyboardInterrupt(signal.Signals(number).name)

    before = {known: signal.signal(known, interrupt) for known in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for known, handler in before.items():
            signal.signal(known, handler)
