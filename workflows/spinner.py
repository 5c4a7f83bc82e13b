"""A line that moves while something takes its time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner


@contextlib.contextmanager
def phase(console: Console, what: str) -> Iterator[None]:
    """Show what is going on: a spinner on a terminal, a line when piped."""
    if console.is_terminal:
        with spinning(console, f"{what} …"):
            yield
    else:
        console.print(escape(f"{what} …"))
        yield


@contextlib.contextmanager
def spinning(console: Console, text: str) -> Iterator[Callable[[str], None]]:
    """Show a spinner beside a text, and hand out what changes the text.

    Rich's own `status` would bring to the screen what is printed meanwhile, and take back where `off_screen` sends it.
    """
    spinner = Spinner("dots", escape(text), style="status.spinner")
    with Live(
        spinner,
        console=console,
        refresh_per_second=12.5,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ):
        yield lambda text: spinner.update(text=escape(text))
