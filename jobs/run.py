"""How every entry point starts and ends: one message for an error, and the exit code that the design promises."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import typer
from rich.markup import escape

from jobs.screen import Screen
from trainables.errors import BadInput, FleetuneError, InfrastructureError

ABOUT = """Which pretrained encoder, with how much of it frozen and at which learning rate, classifies your text best?

Start with `fleetune demo`. For your own data, `fleetune init data.csv` writes a sweep file for `fleetune sweep`."""


# What storage answers when it is full, read-only, not ours, in the way, or gone; any other OSError is a defect.
_STORAGE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EISDIR, errno.ENOTDIR, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT),
}


def application(**commands: Callable[..., Any]) -> typer.Typer:
    """A typer application of some commands; one alone is the application itself."""
    app = typer.Typer(
        help=ABOUT if len(commands) > 1 else None,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name, command in commands.items():
        app.command(name)(command)
    return app


def run(app: typer.Typer) -> None:
    """Run an application and exit: 0, or the code of the error, which is shown as one message without secrets."""
    errors = Screen(stderr=True)
    try:
        app()
    except FleetuneError as error:
        _exit(errors, str(error), error.exit_code)
    except KeyboardInterrupt:
        errors.print("[bold red]fleetune:[/] interrupted")
        sys.exit(130)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            _exit(errors, f"{error.filename}: is too long for the name of a file or folder", BadInput.exit_code)
        if error.errno not in _STORAGE:
            _exit_as_defect(errors)
        where = f"{error.filename}: " if error.filename else ""
        message = f"{where}{error.strerror}. What was done is kept; the same command continues"
        _exit(errors, message, InfrastructureError.exit_code)
    except Exception:  # noqa: BLE001 - shown in full, with exit 1: a defect
        _exit_as_defect(errors)


def _exit(errors: Screen, message: str, code: int) -> NoReturn:
    """Show one message, without secrets."""
    errors.print(f"[bold red]fleetune:[/] {escape(_redacted(message))}", highlight=False, soft_wrap=True)
    sys.exit(code)


def _exit_as_defect(errors: Screen) -> NoReturn:
    """Show the exception that is being handled in full, without secrets."""
    errors.print(_redacted(traceback.format_exc()), markup=False, highlight=False, soft_wrap=True)
    errors.print("[bold red]fleetune:[/] this is a defect in Fleetune; please report the lines above")
    sys.exit(FleetuneError.exit_code)


def _redacted(text: str) -> str:
    from trainables.redaction import redact

    return redact(text)
