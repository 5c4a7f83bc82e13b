"""The report of a sweep again, from its directory alone: `fleetune report runs/demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.run import application, run
from jobs.screen import say
from workflows.printable import printable


def report(
    folder: Annotated[Path, typer.Argument(help="A sweep directory, finished or not.", show_default=False)],
) -> None:
    """Write report.html, and figures/ with the data of each, into a sweep directory; print the page's path.

    **Examples**

    - `fleetune report runs/demo`
    """
    from trainables.directory import SweepDirectory
    from workflows.report import write_report

    say(printable(str(write_report(SweepDirectory(folder)))))


if __name__ == "__main__":
    run(application(report=report))
