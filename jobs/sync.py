"""What MLflow has not got of a sweep, delivered: `fleetune sync runs/demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from jobs.run import application, run
from jobs.screen import output


def sync(
    folder: Annotated[Path, typer.Argument(help="A sweep directory, finished or not.", show_default=False)],
    uri: Annotated[
        str | None, typer.Option(metavar="URI", help="Another store or server than the sweep's own.")
    ] = None,
    experiment: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another experiment than the sweep's own.")
    ] = None,
) -> None:
    """Deliver to MLflow what it has not got of a sweep; doing so again adds nothing.

    **Examples**

    - `fleetune sync runs/demo` after its server was away
    - `fleetune sync runs/demo --uri http://127.0.0.1:5000` shows a sweep in another server

    Exits with 0 when everything is there, 2 for bad input, 4 when the store did not take everything or the sweep is
    being driven.
    """
    from trainables.directory import SweepDirectory
    from workflows import shell
    from workflows.sync import sync as deliver

    console = output()
    delivered = deliver(SweepDirectory(folder), uri, experiment, console)
    console.print(
        escape(f"{delivered.runs} runs of trials and baselines in experiment {delivered.experiment!r}"),
        escape(f"Review runs   {shell.command(*delivered.review)}"),
        sep="\n",
        highlight=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    run(application(sync=sync))
