"""Fleetune's test accuracy against the plain loop's, over several seeds: `python -m jobs.quality`."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from jobs.bench import Out
from jobs.run import application, run
from jobs.screen import output
from jobs.sweep import Overrides

_CONFIG = Path(__file__).parent / "configs" / "quality.yaml"

Config = Annotated[Path, typer.Argument(help="A sweep file with a grid and several seeds; by default quality.yaml.")]


def quality(
    config: Config = _CONFIG,
    out: Out = None,
    overrides: Overrides = [],  # noqa: B006 - typer reads it, nobody writes it
) -> None:
    """Train each point with several seeds by Fleetune and by the loop of the tutorials, and compare their means.

    **Examples**

    - `python -m jobs.quality --out quality.json`
    - `python -m jobs.quality --set data.path=imdb.parquet --set training.num_train_epochs=2`
    """
    from workflows.bench.quality import compare_quality
    from workflows.sweep_file import load

    console = output()
    found = compare_quality(load(config, overrides), console.print)
    table = Table("point", "Fleetune", "plain loop", "difference", "its standard error")
    for each in found:
        sides = (f"{statistics.fmean(side):.4f} ± {statistics.stdev(side):.4f}" for side in (each.ours, each.plain))
        table.add_row(escape(each.point), *sides, f"{each.difference:+.4f}", f"{each.standard_error:.4f}")
    console.print(f"test accuracy, mean and standard deviation over {len(found[0].seeds)} seeds")
    console.print(table)
    if out:
        out.write_text(json.dumps([each.model_dump() for each in found], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(application(quality=quality))
