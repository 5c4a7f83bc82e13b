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
from workflows.prepare import phase
from workflows.tracking.mark import Mark
from workflows.tracking.writer import Writer, check_uri, default_uri, ui_command


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
        writer = Writer(sweep, uri, experiment)
        with tempfile.TemporaryDirectory(dir=sweep.root, prefix=".export.") as exports:
            # That of a sweep that was extended and not finished is of the time before.
            finished = all(sweep.trial(trial_id).result.exists() for trial_id in found["trials"])
            board = Leaderboard.read(sweep) if finished else None
            if board:
                mark = Mark.read(sweep, uri, experiment)
                with phase(console, "checking and publishing the champion"):
                    publish.publish(
                        sweep, board, tracking, mark, partial(publish.export_checked, sweep), writer, Path(exports)
                    )
            with phase(console, f"delivering to {redact(uri)}"):
                delivered = writer.finish(board.run_status if board else "KILLED", timeout)
    if not delivered:
        raise InfrastructureError(
            f"{redact(uri)} has not got everything: {writer.last_error}. Nothing is lost; the same command again "
            "delivers the rest"
        )
    runs = len(Mark.read(sweep, uri, experiment).runs)
    return Delivered(redact(uri), experiment, runs, ui_command(uri, sweep.root.parent))


@contextmanager
def _alone(sweep: SweepDirectory, console: Console) -> Iterator[None]:
    """Hold the sweep's lease; Ctrl-C and SIGTERM end the block as Interrupted."""
    with lease.held(sweep, on_wait=lambda what: console.print(escape(f"{what} …"))):
        try:
            with interruptible():
                yield
        except KeyboardInterrupt:
            raise Interrupted("interrupted; the same command again delivers the rest") from None
