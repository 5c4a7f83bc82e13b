"""What the hardware can do is decided by what it can do, not by what else runs beside the probe."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
import torch

from trainables import precision

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="times products on the CPU")


def timed(monkeypatch: pytest.MonkeyPatch, products: Iterable[float]) -> float:
    """The gain that the probe finds where its products, fp32 and bf16 in turn, take so many milliseconds."""
    moments = itertools.accumulate(step for took in products for step in (took, 0.0))
    clock = itertools.chain([0.0], moments)
    monkeypatch.setattr(precision.time, "perf_counter", lambda: next(clock))
    return precision.probe().bf16_gain


def test_products_that_are_held_up_do_not_hide_a_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    held_up = [6.0, 11.0] * 20
    assert timed(monkeypatch, held_up + [6.0, 1.0] * 50) == pytest.approx(6)


@pytest.mark.parametrize(("fp32", "bf16"), [(6.0, 1.0), (6.0, 60.0)])
def test_what_is_clear_is_not_timed_for_long(monkeypatch: pytest.MonkeyPatch, fp32: float, bf16: float) -> None:
    assert timed(monkeypatch, [fp32, bf16] * 5) == pytest.approx(fp32 / bf16)


def test_hardware_without_a_gain_is_found_to_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert timed(monkeypatch, [6.0, 5.5] * 50) < precision.WORTHWHILE


def test_a_real_probe_says_the_same_every_time() -> None:
    chosen = {precision.probe().bf16_gain >= precision.WORTHWHILE for _ in range(10)}
    assert len(chosen) == 1
