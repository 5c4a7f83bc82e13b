"""Results to ranks. Derived from the sweep directory alone, so it can be rebuilt at any time.

Points rank by the mean of the validation metric over their seeds, trials within their point; points of which a seed
failed or was stopped come after those of which none did. Baselines rank among them and are never champion; STOPPED come
after all DONE; FAILED have no rank. Test scores are shown, never read.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from trainables.arguments import Metric
from trainables.directory import SweepDirectory
from trainables.files import read_json, write_json, write_text
from trainables.records import Result
from trainables.redaction import redact
from workflows import confidence, knobs, points, verdict
from workflows.headline import on_lost_seeds, point_name
from workflows.plan import PlannedTrial
from workflows.spreadsheet import as_csv
from workflows.verdict import Verdict

_SCORES = [f"{split}/{metric}" for split in ("validation", "test") for metric in ("accuracy", "f1_macro", "loss")]
# What a trial cost, how far that moved its weights, and what predicting with it costs; from its result, its
# checkpoint and its inference graph.
_COSTS = ("seconds", "train_seconds", "peak_memory_bytes", "texts_at_once", "moved", "checkpoint_bytes")
_INFERENCE = ("latency_p50_ms", "latency_p95_ms", "throughput")
_CALIBRATION = confidence.COLUMNS
_RANKED = ("DONE", "STOPPED")

Row = dict[str, Any]


@dataclass(frozen=True)
class Leaderboard:
    """Ranked rows, best first, with the columns of the design; `champion` is a trial id, or None if none is DONE.

    `verdict` is None where the predictions have not been looked at. `warnings` are sentences on points that
    did not finish all their seeds (`workflows.points`) and trials that did not do what they were told (`.knobs`).
    """

    metric: Metric
    rows: list[Row]
    champion: str | None
    verdict: Verdict | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        """The column that ranks."""
        return f"validation/{self.metric}"

    @property
    def run_status(self) -> Literal["FINISHED", "FAILED"]:
        """How MLflow says that the sweep ended: FAILED where trials failed and none could be chosen."""
        failed = any(row["status"] == "FAILED" for row in self.rows)
        return "FAILED" if failed and self.champion is None else "FINISHED"

    def row(self, trial_id: str) -> Row:
        """The row of a trial, or of a baseline by its name."""
        return next(row for row in self.rows if row["trial_id"] == trial_id)

    @classmethod
    def read(cls, sweep: SweepDirectory) -> Self | None:
        """The leaderboard that was written last, or None. Raises CorruptFile."""
        try:
            stored = read_json(sweep.leaderboard_json)
        except FileNotFoundError:
            return None
        return cls(**{**stored, "verdict": verdict.stored(stored.get("verdict"))})

    def judged(self, sweep: SweepDirectory, classes: int) -> Self:
        """The same ranks, with what the sweep directory proves: intervals, ties, the verdict, and what to doubt."""
        found, columns = verdict.judge(sweep, self.rows, self.champion, self.metric, classes)
        rows = [row | columns.get(row["trial_id"], dict.fromkeys(verdict.COLUMNS)) for row in self.rows]
        done = [row for row in rows if row["kind"] == "trial" and row["status"] == "DONE"]
        several = len({row.get("seed") for row in done}) > 1
        names = {row["trial_id"]: point_name(row) + (f" · seed {row.get('seed')}" if several else "") for row in done}
        warnings = [*on_lost_seeds(rows, self.champion, self.metric), *knobs.findings(sweep, names)]
        return replace(self, rows=rows, verdict=found, warnings=warnings)

    def write(self, sweep: SweepDirectory) -> None:
        """Write leaderboard.json and leaderboard.csv."""
        found = self.verdict and self.verdict.model_dump(mode="json")
        own = {"metric": self.metric, "champion": self.champion, "rows": self.rows}
        write_json(sweep.leaderboard_json, {**own, "verdict": found, "warnings": self.warnings})
        columns = list(self.rows[0])
        write_text(sweep.leaderboard_csv, as_csv([columns, *([row[name] for name in columns] for row in self.rows)]))


def build(
    planned: Sequence[PlannedTrial],
    results: dict[str, Result],
    baselines: Sequence[str],
    metric: Metric,
    costs: Mapping[str, Mapping[str, float | int | None]] | None = None,
) -> Leaderboard:
    """Rank trials and baselines. `results` is keyed by trial id or baseline name; a missing one is PENDING.

    `costs` has, by the same keys, what was measured beside a result: checkpoint_bytes, inference, calibration.
    """
    axes = list(dict.fromkeys(axis for trial in planned for axis in trial.axes))
    rows = [_trial_row(trial, results.get(trial.trial_id), axes) for trial in planned]
    rows += [_baseline_row(name, results.get(name), axes) for name in baselines]
    for row in rows:
        row |= (costs or {}).get(row["trial_id"], {})
    _add_point_statistics(rows, f"validation/{metric}")
    behind = points.set_back(rows)
    rows = sorted(rows, key=lambda row: _order(row, rows, behind, metric))
    for rank, row in enumerate((row for row in rows if row["status"] in _RANKED), start=1):
        row["rank"] = rank
    champion = next((row["trial_id"] for row in rows if row["kind"] == "trial" and row["status"] == "DONE"), None)
    return Leaderboard(metric, rows, champion)


def _trial_row(trial: PlannedTrial, result: Result | None, axes: list[str]) -> Row:
    named = {
        "point_id": trial.point_id,
        "trial_id": trial.trial_id,
        "model": trial.model.name,
        "freeze": trial.freeze,
        "learning_rate": trial.training.learning_rate,
        "seed": trial.seed,
    }
    return {"rank": None, "kind": "trial"} | named | {axis: trial.axes.get(axis) for axis in axes} | _outcome(result)


def _baseline_row(name: str, result: Result | None, axes: list[str]) -> Row:
    named = {"point_id": name, "trial_id": name, "model": name, "freeze": None, "learning_rate": None, "seed": None}
    return {"rank": None, "kind": "baseline"} | named | dict.fromkeys(axes) | _outcome(result)


def _outcome(result: Result | None) -> Row:
    counts = ("trainable_parameters", "total_parameters")
    empty = dict.fromkeys(
        ("epoch", *_SCORES, "point_mean", "point_std", *counts, *_COSTS, *_INFERENCE, *_CALIBRATION, *verdict.COLUMNS)
    )
    if result is None:
        return {"status": "PENDING", "reason": None, "message": None} | empty
    return {
        "status": result.status,
        "reason": result.reason,
        "message": result.message and redact(result.message),
        **empty,
        "epoch": result.epoch,
        **{name: result.metrics.get(name) for name in _SCORES},
        "trainable_parameters": result.trainable_parameters,
        "total_parameters": result.total_parameters,
        "seconds": result.seconds,
        "train_seconds": result.train_seconds,
        "peak_memory_bytes": result.peak_memory_bytes,
        "texts_at_once": result.texts_at_once,
        "moved": result.moved,
    }


def _add_point_statistics(rows: list[Row], key: str) -> None:
    """Mean and sample standard deviation of the metric over a point's finished seeds; one seed has no deviation."""
    for row in rows:
        if row["status"] == "DONE":
            same = [other[key] for other in _point(rows, row)]
            row["point_mean"] = statistics.fmean(same)
            row["point_std"] = statistics.stdev(same) if len(same) > 1 else None


def _order(row: Row, rows: list[Row], behind: set[str], metric: Metric) -> tuple[Any, ...]:
    """Sort key: the state, whether the point is set back, the point (mean, loss, parameters, id), then the trial in it
    (metric, loss, id).
    """
    if row["status"] not in _RANKED:
        return (len(_RANKED), row["status"], row["trial_id"])
    sign = 1 if metric == "loss" else -1
    value, loss = row[f"validation/{metric}"], row["validation/loss"]
    mean, mean_loss = value, loss
    if row["status"] == "DONE":
        mean, mean_loss = row["point_mean"], statistics.fmean(other["validation/loss"] for other in _point(rows, row))
    is_behind = row["status"] == "DONE" and row["point_id"] in behind
    point = (is_behind, sign * mean, mean_loss, row["trainable_parameters"] or 0, row["point_id"])
    return (_RANKED.index(row["status"]), *point, sign * value, loss, row["trial_id"])


def _point(rows: list[Row], row: Row) -> list[Row]:
    """The finished rows of a row's point."""
    return [other for other in rows if other["point_id"] == row["point_id"] and other["status"] == "DONE"]
