"""What a reader sees first: the data, and the leaderboard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainables.records import SPLITS
from trainables.redaction import redact
from workflows.headline import interval_of, metric_name, other_axes, shown
from workflows.leaderboard import Row as BoardRow
from workflows.report import numbers
from workflows.report.content import Content, status
from workflows.report.page import Column, Facts, Paragraph, Row, Section, Table

_ROWS = 50
_OPEN_CLASSES = 30


def data(content: Content) -> Section:
    """The source, its splits and classes, and what the preparation had to say."""
    about = content.manifest["data"]
    rows = about.get("rows", {})
    pairs = [
        ("Source", redact(str(about["path"]))),
        ("Texts", ", ".join(f"{count:,} {split}" for split, count in rows.items()) or numbers.NONE),
        ("Classes", f"{len(content.labels):,}"),
        ("Digest", f"sha256 {about['fingerprint']}"),
    ]
    pairs += [("Note", redact(str(note))) for note in about.get("notes", [])]
    return Section("data", "Data", "", [Facts(pairs), _classes(content)])


def board(content: Content) -> Section:
    """Every trial and baseline by rank, with the columns that say something in this sweep."""
    shown_rows = content.rows[:_ROWS]
    columns = [column for column in _columns(content) if column.is_known(content.rows)]
    rest = len(content.rows) - len(shown_rows)
    table = Table(
        caption="Trials and baselines by rank",
        columns=[Column(column.title, column.numeric) for column in columns],
        rows=[Row([column.write(row) for column in columns], _mark(content, row)) for row in shown_rows],
        note=f"… {rest:,} more in leaderboard.csv" if rest else "",
    )
    lead = (
        f"Ranked by {metric_name(content.metric)} on validation. Test was scored once, with the weights of the best "
        "epoch, and plays no part in the order."
    )
    if any(row.get("tied") for row in content.rows):
        lead += " Points that cannot be told from the champion's on validation are marked as tied."
    if content.several_seeds:
        lead += " Points rank by their mean over seeds; ± is the standard deviation between them."
    return Section("leaderboard", "Leaderboard", lead, [table])


def doubts(content: Content) -> Section | None:
    """Points without all their seeds, and trials that did not do what they were told."""
    if not content.warnings:
        return None
    lead = (
        "A point whose seeds did not all finish, a knob that does nothing, or a run that learns nothing makes a "
        "comparison mean less than it seems to."
    )
    return Section("doubts", "What to look at again", lead, [Paragraph(text) for text in content.warnings])


def _classes(content: Content) -> Table:
    counts = content.manifest["data"].get("classes", {})
    splits = [split for split in SPLITS if split in counts]
    totals = {split: sum(counts[split].values()) for split in splits}
    columns = [Column("class", numeric=False)]
    columns += [Column(title) for split in splits for title in (split, "share")]
    rows = []
    for label in content.labels:
        cells = [label]
        for split in splits:
            count = counts[split].get(label, 0)
            cells += [numbers.whole(count), numbers.percent(count / totals[split] if totals[split] else None)]
        rows.append(Row(cells))
    return Table("Texts of each class", columns, rows, folded=len(rows) > _OPEN_CLASSES)


class _BoardColumn:
    """A column of the leaderboard: its title, what it reads, and how it is written."""

    def __init__(
        self, title: str, read: Callable[[BoardRow], Any], write: Callable[[Any], str] = str, numeric: bool = True
    ) -> None:
        self.title, self._read, self._write, self.numeric = title, read, write, numeric

    def is_known(self, rows: list[BoardRow]) -> bool:
        """Whether any row has a value here."""
        return any(self._read(row) is not None for row in rows)

    def write(self, row: BoardRow) -> str:
        value = self._read(row)
        return "" if value is None else self._write(value)


def _columns(content: Content) -> list[_BoardColumn]:
    ranked = f"validation/{content.metric}"

    def key(title: str, name: str, write: Callable[[Any], str] = str, numeric: bool = True) -> _BoardColumn:
        return _BoardColumn(title, lambda row: row.get(name), write, numeric)

    return [
        key("rank", "rank", numbers.whole),
        _BoardColumn("model", _model, numeric=False),
        key("freeze", "freeze", numeric=False),
        _BoardColumn("other\naxes", _axes, numeric=False),
        key("learning\nrate", "learning_rate", numbers.general),
        key("seed", "seed"),
        _BoardColumn("status", status, numeric=False),
        key("epoch", "epoch", numbers.whole),
        key(f"validation\n{metric_name(content.metric)}", ranked, numbers.score),
        _BoardColumn("mean ± std\nover seeds", _spread, numeric=True),
        _BoardColumn("tied", _tied, numeric=False),
        key("test\naccuracy", "test/accuracy", numbers.score),
        _BoardColumn("accuracy,\n95 %", lambda row: _interval(row, "test/accuracy")),
        key("test\nmacro-F1", "test/f1_macro", numbers.score),
        _BoardColumn("macro-F1,\n95 %", lambda row: _interval(row, "test/f1_macro")),
        key("trained", "trainable_parameters", numbers.count),
        key("training\ntime", "train_seconds", numbers.duration),
        key("whole\ntime", "seconds", numbers.duration),
        key("peak\nmemory", "peak_memory_bytes", numbers.size),
        key("texts\nat once", "texts_at_once", numbers.whole),
        key("checkpoint", "checkpoint_bytes", numbers.size),
        key("time per text,\nmedian", "latency_p50_ms", numbers.milliseconds),
        key("95th\npercentile", "latency_p95_ms", numbers.milliseconds),
        key("texts / s", "throughput", lambda value: f"{value:,.0f}"),
        key("trial", "trial_id", numeric=False),
    ]


def _model(row: BoardRow) -> str:
    return f"{shown(row['trial_id'])} (baseline)" if row["kind"] == "baseline" else str(row.get("model"))


def _axes(row: BoardRow) -> str | None:
    axes = other_axes(row)
    return ", ".join(f"{axis} {value}" for axis, value in axes.items()) or None


def _spread(row: BoardRow) -> str | None:
    """Only where a point has several seeds."""
    std = row.get("point_std")
    return None if std is None else f"{row['point_mean']:.4f} ± {std:.4f}"


def _tied(row: BoardRow) -> str | None:
    return "≈" if row.get("tied") else None


def _interval(row: BoardRow, column: str) -> str | None:
    ends = interval_of(row, column)
    return f"{ends[0]:.3f}–{ends[1]:.3f}" if ends else None


def _mark(content: Content, row: BoardRow) -> Any:
    if content.champion and row["trial_id"] == content.champion.run_id:
        return "champion"
    if row["kind"] == "baseline":
        return "baseline"
    return "" if row["status"] == "DONE" else "quiet"
