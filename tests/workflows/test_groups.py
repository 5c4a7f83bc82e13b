"""Who runs together: heads that differ in the optimizer only, in groups that stay as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.workflows.test_plan import config, trials
from workflows.groups import MOST, groups

HEADS = {"model": "m", "freeze": "head", "learning_rate": [1e-3, 3e-3]}


def sizes(folder: Path, *blocks: dict[str, Any], **search: Any) -> list[int]:
    found = config(folder, list(blocks), search=search)
    return [len(group) for group in groups(trials(found), found.search, None)]


def test_heads_that_differ_in_what_the_optimizer_reads_run_together(tmp_path: Path) -> None:
    block = HEADS | {"weight_decay": [0.0, 0.1], "lr_scheduler_type": ["linear", "cosine"], "warmup_steps": [0, 10]}
    assert sizes(tmp_path, block) == [16]


@pytest.mark.parametrize("policy", ["full", "top-1", "embeddings", "lora"])
def test_trials_that_train_layers_run_alone(tmp_path: Path, policy: str) -> None:
    assert sizes(tmp_path, HEADS | {"freeze": policy}) == [1, 1]


@pytest.mark.parametrize(
    "axis",
    [
        {"model": ["m", {"name": "short", "path": "m", "num_hidden_layers": 3}]},
        {"max_length": [32, 64]},
        {"num_train_epochs": [1, 2]},
        {"per_device_train_batch_size": [8, 16]},
        {"gradient_accumulation_steps": [1, 2]},
    ],
)
def test_what_decides_texts_or_steps_keeps_groups_apart(tmp_path: Path, axis: dict[str, Any]) -> None:
    assert sizes(tmp_path, HEADS | axis) == [2, 2]


def test_each_seed_is_a_group(tmp_path: Path) -> None:
    found = config(tmp_path, [HEADS], search={"seeds": [1, 2, 3]})
    planned = trials(found)
    seed = {trial.trial_id: trial.seed for trial in planned}
    together = groups(planned, found.search, None)
    assert [{seed[trial_id] for trial_id in group} for group in together] == [{1}, {2}, {3}]
    assert [len(group) for group in together] == [2, 2, 2]


def test_groups_are_bounded(tmp_path: Path) -> None:
    rates = [1e-3 + index * 1e-5 for index in range(2 * MOST + 1)]
    assert sizes(tmp_path, HEADS | {"learning_rate": rates}) == [MOST, MOST, 1]


@pytest.mark.parametrize("search", [{"scheduler": "asha"}, {"algorithm": "optuna", "num_trials": 4}])
def test_a_search_that_judges_trials_on_the_way_takes_them_singly(tmp_path: Path, search: dict[str, Any]) -> None:
    found = config(tmp_path, [HEADS])
    other = config(tmp_path, [HEADS], search=search)
    assert [len(group) for group in groups(trials(found), other.search, None)] == [1, 1]


def test_a_random_search_is_grouped_too(tmp_path: Path) -> None:
    block = HEADS | {"learning_rate": {"loguniform": [1e-4, 1e-2]}}
    assert sizes(tmp_path, block, algorithm="random", num_trials=5) == [5]


def test_a_group_of_an_earlier_manifest_keeps_its_members(tmp_path: Path) -> None:
    before = config(tmp_path, [HEADS])
    earlier = {"groups": groups(trials(before), before.search, None)}
    after = config(tmp_path, [HEADS | {"learning_rate": [1e-3, 2e-3, 3e-3, 4e-3]}])
    planned = trials(after)
    rate = {trial.trial_id: trial.training.learning_rate for trial in planned}
    found = [[rate[trial_id] for trial_id in group] for group in groups(planned, after.search, earlier)]
    assert found == [[1e-3, 3e-3], [2e-3, 4e-3]]
    fewer = config(tmp_path, [HEADS | {"learning_rate": [3e-3]}])
    assert [len(group) for group in groups(trials(fewer), fewer.search, earlier)] == [1]


def test_every_trial_is_in_exactly_one_group(tmp_path: Path) -> None:
    found = config(tmp_path, [HEADS, {"model": ["m", "n"], "freeze": ["full", "head"]}], search={"seeds": [1, 2]})
    planned = trials(found)
    members = [trial_id for group in groups(planned, found.search, None) for trial_id in group]
    assert sorted(members) == sorted(trial.trial_id for trial in planned)
