"""What `fleetune plan` had predicted, beside what the trials took."""

from __future__ import annotations

from workflows import forecast, phases
from workflows.forecast import Forecast, Took
from workflows.report import numbers
from workflows.report.content import Content
from workflows.report.page import Column, Row, Section, Table


def times(content: Content) -> Section | None:
    """Trials of each model and policy: planned and actual seconds. None for a sweep that was not planned."""
    compared = forecast.compared(content.sweep)
    if compared is None:
        return None
    predicted, took = compared
    results = {run.run_id: run.result for run in content.trials if run.result}
    actual = forecast.actual_seconds(content.manifest.get("groups", []), results)
    rows = []
    for run in content.best_of_each(content.trials, "model", "freeze"):
        model, policy = run.row["model"], run.row["freeze"]
        like = [
            other.run_id for other in content.trials if (other.row["model"], other.row["freeze"]) == (model, policy)
        ]
        both = [name for name in like if name in actual and name in predicted.trials]
        if both:
            planned, real = (sum(of[name] for name in both) / len(both) for of in (predicted.trials, actual))
            cells = [numbers.duration(planned), numbers.duration(real), f"{real / planned:.2f}"]
            rows.append(Row([str(model), str(policy), numbers.whole(len(both)), *cells]))
    trials = phases.TRIALS
    lead = (
        f"Planned for all trials, {predicted.slots} at a time: {numbers.duration(predicted.phases[trials])}; they took "
        f"{numbers.duration(took.phases[trials])}. What several trials share, each of them has a part of."
    )
    columns = [Column("model", numeric=False), Column("freeze", numeric=False)]
    columns += [Column(title) for title in ("trials", "planned,\neach", "took,\neach", "took ÷\nplanned")]
    return Section("planned", "Planned and actual time", lead, [Table("Time of one trial", columns, rows)])


def sentence(forecast: Forecast, took: Took) -> str:
    """As in `Planned 3 min 10 s, took 2 min 58 s (0.94×).`"""
    ratio = took.seconds / forecast.seconds
    return f"Planned {numbers.duration(forecast.seconds)}, took {numbers.duration(took.seconds)} ({ratio:.2f}×)."
