"""The last screen of a sweep: leaderboard, what it means, and the next commands."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from workflows.sweep import Outcome

_MAX_ROWS = 20


def print_summary(outcome: Outcome, console: Console) -> None:
    """Print the end of a sweep to `console`."""
    if outcome.already_finished:
        console.print("Nothing left to do: every trial of this sweep is finished.")
    console.print(_table(outcome))
    for line in [*_findings(outcome), "", *_next_commands(outcome)]:
        console.print(line, highlight=False, soft_wrap=True)


def _table(outcome: Outcome) -> Table:
    board = outcome.leaderboard
    split_metric = board.metric
    table = Table(box=None, pad_edge=False, header_style="bold")
    right = {"rank", "lr", "seed", "epoch", "validation", "test", "trained", "time"}
    for name in ("rank", "model", "freeze", "lr", "seed", "status", "epoch", "validation", "test", "trained", "time"):
        table.add_column(name, justify="right" if name in right else "left", no_wrap=name != "status")
    for row in board.rows[:_MAX_ROWS]:
        style = "bold green" if row["trial_id"] == board.champion else "dim" if row["kind"] == "baseline" else ""
        table.add_row(*map(Text, _cells(row, split_metric)), style=style)
    if len(board.rows) > _MAX_ROWS:
        table.add_row("", f"… {len(board.rows) - _MAX_ROWS} more in leaderboard.csv")
    table.caption = f"validation and test: {split_metric}; ranked by validation, test only reports"
    table.caption_justify = "left"
    return table


def _cells(row: dict[str, Any], metric: str) -> list[str]:
    def number(value: float | None, shape: str) -> str:
        return "" if value is None else format(value, shape)

    return [
        number(row["rank"], "d"),
        row["model"],
        _policy(row),
        number(row["learning_rate"], "g"),
        number(row["seed"], "d"),
        f"{row['status']}({row['reason']})" if row["reason"] else row["status"],
        number(row["epoch"], "d"),
        number(row[f"validation/{metric}"], ".4f"),
        number(row[f"test/{metric}"], ".4f"),
        _millions(row["trainable_parameters"]),
        number(row["seconds"], ".0f") + (" s" if row["seconds"] is not None else ""),
    ]


def _policy(row: dict[str, Any]) -> str:
    """The freeze policy and the other axes in use, which stand between `seed` and `status` in a row."""
    keys = list(row)
    axes = keys[keys.index("seed") + 1 : keys.index("status")]
    return ", ".join([row["freeze"] or "", *(f"{axis} {row[axis]}" for axis in axes if row[axis] is not None)])


def _millions(count: int | None) -> str:
    if count is None:
        return ""
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.1f} k"


def _findings(outcome: Outcome) -> list[str]:
    """Sentences that a reader takes away; differences are plain differences, without a test."""
    board = outcome.leaderboard
    lines = []
    if board.champion:
        best = board.row(board.champion)
        lines.append("")
        lines.append(
            f"Champion: [bold]{escape(best['model'])} · {best['freeze']} · lr {best['learning_rate']:g}[/] "
            f"(trial {board.champion}): test {board.metric} {best[f'test/{board.metric}']:.4f}."
        )
        lines += [_against(best, row, board.metric) for row in board.rows if row["kind"] == "baseline"]
    for row in board.rows:
        if row["status"] == "FAILED":
            lines.append(f"[red]FAILED({row['reason']})[/] trial {row['trial_id']}: {escape(row['message'] or '')}")
    if outcome.tracking_error:
        lines.append(f"[yellow]MLflow has not got everything:[/] {escape(outcome.tracking_error)}")
        lines.append("  Nothing is lost: the same command again delivers the rest.")
    return lines


def _against(best: dict[str, Any], baseline: dict[str, Any], metric: str) -> str:
    difference = best[f"test/{metric}"] - baseline[f"test/{metric}"]
    return f"  against {baseline['model']}: {difference:+.4f} on test ({baseline[f'test/{metric}']:.4f})."


def _program() -> str:
    """How to call `fleetune` from here: by its name where that is found, else by its path."""
    beside = Path(sys.executable).parent / "fleetune"
    if shutil.which("fleetune") or not beside.exists():
        return "fleetune"
    return str(beside.relative_to(Path.cwd())) if beside.is_relative_to(Path.cwd()) else str(beside)


def _next_commands(outcome: Outcome) -> list[str]:
    folder, program = outcome.sweep.root, _program()
    folder = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    return [
        f"Leaderboard   {outcome.sweep.leaderboard_json}  (.csv beside it)",
        f"Review runs   {program} ui {folder} --open",
        f'Predict       {program} predict {folder} "some text"',
        f"Export        {program} export {folder} DESTINATION",
    ]
