"""The argument that names a trained classifier, the same for every command that takes one."""

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
