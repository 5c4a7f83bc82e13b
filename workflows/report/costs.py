"""What accuracy costs: freeze policies compared, and accuracy against inference time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workflows import figures
from workflows.figures import Panel, Spot
from workflows.headline import shown
from workflows.report import numbers
from workflows.report.content import Content, Run
from workflows.report.page import Block, Column, Data, Figures, Plot, Row, Section, Table

# What is compared of trials: the headings of `cost_cells`.
COSTS = ("test\naccuracy", "test\nmacro-F1", "trained\nparameters", "training\ntime", "peak\nmemory")
_NOTED = 6


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the (cost, value) points that no other beats in one and matches in the other, cheapest first.

    Less cost and more value are better. Of equal points the first is kept.
    """
    order = sorted(range(len(points)), key=lambda index: (points[index][0], -points[index][1], index))
    front: list[int] = []
    for index in order:
        if not front or points[index][1] > points[front[-1]][1]:
            front.append(index)
    return front


def policies(content: Content) -> Section | None:
    """The best trial of every model and freeze policy: accuracy, trained parameters, time and memory."""
    best = content.best_of_each(content.done, "model", "freeze")
    if not best:
        return None
    names = [" · ".join(filter(None, (content.short_model(run), run.policy))) for run in best]
    table = Table(
        "The best trial of each policy",
        [
            Column("model", numeric=False),
            Column("freeze", numeric=False),
            Column("learning\nrate"),
            *map(Column, COSTS),
        ],
        [
            Row([str(run.row["model"]), run.policy, numbers.general(run.row["learning_rate"]), *cost_cells(run)])
            for run in best
        ],
    )
    lead = "For each freeze policy the trial that is best on validation."
    return Section("policies", "Freeze policies compared", lead, [Figures([_policy_plot(best, names)]), table])


def inference(content: Content) -> Section | None:
    """Test accuracy against the time for one text, with the Pareto front."""
    timed = [run for run in (*content.done, *content.baselines) if run.row.get("latency_p50_ms")]
    if not timed:
        return None
    blocks: list[Block] = [Figures([_latency_plot(content, timed)]), _cost_table(content)]
    lead = (
        "Time from text to probabilities for one text at a time, tokenizing included. No other point is both faster "
        "and more accurate than one on the Pareto front."
    )
    return Section("inference", "Accuracy against inference time", lead, blocks)


def cost_cells(run: Run) -> list[str]:
    """The columns COSTS of a trial."""
    row = run.row
    return [
        numbers.score(row.get("test/accuracy")),
        numbers.score(row.get("test/f1_macro")),
        numbers.count(row.get("trainable_parameters")),
        numbers.duration(train_seconds(run)),
        numbers.size(row.get("peak_memory_bytes")),
    ]


def train_seconds(run: Run) -> float | None:
    """The time of a trial's optimizer steps; from its epochs where its result does not say."""
    if run.row.get("train_seconds") is not None:
        return float(run.row["train_seconds"])
    parts = [record.train_seconds for record in run.epochs]
    return sum(part for part in parts if part is not None) if parts and None not in parts else None


def _policy_plot(best: list[Run], names: list[str]) -> Plot:
    values: dict[str, list[Any]] = {
        "test accuracy": [run.row.get("test/accuracy") for run in best],
        "trained parameters": [run.row.get("trainable_parameters") for run in best],
        "training time (s)": [train_seconds(run) for run in best],
        "peak memory (MB)": [_megabytes(run.row.get("peak_memory_bytes")) for run in best],
    }
    known = {title: found for title, found in values.items() if any(value is not None for value in found)}
    shown_panels = [Panel(title, found, log=title == "trained parameters") for title, found in known.items()]
    rows = list(zip([run.run_id for run in best], names, *values.values(), strict=True))
    return Plot(
        name="freeze-policies",
        title="The best trial of each freeze policy",
        alt=_policies_in_words(best, names),
        figure=figures.panels(names, shown_panels),
        data=Data(("trial_id", "name", *(title.replace(" ", "_") for title in values)), rows),
        wide=True,
    )


def _policies_in_words(best: list[Run], names: list[str]) -> str:
    """The most accurate policy, and the one that trains fewest parameters."""
    named = [
        (name, run.row["test/accuracy"], run.row.get("trainable_parameters"))
        for name, run in zip(names, best, strict=True)
    ]
    top, accuracy, _ = max(named, key=lambda item: item[1])
    text = f"Of {len(best)} policies {top} has the highest test accuracy ({numbers.score(accuracy)})"
    known = [(name, score, count) for name, score, count in named if count is not None]
    if not known:
        return f"{text}."
    least, accuracy, fewest = min(known, key=lambda item: item[2])
    return f"{text}; {least} trains fewest parameters ({numbers.count(fewest)}) and has {numbers.score(accuracy)}."


def _megabytes(value: float | None) -> float | None:
    return None if value is None else value / 1e6


def _latency_plot(content: Content, timed: list[Run]) -> Plot:
    points = [(run.row["latency_p50_ms"], run.row["test/accuracy"]) for run in timed]
    front = pareto_front(points)
    spots = [
        Spot(*point, kind=_kind(run), note=_short(content, run) if index in front[-_NOTED:] else "")
        for index, (run, point) in enumerate(zip(timed, points, strict=True))
    ]
    rows = [
        (run.run_id, _point_name(content, run), *point, run.row.get("latency_p95_ms"), index in front)
        for index, (run, point) in enumerate(zip(timed, points, strict=True))
    ]
    listed = "; ".join(
        f"{_point_name(content, timed[index])} ({points[index][0]:.3g} ms, {points[index][1]:.4f})" for index in front
    )
    return Plot(
        name="accuracy-latency",
        title="Test accuracy against time per text",
        alt=f"{len(timed)} trials and baselines. On the Pareto front, fastest first: {listed}.",
        figure=figures.scatter(spots, "ms for one text (median)", "test accuracy", [spots[index] for index in front]),
        data=Data(("id", "name", "latency_p50_ms", "test/accuracy", "latency_p95_ms", "on_front"), rows),
    )


def _kind(run: Run) -> str:
    return f"{shown(run.run_id)} (baseline)" if run.row["kind"] == "baseline" else run.policy


def _short(content: Content, run: Run) -> str:
    if run.row["kind"] == "baseline":
        return shown(run.run_id)
    return " · ".join(filter(None, (content.short_model(run), run.policy)))


def _point_name(content: Content, run: Run) -> str:
    return shown(run.run_id) if run.row["kind"] == "baseline" else content.label(run)


def _cost_table(content: Content) -> Table:
    baselines = {run.run_id for run in content.baselines}
    columns = [Column("model", numeric=False), Column("graph", numeric=False), Column("device", numeric=False)]
    columns += map(Column, ("threads", "p50", "p95", "texts / s", "batch", "parameters", "size"))
    rows = [
        Row(
            [
                shown(cost.model),
                numbers.NONE if cost.graph_id in baselines else "merged" if cost.merged else "unmerged",
                cost.device,
                str(cost.threads),
                numbers.milliseconds(cost.latency_p50_ms),
                numbers.milliseconds(cost.latency_p95_ms),
                f"{cost.throughput:,.0f}",
                str(cost.batch_size),
                numbers.count(cost.parameters),
                numbers.size(cost.bytes),
            ]
        )
        for cost in content.costs.values()
    ]
    return Table(
        "Measured inference graphs", columns, rows, note="Trials that differ in weights alone share one graph."
    )
