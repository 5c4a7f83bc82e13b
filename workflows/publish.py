"""Once the last trial has ended: measure what predicting costs, check the champion and hand it to MLflow."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from trainables.directory import SweepDirectory, TrialDirectory
from trainables.errors import CorruptFile, FleetuneError, InfrastructureError
from trainables.files import verify
from trainables.records import Result
from trainables.redaction import redact
from workflows import cluster, inference
from workflows.cluster import Request
from workflows.config import TrackingConfig
from workflows.export import export_trial
from workflows.leaderboard import Leaderboard
from workflows.prepare import Prepared
from workflows.spinner import phase
from workflows.tracking import registry
from workflows.tracking.mark import Mark
from workflows.tracking.writer import Writer


def waiting_graphs(sweep: SweepDirectory, results: Mapping[str, Result]) -> list[inference.Graph]:
    """The inference graphs of finished trials and baselines that have not been measured."""
    done = {name: result.kind for name, result in results.items() if result.status == "DONE"}
    trials, baselines = ([name for name in done if done[name] == kind] for kind in ("trial", "baseline"))
    return inference.unmeasured(sweep, inference.graphs(sweep, trials, baselines))


def measure(
    prepared: Prepared, results: Mapping[str, Result], request: Request, writer: Writer, console: Console
) -> None:
    """Measure every graph that waits, one at a time, on a worker like those of the trials, with nothing beside it.

    One that cannot be measured is named and left out; the same command again tries it again.
    """
    waiting = waiting_graphs(prepared.sweep, results)
    writer.draw_all()
    if waiting:
        # What MLflow has not got is drawn meanwhile. If no worker comes, the first measurement says so.
        with phase(console, "starting a worker to measure inference"), contextlib.suppress(FleetuneError):
            cluster.wait_until_warm(request)
    for graph in waiting:
        which = graph.model if graph.merged else f"{graph.model} with its adapters apart"
        try:
            with phase(console, f"measuring inference: {which}"), writer.paused():
                cost = cluster.run_on_worker(
                    inference.measure, request, graph, prepared.data.directory, prepared.config.resources.cpus_per_trial
                )
        except FleetuneError as error:
            why = redact(str(error))
            told = f"inference of {which} was not measured: {why}; the same command again measures it"
            console.print(escape(told), soft_wrap=True)
        else:
            cost.write(prepared.sweep.inference_cost(graph.graph_id))


def export_checked(sweep: SweepDirectory, trial_id: str, folder: Path, packed: bool) -> None:
    """Write a trial's checkpoint to a folder as it goes to MLflow, checked, and `packed` for the registry if wanted."""
    export_trial(sweep, trial_id, folder)
    if packed:
        # Whoever registers it packs what is not there, and has a store's failures to tell of anyway.
        with contextlib.suppress(Exception):
            registry.pack(folder)


def publish(
    sweep: SweepDirectory,
    board: Leaderboard,
    tracking: TrackingConfig,
    mark: Mark,
    export: Callable[[str, Path, bool], object],
    writer: Writer,
    exports: Path,
) -> None:
    """Hand the checkpoints that MLflow is to have to the writer, each written to `exports` by `export`.

    `export` is `export_checked` of the sweep, wherever it runs. Nothing is exported twice: a champion that the store
    of the `mark` has already is left as it is. Raises CorruptFile where a checkpoint is damaged, which is forgotten so
    that the same command trains it anew, InfrastructureError where the worker that exports is lost.
    """
    for trial_id, name in unpublished(board, tracking, mark).items():
        try:
            export(trial_id, exports / trial_id, name is not None)
        except CorruptFile as error:
            raise CorruptFile(f"{error}{_forgotten(sweep.trial(trial_id))}") from None
        except InfrastructureError as error:
            raise InfrastructureError(
                f"the checkpoint of {trial_id} was not exported for MLflow: {error}. What was done is kept; the same "
                "command continues"
            ) from error
        writer.publish(trial_id, exports / trial_id, name)


def unpublished(board: Leaderboard, tracking: TrackingConfig, mark: Mark) -> dict[str, str | None]:
    """The trials whose checkpoint the store of a mark is to have and has not got, and the name to register each by."""
    done = [row["trial_id"] for row in board.rows if row["kind"] == "trial" and row["status"] == "DONE"]
    wanted = {"none": [], "champion": done[:1], "all": done}[tracking.checkpoints]
    if tracking.register_as and board.champion and board.champion not in wanted:
        wanted.append(board.champion)
    names = {trial_id: tracking.register_as if trial_id == board.champion else None for trial_id in wanted}
    return {trial_id: name for trial_id, name in names.items() if not _is_published(mark, trial_id, name)}


def _forgotten(directory: TrialDirectory) -> str:
    """Forget the result of a trial with a damaged checkpoint, so that the trial has not ended; returns what to do."""
    try:
        verify(directory.checkpoint)
    except CorruptFile:
        directory.result.unlink()
        return "; run the sweep again, which trains this trial anew"
    return ""


def _is_published(mark: Mark, trial_id: str, name: str | None) -> bool:
    run = mark.runs.get(trial_id)
    if run is None or run.published is None:
        return False
    return name is None or mark.registered == [name, trial_id, run.published]
