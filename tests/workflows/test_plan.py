"""From blocks to points to trials: products, repeats, seeds, and ids that hold what decides a result."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainables.arguments import ModelSpec, TrialSpec
from trainables.directory import SweepDirectory
from workflows import plan, space
from workflows.config import ModelChoice, SweepConfig
from workflows.plan import PlannedTrial, Planner
from workflows.search import ALGORITHMS
from workflows.sweep_file import load


def config(folder: Path, space: list[dict[str, Any]], **more: Any) -> SweepConfig:
    search = {"space": space, **more.pop("search", {})}
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump({"name": "x", "data": {"path": "a.csv"}, "search": search, **more}))
    return load(path)


def planner(config: SweepConfig, data: str = "data", labels: tuple[str, ...] = ("a", "b"), precision: str = "fp32",
            weights: str = "w") -> Planner:  # fmt: skip
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
    return Planner(config, models, data, labels, precision)  # type: ignore[arg-type]


def trials(config: SweepConfig, **more: Any) -> list[PlannedTrial]:
    return ALGORITHMS[config.search.algorithm].planned(planner(config, **more), SweepDirectory(Path("/nowhere")))


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


def test_how_often_state_is_saved_decides_no_result(tmp_path: Path) -> None:
    often, never = (config(tmp_path, [{"model": "m"}], training={"save_steps": steps}) for steps in (1, None))
    assert [trial.trial_id for trial in trials(often)] == [trial.trial_id for trial in trials(never)]
    assert trials(often)[0].training.save_steps == 1


def test_lora_arguments_count_under_lora_only(tmp_path: Path) -> None:
    found = trials(config(tmp_path, [{"model": "m", "freeze": ["head", "lora"], "lora_r": [4, 8]}]))
    assert [trial.freeze for trial in found] == ["head", "lora", "lora"]


def test_full_training_means_more_work_than_a_head(tmp_path: Path) -> None:
    policies = ["head", "top-2", "full"]
    found = trials(config(tmp_path, [{"model": "m", "freeze": policies}]))
    assert [trial.freeze for trial in sorted(found, key=plan.work)] == policies


RANGES = [
    {"model": "m", "freeze": ["full", "head"], "learning_rate": {"loguniform": [1e-6, 1e-4]}},
    {"model": "m", "freeze": "lora", "lora_r": {"randint": [2, 9]}, "learning_rate": {"loguniform": [1e-4, 1e-2]}},
]


def random(folder: Path, space: list[dict[str, Any]], num_trials: int, **more: Any) -> list[PlannedTrial]:
    return trials(config(folder, space, search={"algorithm": "random", "num_trials": num_trials, **more}))


def test_a_longer_random_search_extends_a_shorter_one(tmp_path: Path) -> None:
    shorter, longer = (random(tmp_path, RANGES, count) for count in (5, 12))
    assert longer[:5] == shorter
    assert len({trial.point_id for trial in longer}) == 12


def test_another_seed_of_the_search_draws_other_points(tmp_path: Path) -> None:
    found = {trial.trial_id for trial in random(tmp_path, RANGES, 8, seed=1)}
    assert not found & {trial.trial_id for trial in random(tmp_path, RANGES, 8, seed=2)}


def test_axes_of_one_block_never_leak_into_another(tmp_path: Path) -> None:
    found = random(tmp_path, RANGES, 60)
    assert {trial.freeze for trial in found} == {"full", "head", "lora"}
    for trial in found:
        lora = trial.freeze == "lora"
        assert ("lora_r" in trial.axes) == lora
        low, high = (1e-4, 1e-2) if lora else (1e-6, 1e-4)
        assert low <= trial.training.learning_rate <= high
        assert trial.training.lora_r in (range(2, 9) if lora else [8])


def test_each_random_point_runs_with_each_seed(tmp_path: Path) -> None:
    found = random(tmp_path, RANGES, 3, seeds=[1, 2])
    assert [trial.seed for trial in found] == [1, 2] * 3
    assert len({trial.point_id for trial in found}) == 3


def test_a_random_search_of_a_small_space_tries_each_point_once_and_ends(tmp_path: Path) -> None:
    small = [
        {"model": "m", "freeze": "head", "lora_r": [4, 8]},
        {"model": "m", "freeze": "lora", "lora_r": {"choice": [4, 8, 8]}, "max_length": {"randint": [100, 103]}},
    ]
    found = random(tmp_path, small, 50)
    assert len(found) == len({trial.point_id for trial in found}) == 1 + 2 * 3
    assert found[:4] == random(tmp_path, small, 4)


def test_a_point_is_found_again_in_the_trial_that_it_became(tmp_path: Path) -> None:
    settings = config(tmp_path, RANGES, search={"algorithm": "random", "num_trials": 9, "seeds": [5, 6]})
    made = planner(settings)
    for draw, drawn in itertools.islice(plan.random_points(made), 9):
        for trial in drawn:
            assert made.find(space.parse(settings.search), spec(trial)) == draw
    narrow = [RANGES[0] | {"learning_rate": {"loguniform": [1e-9, 1e-8]}}]
    other = config(tmp_path, narrow, search={"algorithm": "random", "num_trials": 1})
    assert planner(other).find(space.parse(other.search), spec(drawn[0])) is None
    assert planner(settings, data="other").find(space.parse(settings.search), spec(drawn[0])) is None


def spec(trial: PlannedTrial) -> TrialSpec:
    """What is left of a trial in its folder."""
    return TrialSpec(
        trial_id=trial.trial_id,
        point_id=trial.point_id,
        seed=trial.seed,
        model=trial.model,
        freeze=trial.freeze,
        training=trial.training,
        labels=("a", "b"),
        precision="fp32",
        data="/data",
        data_fingerprint="data",
        cache="/cache",
        directory="/trial",
    )


def test_every_model_is_checked_at_the_far_ends_of_a_space(tmp_path: Path) -> None:
    block = {"model": ["m", "n"], "freeze": ["head", "top-2"], "max_length": {"randint": [16, 513]}}
    found = plan.points(config(tmp_path, [block], search={"algorithm": "optuna", "num_trials": 1}))
    assert {(point.model.name, point.freeze) for point in found} == {
        (model, freeze) for model in "mn" for freeze in ("head", "top-2")
    }
    assert {point.training.max_length for point in found} == {512}


@pytest.mark.parametrize(
    ("value", "shown"), [(3e-4, "0.0003"), (2.5e-05, "2.5e-05"), (1.2345678901e-05, "1.23e-05"), (0.1, "0.1"), (8, "8")]
)
def test_what_was_drawn_is_shown_with_three_digits(value: float, shown: str) -> None:
    assert plan.number(value) == shown


def test_a_name_says_what_varies(tmp_path: Path) -> None:
    (trial,) = trials(config(tmp_path, [{"model": "m", "freeze": "lora", "lora_r": 4, "learning_rate": 3e-4}]))
    assert trial.name == "m · lora · lr 0.0003 · lora_r 4 · seed 42"
