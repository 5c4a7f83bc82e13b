"""From blocks to points to trials: products, repeats, seeds, and ids that hold what decides a result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from trainables.arguments import ModelSpec
from workflows import plan
from workflows.config import ModelChoice, SweepConfig
from workflows.plan import PlannedTrial
from workflows.sweep_file import load


def config(folder: Path, space: list[dict[str, Any]], **more: Any) -> SweepConfig:
    search = {"space": space, **more.pop("search", {})}
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump({"name": "x", "data": {"path": "a.csv"}, "search": search, **more}))
    return load(path)


def trials(config: SweepConfig, data: str = "data", labels: tuple[str, ...] = ("a", "b"), precision: str = "fp32",
           weights: str = "w") -> list[PlannedTrial]:  # fmt: skip
    def spec(choice: ModelChoice) -> ModelSpec:
        return ModelSpec(
            name=choice.name,
            path=choice.path,
            sha256=weights,
            tokenizer_sha256="t",
            model_type="bert",
            num_hidden_layers=choice.num_hidden_layers or 6,
            hidden_size=8,
        )

    models = {point.model: spec(point.model) for point in plan.points(config)}
    return plan.trials(config, models, data, labels, precision)  # type: ignore[arg-type]


def test_space_is_the_union_of_the_products_of_its_blocks(tmp_path: Path) -> None:
    found = trials(
        config(
            tmp_path,
            [
                {"model": "m", "freeze": ["full", "top-2"], "learning_rate": [1e-5, 2e-5]},
                {"model": "m", "freeze": "head", "learning_rate": 1e-3, "max_length": [32, 64]},
            ],
        )
    )
    assert [(trial.freeze, trial.training.learning_rate, trial.training.max_length) for trial in found] == [
        ("full", 1e-5, 256),
        ("full", 2e-5, 256),
        ("top-2", 1e-5, 256),
        ("top-2", 2e-5, 256),
        ("head", 1e-3, 32),
        ("head", 1e-3, 64),
    ]


def test_repeated_points_are_planned_once(tmp_path: Path) -> None:
    assert len(trials(config(tmp_path, [{"model": "m", "learning_rate": [1e-5, 1e-5]}, {"model": "m"}]))) == 2


def test_each_point_runs_with_each_seed_under_one_point_id(tmp_path: Path) -> None:
    found = trials(config(tmp_path, [{"model": "m"}], search={"seeds": [1, 2, 3]}))
    assert [trial.seed for trial in found] == [1, 2, 3]
    assert len({trial.point_id for trial in found}) == 1
    assert len({trial.trial_id for trial in found}) == 3


def test_an_id_does_not_depend_on_where_a_key_stands_or_on_names(tmp_path: Path) -> None:
    axis = config(tmp_path, [{"learning_rate": 1e-4, "freeze": "full", "model": "m"}])
    base = config(tmp_path, [{"model": {"path": "elsewhere", "name": "other"}}], training={"learning_rate": 1e-4})
    assert [trial.trial_id for trial in trials(axis)] == [trial.trial_id for trial in trials(base)]


@pytest.mark.parametrize(
    "change", [{"data": "other"}, {"labels": ("b", "a")}, {"precision": "bf16"}, {"weights": "other"}]
)
def test_whatever_decides_a_result_changes_the_id(tmp_path: Path, change: dict[str, Any]) -> None:
    found = config(tmp_path, [{"model": "m"}])
    assert trials(found)[0].trial_id != trials(found, **change)[0].trial_id


@pytest.mark.parametrize("change", [{"num_train_epochs": 1}, {"max_length": 32}, {"weight_decay": 0.0}])
def test_every_training_argument_changes_the_id(tmp_path: Path, change: dict[str, Any]) -> None:
    assert trials(config(tmp_path, [{"model": "m"}]))[0].trial_id != (
        trials(config(tmp_path, [{"model": "m"}], training=change))[0].trial_id
    )


def test_lora_arguments_count_under_lora_only(tmp_path: Path) -> None:
    found = trials(config(tmp_path, [{"model": "m", "freeze": ["head", "lora"], "lora_r": [4, 8]}]))
    assert [trial.freeze for trial in found] == ["head", "lora", "lora"]


def test_full_training_means_more_work_than_a_head(tmp_path: Path) -> None:
    policies = ["head", "top-2", "full"]
    found = trials(config(tmp_path, [{"model": "m", "freeze": policies}]))
    assert [trial.freeze for trial in sorted(found, key=plan.work)] == policies


def test_a_name_says_what_varies(tmp_path: Path) -> None:
    (trial,) = trials(config(tmp_path, [{"model": "m", "freeze": "lora", "lora_r": 4, "learning_rate": 3e-4}]))
    assert trial.name == "m · lora · lr 0.0003 · lora_r 4 · seed 42"
