"""Workers that the driver hears nothing of: what is frozen cannot tell by itself that it hangs. Nor can lost nodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

# Longer than any pause of a driver that is awake. It is asked about every second.
_LONGEST_PAUSE_SECONDS = 10.0


class Silence:
    """Adds up how long each worker was not heard of, by whatever name it has. `overdue` has all that were told of.

    Time in which this process did not run is no silence: after it was suspended, it first has to hear what came in.
    """

    def __init__(self, limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit, self._clock = limit, clock
        self.overdue: set[str] = set()
        self._seconds: dict[str, float] = {}
        self._asked = clock()

    def heard(self, name: str) -> None:
        """Take note of a sign of life."""
        self._seconds.pop(name, None)

    def too_long(self, running: Iterable[str]) -> list[str]:
        """Of those that run now, whoever has been silent for more than `limit` seconds. Each is told once per limit."""
        now = self._clock()
        passed, self._asked = min(now - self._asked, _LONGEST_PAUSE_SECONDS), now
        self._seconds = {name: self._seconds.get(name, 0.0) + passed for name in running}
        found = [name for name, seconds in self._seconds.items() if seconds > self.limit]
        self.overdue.update(found)
        for name in found:
            self._seconds[name] = 0.0
        return found
