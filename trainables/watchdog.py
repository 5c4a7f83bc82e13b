"""A trial that hangs is found and ended: no progress for `trial_timeout`, and its process goes.

The process has to go, because a thread that waits in native code cannot be stopped. The trial is recorded first,
so that whoever starts the process anew finds it finished and goes on with the next one.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import threading
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from trainables.directory import TrialDirectory
from trainables.files import make_folder
from trainables.records import Result


class Watchdog:
    """Use as a context manager around the trials of one group; `beat` says that they still move.

    After `seconds` without a beat the stacks of all threads go to the log of each trial that has no result, it is
    recorded as FAILED(timeout), and the process ends with exit code 1.
    """

    def __init__(self, directories: Sequence[TrialDirectory], seconds: float) -> None:
        self.directories, self.seconds = directories, seconds
        self._started = int(time.time() * 1000)
        self._last = time.monotonic()
        self._paused = False
        self._over = threading.Event()

    def beat(self) -> None:
        """Say that the trial moves."""
        self._last = time.monotonic()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """While the trial waits for the driver, it is not the trial that hangs."""
        self._paused = True
        try:
            yield
        finally:
            self.beat()
            self._paused = False

    def __enter__(self) -> Self:
        threading.Thread(target=self._watch, name="fleetune-watchdog", daemon=True).start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(min(1.0, self.seconds / 4)):
            if not self._paused and time.monotonic() - self._last > self.seconds:
                self._end()

    def _end(self) -> None:
        for directory in self.directories:
            if not directory.is_superseded and not directory.result.exists():
                self._record(directory)
        os._exit(1)

    def _record(self, directory: TrialDirectory) -> None:
        make_folder(directory.root)
        with directory.log.open("a", encoding="utf-8") as stream:
            stream.write(f"no step for {self.seconds:g} seconds; where each thread stood:\n")
            stream.flush()
            faulthandler.dump_traceback(stream, all_threads=True)
        Result(
            kind="trial",
            trial_id=directory.root.name,
            status="FAILED",
            reason="timeout",
            message=f"no step for {self.seconds:g} seconds (resources.trial_timeout); its stack is in log.txt",
            started=self._started,
            ended=int(time.time() * 1000),
        ).write(directory.result)
