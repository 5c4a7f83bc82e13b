"""What is cyclic and unused goes soon, also in a process that has imported a great deal; what is free goes back."""

from __future__ import annotations

import gc
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainables import garbage


class Drawing:
    """Something cyclic, as matplotlib's figures are."""

    alive = 0

    def __init__(self) -> None:
        Drawing.alive += 1
        self.parts = [{"whole": self, "numbers": [index]} for index in range(1_000)]

    def __del__(self) -> None:
        Drawing.alive -= 1


@pytest.fixture
def library() -> list[list[object]]:
    """Half a million objects that stay, as imports leave them."""
    kept: list[list[object]] = [[] for _ in range(500_000)]
    gc.collect()
    return kept


@pytest.fixture(autouse=True)
def _as_it_began() -> Iterator[None]:
    """Nothing is left out at first, nor kept of a test; later trials of this process need not look at imports."""
    gc.unfreeze()
    yield
    garbage.collect_all()
    assert Drawing.alive == 0


def most_alive(drawings: int) -> int:
    """How many drawings were held at once at most, while each was let go before the next one."""
    most = 0
    for _ in range(drawings):
        # What lives through a few collections counts as old: so does a part of each drawing.
        Drawing()
        most = max(most, Drawing.alive)
    return most


def test_drawings_do_not_heap_up_beside_large_libraries(library: list[list[object]]) -> None:
    heaped = most_alive(300)
    garbage.collect_all()
    assert Drawing.alive == 0
    assert most_alive(300) < heaped / 2


def test_what_was_in_use_at_one_collection_goes_with_the_next() -> None:
    in_use = Drawing()
    garbage.collect_all()
    assert Drawing.alive == 1
    del in_use
    garbage.give_back()
    garbage.collect_all()
    assert Drawing.alive == 0


def test_what_another_thread_builds_meanwhile_stays_whole() -> None:
    built: list[tuple[int, ...]] = []
    broken: list[SystemError] = []
    over = threading.Event()

    def build() -> None:
        try:
            while not over.is_set():
                # Made by growing: CPython refuses to grow a tuple that something else holds on to.
                built.append(tuple(number for number in range(50)))
                del built[:-1]
        except SystemError as error:
            broken.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread = threading.Thread(target=build)
    thread.start()
    try:
        for _ in range(5):
            garbage.collect_all()
            garbage.give_back()
    finally:
        over.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert broken == []
    assert built == [tuple(range(50))]


def test_what_is_free_goes_back_to_the_system() -> None:
    def held() -> int:
        found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
        assert found is not None
        return int(found[1]) * 1024

    blocks = [bytes(range(256)) * 40 for _ in range(10_000)]
    last = bytes(10_000)
    full = held()
    del blocks
    garbage.give_back()
    assert held() < full - 50_000_000
    assert len(last) == 10_000
