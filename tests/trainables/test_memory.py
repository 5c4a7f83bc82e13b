"""The peak of one trial says nothing of the one before it in the same process."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainables import memory

CPU = torch.device("cpu")
LARGE = 300 * 2**20


def test_a_peak_is_seen_after_it_is_over_and_forgotten_at_the_next_start() -> None:
    if not memory.start_measuring(CPU):
        pytest.skip("this system cannot reset the peak resident set size of a process (Linux /proc/self/clear_refs)")
    before = memory.peak_bytes(CPU)
    block = np.ones(LARGE, np.uint8)
    del block
    assert memory.peak_bytes(CPU) > before + 0.8 * LARGE
    memory.start_measuring(CPU)
    assert memory.peak_bytes(CPU) < before + 0.5 * LARGE


def test_what_an_earlier_trial_has_freed_does_not_count_for_the_next() -> None:
    if not memory.start_measuring(CPU):
        pytest.skip("this system cannot reset the peak resident set size of a process (Linux /proc/self/clear_refs)")
    before = memory.peak_bytes(CPU)
    blocks = [torch.ones(2_000) for _ in range(LARGE // 8_000)]
    last = blocks.pop()
    del blocks
    # The block that is still held lies above all that is free, which therefore stays with the process.
    memory.start_measuring(CPU)
    assert memory.peak_bytes(CPU) < before + 0.5 * LARGE
    assert len(last) == 2_000
