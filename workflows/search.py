"""Where groups of trials come from: a list for grid and random, draws of TPE for optuna.

Both are what `workflows.dispatch` asks for the next group. What a search has drawn is in the sweep directory before
it is trained, so the same command takes it up again: known points are told to Optuna, unfinished ones run first.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trainables.arguments import Metric, TrialSpec
from trainables.directory import SweepDirectory, TrialDirectory
from trainables.files import read_json
from trainables.records import EpochRecord, Result
from workflows import plan, space
from workflows.plan import PlannedTrial, Planner
from workflows.space import Draw
from workflows.study import Asked, Ending, Study

Group = list[TrialDirectory]
# How often Optuna may name a point that was tried before a random one takes its place.
_REPEATS = 20


@dataclass(frozen=True)
class Algorithm:
    """A way to search: what of it is planned before anything runs, and whether it draws more while the sweep runs."""

    planned: Callable[[Planner, SweepDirectory], list[PlannedTrial]]
    draws: bool = False


class Listed:
    """Groups that are known from the start, in the given order."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self._groups = list(groups)

    def next(self) -> Group | None:
        """The next group, or None where there is none left."""
        return self._groups.pop(0) if self._groups else None

    def ended(self, group: Group) -> None:
        """A group has ended; nothing follows from that."""


class Drawn:
    """Points that Optuna draws when they are asked for, `search.num_trials` in all.

    `on_drawn` is told of the trials of each new point before they are handed out.
    """

    def __init__(
        self, planner: Planner, sweep: SweepDirectory, on_drawn: Callable[[list[PlannedTrial]], None] = lambda _: None
    ) -> None:
        search = planner.config.search
        self.planner, self.sweep, self.on_drawn = planner, sweep, on_drawn
        self.metric = planner.config.training.metric_for_best_model
        self.num_trials = search.num_trials or 0
        known = tried(planner, sweep)
        self.study = Study(space.parse(search), self.metric, search.seed, len(known))
        self._number = max((trials[0].drawn or 0 for _, trials in known), default=0)
        self._points: dict[str, list[PlannedTrial]] = {}
        self._point_of: dict[str, str] = {}
        self._running: dict[str, Asked] = {}
        self._waiting: list[Group] = []
        for draw, trials in known:
            ending = self._ending(trials)
            if ending is not None:
                self.study.add(draw, ending)
            if len(self._points) < self.num_trials:
                self._points[trials[0].point_id] = trials
                if ending is None:
                    self._start(self.study.run(draw), trials)

    def next(self) -> Group | None:
        """The next trial as a group of its own, or None where enough points were drawn or the space has no more."""
        while not self._waiting and len(self._points) < self.num_trials:
            drawn = self.draw()
            if drawn is None:
                return None
            trial, trials = drawn
            self._number += 1
            trials = [dataclasses.replace(planned, drawn=self._number) for planned in trials]
            self._points[trials[0].point_id] = trials
            self.on_drawn(trials)
            self._start(trial, trials)
        return self._waiting.pop(0) if self._waiting else None

    def ended(self, group: Group) -> None:
        """Tell Optuna how a point has ended, once all its seeds have."""
        point_id = self._point_of[group[0].root.name]
        ending = self._ending(self._points[point_id])
        if ending is not None and point_id in self._running:
            self.study.tell(self._running.pop(point_id), ending)

    def is_complete(self) -> bool:
        """Whether all points are drawn, or the space has no more."""
        return len(self._points) >= self.num_trials or self.draw() is None

    def draw(self) -> tuple[Asked, list[PlannedTrial]] | None:
        """A point that was not tried, as Optuna's trial and its planned trials; None where the space has no more.

        What was tried and comes again is told with its known ending. A space of few points makes Optuna repeat
        itself, so after some repeats a random point takes its place.
        """
        for _ in range(_REPEATS):
            trial, draw = self.study.ask()
            trials = self.planner.trials(draw.values)
            known = self._points.get(trials[0].point_id)
            if known is None:
                return trial, trials
            self.study.tell(trial, self._ending(known) or Ending("FAIL"))
        found = next(plan.random_points(self.planner, self._points), None)
        return None if found is None else (self.study.run(found[0]), found[1])

    def _start(self, trial: Asked, trials: list[PlannedTrial]) -> None:
        """Queue the seeds that have not ended; a point that another space had tried before may have none."""
        ending = self._ending(trials)
        if ending is not None:
            self.study.tell(trial, ending)
            return
        self._running[trials[0].point_id] = trial
        self._point_of |= {planned.trial_id: planned.point_id for planned in trials}
        directories = [self.sweep.trial(planned.trial_id) for planned in trials]
        self._waiting += [[directory] for directory in directories if not directory.result.exists()]

    def _ending(self, trials: list[PlannedTrial]) -> Ending | None:
        return point_ending([self.sweep.trial(trial.trial_id) for trial in trials], self.metric)


