"""What is wrong with the data of a sweep, before anything is spent: `fleetune check sweep.yaml`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from jobs.run import application, run
from jobs.screen import Screen, output, say
from jobs.sweep import Config, Overrides
from workflows.printable import json_line

if TYPE_CHECKING:
    from workflows.audit.finding import Checked

_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def check(
    config: Config,
    overrides: Overrides = [],  # noqa: B006 - typer reads it, nobody writes it
    near: Annotated[
        bool, typer.Option("--near", help="Look for near duplicates as well (a fraction of 1 ms a short text).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check the data of a sweep file: leaks, copies, labels, blanks, and what its tokenizers make of the texts.

    Every sweep does so first. Starts no Ray and trains nothing; the tokens that it makes are kept for the sweep.

    **Examples**

    - `fleetune check mine.yaml`
    - `fleetune check mine.yaml --near --json > findings.json`
    - `fleetune check mine.yaml --set check.drop_overlap=true`

    Exits with 2 when there is an error, with which a sweep would not begin, else with 0.
    """
    from workflows.check import check_file

    console = Screen(quiet=True) if as_json else output()
    outcome = check_file(config, overrides, console, near=near)
    if as_json:
        say(json_line(outcome.document()))
    else:
        _show(outcome.checked, console)
    raise typer.Exit(outcome.exit_code)


def _show(checked: Checked, console: Screen) -> None:
    if checked.splits:
        console.print(_figures(checked))
    console.print(f"\n{checked.tally}", highlight=False)
    for finding in checked.findings:
        grade = Text(f"{finding.grade:8}", style=_STYLES[finding.grade])
        console.print(Text.assemble(grade, f"{finding.name}: {finding.message}"), soft_wrap=True)
        for line in filter(None, (finding.where and f"rows {finding.where}", finding.remedy and f"→ {finding.remedy}")):
            console.print(Text(f"{'':8}{line}"), soft_wrap=True)


def _figures(checked: Checked) -> Table:
    """Splits in characters, and all texts in the tokens of each tokenizer."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for name in ("texts", "classes", "half up to", "95 % up to", "longest", "unit"):
        table.add_column(name, justify="right")
    for split, about in checked.splits.items():
        present = sum(count > 0 for count in about.classes.values())
        table.add_row(split, f"{about.rows:,}", str(present), *map("{:,}".format, about.characters), "characters")
    for found in checked.tokenizers:
        model = Text(f"{found.model}, max_length {found.max_length}")
        table.add_row(model, f"{found.texts:,}", "", *map("{:,}".format, found.lengths), "tokens")
    return table


if __name__ == "__main__":
    run(application(check=check))
