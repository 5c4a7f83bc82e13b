"""A classifier as a directory that transformers loads: `fleetune export runs/demo classifier`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.run import application, run
from jobs.screen import say
from jobs.source import Source
from workflows.printable import printable


def export(
    source: Source,
    destination: Annotated[
        Path | None, typer.Argument(help="A new or empty directory; without one, SOURCE/export.", show_default=False)
    ] = None,
) -> None:
    """Write a full model directory for `transformers.pipeline("text-classification", DIRECTORY)`.

    **Examples**

    - `fleetune export runs/demo my-classifier` – the champion of a sweep
    - `fleetune export runs/demo/trials/0123456789ab` – one trial
    - `fleetune export models:/reviews@champion my-classifier`
    """
    from workflows.export import export as write

    if destination is None:
        destination = Path("export") if source.startswith("models:/") else Path(source) / "export"
    say(printable(str(write(source, destination))))


if __name__ == "__main__":
    run(application(export=export))
