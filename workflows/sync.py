"""A sweep directory into an MLflow store, without Ray: what a store has missed, or everything into another one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from trainables.directory import SweepDirectory
from trainables.errors import BadInput, InfrastructureError, Interrupted
from trainables.redaction import redact
from workflows import lease, manifest, publish
from workflows.config import TrackingConfig
from workflows.interrupts import interruptible
from workflows.leaderboard import Leaderboard
from workflows.spinner import phase
from workflows.tracking.mark import Mark
from workflows.tracking.writer import (
    LAST_WORDS_SECONDS,
    SECONDS_FOR_STATES,
    Writer,
    check_uri,
    default_uri,
    ui_command,
)


@dataclass(frozen=True)
class Delivered:
    """What a store has got: `runs` counts trials and baselines; `review` is the command or address that shows them."""

    uri: str
    experiment: str
    runs: int
    review: list[str]


def sync(
    sweep: SweepDirectory, uri: str | None, experiment: str | None, console: Console, *, timeout: float = 60.0
) -> Delivered:
    """Deliver what a store has not got of a sweep, finished or not; into the sweep's own store where `uri` is None.

    Delivering again adds nothing. A store may be silent for `timeout` seconds. Raises BadInput for a folder without a
    sweep or an address that cannot be one, InfrastructureError where another process drives the sweep, or the store
    does not take everything.
    """
    found = manifest.load(sweep)
    if found is None:
        raise BadInput(f"{sweep.root}: holds no sweep (there is no {sweep.manifest.name}); give a sweep directory")
    tracking = TrackingConfig.model_validate(found["config"]["tracking"])
    uri = uri or tracking.uri or default_uri(sweep.root.parent)
    check_uri(uri)
    experiment = experiment or tracking.experiment or found["name"]
    with _alone(sweep, console):
        # That of a sweep that was extended and not finished is of the time before.
        finished = all(sweep.trial(trial_id).result.exists() for trial_id in found["trials"])
        board = Leaderboard.read(sweep) if finished else None
        status = board.run_status if board else "KILLED"
        with phase(console, f"delivering to {redact(uri)}"):
            problem = _deliver(Writer(sweep, uri, experiment), status, timeout, console)
        # Only then, because a champion that cannot be exported here must hold up nothing else.
        mark = Mark.read(sweep, uri, experiment)
        if board and problem is None and publish.unpublished(board, tracking, mark):
            with phase(console, "checking and publishing the champion"):
                problem = _publish(sweep, board, tracking, mark, Writer(sweep, uri, experiment), timeout)
    if problem is not None:
        raise InfrastructureError(
            f"{redact(uri)} has not got everything: {problem}. Nothing is lost; the same command again delivers the "
            "rest"
        )
    runs = len(Mark.read(sweep, uri, experiment).runs)
    return Delivered(redact(uri), experiment, runs, ui_command(uri, sweep.root.parent))


def _deliver(writer: Writer, status: str, timeout: float, console: Console) -> str | None:
    """Deliver all but checkpoints; returns why the store has not got that. An interrupt leaves no run RUNNING."""
    try:
        writer.finish(status, timeout)
    except KeyboardInterrupt:
        console.print("interrupted; closing the runs in MLflow …")
        writer.finish("KILLED", LAST_WORDS_SECONDS, for_states=SECONDS_FOR_STATES)
        raise
    return writer.last_error


def _publish(
    sweep: SweepDirectory, board: Leaderboard, tracking: TrackingConfig, mark: Mark, writer: Writer, timeout: float
) -> str | None:
    """Export and deliver the checkpoints that a store has not got, in which every run has ended; returns why not."""
    with tempfile.TemporaryDirectory(dir=sweep.root, prefix=".export.") as exports:
        try:
            publish.publish(sweep, board, tracking, mark, partial(publish.export_checked, sweep), writer, Path(exports))
        except KeyboardInterrupt:
            writer.abandon()
            raise
        except Exception:
            # What was handed over before this one.
            writer.finish(board.run_status, timeout)
            raise
        writer.finish(board.run_status, timeout)
    return writer.last_error


@contextmanager
def _alone(sweep: SweepDirectory, console: Console) -> Iterator[None]:
    """Hold the sweep's lease; Ctrl-C and SIGTERM end the block as Interrupted."""
    with lease.held(sweep, on_wait=lambda what: console.print(escape(f"{what} …"))):
        try:
            with interruptible():
                yield
        except KeyboardInterrupt:
            raise Interrupted("interrupted; the same command again delivers the rest") from None
