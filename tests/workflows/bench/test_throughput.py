"""Training speed of one process: every way on every shape and length, the same texts for all."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainables.errors import BadInput
from trainables.training import pick_device
from workflows.bench import throughput
from workflows.bench.hardware import peak_flops
from workflows.bench.throughput import Shape, measure, ways


@pytest.fixture(autouse=True)
def shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "SHAPES", {"tiny": Shape(32, 2, 2, 64)})


def test_every_way_is_timed_on_every_length(monkeypatch: pytest.MonkeyPatch) -> None:
    found = measure(["tiny"], [8, 20], batch_size=4, steps=2, rounds=1, tell=lambda _: None)
    assert [(speed.tokens_per_text, speed.way) for speed in found.speeds] == [
        (length, way) for length in (8, 20) for way in ways(pick_device())
    ]
    assert all(speed.tokens_per_second > 0 and 0 < speed.mfu < 1 for speed in found.speeds)
    assert found.peak_flops["fp32"] > 0


def test_all_ways_give_the_same_logits() -> None:
    model, split = throughput._model(Shape(32, 2, 2, 64)).eval(), throughput._texts(20, 6)
    indices = np.arange(6)
    with torch.inference_mode():
        expected = throughput.forward.logits(model, split, indices)
        for way in ways(pick_device()).values():
            if way.logits:
                assert (way.logits(model, split, indices) - expected).abs().max() < 1e-5


def test_texts_have_the_length_that_was_asked_for() -> None:
    for length in (27, 50, 200):
        lengths = throughput._texts(length, 500).lengths
        assert lengths.mean() == pytest.approx(length, abs=3)
        assert len(set(lengths)) > 10
        assert lengths.max() <= 256


def test_an_unknown_shape_is_named_with_the_nearest() -> None:
    with pytest.raises(BadInput, match="did you mean 'tiny'"):
        measure(["tinny"], [8], 4, 1, 1, print)


def test_the_peak_is_that_of_the_device() -> None:
    assert all(peak > 10**9 for peak in peak_flops(pick_device()).values())
