"""Sweep files: what is accepted, what is refused, and with which message."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.errors import BadInput
from workflows.sweep_file import load

MINIMAL: dict[str, Any] = {"name": "x", "data": {"path": "a.csv"}, "search": {"space": [{"model": "m"}]}}


def write(folder: Path, text: str) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(text)
    return path


@pytest.fixture
def minimal(tmp_path: Path) -> Path:
    return write(tmp_path, yaml.safe_dump(MINIMAL))


def refused(path: Path, *overrides: str) -> str:
    with pytest.raises(BadInput) as error:
        load(path, overrides)
    assert error.value.exit_code == 2
    return str(error.value)


def test_the_shipped_configs_are_valid() -> None:
    folder = Path(__file__).parents[2] / "jobs" / "configs"
    names = {load(path).name for path in folder.glob("*.yaml")}
    assert names == {"demo", "imdb", "ag_news", "lora", "bench", "quality"}


def test_defaults_are_those_of_the_design(minimal: Path) -> None:
    config = load(minimal)
    assert (config.data.text_column, config.data.label_column) == ("text", "label")
    assert (config.data.validation_fraction, config.data.test_fraction, config.data.seed) == (0.1, 0.2, 42)
    assert config.search.seeds == (42,)
    assert config.baselines == ("majority", "tfidf")
    assert config.training.metric_for_best_model == "accuracy"
    assert (config.resources.cpus_per_trial, config.resources.gpus_per_trial) == (1, None)
    assert config.tracking.checkpoints == "champion"
    assert config.storage == "runs"


# Each row: overrides on a minimal file, and what the message must say.
BAD_VALUES = [
    (["training.learning_rates=1"], "unknown key; did you mean 'learning_rate'?"),
    (["training.warmup_ratio=0.1"], "use warmup_steps"),
    (["training.learning_rate=0"], "greater than 0"),
    (["training.learning_rate=-1"], "greater than 0"),
    (["training.learning_rate=.nan"], "finite"),
    (["training.learning_rate=.inf"], "training.learning_rate: inf: input should be a finite number"),
    (["training.num_train_epochs=0"], "greater than or equal to 1"),
    (["training.num_train_epochs=1.5"], "valid integer"),
    (["training.per_device_train_batch_size=0"], "greater than or equal to 1"),
    (["training.max_length=0"], "greater than or equal to 4"),
    (["training.save_steps=0"], "training.save_steps: 0: input should be greater than or equal to 1"),
    (["training.save_steps=-500"], "training.save_steps: -500: input should be greater than or equal to 1"),
    (["training.save_steps=0.5"], "training.save_steps: 0.5: input should be a valid integer"),
    (["training.save_steps=often"], "training.save_steps: 'often': input should be a valid integer"),
    (["training.save_step=500"], "did you mean 'save_steps'?"),
    (["training.metric_for_best_model=f1"], "'f1'"),
    (["training.bf16=maybe"], "bool"),
    (["search.space=[]"], "at least 1 item"),
    (["search.space.0.learning_rate=[]"], "has no values"),
    (["search.space.0.learning_rate=[1e-5, abc]"], "search.space.0.learning_rate.1: 'abc'"),
    (["search.space.0.lr=1e-5"], "use learning_rate"),
    (["search.space.0.learning_rate={loguniform: [1e-5, 1e-3]}"], "a range needs search.algorithm random or optuna"),
    (["search.space.0.metric_for_best_model=loss"], "cannot be an axis"),
    (["search.space.0.bf16=true"], "cannot be an axis"),
    (["search.space.0.save_steps=[100, 500]"], "cannot be an axis, because no result depends on it"),
    (["search.space.0.model={name: x}"], "search.space.0.model.path: is missing"),
    (["search.space.0.model={path: x, layers: 3}"], "search.space.0.model.layers: unknown key"),
    (["search.space.0.freeze=2"], "not the name of a freeze policy"),
    (["search.space=[{freeze: head}]"], "'model' is missing"),
    (["search.algorithm=random"], "search.num_trials: is missing"),
    (["search.algorithm=optuna"], "search.num_trials: is missing"),
    (["search.algorithm=gird"], "'gird': unknown; did you mean 'grid'? Known: grid, random, optuna"),
    (["search.scheduler=pbt"], "'pbt': unknown; Known: fifo, asha"),
    (["search.seed=1"], "is for random and optuna"),
    (["search.num_trials=10"], "is for random and optuna"),
    (["search.grace_period=2"], "is for the scheduler asha"),
    (["search.reduction_factor=3"], "is for the scheduler asha"),
    (["search.reduction_factor=1"], "greater than 1"),
    (["search.seeds=[]"], "at least 1 item"),
    (["search.seeds=[a]"], "search.seeds.0: 'a'"),
    (["search.seeds=[4294967296]"], "less than 4294967296"),
    (["resources.gpus_per_trial=1.5"], "whole number, or a fraction"),
    (["resources.gpus_per_trial=-1"], "greater than or equal to 0"),
    (["resources.workers_per_trial=2"], "only 1 is there yet"),
    (["resources.trial_timeout=soon"], "30m"),
    (["resources.trial_timeout=true"], "must be a number, not true or false"),
    (["tracking.uri=./mlruns"], "not a store any more"),
    (["tracking.uri=ftp://x"], "must begin with one of"),
    (["tracking.checkpoints=best"], "Known: none, champion, all"),
    (["storage=s3://bucket/runs"], "only a folder is there yet"),
    (["name=../up"], "must be 1 to 100 letters, digits, '.', '_' or '-', the first a letter or digit, such as 'up'"),
    (["name=a b"], "such as 'a-b'"),
    (["tracking.register_as=a/b"], "without / : . % quotes and control characters"),
    (["data.splits={trian: a}"], "did you mean 'train'?"),
    (["data.validation_fraction=1.0"], "less than 1"),
    (["data.sizes.train=0"], "greater than or equal to 1"),
    (["data=3"], "data: 3"),
    (["nonsense=1"], "nonsense: unknown key"),
]


@pytest.mark.parametrize(("overrides", "expected"), BAD_VALUES, ids=[row[0][0] for row in BAD_VALUES])
def test_a_bad_value_is_named_with_what_is_allowed(minimal: Path, overrides: list[str], expected: str) -> None:
    message = refused(minimal, *overrides)
    assert expected in message
    assert overrides[0].partition("=")[0].split(".")[-1].strip("0123456789") in message


# Each row: an axis of a block under random and optuna, and what the message must say.
BAD_AXES = [
    ("learning_rate={uniform: [1e-3, 1e-5]}", "low must be below high, and 0.001 is not below 1e-05"),
    ("learning_rate={uniform: [1e-5, 1e-5]}", "low must be below high"),
    ("learning_rate={loguniform: [0, 1e-3]}", "low must be above 0"),
    ("learning_rate={loguniform: [-1e-5, 1e-3]}", "low must be above 0"),
    ("learning_rate={uniform: [0, 0.1]}", "search.space.0.learning_rate.uniform.0: 0: input should be greater than 0"),
    ("learning_rate={uniform: [0.1, 1]}", "search.space.0.learning_rate.uniform.1: 1: input should be less than 1"),
    ("learning_rate={uniform: [0.1]}", "takes two numbers, [low, high]"),
    ("learning_rate={uniform: 0.1}", "takes two numbers, [low, high]"),
    ("learning_rate={uniform: [a, b]}", "takes two numbers, [low, high]"),
    ("learning_rate={uniform: [true, 2]}", "takes two numbers, [low, high]"),
    ("learning_rate={loguniform: [1e-5, .inf]}", "takes two finite numbers"),
    ("learning_rate={normal: [0, 1]}", "'normal' is unknown"),
    ("learning_rate={log_uniform: [0, 1]}", "did you mean 'loguniform'?"),
    ("learning_rate={uniform: [1e-5, 1e-3], loguniform: [1e-5, 1e-3]}", "takes one key"),
    ("learning_rate={}", "takes one key"),
    ("learning_rate={choice: []}", "choice takes a list of values"),
    ("learning_rate={choice: 1e-3}", "choice takes a list of values"),
    ("learning_rate={choice: [1e-3, 2]}", "search.space.0.learning_rate.choice.1: 2: input should be less than 1"),
    ("learning_rate=[1e-3, {uniform: [1e-5, 1e-3]}]", "stands alone, not in a list"),
    ("lora_r={randint: [1, 4.5]}", "takes two whole numbers"),
    ("lora_r={randint: [4, 4]}", "low must be below high"),
    ("lora_r={randint: [0, 4]}", "search.space.0.lora_r.randint.0: 0: input should be greater than or equal to 1"),
    ("lora_r={randint: [1, 1000000000000000000000]}", "takes two whole numbers"),
    ("lora_r={uniform: [1, 8]}", "lora_r is a whole number; use randint"),
    ("lr_scheduler_type={uniform: [1, 8]}", "'linear'"),
    ("model={uniform: [1, 2]}", "a name cannot be drawn from a range"),
    ("freeze={randint: [1, 2]}", "a name cannot be drawn from a range"),
    ("freeze={choice: [1, 2]}", "not the name of a freeze policy"),
    ("metric_for_best_model={choice: [loss]}", "cannot be an axis"),
]


@pytest.mark.parametrize("algorithm", ["random", "optuna"])
@pytest.mark.parametrize(("axis", "expected"), BAD_AXES, ids=[row[0] for row in BAD_AXES])
def test_a_bad_axis_is_named_with_what_is_allowed(minimal: Path, algorithm: str, axis: str, expected: str) -> None:
    message = refused(minimal, f"search.algorithm={algorithm}", "search.num_trials=2", f"search.space.0.{axis}")
    assert expected in message
    assert f"search.space.0.{axis.partition('=')[0]}" in message


def test_a_bad_range_names_its_line(tmp_path: Path) -> None:
    text = "name: x\ndata: {path: a.csv}\nsearch:\n  algorithm: random\n  num_trials: 2\n  space:\n    - model: m\n"
    message = refused(write(tmp_path, text + "      learning_rate:\n        loguniform: [2, 1]\n"))
    assert message.startswith(f"{tmp_path}/sweep.yaml:8: search.space.0.learning_rate: loguniform: [2, 1]: low must be")


def test_ranges_of_every_kind_and_choices_are_accepted(minimal: Path) -> None:
    axes = "{learning_rate: {loguniform: [1e-5, 1e-3]}, weight_decay: {uniform: [0, 0.1]}, lora_r: {randint: [1, 17]}}"
    config = load(
        minimal, ["search.algorithm=optuna", "search.num_trials=9", f"search.space=[{axes[:-1]}, model: m}}]"]
    )
    assert config.search.num_trials == 9
    listed = load(minimal, ["search.space.0.learning_rate={choice: [1e-5, 1e-4]}"])
    assert listed.search.algorithm == "grid"


def test_asha_takes_its_settings_and_they_must_leave_it_something_to_stop(minimal: Path) -> None:
    config = load(minimal, ["search.scheduler=asha", "search.grace_period=2", "search.reduction_factor=3"])
    assert (config.search.grace_period, config.search.reduction_factor) == (2, 3)
    message = refused(minimal, "search.scheduler=asha", "search.grace_period=3")
    assert "search.grace_period: 3: must be below num_train_epochs, which is 3" in message


def test_a_mistyped_key_names_its_line_and_the_nearest_key(tmp_path: Path) -> None:
    text = "name: x\ndata: {path: a.csv}\nsearch:\n  space:\n    - model: m\n      freez: full\n"
    message = refused(write(tmp_path, text))
    assert message.startswith(f"{tmp_path}/sweep.yaml:6: search.space.0.freez: unknown axis; did you mean 'freeze'?")


def test_all_errors_are_shown_at_once(minimal: Path) -> None:
    assert len(refused(minimal, "training.num_train_epochs=0", "storage=3", "data.seed=x").splitlines()) == 3


@pytest.mark.parametrize("text", ["", "[1, 2]", "just text", "name: x"])
def test_a_file_that_is_no_sweep_file_is_refused(tmp_path: Path, text: str) -> None:
    assert "sweep.yaml" in refused(write(tmp_path, text))


def test_overrides_reach_values_lists_and_every_block(minimal: Path) -> None:
    config = load(
        minimal,
        [
            "search.space=[{model: a}, {model: b}]",
            "search.space.*.freeze=[head, full]",
            "search.space.1.learning_rate=1e-4",
            "training.num_train_epochs=7",
            "tracking.experiment=null",
        ],
    )
    assert [block["freeze"] for block in config.search.space] == [["head", "full"]] * 2
    assert config.search.space[1]["learning_rate"] == 1e-4
    assert config.training.num_train_epochs == 7


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.num_train_epochs", "key=value"),
        ("=1", "key=value"),
        ("search.space.5.freeze=head", "use 0 to 0, or *"),
        ("name.inner=1", "is a single value"),
        ("training.num_train_epochs=[", "not valid YAML"),
    ],
)
def test_an_override_that_cannot_be_applied_is_named(minimal: Path, override: str, expected: str) -> None:
    message = refused(minimal, override)
    assert expected in message
    assert "--set" in message


def test_labels_stay_text(minimal: Path) -> None:
    config = load(minimal, ["data.labels={0: no, 1: yes, 2.0: true, 3: 4}"])
    assert config.data.labels == {"0": "no", "1": "yes", "2.0": "true", "3": "4"}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_KEYS = st.sampled_from(
    [
        *("data.path", "data.labels", "data.splits", "data.text_column", "search.seeds", "search.space"),
        *("search.space.0.model", "search.space.0.learning_rate", "training", "resources", "tracking.uri"),
        *("storage", "name", "baselines"),
    ]
)


@settings(max_examples=200, deadline=None)
@given(_KEYS, _JSON)
def test_any_value_anywhere_gives_a_config_or_a_bad_input(key: str, value: object) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), yaml.safe_dump(MINIMAL))
        with contextlib.suppress(BadInput):
            load(path, [f"{key}={yaml.safe_dump(value, default_flow_style=True)}"])
