"""What a sweep would be, before it runs: `fleetune plan mine.yaml`, `python -m jobs.plan …`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from jobs.run import application, run
from jobs.screen import Screen, output, say
from jobs.sweep import Config, Overrides

if TYPE_CHECKING:
    from workflows.forecast import Forecast
    from workflows.outlook import Outlook

_MOST_ROWS = 30
_MOST_VALUES = 6
_WIDTH = 90


def plan(
    config: Config,
    overrides: Overrides = [],  # noqa: B006 - typer reads it, nobody writes it
    probe: Annotated[
        bool, typer.Option(help="Time a few real steps of every model and policy, on the workers.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what a sweep would run, what it needs, and how long it takes, without running it.

    Every model and policy trains a few real steps on the hardware that its trials would have. When the sweep has run,
    it shows what was predicted beside what it took. With --no-probe nothing is timed and Ray is not started.

    **Examples**

    - `fleetune plan jobs/configs/demo.yaml`
    - `fleetune plan mine.yaml --set training.num_train_epochs=1`
    - `fleetune plan mine.yaml --no-probe`

    Exits with 0, 2 for bad input, 4 where the sweep could not run as it is.
    """
    from workflows.outlook import look_ahead
    from workflows.printable import json_line

    outlook = look_ahead(config, overrides, Screen(file=sys.stderr) if as_json else output(), probe=probe)
    if as_json:
        say(json_line(_as_json(outlook)))
    else:
        _show(outlook, output())
    raise typer.Exit(outlook.exit_code)


def _as_json(outlook: Outlook) -> dict[str, Any]:
    """The plan as plain values: bytes and seconds."""
    left, forecast = outlook.left, outlook.forecast
    return {
        "trials": [
            {
                "trial_id": trial.trial_id if forecast else None,
                "name": trial.name,
                "seconds": forecast.trials[trial.trial_id] if forecast else None,
            }
            for trial in left.trials
        ],
        "groups": len(left.groups),
        "finished": left.finished,
        "repeats": left.repeats,
        "drawn_later": left.drawn_later,
        "shared": vars(outlook.sharing),
        "slots": outlook.slots,
        "cpus_per_trial": outlook.asks.cpus,
        "gpus_per_trial": outlook.asks.gpus,
        "disk": vars(outlook.disk) | {"needed": outlook.disk.needed, "free": outlook.free},
        "problems": list(outlook.problems),
        "notes": list(outlook.notes),
        "forecast": (forecast.model_dump(mode="json") | {"seconds": forecast.seconds}) if forecast else None,
    }


def _show(outlook: Outlook, console: Screen) -> None:
    for line in _about(outlook):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if outlook.forecast:
        console.print()
        console.print(_kinds(outlook.forecast))
        for line in ("", *_times(outlook.forecast), "", *_axes(outlook.forecast)):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    else:
        console.print()
        console.print(_trials(outlook))
    for note in outlook.notes:
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    for problem in outlook.problems:
        console.print(f"cannot run: {problem}", style="red", markup=False, highlight=False, soft_wrap=True)


def _about(outlook: Outlook) -> Iterator[str]:
    """Trials, what they share, disk."""
    from workflows.report import numbers

    left, shared = outlook.left, outlook.sharing
    extras = [
        f"{left.finished} have ended" if left.finished else "",
        f"{left.repeats} repeats in the space are left out" if left.repeats else "",
        f"{left.drawn_later} of them drawn while the sweep runs" if left.drawn_later else "",
    ]
    count = f"{len(left.trials)} trial{'s' if len(left.trials) != 1 else ''} to run"
    yield "; ".join([count, *filter(None, extras)])
    at_once = min(outlook.slots, max(1, len(left.groups)))
    yield f"at once   {at_once}, each on {outlook.asks}"
    parts = [f"{shared.tokens} set{'s' if shared.tokens != 1 else ''} of tokens"]
    if shared.prefixes:
        named = f"{shared.prefixes} frozen prefix{'es' if shared.prefixes != 1 else ''}"
        parts.append(f"{named} for {shared.trials_on_prefixes} trials")
    if shared.groups:
        parts.append(
            f"{shared.trials_in_groups} heads train in {shared.groups} group{'s' if shared.groups != 1 else ''}"
        )
    yield f"shared    {', '.join(parts)}"
    yield f"disk      {numbers.size(outlook.disk.needed)} more, {numbers.size(outlook.free)} free"


def _kinds(forecast: Forecast) -> Table:
    """A row for each model and policy, the dearest first."""
    from workflows.report import numbers

    table = Table(box=None, pad_edge=False, header_style="bold")
    several = any(row.details for row in forecast.kinds)
    columns = ["model", "freeze", *(["which"] if several else []), "trials", "each", "share", "memory"]
    for name in columns:
        text = name in ("model", "freeze", "which")
        table.add_column(name, justify="left" if text else "right", no_wrap=not text, overflow="fold")
    for row in forecast.kinds[:_MOST_ROWS]:
        memory = numbers.size(row.peak_bytes) + (f", {row.texts_at_once} at once" if row.texts_at_once else "")
        cells = [row.model, row.freeze, *([row.details] if several else []), str(row.trials)]
        table.add_row(*map(Text, [*cells, numbers.duration(row.seconds), f"{row.share:.0%}", memory]))
    if len(forecast.kinds) > _MOST_ROWS:
        table.add_row(f"… {len(forecast.kinds) - _MOST_ROWS} more")
    return table


def _times(forecast: Forecast) -> Iterator[str]:
    """The whole sweep, and its parts."""
    from workflows.report import numbers

    yield f"time      {numbers.duration(forecast.seconds)} in all, {forecast.slots} at a time"
    yield _wrapped("          ", [f"{what} {numbers.duration(took)}" for what, took in forecast.phases.items()])


def _axes(forecast: Forecast) -> Iterator[str]:
    """What the trials of each value take together, on one slot."""
    from workflows.report import numbers

    if forecast.axes:
        yield "what each value costs: the time of its trials, one after the other"
    for name, values in forecast.axes.items():
        shown = sorted(values.items(), key=lambda item: item[1], reverse=True)
        parts = [f"{value} {numbers.duration(seconds)}" for value, seconds in shown[:_MOST_VALUES]]
        rest = sum(seconds for _, seconds in shown[_MOST_VALUES:])
        more = [f"{len(shown) - _MOST_VALUES} more {numbers.duration(rest)}"] if rest else []
        yield _wrapped(f"  {name}: ", [*parts, *more])


def _wrapped(begin: str, parts: list[str]) -> str:
    """A list in lines that fit a terminal; each part stays in one of them."""
    lines = [begin]
    for number, part in enumerate(parts, 1):
        part += ", " if number < len(parts) else ""
        if len(lines[-1]) + len(part) > _WIDTH and lines[-1].strip():
            lines.append(" " * 10)
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def _trials(outlook: Outlook) -> Table:
    """The trials themselves, where nothing was timed."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("trials in their order of dispatch", overflow="fold")
    trials = outlook.left.trials
    for trial in trials[:_MOST_ROWS]:
        table.add_row(Text(trial.name))
    if len(trials) > _MOST_ROWS:
        table.add_row(f"… {len(trials) - _MOST_ROWS} more")
    return table


if __name__ == "__main__":
    run(application(plan=plan))
