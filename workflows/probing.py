"""Timing the trials of a sweep on the hardware that they will have, and with the neighbours that they will have.

Every distinct kind of trial (model, policy, batches, heads that train at once) is probed once, on processes with the
resources of trials, as many at once as trials will run at once: what shares a memory bus is slower in company. Where
there are fewer kinds than that, some are probed several times, and the median counts.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from trainables.arguments import Precision, TrialSpec
from trainables.directory import TrialDirectory
from trainables.redaction import redact
from trainables.timing import Timing
from workflows import cluster, plan, trials
from workflows.baselines import run_baseline
from workflows.cluster import Request
from workflows.kinds import Group, Kind, tokens_key
from workflows.prepare import Prepared
from workflows.spinner import phase, spinning

# More kinds than these are not probed one by one: the rest counts as the nearest of those with the most work.
_MOST_KINDS = 24
# Baselines are fitted on no more texts than these, and what that takes is scaled.
_BASELINE_TEXTS = 2000


@dataclass(frozen=True)
class Timed:
    """What was measured: seconds of the parts of each kind, what failed and why, and the start of a worker."""

    timings: dict[Kind, Timing]
    failures: list[str]
    startup: float
    seconds: float


def time_kinds(
    prepared: Prepared,
    groups: Sequence[Group],
    precision: Precision,
    request: Request,
    slots: int,
    scratch: Path,
    console: Console,
) -> Timed:
    """Probe every kind among some groups. `scratch` lies in the storage, where trials write too."""
    from trainables import probe

    began = time.perf_counter()
    kinds = chosen(groups)
    specs = {kind: [trials.spec_of(prepared, trial, precision) for trial in group] for kind, group in kinds.items()}
    count = min(slots, len(groups))
    calls = list(_calls(specs, count, scratch))
    first = _first(specs)
    with cluster.Slots(request, count) as workers:
        with phase(console, "starting workers"):
            arrivals = workers.everywhere(probe.arrive, first[0])
        with phase(console, "tokenising"):
            _tokenise(workers, specs, kinds)
        found: dict[Kind, list[Timing]] = {}
        failures = []
        with _counted(console, len(calls)) as tell:
            for number, outcome in workers.run(probe.probe, [call for _, call in calls]):
                kind, _ = calls[number]
                tell()
                if isinstance(outcome, Timing):
                    found.setdefault(kind, []).append(outcome)
                else:
                    failures.append(_failure(kind, outcome))
    timings = {kind: _median(several) for kind, several in found.items()}
    setup = min((timing.setup for timing in timings.values()), default=0.0)
    return Timed(
        timings=timings,
        failures=list(dict.fromkeys(failures)),
        startup=max(0.0, max(arrivals, default=0.0) - setup),
        seconds=time.perf_counter() - began,
    )


def chosen(groups: Sequence[Group], most: int = _MOST_KINDS) -> dict[Kind, Group]:
    """The kinds to probe, those with the most work first, each with a group of it."""
    work: dict[Kind, float] = {}
    examples: dict[Kind, Group] = {}
    for group in groups:
        kind = Kind.of(group)
        work[kind] = work.get(kind, 0.0) + sum(map(plan.work, group))
        examples.setdefault(kind, group)
    ordered = sorted(work, key=lambda kind: work[kind], reverse=True)
    return {kind: examples[kind] for kind in ordered[:most]}


def fit_baselines(prepared: Prepared, scratch: Path) -> float:
    """Fit the baselines as a sweep does while Ray starts; returns the seconds that all texts take beyond that."""
    data, share = _sample(prepared.data.directory, scratch / "baselines")
    more = 0.0
    for name in prepared.config.baselines:
        began = time.perf_counter()
        metric = prepared.config.training.metric_for_best_model
        run_baseline(name, data, prepared.data.labels, metric, TrialDirectory(scratch / "baselines" / name))
        more += (time.perf_counter() - began) * (1 / share - 1)
    return more


def _sample(data: Path, folder: Path) -> tuple[Path, float]:
    """Splits with evenly spaced rows, and the share of the texts that they hold; small ones as they are."""
    import numpy as np
    import pyarrow.parquet as pq

    tables = {path.name: pq.read_table(path) for path in sorted(data.glob("*.parquet"))}
    total = sum(map(len, tables.values()))
    share = min(1.0, _BASELINE_TEXTS / total)
    if share == 1:
        return data, share
    folder.mkdir(parents=True)
    for name, table in tables.items():
        rows = np.linspace(0, len(table) - 1, max(1, round(share * len(table)))).astype(int)
        pq.write_table(table.take(np.unique(rows)), folder / name)
    return folder, share


def _calls(
    specs: dict[Kind, list[TrialSpec]], count: int, scratch: Path
) -> Iterator[tuple[Kind, tuple[list[TrialSpec], Path, bool]]]:
    """What to probe, in order: each kind once, and again as long as slots would be empty.

    What predicting takes is measured with the first kind of each inference graph.
    """
    graphs = set()
    for number, kind in enumerate(itertools.islice(itertools.cycle(specs), max(len(specs), count))):
        predicts = kind.graph not in graphs
        graphs.add(kind.graph)
        yield kind, (specs[kind], scratch / f"{number:03d}", predicts)


def _first(specs: dict[Kind, list[TrialSpec]]) -> list[TrialSpec]:
    """What a worker begins with: adapters where there are any, since they take an import of their own."""
    return next((found for kind, found in specs.items() if kind.lora_r is not None), next(iter(specs.values())))


def _tokenise(workers: cluster.Slots, specs: dict[Kind, list[TrialSpec]], kinds: dict[Kind, Group]) -> None:
    """Make the tokens that the sweep is going to need, where they are not there. What fails is met again."""
    from trainables.probe import tokens_of

    distinct = {tokens_key(group[0]): specs[kind][0] for kind, group in kinds.items()}
    for _ in workers.run(tokens_of, [(spec,) for spec in distinct.values()]):
        pass


@contextmanager
def _counted(console: Console, total: int) -> Iterator[Callable[[], None]]:
    """Show how many of the probes have ended: a spinner on a terminal, a line for each when piped."""
    done = itertools.count(1)

    def text(number: int) -> str:
        return f"timing steps of every model and policy: {number} of {total}"

    if console.is_terminal:
        with spinning(console, text(0)) as change:
            yield lambda: change(text(next(done)))
    else:
        console.print(f"timing steps of {total} models and policies …")
        yield lambda: console.print(text(next(done)), highlight=False)


def _failure(kind: Kind, error: Exception) -> str:
    line = " ".join(str(error).split()) or type(error).__name__
    return f"{kind.model.name} · {kind.freeze}: cannot be trained as it is: {redact(line)}"


def _median(several: Sequence[Timing]) -> Timing:
    """The medians of several timings of one kind; the most memory of all."""
    parts = ("setup", "prefix", "epoch", "longest_step", "validation", "test", "commit", "end")
    middle: dict[str, Any] = {part: statistics.median(getattr(one, part) for one in several) for part in parts}
    for part in ("one_text", "texts"):
        known = [value for one in several if (value := getattr(one, part)) is not None]
        middle[part] = statistics.median(known) if known else None
    peaks = [one.peak_bytes for one in several if one.peak_bytes is not None]
    room = [one.texts_at_once for one in several if one.texts_at_once is not None]
    middle |= {"peak_bytes": max(peaks, default=None), "texts_at_once": min(room, default=None)}
    return several[0].model_copy(update=middle)
