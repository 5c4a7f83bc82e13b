"""Fleetune against the plain loop and HF Trainer + Ray Tune on the same work: `python -m jobs.bench`, `make bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jobs.run import application, run
from jobs.screen import output
from jobs.sweep import Overrides
from trainables.errors import BadInput

if TYPE_CHECKING:
    from workflows.bench.comparison import Comparison

_CONFIG = Path(__file__).parent / "configs" / "bench.yaml"

Config = Annotated[Path, typer.Argument(help="A sweep file with a grid; by default the one for benchmarks.")]
Rows = Annotated[int | None, typer.Option(min=1, help="Training texts; the same as --set data.sizes.train.")]
Epochs = Annotated[int | None, typer.Option(min=1, help="The same as --set training.num_train_epochs.")]
Rounds = Annotated[int, typer.Option(min=1, help="How often each contender runs; medians are shown.")]
Steps = Annotated[int, typer.Option(min=0, help="Steps of each trial that the plain loop is timed on; 0: all of them.")]
Contender = Annotated[list[str] | None, typer.Option("--contender", help="Only this one; may be given many times.")]


def _writable(out: Path | None) -> Path | None:
    """Measuring takes long, so what cannot be written is refused before."""
    if out and not out.parent.is_dir():
        raise BadInput(f"--out {out}: there is no folder {out.parent}")
    return out


Out = Annotated[
    Path | None,
    typer.Option(help="Write all figures to this file as JSON.", dir_okay=False, writable=True, callback=_writable),
]


def bench(
    config: Config = _CONFIG,
    rows: Rows = None,
    epochs: Epochs = None,
    rounds: Rounds = 3,
    plain_steps: Steps = 4,
    contender: Contender = None,
    out: Out = None,
    overrides: Overrides = [],  # noqa: B006 - typer reads it, nobody writes it
) -> None:
    """Time the whole command of each contender, from its start to its end, side by side in one run.

    **Examples**

    - `python -m jobs.bench --rows 500 --epochs 1 --rounds 1`
    - `python -m jobs.bench --out bench.json`
    - `python -m jobs.bench --contender 'Fleetune, cold' --contender 'Fleetune, warm'`
    """
    from workflows.bench.comparison import compare
    from workflows.bench.contenders import CONTENDERS
    from workflows.sweep_file import load

    console = output()
    sizes = [] if rows is None else [f"data.sizes.train={rows}"]
    length = [] if epochs is None else [f"training.num_train_epochs={epochs}"]
    found = compare(
        load(config, [*overrides, *sizes, *length]),
        contender or list(CONTENDERS),
        rounds,
        plain_steps or None,
        console.print,
    )
    _show(found, console)
    if out:
        out.write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _show(found: Comparison, console: Console) -> None:
    table = Table("contender", "seconds", "× of Fleetune", "GFLOP/s", "share of the peak", "best trial (validation)")
    for row in found.rows:
        speed = found.flops / row.median
        table.add_row(
            row.contender,
            f"{row.median:.1f}" + (" (scaled)" if row.scaled else ""),
            f"{found.ratio(row):.1f}",
            f"{speed / 1e9:.1f}",
            f"{speed / found.peak:.0%}",
            "not scored" if row.best is None else escape(f"{row.best[1]:.3f}  {row.best[0]}"),
        )
    texts = " / ".join(f"{count:,} {split}" for split, count in found.texts.items())
    console.print(
        f"{found.trials} trials, {found.epochs} epochs, {texts} texts; {found.processor}, {found.cores} cores"
    )
    console.print(table)
    peaks = ", ".join(f"{name} {peak / 1e9:.0f} GFLOP/s" for name, peak in found.peak_flops.items())
    least = found.flops / found.peak
    console.print(f"matrix products of all trials: {found.flops / 1e12:.1f} TFLOP, {least:.0f} s at the peak ({peaks})")


if __name__ == "__main__":
    run(application(bench=bench))
