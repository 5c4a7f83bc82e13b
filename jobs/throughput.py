"""Tokens per second and share of the peak on this machine's device: `python -m jobs.throughput`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from jobs.bench import Out
from jobs.run import application, run
from jobs.screen import output

Shapes = Annotated[list[str] | None, typer.Option("--shape", help="bert-base, distilbert, MiniLM-L6; many times.")]
Lengths = Annotated[list[int] | None, typer.Option("--tokens", help="Mean tokens per text; many times.", min=3)]
BatchSize = Annotated[int, typer.Option(min=1, help="Texts per optimizer step.")]
Steps = Annotated[int, typer.Option(min=1, help="Optimizer steps that are timed at once.")]
Rounds = Annotated[int, typer.Option(min=1, help="How often each way runs; medians are shown.")]


def throughput(
    shape: Shapes = None,
    tokens: Lengths = None,
    batch_size: BatchSize = 16,
    steps: Steps = 20,
    rounds: Rounds = 3,
    out: Out = None,
) -> None:
    """Time full fine-tuning of well-known shapes with random weights: padded, and without padding, in fp32 and bf16.

    **Examples**

    - `python -m jobs.throughput --out throughput.json`
    - `python -m jobs.throughput --shape MiniLM-L6 --tokens 27 --steps 4`
    """
    from workflows.bench.throughput import SHAPES, measure

    console = output()
    found = measure(
        shape or [name for name in SHAPES if name != "MiniLM-L6"],
        tokens or [27, 50, 200],
        batch_size,
        steps,
        rounds,
        console.print,
    )
    table = Table("shape", "tokens per text", "way", "tokens/s", "share of the peak")
    for speed in found.speeds:
        table.add_row(
            speed.shape,
            str(speed.tokens_per_text),
            speed.way,
            f"{speed.tokens_per_second:,.0f}",
            f"{speed.mfu:.1%}",
        )
    peaks = ", ".join(f"{name} {peak / 1e12:.2f} TFLOP/s" for name, peak in found.peak_flops.items())
    console.print(f"{found.device}; matrix products: {peaks}; batches of {found.batch_size}")
    console.print(table)
    if out:
        out.write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(application(throughput=throughput))
