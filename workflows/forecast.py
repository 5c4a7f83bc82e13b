"""What a sweep is going to take: from measured parts of trials to seconds of each, of the sweep, and of every axis.

Pure: what was measured comes in as values. A trial takes its setup, its epochs, and an end; frozen layers run once,
for the first trial that needs them, and whoever comes meanwhile waits. Groups go onto slots as they are dispatched,
longest first, each onto the slot that is free first (list scheduling, Graham 1966).

<sweep>/forecast.json   Forecast, what `fleetune plan` predicted
<sweep>/took.json       Took, what the last run of the sweep took
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainables.arguments import Frozen, Precision
from trainables.directory import SweepDirectory
from trainables.errors import CorruptFile
from trainables.files import sha256_json
from trainables.records import Record, Result
from trainables.timing import Timing
from workflows import plan
from workflows.kinds import Group, Kind, details, prefix_key, timing_of
from workflows.plan import PlannedTrial
from workflows.prepare import Prepared

# A value of an axis that a trial does not have.
ABSENT = "–"


class KindForecast(Frozen):
    """The trials of one kind: `seconds` is one trial's share of what its group takes, `share` that of all trials."""

    model: str
    freeze: str
    details: str
    trials: int
    together: int
    seconds: float
    share: float
    peak_bytes: int | None
    texts_at_once: int | None


class Forecast(Record):
    """What a sweep is predicted to take.

    `key` is of the sweep that it is for (see `key`), `created` milliseconds since 1970. `phases` are the seconds of
    the sweep's parts in their order, `trials` those of each trial: its share of its group, and of the frozen layers
    that it needs. `drawn_later` of them are drawn while the sweep runs, and random ones stand for them. `axes` has,
    for each axis that varies, what all trials of a value take together. `probed_seconds` went into measuring.
    """

    key: str
    created: int
    slots: int
    asks: str
    precision: Precision
    device: str
    phases: dict[str, float]
    kinds: tuple[KindForecast, ...]
    trials: dict[str, float]
    drawn_later: int
    axes: dict[str, dict[str, float]]
    probed_seconds: float

    @property
    def seconds(self) -> float:
        """The whole command."""
        return sum(self.phases.values())


class Took(Record):
    """What the last run of a sweep took that came to its end; `key` and `phases` as in Forecast."""

    key: str
    phases: dict[str, float]

    @property
    def seconds(self) -> float:
        return sum(self.phases.values())


@dataclass(frozen=True)
class Work:
    """What a slot has to do for a group: `seconds`, after the frozen layers of `prefix`, where it needs any."""

    seconds: float
    prefix: str | None = None
    prefix_seconds: float = 0.0


@dataclass(frozen=True)
class Span:
    """When a group runs, in seconds after the first dispatch, and on which slot."""

    slot: int
    begin: float
    end: float


def schedule(works: Iterable[Work], slots: int, startup: float = 0.0) -> list[Span]:
    """Work onto slots in the order given, each onto the slot that is free first; a slot's process starts once.

    The first to need a prefix computes it, others wait until it is there.
    """
    free, fresh = [(0.0, slot) for slot in range(slots)], set(range(slots))
    ready: dict[str, float] = {}
    spans = []
    for work in works:
        at, slot = heapq.heappop(free)
        began = at + (startup if slot in fresh else 0.0)
        fresh.discard(slot)
        if work.prefix is not None:
            ready.setdefault(work.prefix, began + work.prefix_seconds)
            began = max(began, ready[work.prefix])
        end = began + work.seconds
        spans.append(Span(slot, at, end))
        heapq.heappush(free, (end, slot))
    return spans


def makespan(spans: Iterable[Span]) -> float:
    """When the last one ends."""
    return max((span.end for span in spans), default=0.0)


def group_seconds(group: Group, timing: Timing, steps_of_epoch: int) -> float:
    """What a group takes once its frozen layers are there. `steps_of_epoch` are optimizer steps."""
    training = group[0].training
    epochs, runs = training.num_train_epochs, len(group) / timing.together
    each = epochs * (timing.validation + timing.commit) + timing.test + timing.end
    midway = 0
    if training.save_steps and timing.together == len(group) == 1:
        midway = epochs * steps_of_epoch // training.save_steps
    return runs * (timing.setup + epochs * timing.epoch) + len(group) * each + midway * timing.commit


def works(groups: Sequence[Group], timings: Mapping[Kind, Timing], train_texts: int) -> list[Work]:
    """What each group has to do; a kind that was not timed counts as the one that is most like it."""
    found = []
    for group in groups:
        timing = timing_of(group, timings)
        steps = group[0].training.optimizer_steps(train_texts)
        found.append(Work(group_seconds(group, timing, steps), prefix_key(group[0]), timing.prefix))
    return found


