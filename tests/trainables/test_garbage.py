"""What is cyclic and unused goes soon, also in a process that has imported a great deal; what is free goes back."""

from __future__ import annotations

import gc
import re
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
def library() -> Iterator[list[list[object]]]:
    """Half a million objects that stay, as imports leave them."""
    kept: list[list[object]] = [[] for _ in range(500_000)]
    gc.collect()
    yield kept
    gc.unfreeze()
    Drawing.alive = 0


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
    garbage.collect()
    assert Drawing.alive == 0
    assert most_alive(300) < heaped / 2


def test_a_process_with_little_in_it_freezes_nothing() -> None:
    gc.unfreeze()
    garbage.collect()
    gc.collect()
    before = gc.get_freeze_count()
    garbage.collect()
    assert gc.get_freeze_count() == before


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
