"""Which trials a worker runs together: heads that share their encoder, data and seed, and differ in the optimizer only.

What groups are good for is the head alone: what lies below it is computed once, and a step of one small head is
mostly overhead, which many share. Trials that train layers fill a processor by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainables.files import sha256_json
from workflows.config import SearchConfig
from workflows.plan import PlannedTrial
from workflows.search import ALGORITHMS

# Each member more makes a failure of the worker cost more; beyond this the steps get no cheaper (measured on a CPU).
MOST = 16


def groups(planned: Sequence[PlannedTrial], search: SearchConfig, earlier: Mapping[str, Any] | None) -> list[list[str]]:
    """The trials of a sweep by id, in groups, in the order in which the first of each was planned.

    Membership is fixed: whoever is in a group of the `earlier` manifest stays with its members, and trials that are
    new form groups of their own. A scheduler that stops trials and a search that learns from each take them singly.
    """
    if search.scheduler != "fifo" or ALGORITHMS[search.algorithm].draws:
        return [[trial.trial_id] for trial in planned]
    known = {trial_id: index for index, group in enumerate((earlier or {}).get("groups", [])) for trial_id in group}
    found: dict[Any, list[list[str]]] = {}
    for trial in planned:
        key = known.get(trial.trial_id, _shared(trial))
        started = found.setdefault(key, [[]])
        if len(started[-1]) == MOST:
            started.append([])
        started[-1].append(trial.trial_id)
    order = {trial.trial_id: index for index, trial in enumerate(planned)}
    return sorted((group for each in found.values() for group in each), key=lambda group: order[group[0]])


def _shared(trial: PlannedTrial) -> str:
    """Hash of what the trials of a group have in common; a trial that is alone shares its id with nobody."""
    if trial.freeze != "head":
        return trial.trial_id
    return sha256_json(
        {
            "model": trial.model.model_dump(mode="json"),
            "freeze": trial.freeze,
            "seed": trial.seed,
            "training": trial.training.without_optimizer(),
        }
    )
