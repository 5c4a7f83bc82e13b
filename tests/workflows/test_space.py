"""Axes and blocks of a search space: every kind of range within its bounds, and the same draws for the same seed."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from workflows import space
from workflows.config import SearchConfig
from workflows.space import RANGES, Block, Range

BOUNDS: dict[str, tuple[float, float]] = {"uniform": (0.0, 0.1), "loguniform": (1e-6, 1e-2), "randint": (1, 5)}


def blocks(*written: dict[str, Any]) -> list[Block]:
    return space.parse(SearchConfig(space=list(written), algorithm="random", num_trials=1))


def values(axis: Range, count: int = 4000) -> np.ndarray:
    generator = np.random.default_rng(0)
    return np.array([axis.draw(generator) for _ in range(count)])


@pytest.mark.parametrize("kind", RANGES)
def test_a_range_draws_within_its_bounds_and_knows_what_it_may_draw(kind: str) -> None:
    axis = RANGES[kind](*BOUNDS[kind])
    assert axis.problem() is None
    drawn = values(axis)
    assert axis.low <= drawn.min() < drawn.max() <= axis.last
    assert all(value in axis for value in drawn.tolist())
    assert axis.low - 1e-9 not in axis
    assert axis.last + 1e-9 not in axis
    assert RANGES[kind](axis.high, axis.low).problem() is not None
    assert RANGES[kind](axis.low, axis.low).problem() is not None


def test_uniform_spreads_evenly_and_loguniform_evenly_over_orders_of_magnitude() -> None:
    linear = np.histogram(values(RANGES["uniform"](0.0, 0.1)), 4, (0.0, 0.1))[0] / 4000
    orders = np.histogram(np.log10(values(RANGES["loguniform"](1e-6, 1e-2))), 4, (-6, -2))[0] / 4000
    assert linear == pytest.approx([0.25] * 4, abs=0.03)
    assert orders == pytest.approx([0.25] * 4, abs=0.03)


def test_randint_draws_whole_numbers_and_never_its_high() -> None:
    drawn = values(RANGES["randint"](1, 5), 500)
    assert set(drawn.tolist()) == {1, 2, 3, 4}
    assert isinstance(RANGES["randint"](1, 5).draw(np.random.default_rng(0)), int)


def test_a_choice_is_the_list_and_a_repeat_in_it_does_not_count_twice() -> None:
    (written,) = blocks({"model": ["m", {"path": "m"}, "n"], "learning_rate": {"choice": [1e-3, 1e-4, 1e-3]}})
    (listed,) = blocks({"model": ["m", "n"], "learning_rate": [1e-3, 1e-4]})
    assert written == listed


def test_blocks_are_drawn_equally_often_however_many_points_they_hold() -> None:
    found = blocks({"model": "m"}, {"model": "n", "max_length": {"randint": [8, 512]}})
    drawn = [draw.block for draw in itertools.islice(space.draws(found, 3), 600)]
    assert sum(drawn) / 600 == pytest.approx(0.5, abs=0.06)


def test_a_draw_depends_on_seed_and_number_alone() -> None:
    found = blocks({"model": "m", "learning_rate": {"uniform": [0.1, 0.2]}})
    first = list(itertools.islice(space.draws(found, 3), 6))
    assert list(itertools.islice(space.draws(found, 3), 12))[:6] == first
    assert len({draw.values["learning_rate"] for draw in first}) == 6


def test_where_a_key_stands_does_not_matter() -> None:
    written = {"model": ["m", "n"], "lora_r": {"randint": [1, 9]}, "learning_rate": {"uniform": [0.1, 0.2]}}
    drawn, turned = (
        [draw.values for draw in itertools.islice(space.draws(blocks(block), 3), 6)]
        for block in (written, dict(reversed(written.items())))
    )
    assert drawn == turned


def test_values_of_another_block_or_outside_a_range_are_not_in_a_block() -> None:
    (block,) = blocks({"model": "m", "lora_r": [4, 8], "learning_rate": {"uniform": [0.1, 0.2]}})
    model = block.draw(np.random.default_rng(0))["model"]
    inside = {"model": model, "lora_r": 8, "learning_rate": 0.15}
    assert inside in block
    assert inside | {"learning_rate": 0.3} not in block
    assert inside | {"lora_r": 5} not in block
    assert inside | {"max_length": 8} not in block
    assert {key: inside[key] for key in ("model", "lora_r")} not in block


def test_only_blocks_with_an_end_can_be_listed() -> None:
    found = blocks(
        {"model": "m", "lora_r": {"randint": [1, 4]}}, {"model": "m", "learning_rate": {"uniform": [0.1, 0.2]}}
    )
    assert [draw.values["lora_r"] for draw in space.listed(found)] == [1, 2, 3]


def test_the_largest_value_of_an_axis_counts_every_block() -> None:
    found = blocks({"model": "m", "num_train_epochs": {"randint": [1, 8]}}, {"model": "m", "num_train_epochs": [2, 5]})
    assert space.largest(found, "num_train_epochs", 3) == 7
    assert space.largest(blocks({"model": "m"}), "num_train_epochs", 3) == 3
