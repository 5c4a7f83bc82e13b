"""What a sweep has left to run, and what its trials share."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from trainables.arguments import Precision
from workflows import kinds, plan, space, trials
from workflows.groups import groups
from workflows.kinds import Group
from workflows.plan import PlannedTrial
from workflows.prepare import Prepared
from workflows.search import ALGORITHMS


@dataclass(frozen=True)
class Left:
    """What is left to run: groups in the order of dispatch.

    `finished` trials have ended; `repeats` are those that the space holds again. `drawn_later` trials are drawn while
    the sweep runs: random ones of the same space stand for them.
    """

    groups: list[Group]
    finished: int = 0
    repeats: int = 0
    drawn_later: int = 0

    @property
    def trials(self) -> list[PlannedTrial]:
        return [trial for group in self.groups for trial in group]


@dataclass(frozen=True)
class Sharing:
    """What is made once for several trials: sets of tokens, frozen prefixes with their trials, groups of heads."""

    tokens: int
    prefixes: int
    trials_on_prefixes: int
    groups: int
    trials_in_groups: int

    @classmethod
    def of(cls, left: Sequence[Group]) -> Sharing:
        """Among groups."""
        every = [trial for group in left for trial in group]
        frozen = [found for trial in every if (found := kinds.prefix_key(trial))]
        several = [group for group in left if len(group) > 1]
        return cls(
            tokens=len({kinds.tokens_key(trial) for trial in every}),
            prefixes=len(set(frozen)),
            trials_on_prefixes=len(frozen),
            groups=len(several),
            trials_in_groups=sum(map(len, several)),
        )


def what_is_left(prepared: Prepared, precision: Precision) -> Left:
    """The trials that a sweep would run now."""
    search, planner = prepared.config.search, prepared.planner(precision)
    planned = prepared.plan(precision)
    known = trials.results(prepared, planned)
    finished = {trial.trial_id for trial in planned if trial.trial_id in known and known[trial.trial_id].is_final}
    waiting = trials.unfinished(planned, groups(planned, search, prepared.earlier), finished)
    later = trials.expected_count(prepared, planned, precision) - len(planned)
    drawn: list[PlannedTrial] = []
    if later:
        seeds = len(set(search.seeds))
        tried = {trial.point_id for trial in planned}
        points = itertools.islice(plan.random_points(planner, tried), later // seeds)
        drawn = [trial for _, found in points for trial in found]
    repeats = 0
    if search.algorithm == "grid":
        repeats = sum(1 for _ in space.listed(space.parse(search))) * len(search.seeds) - len(planned)
    ordered = trials.in_order(waiting) if not ALGORITHMS[search.algorithm].draws else list(waiting)
    return Left([*ordered, *([trial] for trial in drawn)], len(finished), repeats, len(drawn))
