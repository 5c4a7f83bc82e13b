"""A sweep from end to end: check → resolve → prepare → plan → dispatch → rank → publish.

Everything up to `connect` costs seconds and starts nothing; that is where bad input ends. From there on, whatever
happens, the sweep directory holds what was done, and the same command continues it.
"""

from __future__ import annotations

import contextlib
import functools
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from trainables import garbage
from trainables.directory import SweepDirectory
from trainables.errors import InfrastructureError, Interrupted
from trainables.files import remove_scratch
from workflows import (
    attempts,
    beside,
    check,
    cluster,
    confidence,
    forecast,
    inference,
    leaderboard,
    lease,
    manifest,
    phases,
    preflight,
    publish,
    shell,
    trials,
)
from workflows.baselines import run_baseline
from workflows.cluster import Request
from workflows.forecast import Took
from workflows.groups import groups
from workflows.interrupts import Received, interruptible
from workflows.leaderboard import Leaderboard
from workflows.lease import Lease
from workflows.plan import PlannedTrial
from workflows.prepare import Prepared, prepare
from workflows.quiet import off_screen
from workflows.report import write_report
from workflows.spinner import phase
from workflows.sweep_file import load
from workflows.tracking import store
from workflows.tracking.mark import Mark
from workflows.tracking.writer import LAST_WORDS_SECONDS, SECONDS_FOR_STATES, Writer

# `ray job stop` kills three seconds after it asks (SIGTERM); whoever sits at a terminal can press Ctrl-C again.
_SECONDS_TO_KILL = 2.0
# Until workers start, Tune needs the interpreter, in which MLflow's store would be opened meanwhile.
_SECONDS_FOR_TUNE = 3.0


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended."""

    sweep: SweepDirectory
    leaderboard: Leaderboard
    tracking_uri: str
    test_texts: int
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

    Raises BadInput before anything is started, InfrastructureError where storage or cluster fail or another process
    drives the sweep, Interrupted after Ctrl-C or SIGTERM (what was done is kept).
    """
    laps = _Laps()
    prepared = check.announce(prepare(load(path, overrides), console), console)
    with lease.held(prepared.sweep, on_wait=lambda what: console.print(escape(f"{what} …"))) as holding:
        prepared = prepared.continued(console)
        finished = _finished(prepared)
        if finished is not None:
            return finished
        try:
            with interruptible() as received:
                laps.end(phases.READING)
                return _run(prepared, holding, received, console, laps)
        except KeyboardInterrupt:
            if holding.is_anothers():
                raise InfrastructureError(
                    f"{prepared.sweep.root}: another process has taken this sweep over, because this one gave no sign "
                    "of life for a while; it goes on there"
                ) from None
            values = (part for override in overrides for part in ("--set", override))
            again = shell.command("fleetune", "sweep", str(path), *values)
            raise Interrupted(f"interrupted; finished trials are kept. Continue with: {again}") from None


def _finished(prepared: Prepared) -> Outcome | None:
    """The outcome of a sweep that has nothing left to do."""
    if prepared.earlier is None:
        return None
    planned = prepared.plan(prepared.earlier["precision"])
    results = trials.results(prepared, planned)
    names = [trial.trial_id for trial in planned] + list(prepared.config.baselines)
    if any(name not in results or not results[name].is_final for name in names):
        return None
    if not trials.all_drawn(prepared, prepared.earlier["precision"]):
        return None
    if publish.waiting_graphs(prepared.sweep, results) or not prepared.sweep.report.exists():
        return None
    if prepared.earlier.get("checked") and not prepared.sweep.check.exists():
        return None
    ranked = _rank(prepared, planned)
    if not Writer.is_complete(prepared.sweep, prepared.tracking_uri):
        return None
    return Outcome(prepared.sweep, ranked, prepared.tracking_uri, prepared.data.rows["test"], already_finished=True)