def _grid(planner: Planner, _: SweepDirectory) -> list[PlannedTrial]:
    return plan.grid(planner)


def _random(planner: Planner, _: SweepDirectory) -> list[PlannedTrial]:
    points = itertools.islice(plan.random_points(planner), planner.config.search.num_trials)
    return [trial for _, trials in points for trial in trials]


def _optuna(planner: Planner, sweep: SweepDirectory) -> list[PlannedTrial]:
    points = tried(planner, sweep)[: planner.config.search.num_trials]
    return [trial for _, trials in points for trial in trials]


# By the name in `search.algorithm`.
ALGORITHMS = {
    "grid": Algorithm(_grid),
    "random": Algorithm(_random),
    "optuna": Algorithm(_optuna, draws=True),
}


def tried(planner: Planner, sweep: SweepDirectory) -> list[tuple[Draw, list[PlannedTrial]]]:
    """The points of the present space that the sweep directory knows, each with its trials, in the order of drawing.

    Known is what Optuna has drawn, and whatever else has a result that stays: a grid or random search in the same
    directory.
    Points that another space had, or that would mean another trial today, are left out.
    """
    blocks = space.parse(planner.config.search)
    found: dict[str, tuple[int, str, Draw, list[PlannedTrial]]] = {}
    for path in sorted(sweep.trials.iterdir()) if sweep.trials.is_dir() else ():
        directory = TrialDirectory(path)
        stored = read_json(directory.spec) if directory.spec.exists() else {}
        drawn = stored.get("drawn")
        if not stored or (drawn is None and not _has_ended(directory)):
            continue
        draw = planner.find(blocks, TrialSpec.model_validate(stored["spec"]))
        if draw is not None:
            trials = [dataclasses.replace(trial, drawn=drawn) for trial in planner.trials(draw.values)]
            found[trials[0].point_id] = (drawn or 0, trials[0].point_id, draw, trials)
    return [(draw, trials) for _, _, draw, trials in sorted(found.values(), key=lambda known: known[:2])]


def point_ending(directories: Sequence[TrialDirectory], metric: Metric) -> Ending | None:
    """How a point has ended, from the trials of its seeds; None while one of them has no result.

    Its value is the mean of the best validation metric over its seeds, as in the leaderboard. Where a seed has failed,
    the point has: the mean of those that survived would draw the search to where seeds fail. Where a scheduler has
    stopped a seed, the point counts as pruned, with its mean after each epoch.
    """
    if not all(directory.result.exists() for directory in directories):
        return None
    results = [Result.read(directory.result) for directory in directories]
    statuses = {result.status for result in results}
    if "FAILED" in statuses:
        return Ending("FAIL")
    if "STOPPED" in statuses:
        return Ending("PRUNED", by_epoch=_by_epoch(directories, metric))
    return Ending("COMPLETE", statistics.fmean(result.metrics[f"validation/{metric}"] for result in results))


def _has_ended(directory: TrialDirectory) -> bool:
    """Whether a trial has a result that a sweep does not clear to try again."""
    return directory.result.exists() and Result.read(directory.result).is_final


def _by_epoch(directories: Sequence[TrialDirectory], metric: Metric) -> dict[int, float]:
    found: dict[int, list[float]] = {}
    for directory in directories:
        for record in map(EpochRecord.read, directory.epochs()):
            found.setdefault(record.epoch, []).append(record.metrics[f"validation/{metric}"])
    return {epoch: statistics.fmean(values) for epoch, values in sorted(found.items())}
