"""Ctrl-C and SIGTERM (`ray job stop`), which end a sweep in order the first time and at once the second time."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass
class Received:
    """The signal that has interrupted a block, or None. What is raised may not tell: Ray raises its own in place."""

    signal: signal.Signals | None = None


@contextlib.contextmanager
def interruptible() -> Iterator[Received]:
    """Inside the block both signals raise KeyboardInterrupt, once; the second ends the process at once."""
    received = Received()

    def interrupt(number: int, _: FrameType | None) -> None:
        for known in _SIGNALS:
            signal.signal(known, signal.SIG_DFL)
        received.signal = signal.Signals(number)
        raise KeyboardInterrupt(received.signal.name)

    with handlers_kept():
        for known in _SIGNALS:
            signal.signal(known, interrupt)
        yield received
