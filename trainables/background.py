"""Work that a trial need not wait for: one thing at a time, beside the training."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Background:
    """Runs functions in a thread, each after the one before it has ended."""

    def __init__(self) -> None:
        self._running: Future[None] | None = None

    def start(self, function: Callable[..., None], *arguments: Any) -> None:
        """Begin a call; raises what the one before has met."""
        self.wait()
        thread = ThreadPoolExecutor(1, thread_name_prefix="fleetune-background")
        self._running = thread.submit(function, *arguments)
        thread.shutdown(wait=False)

    def is_done(self) -> bool:
        """Whether nothing runs any more. `wait` then returns at once."""
        return self._running is None or self._running.done()

    def wait(self) -> None:
        """Return when nothing runs any more; raises what the call has met."""
        running, self._running = self._running, None
        if running:
            running.result()
