"""A second thread of the driver: what becomes of its work when the first one is done, or fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from workflows import beside


class Refused(Exception):
    """What the first thread fails with."""


def test_all_work_is_done_at_the_end_of_the_block() -> None:
    done: list[int] = []
    with beside.thread(threading.Event()) as pool:
        for number in range(3):
            pool.submit(lambda number=number: (time.sleep(0.05), done.append(number)))
    assert done == [0, 1, 2]


def test_an_error_waits_neither_for_what_goes_on_nor_for_what_has_not_begun() -> None:
    goes_on, released, given_up = threading.Event(), threading.Event(), threading.Event()
    begun: list[str] = []

    def work() -> None:
        goes_on.set()
        released.wait(60)

    with pytest.raises(Refused), beside.thread(given_up) as pool:
        running = pool.submit(work)
        waiting = pool.submit(begun.append, "the next")
        goes_on.wait(60)
        raise Refused
    assert not running.done() and given_up.is_set()
    released.set()
    running.result(60)
    assert waiting.cancelled() and begun == []


def test_work_that_goes_on_meanwhile_is_waited_for_and_its_error_is_raised() -> None:
    def work(given_up: Callable[[], bool]) -> None:
        time.sleep(0.1)
        raise Refused(str(given_up()))

    entered = []
    with pytest.raises(Refused, match="False"), beside.thread(threading.Event()) as pool, beside.meanwhile(pool, work):
        entered.append(True)
    assert entered == [True]


def test_where_the_block_fails_the_work_is_told_and_has_ended_before_the_error_goes_on() -> None:
    ended = threading.Event()

    def work(given_up: Callable[[], bool]) -> None:
        while not given_up():
            time.sleep(0.01)
        ended.set()

    with beside.thread(threading.Event()) as pool:
        with pytest.raises(Refused), beside.meanwhile(pool, work):
            raise Refused
        assert ended.is_set()
