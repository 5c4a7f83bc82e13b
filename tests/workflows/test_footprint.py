"""Estimates of disk space, beside what models and trials really take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console

from tests.recorded import result
from tests.tiny import tiny_model, tiny_spec, vocabulary
from tests.tiny_data import reviews_csv, trial_spec
from trainables import freeze, models
from trainables.arguments import TrainingArguments
from trainables.directory import TrialDirectory
from trainables.tokens import tokenize
from trainables.trial import run_trial
from workflows import footprint, trials
from workflows.prepare import Prepared, prepare
from workflows.sweep_file import load

POLICIES = ("full", "embeddings", "top-2", "head", "lora")


@pytest.mark.parametrize("family", models.FAMILIES)
def test_parameters_counted_from_headers_are_those_that_train(family: str, tmp_path: Path) -> None:
    spec, training = tiny_spec(tiny_model(family, tmp_path, num_hidden_layers=4), 3), TrainingArguments(lora_r=4)
    counted = footprint.parameters(spec, 3)
    for policy in POLICIES:
        if models.FAMILIES[family].shared_layers and policy.startswith("top-"):
            continue
        model = freeze.apply(models.load_model(spec, ["a", "b", "c"], seed=0), policy, training, seed=0)
        real, _ = freeze.count_parameters(model)
        assert footprint.trained(counted, policy, training, spec.hidden_size) == pytest.approx(real, rel=0.03), policy


def test_the_bytes_of_a_trial_are_those_that_it_writes(tmp_path: Path) -> None:
    spec = trial_spec(tiny_model("bert", tmp_path / "bert", hidden=64), tmp_path, num_train_epochs=3)
    directory, states = TrialDirectory(Path(spec.directory)), []
    run_trial(spec, lambda _: states.append(footprint._bytes_in(directory.state)))
    estimated = footprint._Sizes(len(spec.labels), 64).of(spec.model, spec.freeze, spec.training)
    # Of a token that is not in train a state has no averages, which an estimate cannot know.
    seen = tokenize(spec)["train"]
    unseen = len(vocabulary()) - len(np.union1d(seen.input_ids, [seen.pad_token_id]))
    without = 2 * 2 * unseen * 64 * 4
    # Between two writes there are two states; there is room for the third.
    assert max(states) == pytest.approx(estimated.states * 2 / 3 - without, rel=0.05)
    assert footprint._bytes_in(directory.checkpoint) == pytest.approx(estimated.checkpoint, rel=0.1)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workplace")
    tiny_model("bert", folder / "bert", hidden=64)
    reviews_csv(folder / "reviews.csv")
    return folder


def prepared(workplace: Path, storage: Path, space: list[Any], search: Any = None, **sections: Any) -> Prepared:
    config = {
        "name": "sweep",
        "data": {"path": str(workplace / "reviews.csv")},
        "search": {"space": [{"model": str(workplace / "bert")} | block for block in space], **(search or {})},
        "training": {"num_train_epochs": 5, "max_length": 32},
        "storage": str(storage),
        **sections,
    }
    path = storage / "sweep.yaml"
    path.write_text(yaml.safe_dump(config))
    console = Console(quiet=True)
    return prepare(load(path, []), console).continued(console)


def test_states_count_for_the_trials_that_run_at_once_and_checkpoints_for_all(workplace: Path, tmp_path: Path) -> None:
    three = prepared(workplace, tmp_path, [{"learning_rate": [1e-3, 2e-3, 3e-3]}])
    one = prepared(workplace, tmp_path, [{"learning_rate": 1e-3}])
    assert footprint.estimate(three, 1).states == footprint.estimate(one, 8).states
    assert footprint.estimate(three, 2).states == 2 * footprint.estimate(one, 1).states
    assert footprint.estimate(three, 2).checkpoints == 3 * footprint.estimate(one, 1).checkpoints


@pytest.mark.parametrize(("epochs", "save_steps", "states"), [(1, None, 1), (1, 1, 3), (1, 5, 2), (2, 8, 2), (2, 9, 3)])
def test_states_within_an_epoch_count_where_there_are_any(
    workplace: Path, tmp_path: Path, epochs: int, save_steps: int | None, states: int
) -> None:
    def estimated(**training: Any) -> int:
        sweep = prepared(workplace, tmp_path, [{}], training={"per_device_train_batch_size": 16, **training})
        assert sweep.config.training.optimizer_steps(sweep.data.rows["train"]) == 8
        return footprint.estimate(sweep, 1).states

    assert estimated(num_train_epochs=epochs, save_steps=save_steps) == states * estimated(num_train_epochs=1)


def test_heads_that_train_together_have_their_states_at_once(workplace: Path, tmp_path: Path) -> None:
    alone = prepared(workplace, tmp_path, [{"freeze": "head", "learning_rate": 1e-3}])
    group = prepared(workplace, tmp_path, [{"freeze": "head", "learning_rate": [1e-3, 2e-3, 3e-3]}])
    assert footprint.estimate(group, 1).states == 3 * footprint.estimate(alone, 1).states


def test_a_finished_trial_needs_nothing_more_and_what_an_unfinished_one_has_written_counts(
    workplace: Path, tmp_path: Path
) -> None:
    two = prepared(workplace, tmp_path, [{"learning_rate": [1e-3, 2e-3]}])
    before = footprint.estimate(two, 1)
    first, second = two.plan("fp32")
    trials.lay_out(two, first, "fp32")
    result(two.sweep, first.trial_id)
    after = footprint.estimate(two, 1)
    assert after.checkpoints == before.checkpoints / 2
    state = two.sweep.trial(second.trial_id).state
    state.mkdir(parents=True)
    (state / "tensors.safetensors").write_bytes(bytes(1000))
    assert footprint.estimate(two, 1).needed == after.needed - 1000


def test_points_that_are_still_to_be_drawn_count_as_the_least_that_they_can_be(workplace: Path, tmp_path: Path) -> None:
    head = footprint.estimate(prepared(workplace, tmp_path, [{"freeze": "head"}]), 1)
    ranged = [{"freeze": ["full", "head"], "learning_rate": {"loguniform": [1e-4, 1e-3]}}]
    many = prepared(workplace, tmp_path, ranged, {"algorithm": "optuna", "num_trials": 6, "seeds": [1, 2]})
    assert footprint.estimate(many, 2).checkpoints == 12 * head.checkpoints
    assert footprint.estimate(many, 2).states == 2 * head.states
    few = [{"freeze": "head", "learning_rate": [1e-4, 1e-3]}]
    exhausted = prepared(workplace, tmp_path, few, {"algorithm": "optuna", "num_trials": 50})
    assert footprint.estimate(exhausted, 1).checkpoints == 2 * head.checkpoints


def test_models_for_mlflow_count_where_its_store_is_in_the_storage(workplace: Path, tmp_path: Path) -> None:
    def published(**tracking: Any) -> int:
        return footprint.estimate(prepared(workplace, tmp_path, [{"freeze": "head"}], tracking=tracking), 1).published

    one = published(uri="http://127.0.0.1:1")
    assert one > footprint.estimate(prepared(workplace, tmp_path, [{"freeze": "head"}]), 1).checkpoints
    assert published() == 2 * one
    assert published(register_as="reviews") == 3 * one
    assert published(checkpoints="none") == 0
