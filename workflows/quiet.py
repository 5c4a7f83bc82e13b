"""What Ray would write to the screen goes to the sweep's driver.log: the screen tells errors in Fleetune's words.

People attach logs to issues, so secrets are taken out of it.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from trainables.redaction import redact


class _Log(logging.FileHandler):
    """A file of its own accord: where it cannot be written, as on a full disk, nothing is said of that."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))

    def handleError(self, record: logging.LogRecord) -> None:
        """Whoever needs the disk will say so; `logging` would print a traceback."""


@contextlib.contextmanager
def off_screen(log: Path) -> Iterator[None]:
    """Inside the block what Python code prints and Ray's loggers say goes to the end of a file, without secrets."""
    with _logged_to(log), _printed_to(log):
        yield


@contextlib.contextmanager
def _logged_to(log: Path) -> Iterator[None]:
    """Inside the block Ray's loggers write to a file, and to nothing that was their screen.

    Ray keeps the stream that was stderr when it was imported, so that redirecting stderr later does not reach it.
    """
    file = _Log(log, delay=True, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    swapped: list[tuple[logging.Logger, logging.Handler]] = []
    for logger in _loggers("ray"):
        for handler in [handler for handler in logger.handlers if _is_screen(handler)]:
            logger.removeHandler(handler)
            logger.addHandler(file)
            swapped.append((logger, handler))
    try:
        yield
    finally:
        for logger, handler in swapped:
            logger.removeHandler(file)
            logger.addHandler(handler)
        file.close()


class _Redacted(io.TextIOBase):
    """Passes whole lines on to a file, without secrets; the lines of a private key together.

    Where the file cannot be written, as on a full disk, nothing is said of that: whoever needs the disk will say so.
    """

    def __init__(self, file: TextIO) -> None:
        self._file, self._held = file, ""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()

    def write(self, text: str) -> int:
        self._held += text
        whole, newline, rest = self._held.rpartition("\n")
        if newline and whole.count("-----BEGIN") <= whole.count("-----END"):
            self._held = rest
            self._pass_on(whole + newline)
        return len(text)

    def close(self) -> None:
        """What is held goes too; the file itself stays open."""
        if not self.closed:
            self._pass_on(self._held)
        super().close()

    def _pass_on(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._file.write(redact(text))
            self._file.flush()


@contextlib.contextmanager
def _printed_to(log: Path) -> Iterator[None]:
    """Inside the block what Python code prints goes to the end of a file, without secrets."""
    stream = log.open("a", encoding="utf-8")
    try:
        with (
            contextlib.closing(_Redacted(stream)) as redacted,
            contextlib.redirect_stdout(redacted),
            contextlib.redirect_stderr(redacted),
        ):
            yield
    finally:
        # What it has not written by now, it has no room for.
        with contextlib.suppress(OSError):
            stream.close()


def _loggers(root: str) -> Iterator[logging.Logger]:
    """A logger and all that are below it."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and name.split(".")[0] == root:
            yield logger


def _is_screen(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)
