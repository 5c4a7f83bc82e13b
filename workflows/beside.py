"""What the driver does on a second thread, and how that ends when the first one fails."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait

_SECONDS_TO_GIVE_UP = 2.0


@contextlib.contextmanager
def thread(given_up: threading.Event) -> Iterator[ThreadPoolExecutor]:
    """A thread that is done with all its work at the end of the block.

    Where the block fails, its error is told at once: nothing more is begun, and what goes on is not waited for. It can
    know by the event, and should then write nothing, because others may be at work where it would.
    """
    pool = ThreadPoolExecutor(1)
    try:
        yield pool
    except BaseException:
        given_up.set()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


@contextlib.contextmanager
def meanwhile(pool: ThreadPoolExecutor, work: Callable[[Callable[[], bool]], None]) -> Iterator[None]:
    """Have a thread do some work during the block, which ends when both are done; raises what the work has met.

    `work` gets a function that says whether it is given up, which it is where the block fails. It then has two seconds
    to end, before what it uses is taken away.
    """
    given_up = threading.Event()
    running = pool.submit(work, given_up.is_set)
    try:
        yield
        running.result()
    except BaseException:
        given_up.set()
        wait([running], timeout=_SECONDS_TO_GIVE_UP)
        raise
