"""How the trials learned: learning curves and learning-rate schedules."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

from trainables.arguments import Metric
from trainables.records import EpochRecord
from workflows import figures
from workflows.figures import Curve
from workflows.headline import metric_name
from workflows.report.content import Content, Run
from workflows.report.page import Block, Data, Figures, Plot, Section

_NAMED = 7
# With thousands of steps and a rate of its own for each of hundreds of trials, more would be a very large file.
_SCHEDULES = 30

# Steps, rates, and rates by block: what tells one schedule from another.
Schedule = tuple[tuple[int, ...], tuple[float, ...], tuple[tuple[str, tuple[float, ...]], ...]]


def learning_curves(content: Content) -> Section | None:
    """The validation metric and the training loss of every trial by epoch."""
    learned = sorted((run for run in content.trials if run.epochs), key=lambda run: _order(run, content.metric))
    if not learned:
        return None
    named = {run.run_id for run in content.best_of_each(learned, "freeze")[:_NAMED]}
    plots = [
        _curves(content, learned, named, f"validation/{content.metric}", f"validation {metric_name(content.metric)}"),
        _curves(content, learned, named, "train/loss", "training loss"),
    ]
    lead = "The best trial of each freeze policy, by validation; all other trials are grey."
    return Section("curves", "Learning curves", lead, [Figures(plots)])


def schedules(content: Content) -> Section | None:
    """The learning rates that were applied, each distinct schedule once; by block where blocks differ."""
    distinct = _distinct(content.trials)
    if not distinct:
        return None
    blocks: list[Block] = [Figures([_rates(content, distinct), *_block_rates(content, distinct)])]
    lead = (
        "The rate that the optimizer used at each step (the head's, where blocks have rates of their own). "
        "Trials with the same rates at the same steps share one line."
    )
    return Section("schedules", "Learning-rate schedules", lead, blocks)


def _curves(content: Content, runs: list[Run], named: set[str], key: str, title: str) -> Plot:
    lines = [
        Curve(
            content.short(run),
            [record.epoch for record in run.epochs],
            [record.metrics[key] for record in run.epochs],
            run.run_id in named,
        )
        for run in runs
    ]
    rows = [
        (run.run_id, content.label(run), record.epoch, record.step, record.metrics[key])
        for run in runs
        for record in run.epochs
    ]
    return Plot(
        name=f"learning-curves-{key.replace('/', '-')}",
        title=f"{title.capitalize()} by epoch",
        alt=_course(content.label(runs[0]), runs[0].epochs, key, title, len(runs)),
        figure=figures.curves(lines, "epoch", title),
        data=Data(("trial_id", "name", "epoch", "step", key), rows),
    )


def _order(run: Run, metric: Metric) -> tuple[float, float]:
    """By rank; trials that have none, because they have not ended, by their best validation metric so far."""
    values = [record.metrics[f"validation/{metric}"] for record in run.epochs]
    return (run.row.get("rank") or math.inf, min(values) if metric == "loss" else -max(values))


def _course(name: str, records: Sequence[EpochRecord], key: str, title: str, count: int) -> str:
    """What the best trial's line does, in words."""
    values = [record.metrics[key] for record in records]
    lines = "The line of one trial." if count == 1 else f"Lines of {count} trials."
    if len(values) == 1:
        return f"{lines} The best, {name}, is at {values[0]:.4f} after epoch {records[0].epoch} in {title}."
    best = min(records, key=lambda record: (1 if key.endswith("loss") else -1) * record.metrics[key])
    return (
        f"{lines} The best, {name}, goes from {values[0]:.4f} after epoch {records[0].epoch} to {values[-1]:.4f} after "
        f"epoch {records[-1].epoch} in {title}; its best is {best.metrics[key]:.4f} after epoch {best.epoch}."
    )


def _distinct(runs: Iterable[Run]) -> dict[Schedule, list[Run]]:
    """Trials by what was applied to them. A trial that is still running is a schedule of its own, so far."""
    found: dict[Schedule, list[Run]] = {}
    for run in runs:
        if run.epochs:
            found.setdefault(_schedule(run.epochs), []).append(run)
    return found


def _schedule(epochs: Iterable[EpochRecord]) -> Schedule:
    steps: list[int] = []
    rates: list[float] = []
    blocks: dict[str, list[float]] = {}
    for record in epochs:
        steps += record.steps.step
        rates += record.steps.learning_rate
        for block, values in record.steps.block_learning_rates.items():
            blocks.setdefault(block, []).extend(values)
    return tuple(steps), tuple(rates), tuple((block, tuple(values)) for block, values in blocks.items())


def _rates(content: Content, distinct: dict[Schedule, list[Run]]) -> Plot:
    lines, rows = [], []
    for index, ((steps, rates, _), runs) in enumerate(itertools.islice(distinct.items(), _SCHEDULES)):
        name = _schedule_name(content, runs)
        lines.append(Curve(name, steps, rates, index < _NAMED))
        rows += [(runs[0].run_id, name, step, rate) for step, rate in zip(steps, rates, strict=True)]
    peaks = [max(rates) for _, rates, _ in distinct]
    one, more = len(distinct) == 1, len(distinct) > _SCHEDULES
    drawn = f" Those of the {_SCHEDULES} best-ranked are drawn." if more else ""
    return Plot(
        name="learning-rates",
        title="Learning rate by optimizer step",
        alt=f"{len(distinct)} distinct schedule{'' if one else 's'}; peak rates from {min(peaks):g} to {max(peaks):g}."
        f"{drawn}",
        figure=figures.schedules(lines),
        data=Data(("first_trial_id", "name", "step", "learning_rate"), rows),
    )


def _schedule_name(content: Content, runs: list[Run]) -> str:
    if len(runs) == 1:
        return content.short(runs[0])
    policies = ", ".join(dict.fromkeys(run.policy for run in runs))
    return f"lr {runs[0].row['learning_rate']:g} ({len(runs)} trials: {policies})"


def _block_rates(content: Content, distinct: dict[Schedule, list[Run]]) -> Iterable[Plot]:
    """The best-ranked trial whose blocks learn at rates of their own."""
    for (steps, _, blocks), runs in distinct.items():
        if not blocks:
            continue
        rates = dict(blocks)
        peaks = {block: max(values) for block, values in rates.items()}
        low, high = min(peaks, key=peaks.__getitem__), max(peaks, key=peaks.__getitem__)
        yield Plot(
            name="learning-rates-by-block",
            title=f"Learning rate by block: {content.label(runs[0])}",
            alt=f"Peak rates of {len(rates)} blocks, from {peaks[low]:.3g} ({low}) to {peaks[high]:.3g} ({high}).",
            figure=figures.block_rates(steps, rates),
            data=Data(("step", *rates), list(zip(steps, *rates.values(), strict=True))),
        )
        return