def trial_seconds(groups: Sequence[Group], found: Sequence[Work]) -> dict[str, float]:
    """Each trial's share: of its group's work, and of the frozen layers that it needs with others."""
    users: dict[str, int] = {}
    for group, work in zip(groups, found, strict=True):
        if work.prefix is not None:
            users[work.prefix] = users.get(work.prefix, 0) + len(group)
    seconds: dict[str, float] = {}
    paid: dict[str, float] = {}
    for group, work in zip(groups, found, strict=True):
        shared = 0.0
        if work.prefix is not None:
            shared = paid.setdefault(work.prefix, work.prefix_seconds) / users[work.prefix]
        seconds |= {trial.trial_id: work.seconds / len(group) + shared for trial in group}
    return seconds


def by_kind(
    groups: Sequence[Group], timings: Mapping[Kind, Timing], seconds: Mapping[str, float]
) -> tuple[KindForecast, ...]:
    """What the trials of each kind take, the dearest kind first."""
    total = sum(seconds.values()) or 1.0
    members: dict[Kind, list[PlannedTrial]] = {}
    like: dict[Kind, Group] = {}
    for group in groups:
        kind = Kind.of(group)
        members.setdefault(kind, []).extend(group)
        like.setdefault(kind, group)
    shown = details(members)
    rows = []
    for kind, trials in members.items():
        spent, timing = sum(seconds[trial.trial_id] for trial in trials), timing_of(like[kind], timings)
        rows.append(
            KindForecast(
                model=kind.model.name,
                freeze=kind.freeze,
                details=shown[kind],
                trials=len(trials),
                together=kind.together,
                seconds=spent / len(trials),
                share=spent / total,
                peak_bytes=timing.peak_bytes,
                texts_at_once=timing.texts_at_once,
            )
        )
    return tuple(sorted(rows, key=lambda row: row.share, reverse=True))


def by_axis(trials: Sequence[PlannedTrial], seconds: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """For each axis that varies, the seconds of all trials of each value; every axis adds up to all trials."""
    values = {trial.trial_id: _axes(trial) for trial in trials}
    names = dict.fromkeys(name for found in values.values() for name in found)
    sums: dict[str, dict[str, float]] = {}
    for name in names:
        for trial_id, found in values.items():
            of_axis = sums.setdefault(name, {})
            value = found.get(name, ABSENT)
            of_axis[value] = of_axis.get(value, 0.0) + seconds[trial_id]
    return {name: found for name, found in sums.items() if len(found) > 1}


def key(prepared: Prepared, left: Sequence[PlannedTrial], slots: int) -> str:
    """Hash of what decides how long a run of a sweep takes on one machine; `left` are the trials that it runs.

    Of a search that draws while it runs, `left` are none.
    """
    config = prepared.config
    return sha256_json(
        {
            "trials": sorted(trial.trial_id for trial in left),
            "search": config.search.model_dump(mode="json"),
            "training": config.training.model_dump(mode="json"),
            "data": prepared.data.fingerprint,
            "labels": list(prepared.data.labels),
            "resources": config.resources.model_dump(mode="json"),
            "baselines": list(config.baselines),
            "slots": slots,
        }
    )


def compared(sweep: SweepDirectory) -> tuple[Forecast, Took] | None:
    """What was predicted for the last run of a sweep, and what it took; None where either is missing or of another."""
    try:
        forecast, took = Forecast.read(sweep.forecast), Took.read(sweep.took)
    except (FileNotFoundError, CorruptFile, ValueError):
        return None
    return (forecast, took) if forecast.key == took.key else None


def actual_seconds(groups: Iterable[Sequence[str]], results: Mapping[str, Result]) -> dict[str, float]:
    """Each finished trial's share of the time that its group was under way."""
    seconds: dict[str, float] = {}
    for group in groups:
        ended = [results[name] for name in group if name in results and results[name].status == "DONE"]
        if ended and len(ended) == len(group):
            took = max(result.ended for result in ended) - min(result.started for result in ended)
            seconds |= {result.trial_id: took / 1000 / len(ended) for result in ended}
    return seconds


def _axes(trial: PlannedTrial) -> dict[str, str]:
    named: dict[str, Any] = {
        "model": trial.model.name,
        "freeze": trial.freeze,
        "learning_rate": trial.training.learning_rate,
        **trial.axes,
        "seed": trial.seed,
    }
    return {name: plan.number(value) for name, value in named.items()}
