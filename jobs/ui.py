"""Review the runs of a sweep in MLflow: `fleetune ui runs/demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.run import application, run
from jobs.screen import say
from workflows import shell
from workflows.printable import printable


def ui(
    folder: Annotated[Path, typer.Argument(help="A sweep directory, or the storage folder of many.")] = Path("runs"),
    open_it: Annotated[bool, typer.Option("--open", help="Run the command and open the browser.")] = False,
    port: Annotated[int, typer.Option(help="Port of the UI.", min=1, max=65535)] = 5000,
) -> None:
    """Print the command that shows a sweep in the MLflow UI; `--open` runs it.

    **Examples**

    - `fleetune ui runs/demo`
    - `fleetune ui runs/demo --open --port 5001`
    """
    from workflows.review import find_ui, open_ui

    command = find_ui(folder, port)
    say(printable(shell.command(*command)))
    if open_it:
        open_ui(folder, port)


if __name__ == "__main__":
    run(application(ui=ui))
