"""What a sweep costs as it grows: `python -m jobs.curves`, `make curves`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from jobs.bench import Out
from jobs.run import application, run
from jobs.screen import output
from jobs.sweep import Overrides

_CONFIG = Path(__file__).parent / "configs" / "bench.yaml"

Config = Annotated[Path, typer.Argument(help="A sweep file; by default the one for benchmarks.")]
Names = Annotated[list[str] | None, typer.Option("--curve", help="Only this one; may be given many times.")]


def curves(
    config: Config = _CONFIG,
    curve: Names = None,
    out: Out = None,
    overrides: Overrides = [],  # noqa: B006 - typer reads it, nobody writes it
) -> None:
    """Time whole sweeps as one thing grows: empty trials, heads of a group, training texts, their length.

    **Examples**

    - `python -m jobs.curves --curve trials`
    - `python -m jobs.curves --out curves.json`
    """
    from workflows.bench.curves import AXES, draw
    from workflows.sweep_file import load

    console = output()
    found = draw(lambda more: load(config, [*overrides, *more]), curve or list(AXES), console.print)
    table = Table("curve", "from … to", "seconds", "one more", "seconds for it", "largest process, GB")
    for each in found:
        table.add_row(
            each.name,
            " … ".join(str(point.value) for point in each.points),
            " … ".join(f"{point.seconds:.1f}" for point in each.points),
            each.unit,
            f"{each.seconds_per_unit:.3g}",
            " … ".join(f"{point.peak_bytes / 1e9:.2f}" for point in each.points),
        )
    console.print(table)
    if out:
        out.write_text(json.dumps([each.model_dump() for each in found], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(application(curves=curves))