class _Laps:
    """Takes the time of the parts of a run, one after the other."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def end(self, part: str) -> None:
        """A part ends here, which began with the end of the one before."""
        now = time.perf_counter()
        self.seconds[part], self._last = now - self._last, now


def _run(prepared: Prepared, holding: Lease, received: Received, console: Console, laps: _Laps) -> Outcome:
    """Connect, plan, dispatch, rank, publish. Baselines are fitted while Ray starts."""
    config, sweep = prepared.config, prepared.sweep
    remove_scratch(sweep.root)
    attempts.end_all(sweep)
    given_up = threading.Event()
    with beside.thread(given_up) as background, contextlib.ExitStack() as stack:
        baselines = background.submit(_run_baselines, prepared, given_up.is_set)
        if prepared.earlier is None:
            background.submit(cluster.import_torch)
        tokens = background.submit(check.with_tokens_if_possible, check.continued(prepared))
        # Tune imports it too, before it starts anything.
        background.submit(store.import_client)
        with phase(console, "starting Ray"):
            found = stack.enter_context(cluster.connect())
            stack.enter_context(off_screen(sweep.driver_log))
            request = found.request(config.resources)
            preflight.check(prepared, found, request)
            # Before the hardware is probed, which wants quiet.
            before, (prepared, unread) = prepared, tokens.result()
            check.announce_tokens(before, prepared, unread, console)
            wanted = config.training.bf16
            precision = prepared.kept_precision or cluster.choose_precision(wanted, found, request, console)
            baselines.result()
        slots = found.slots(request, config.resources.max_concurrent_trials)
        planned = prepared.plan(precision)
        together = groups(planned, config.search, prepared.earlier)
        prepared.checked.write(sweep.check)
        manifest.write(sweep, config, prepared.data, precision, together, planned, prepared.earlier)
        for trial in planned:
            trials.lay_out(prepared, trial, precision)
        key = forecast.key(prepared, trials.waiting(prepared, planned), slots)
        laps.end(phases.STARTING)
        writer = Writer(sweep, prepared.tracking_uri, prepared.experiment, delay=_SECONDS_FOR_TUNE)
        with (
            _tracked(writer, holding, received, console),
            # A worker may be writing there when the sweep is interrupted; the next one removes the rest.
            tempfile.TemporaryDirectory(dir=sweep.root, prefix=".export.", ignore_cleanup_errors=True) as exports,
        ):
            planned = trials.run(prepared, planned, together, precision, request, slots, writer, console)
            attempts.end_all(sweep)
            # All that Tune knew of each trial.
            garbage.collect_all()
            garbage.give_back()
            laps.end(phases.TRIALS)
            publish.measure(prepared, trials.results(prepared, planned), request, writer, console)
            laps.end(phases.INFERENCE)
            Took(key=key, phases=laps.seconds).write(sweep.took)
            ranked = _rank(prepared, planned)
            publishing = functools.partial(_publish, prepared, ranked, request, writer, Path(exports))
            with (
                phase(console, "checking the champion, writing the report"),
                beside.meanwhile(background, publishing),
                # Matplotlib is not made for two threads, and the writer draws too.
                writer.paused(),
            ):
                write_report(sweep)
                garbage.give_back()
            laps.end(phases.REPORT)
            with phase(console, "delivering to MLflow"):
                writer.finish(ranked.run_status)
    laps.end(phases.MLFLOW)
    Took(key=key, phases=laps.seconds).write(sweep.took)
    return Outcome(sweep, ranked, prepared.tracking_uri, prepared.data.rows["test"], writer.last_error)


def _run_baselines(prepared: Prepared, given_up: Callable[[], bool]) -> None:
    """Fit the baselines that have no result yet.

    Without a manifest nothing says which data an earlier result was from, so it does not count. Nor does one without
    its model: it could neither predict nor be measured.
    """
    for name in prepared.config.baselines:
        directory = prepared.sweep.baseline(name)
        if prepared.earlier and directory.result.exists() and directory.model.exists():
            continue
        metric = prepared.config.training.metric_for_best_model
        run_baseline(name, prepared.data.directory, prepared.data.labels, metric, directory, given_up)


def _rank(prepared: Prepared, planned: Sequence[PlannedTrial]) -> Leaderboard:
    metric = prepared.config.training.metric_for_best_model
    results = trials.results(prepared, planned)
    done = {name: result.kind for name, result in results.items() if result.status == "DONE"}
    costs = {
        name: {**inference.columns(prepared.sweep, name, kind), **confidence.keep(prepared.sweep.run(name, kind))}
        for name, kind in done.items()
    }
    ranked = leaderboard.build(planned, results, prepared.config.baselines, metric, costs)
    ranked = ranked.judged(prepared.sweep, len(prepared.data.labels))
    ranked.write(prepared.sweep)
    return ranked


def _publish(
    prepared: Prepared,
    ranked: Leaderboard,
    request: Request,
    writer: Writer,
    exports: Path,
    given_up: Callable[[], bool],
) -> None:
    """Hand the champion to MLflow, exported on a worker, which has the hardware that it was trained on."""

    def export(trial_id: str, folder: Path, packed: bool) -> None:
        arguments = (prepared.sweep, trial_id, folder, packed)
        cluster.run_on_worker(publish.export_checked, request, *arguments, given_up=given_up)

    mark = Mark.read(prepared.sweep, prepared.tracking_uri, prepared.experiment)
    publish.publish(prepared.sweep, ranked, prepared.config.tracking, mark, export, writer, exports)


@contextlib.contextmanager
def _tracked(writer: Writer, holding: Lease, received: Received, console: Console) -> Iterator[None]:
    """Whatever ends the block early, no run stays RUNNING, unless another process drives the sweep by now."""
    try:
        yield
    except BaseException as error:
        if holding.is_anothers():
            writer.abandon()
        elif isinstance(error, KeyboardInterrupt):
            _close_interrupted(writer, received, console)
        else:
            writer.finish("FAILED", timeout=LAST_WORDS_SECONDS)
        raise


def _close_interrupted(writer: Writer, received: Received, console: Console) -> None:
    """Close the runs as KILLED in the time that there is, and say what has not reached MLflow."""
    console.print("interrupted; closing the runs in MLflow …")
    hurried = received.signal == signal.SIGTERM
    timeout = _SECONDS_TO_KILL if hurried else LAST_WORDS_SECONDS
    if not writer.finish("KILLED", timeout, for_states=0.0 if hurried else SECONDS_FOR_STATES):
        reason = writer.last_error or "there was no time for it"
        console.print(escape(f"not all has reached MLflow ({reason}); the rest follows when you continue"))
