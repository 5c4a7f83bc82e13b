"""Ctrl-C and SIGTERM (`ray job stop`), which end a sweep in order the first time and at once the second time."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def handlers_kept() -> Iterator[None]:
    """Whatever the block does to the handlers of both signals is undone at its end."""
    before = {known: signal.getsignal(known) for known in _SIGNALS}
    try:
        yield
    finally:
        for known, handler in before.items():
            signal.signal(known, handler)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Inside the block both signals raise KeyboardInterrupt(their name), once; the second ends the process at once."""

    def interrupt(number: int, _: FrameType | None) -> None:
        for known in _SIGNALS:
            signal.signal(known, signal.SIG_DFL)
        raise KeyboardInterrupt(signal.Signals(number).name)

    with handlers_kept():
        for known in _SIGNALS:
            signal.signal(known, interrupt)
        yield
