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

Uncalibrated = Annotated[
    bool,
    typer.Option("--uncalibrated", help="Probabilities as they come out of training, without the fitted temperature."),
]
