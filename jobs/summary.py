"""The last screen of a sweep: leaderboard, what it means, and the next commands."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from jobs.screen import print_whole, width_of
from workflows import forecast, headline, plan, shell
from workflows.headline import other_axes
from workflows.report import planned
from workflows.sweep import Outcome

_MAX_ROWS = 20
# The first is left out first.
_DISPENSABLE = ("per text", "trained", "time", "epoch", "seed")


def print_summary(outcome: Outcome, console: Console) -> None:
    """Print the end of a sweep to `console`."""
    if outcome.already_finished:
        console.print("Nothing left to do: every trial of this sweep is finished.")
    print_whole(_table(outcome, console), console)
    for line in [*_findings(outcome), "", *_next_commands(outcome)]:
        console.print(line, highlight=False, soft_wrap=True)


def _table(outcome: Outcome, console: Console) -> Table:
    """The leaderboard; on a narrow terminal without the columns that one can best do without."""
    for left_out in range(len(_DISPENSABLE) + 1):
        table = _columns(outcome, _DISPENSABLE[:left_out])
        if width_of(table, console) <= console.width:
            break
    return table


def _columns(outcome: Outcome, left_out: Collection[str]) -> Table:
    board = outcome.leaderboard
    several = any(row["point_std"] is not None for row in board.rows)
    tied = len({row["point_id"] for row in board.rows if row.get("tied")}) > 1
    table = Table(box=None, pad_edge=False, header_style="bold")
    cells = [_cells(row, board.metric, several, tied) for row in board.rows[:_MAX_ROWS]]
    names = [name for name in cells[0] if name not in left_out]
    for name in names:
        left = name in ("model", "freeze", "status")
        table.add_column(name, justify="left" if left else "right", no_wrap=name != "status")
    for row, values in zip(board.rows, cells, strict=False):
        style = "bold green" if row["trial_id"] == board.champion else "dim" if row["kind"] == "baseline" else ""
        table.add_row(*(Text(values[name]) for name in names), style=style)
    if len(board.rows) > _MAX_ROWS:
        table.add_row("", f"… {len(board.rows) - _MAX_ROWS} more in leaderboard.csv")
    seeds = "; mean ± standard deviation over the seeds of a point" if several else ""
    group = "\n≈ cannot be told from the champion by predictions on validation" if tied else ""
    more = f"\nin leaderboard.csv also: {', '.join(left_out)}" if left_out else ""
    table.caption = f"validation and test: {board.metric}; ranked by validation, test only reports{seeds}{group}{more}"
    table.caption_justify = "left"
    return table


def _cells(row: dict[str, Any], metric: str, several_seeds: bool, tied: bool) -> dict[str, str]:
    """What a row shows, by the name of its column."""

    def number(value: float | None, shape: str, unit: str = "") -> str:
        return "" if value is None else f"{value:{shape}}{unit}"

    spread = {"mean ± std": _spread(row)} if several_seeds else {}
    group = {"≈": "≈" if row.get("tied") else ""} if tied else {}
    return {
        "rank": number(row["rank"], "d"),
        "model": row["model"],
        "freeze": _policy(row),
        "lr": "" if row["learning_rate"] is None else plan.number(row["learning_rate"]),
        "seed": number(row["seed"], "d"),
        "status": f"{row['status']}({row['reason']})" if row["reason"] else row["status"],
        "epoch": number(row["epoch"], "d"),
        **spread,
        "validation": number(row[f"validation/{metric}"], ".4f"),
        **group,
        "test": number(row[f"test/{metric}"], ".4f"),
        "trained": _millions(row["trainable_parameters"]),
        "time": number(row["seconds"], ".0f", " s"),
        "per text": number(row["latency_p50_ms"], ".3g", " ms"),
    }


def _spread(row: dict[str, Any]) -> str:
    if row["point_std"] is None:
        return ""
    return f"{row['point_mean']:.4f} ± {row['point_std']:.4f}"


def _policy(row: dict[str, Any]) -> str:
    """The freeze policy and the other axes in use."""
    axes = (f"{axis} {plan.number(value)}" for axis, value in other_axes(row).items())
    return ", ".join([row["freeze"] or "", *axes])


def _millions(count: int | None) -> str:
    if count is None:
        return ""
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.1f} k"


def _findings(outcome: Outcome) -> list[str]:
    """Sentences that a reader takes away."""
    board = outcome.leaderboard
    lines = []
    found = headline.find(board.rows, board.champion, board.metric, outcome.test_texts, board.verdict)
    if found:
        lines += ["", f"[bold]{escape(found.result)}[/]"]
        lines += [f"  [bold]{escape(sentence)}[/]" for sentence in found.verdict[:1]]
        lines += [f"  {escape(sentence)}" for sentence in found.verdict[1:]]
        lines += [f"  {escape(versus.sentence)}" for versus in found.versus]
        lines.append(f"  [dim]{escape(found.caveat)}[/]")
    lines += [f"[yellow]Look again:[/] {escape(warning)}" for warning in board.warnings]
    for row in board.rows:
        if row["status"] == "FAILED":
            lines.append(f"[red]FAILED({row['reason']})[/] trial {row['trial_id']}: {escape(row['message'] or '')}")
    if outcome.tracking_error:
        lines.append(f"[yellow]MLflow has not got everything:[/] {escape(outcome.tracking_error)}")
        command = shell.command("fleetune", "sync", shell.near(outcome.sweep.root))
        lines.append(f"  Nothing is lost: {escape(command)} delivers the rest.")
    if compared := forecast.compared(outcome.sweep):
        lines += ["", planned.sentence(*compared)]
    return lines


def _next_commands(outcome: Outcome) -> list[str]:
    folder = shell.near(outcome.sweep.root)
    report = [f"Report        {outcome.sweep.report}"] if outcome.sweep.report.exists() else []
    lines = [
        *report,
        f"Leaderboard   {outcome.sweep.leaderboard_json}  (.csv beside it)",
        f"Review runs   {shell.command('fleetune', 'ui', folder, '--open')}",
        f'Predict       {shell.command("fleetune", "predict", folder)} "some text"',
        f"Export        {shell.command('fleetune', 'export', folder, 'DESTINATION')}",
    ]
    return [escape(line) for line in lines]
