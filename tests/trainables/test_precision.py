"""What the hardware can do is decided by what it can do, not by what else runs beside the probe."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import pytest
import torch

from trainables import precision

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="times products on the CPU")


def timed(monkeypatch: pytest.MonkeyPatch, milliseconds: Iterable[float]) -> float:
    """The gain that the probe finds where its products, fp32 and bf16 in turn, take that long."""
    moments = itertools.accumulate(step for took in milliseconds for step in (took / 1000, 0.0))
    clock = itertools.chain([0.0], moments)
    monkeypatch.setattr(precision.time, "perf_counter", lambda: next(clock))
    # Products that are over at once, even where bf16 is emulated.
    monkeypatch.setattr(precision, "_SIZE", 8)
    return precision.probe().bf16_gain


def test_products_that_are_held_up_do_not_hide_a_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    assert timed(monkeypatch, [6.0, 20.0] * 15 + [6.0, 1.0] * 10) == pytest.approx(6)


def test_a_clear_gain_is_not_timed_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    assert timed(monkeypatch, [6.0, 1.0] * 5) == pytest.approx(6)


@pytest.mark.parametrize("bf16", [5.5, 200.0])
def test_hardware_without_a_gain_is_found_to_have_none_in_half_a_second(
    monkeypatch: pytest.MonkeyPatch, bf16: float
) -> None:
    rounds = math.ceil(500 / (6.0 + bf16))
    assert timed(monkeypatch, [6.0, bf16] * rounds) < precision.WORTHWHILE


def test_products_that_are_emulated_are_not_timed_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert timed(monkeypatch, [12.0, 840.0] * 2) < precision.WORTHWHILE


def test_a_real_probe_says_the_same_every_time() -> None:
    chosen = {precision.probe().is_bf16_worthwhile for _ in range(10)}
    assert len(chosen) == 1
