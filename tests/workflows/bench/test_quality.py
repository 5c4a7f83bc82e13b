"""Quality against the plain loop: the same point, several seeds, both ways."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import tiny_model
from tests.tiny_data import reviews_csv
from trainables.errors import BadInput
from workflows.bench.quality import Quality, compare_quality
from workflows.sweep_file import load


def test_the_difference_and_its_standard_error_are_those_of_the_text_books() -> None:
    found = Quality(point="p", texts={}, seeds=(1, 2, 3), ours=(0.7, 0.8, 0.9), plain=(0.6, 0.7, 0.8))
    assert found.difference == pytest.approx(0.1)
    assert found.standard_error == pytest.approx((0.01 / 3 + 0.01 / 3) ** 0.5)


@pytest.fixture
def sweep_file(tmp_path: Path) -> Path:
    tiny_model("bert", tmp_path / "model")
    reviews_csv(tmp_path / "reviews.csv", 160)
    file = tmp_path / "quality.yaml"
    file.write_text(
        f"""
name: quality
data: {{path: {tmp_path / "reviews.csv"}}}
search: {{space: [{{model: {tmp_path / "model"}, freeze: full, learning_rate: 3.0e-3}}], seeds: [1, 2]}}
training: {{num_train_epochs: 3, per_device_train_batch_size: 8, max_length: 32}}
"""
    )
    return file


@pytest.mark.slow
def test_both_sides_train_every_seed(sweep_file: Path) -> None:
    (found,) = compare_quality(load(sweep_file, []), lambda _: None)
    assert found.seeds == (1, 2)
    assert found.texts["train"] > 100
    # Good and bad words are easy: whoever trains at all is far from chance.
    assert min(*found.ours, *found.plain) > 0.7


def test_one_seed_has_no_spread(sweep_file: Path) -> None:
    with pytest.raises(BadInput, match="at least two"):
        compare_quality(load(sweep_file, ["search.seeds=[1]"]), print)
