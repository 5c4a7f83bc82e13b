"""The benchmark: every contender does all of the work, and the operations are counted as the papers count them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.tiny import tiny_model
from tests.tiny_data import reviews_csv
from trainables.errors import BadInput
from workflows.bench import plain_loop
from workflows.bench.comparison import Comparison, compare
from workflows.bench.contenders import CONTENDERS
from workflows.bench.work import Work, flops
from workflows.sweep_file import load


@pytest.fixture
def sweep_file(tmp_path: Path) -> Path:
    tiny_model("bert", tmp_path / "model")
    reviews_csv(tmp_path / "reviews.csv", 120)
    model = f"{{name: tiny, path: {tmp_path / 'model'}}}"
    file = tmp_path / "bench.yaml"
    file.write_text(
        f"""
name: bench
data: {{path: {tmp_path / "reviews.csv"}}}
search:
  space:
    - {{model: {model}, freeze: [full, top-1, lora], learning_rate: 1.0e-3}}
    - {{model: {model}, freeze: head, learning_rate: [1.0e-3, 1.0e-2]}}
training: {{num_train_epochs: 1, per_device_train_batch_size: 8, max_length: 32}}
"""
    )
    return file


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_contender_trains_and_scores_every_trial(sweep_file: Path) -> None:
    found = compare(load(sweep_file, []), list(CONTENDERS), 1, None, lambda _: None)
    assert [row.contender for row in found.rows] == list(CONTENDERS)
    names = {trial.name for trial in Work.of(load(sweep_file, []), sweep_file.parent).trials}
    for row in found.rows:
        assert row.accuracies.keys() == names, row.contender
        assert all(0 <= accuracy <= 1 for accuracy in row.accuracies.values())
        assert not row.scaled
        assert row.median > 0
    assert found.ratio(found.rows[3]) == 1
    assert Comparison.model_validate_json(found.model_dump_json()) == found


@pytest.mark.slow
def test_a_sampled_plain_loop_says_that_it_was_scaled(sweep_file: Path) -> None:
    found = compare(load(sweep_file, []), ["plain loop"], 1, 2, lambda _: None)
    (row,) = found.rows
    assert row.scaled
    assert row.best is None


def test_an_unknown_contender_is_named_with_the_nearest(sweep_file: Path) -> None:
    with pytest.raises(BadInput, match="Fleetune, cold"):
        compare(load(sweep_file, []), ["Fleetune cold"], 1, None, lambda _: None)


def test_only_a_grid_can_be_compared(sweep_file: Path) -> None:
    config = load(sweep_file, ["search.algorithm=random", "search.num_trials=2"])
    with pytest.raises(BadInput, match="grid"):
        Work.of(config, sweep_file.parent)


def test_operations_are_counted_by_hand(sweep_file: Path) -> None:
    work = Work.of(load(sweep_file, []), sweep_file.parent)
    config = json.loads((sweep_file.parent / "model" / "config.json").read_text())
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(sweep_file.parent / "model")
    layer = {}
    for split in ("train", "validation", "test"):
        lengths = [len(tokenizer(text, truncation=True, max_length=32)["input_ids"]) for text in work.texts(split)[0]]
        layer[split] = sum(2 * (4 * hidden**2 + 2 * hidden * inner) * n + 4 * hidden * n**2 for n in lengths)
    scored = 3 * layer["validation"] + 3 * layer["test"]
    passes = {"full": 3 + 2 * 3, "top-1": 3 + 2 * 1, "lora": 3 + 3, "head": 3}
    for trial in work.trials:
        expected = passes[trial.freeze] * layer["train"] + scored
        assert flops(work.model_copy(update={"trials": (trial,)})) == pytest.approx(expected)


def test_the_plain_loop_learns_the_same_whatever_is_padded(sweep_file: Path) -> None:
    work = Work.of(load(sweep_file, ["training.num_train_epochs=2"]), sweep_file.parent)
    work = work.model_copy(update={"trials": work.trials[:1]})
    whole, longest = (plain_loop.run(work, None, padding) for padding in ("max_length", "longest"))
    assert whole["accuracies"] == longest["accuracies"]
    assert whole["tests"] == longest["tests"]
    assert whole["tests"].keys() == {work.trials[0].name}
