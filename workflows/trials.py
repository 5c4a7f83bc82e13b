"""From planned trials to results: folders laid out, groups dispatched, what their workers could not tell reported.

A search that draws its points while the sweep runs is fed from here: each point is laid out and written to the
manifest before a worker gets it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Any

from rich.console import Console

from trainables.arguments import Precision, TrialSpec
from trainables.files import write_json
from trainables.records import Result
from workflows import manifest, plan, space
from workflows.cluster import Request
from workflows.config import seconds
from workflows.dispatch import Halving, dispatch
from workflows.handed import Source
from workflows.plan import PlannedTrial
from workflows.prepare import Prepared
from workflows.progress import Board
from workflows.search import ALGORITHMS, Drawn, Listed
from workflows.tracking.writer import Writer


def results(prepared: Prepared, planned: Sequence[PlannedTrial]) -> dict[str, Result]:
    """What is finished: by trial id, and by name for baselines. A trial without a trial.json is laid out first."""
    laid_out = (trial.trial_id for trial in planned if prepared.sweep.trial(trial.trial_id).spec.exists())
    directories = {trial_id: prepared.sweep.trial(trial_id) for trial_id in laid_out}
    directories |= {name: prepared.sweep.baseline(name) for name in prepared.config.baselines}
    return {name: Result.read(directory.result) for name, directory in directories.items() if directory.result.exists()}


def waiting(prepared: Prepared, planned: Sequence[PlannedTrial]) -> list[PlannedTrial]:
    """Those that have no result; none where a search draws on the way, since then more will come."""
    known = results(prepared, planned)
    draws = ALGORITHMS[prepared.config.search.algorithm].draws
    return [] if draws else [trial for trial in planned if trial.trial_id not in known]


def all_drawn(prepared: Prepared, precision: Precision) -> bool:
    """Whether the search has no more points to draw than those that are planned."""
    draws = ALGORITHMS[prepared.config.search.algorithm].draws
    return not draws or Drawn(prepared.planner(precision), prepared.sweep).is_complete()


def lay_out(prepared: Prepared, trial: PlannedTrial, precision: Precision) -> None:
    """Write what a worker needs to run a trial, and clear a result that is worth another try."""
    directory = prepared.sweep.trial(trial.trial_id)
    if directory.result.exists() and not Result.read(directory.result).is_final:
        directory.result.unlink()
    spec = spec_of(prepared, trial, precision)
    shown = {"name": trial.name, "axes": trial.axes, "drawn": trial.drawn}
    write_json(directory.spec, {"spec": spec.model_dump(mode="json"), **shown})


def spec_of(prepared: Prepared, trial: PlannedTrial, precision: Precision) -> TrialSpec:
    """What a worker is told of a trial."""
    return TrialSpec(
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
        directory=str(prepared.sweep.trial(trial.trial_id).root),
        num_threads=prepared.config.resources.cpus_per_trial,
    )


def run(
    prepared: Prepared,
    planned: Sequence[PlannedTrial],
    groups: Sequence[Sequence[str]],
    precision: Precision,
    request: Request,
    slots: int,
    writer: Writer,
    console: Console,
) -> list[PlannedTrial]:
    """Dispatch what is not finished, until every trial has its result; returns all trials of the sweep.

    Those that are `planned` go in their `groups`, longest first; those that a search draws on the way are laid out
    as they come.
    """
    config, sweep = prepared.config, prepared.sweep
    every, known = list(planned), results(prepared, planned)
    finished = {trial.trial_id: known[trial.trial_id] for trial in planned if trial.trial_id in known}
    expected = expected_count(prepared, planned, precision)
    waiting = unfinished(planned, groups, finished)
    console.print(_announcement(expected, expected - len(finished), waiting, slots, request))
    with Board(planned, config.training.metric_for_best_model, console, finished, expected) as board:

        def on_drawn(trials: list[PlannedTrial]) -> None:
            for trial in trials:
                lay_out(prepared, trial, precision)
            every.extend(trials)
            manifest.write_trials(sweep, every)
            board.add(trials)

        def on_report(report: dict[str, Any]) -> None:
            board.on_report(report)
            if "metrics" in report:
                writer.notify()

        dispatch(
            _source(prepared, precision, waiting, on_drawn),
            request,
            slots,
            trial_timeout=seconds(config.resources.trial_timeout),
            on_report=on_report,
            log=sweep.driver_log,
            halving=_halving(prepared, planned) if config.search.scheduler == "asha" else None,
        )
        # Whoever lost its process could not tell the driver how it ended.
        for trial_id in board.unfinished():
            on_report({"trial": trial_id, **Result.read(sweep.trial(trial_id).result).outcome()})
        points = len({trial.point_id for trial in every})
        if points < (config.search.num_trials or 0):
            console.print(f"the space holds {points} points; search.num_trials asks for {config.search.num_trials}")
    return every


def _announcement(
    expected: int, left: int, waiting: Sequence[Sequence[PlannedTrial]], slots: int, request: Request
) -> str:
    """What is about to run: `left` of the `expected` trials, of which those `waiting` are known."""
    together = sum(len(group) for group in waiting if len(group) > 1)
    units = left - sum(len(group) - 1 for group in waiting)
    shared = f"; {together} that train the head alone run together" if together else ""
    return f"{left} of {expected} trials to run, {min(slots, units)} at a time, each on {request}{shared}"


def expected_count(prepared: Prepared, planned: Sequence[PlannedTrial], precision: Precision) -> int:
    """How many trials there will be, if the space holds as many points as the search may draw."""
    search = prepared.config.search
    if search.num_trials is None or all_drawn(prepared, precision):
        return len(planned)
    return search.num_trials * len(dict.fromkeys(search.seeds))


def _source(
    prepared: Prepared,
    precision: Precision,
    waiting: Sequence[Sequence[PlannedTrial]],
    on_drawn: Callable[[list[PlannedTrial]], None],
) -> Source:
    """Where the groups to dispatch come from."""
    if ALGORITHMS[prepared.config.search.algorithm].draws:
        return Drawn(prepared.planner(precision), prepared.sweep, on_drawn)
    ordered = in_order(waiting)
    return Listed([[prepared.sweep.trial(trial.trial_id) for trial in group] for group in ordered])


def in_order(groups: Sequence[Sequence[PlannedTrial]]) -> list[Sequence[PlannedTrial]]:
    """Groups as they are dispatched: longest first, so that no worker idles at the end."""
    return sorted(groups, key=lambda group: sum(map(plan.work, group)), reverse=True)


def unfinished(
    planned: Sequence[PlannedTrial], groups: Sequence[Sequence[str]], finished: Container[str]
) -> list[list[PlannedTrial]]:
    """The groups, without the trials that have ended."""
    waiting = {trial.trial_id: trial for trial in planned if trial.trial_id not in finished}
    left = [[waiting[trial_id] for trial_id in group if trial_id in waiting] for group in groups]
    return [group for group in left if group]


def _halving(prepared: Prepared, planned: Sequence[PlannedTrial]) -> Halving:
    search, training = prepared.config.search, prepared.config.training
    return Halving(
        metric=training.metric_for_best_model,
        grace_period=search.grace_period,
        reduction_factor=search.reduction_factor,
        max_epochs=space.largest(space.parse(search), "num_train_epochs", training.num_train_epochs),
        tried=[prepared.sweep.trial(trial.trial_id) for trial in planned],
    )
