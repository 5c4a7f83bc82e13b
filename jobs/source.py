"""What every command that takes a trained classifier is told of it: which one, and whether to calibrate it."""

from __future__ import annotations

from typing import Annotated

import typer

Source = Annotated[
    str,
    typer.Argument(
        help="A sweep directory (its champion), a trial, checkpoint, export or baseline directory, or "
        "`models:/name@alias`.",
        show_default=False,
    ),
]

TextColumn = Annotated[
    list[str] | None,
    typer.Option(
        help="Column of the texts; may be given many times.", show_default="as in the sweep of SOURCE, else text"
    ),
]

TextPairColumn = Annotated[
    str | None, typer.Option(help="Column of the second sentences.", show_default="as in the sweep of SOURCE")
]

Uncalibrated = Annotated[
    bool,
    typer.Option("--uncalibrated", help="Probabilities as they come out of training, without the fitted temperature."),
]
