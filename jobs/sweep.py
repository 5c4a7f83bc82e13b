"""Run a sweep, or continue it: `fleetune sweep jobs/configs/demo.yaml`, `python -m jobs.sweep …`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.run import application, run
from jobs.screen import output
from jobs.summary import print_summary

Config = Annotated[Path, typer.Argument(help="The sweep file (YAML).", show_default=False)]
Overrides = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Set one value of the sweep file; may be given many times."),
]


def sweep(config: Config, overrides: Overrides = []) -> None:  # noqa: B006 - typer reads it, nobody writes it
    """Run the sweep that a file describes. The same command again continues it.

    **Examples**

    - `fleetune sweep jobs/configs/demo.yaml`
    - `fleetune sweep mine.yaml --set training.num_train_epochs=1 --set name=quick`
    - `fleetune sweep mine.yaml --set 'search.space.*.model=distilbert-base-uncased'`
    - `ray job submit --working-dir . -- python -m jobs.sweep mine.yaml --set storage=/shared/runs`

    Exits with 0 when all trials are done, 2 for bad input, 3 when some trials failed, 4 when storage, cluster or
    tracking failed, 130 when interrupted.
    """
    from workflows.sweep import run_sweep

    console = output()
    outcome = run_sweep(config, overrides, console)
    print_summary(outcome, console)
    raise typer.Exit(outcome.exit_code)


if __name__ == "__main__":
    run(application(sweep=sweep))
