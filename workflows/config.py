"""The sections of a sweep file as pydantic models. `workflows.sweep_file.load` reads one.

Nothing here imports torch, transformers, ray or mlflow, so a typo answers at once.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from trainables.arguments import Frozen, Number, Positive, TrainingArguments, Whole, no_truth_value

Fraction = Annotated[Number, Field(gt=0, lt=1)]
Seed = Annotated[Whole, Field(ge=0, lt=2**32)]
_LEAST_OF_A_GPU = 0.01
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# What stands beside the sweeps in a storage.
_TAKEN = ("cache", "mlartifacts", "mlflow.db")
# MLflow's own rule, and without quotes and control characters, because searches name it.
_REGISTERED = re.compile(r"[^/:.%\"'\x00-\x1f\x7f]{1,250}")


def _can_be_a_name(value: str) -> str:
    """A sweep's folder and its experiment are called so."""
    if value.lower() in _TAKEN:
        raise ValueError(f"is what Fleetune calls something of its own in the storage ({', '.join(_TAKEN)})")
    if _NAME.fullmatch(value):
        return value
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", value).strip("-._")[:100]
    near = f", such as {slug!r}" if slug and slug.lower() not in _TAKEN else ""
    raise ValueError(f"must be 1 to 100 letters, digits, '.', '_' or '-', the first a letter or digit{near}")


def _can_be_registered(value: str) -> str:
    if not _REGISTERED.fullmatch(value):
        raise ValueError("must be 1 to 250 characters without / : . % quotes and control characters, as MLflow asks")
    return value


def seconds(duration: str | float) -> float:
    """Read a duration: a number of seconds, or a number with s, m, h or d, as in `30m`. Raises ValueError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", str(duration).strip())
    if match is None or not 0 < float(match[1]) < 1e9:
        raise ValueError("must be a number of seconds above 0, or a number with s, m, h or d, as in 30m")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


class SplitNames(Frozen):
    """Where each split comes from: a Hub split, a value of `split_column`, or a file. null: cut from train."""

    train: str = "train"
    validation: str | None = None
    test: str | None = None


class SplitSizes(Frozen):
    """Caps on the rows of each split, applied after splitting."""

    train: Positive | None = None
    validation: Positive | None = None
    test: Positive | None = None


class DataConfig(Frozen):
    """What to learn from: the source, its columns, its labels and its splits."""

    path: str
    name: str | None = Field(None, description="configuration of a Hub data set, as in load_dataset(path, name)")
    revision: str | None = Field(None, description="commit of a Hub data set")
    text_column: str | Annotated[list[str], Field(min_length=1)] = Field(
        "text", description="a list is joined with a space"
    )
    text_pair_column: str | None = Field(None, description="second sentence of a pair")
    label_column: str = "label"
    labels: dict[str, str] | None = None
    group_column: str | None = None
    split_column: str | None = None
    splits: SplitNames | None = Field(
        None, description="null: a split column or Hub splits named train, validation, test"
    )
    validation_fraction: Fraction = 0.1
    test_fraction: Fraction = 0.2
    sizes: SplitSizes = SplitSizes()
    seed: Seed = 42

    @field_validator("labels", mode="before")
    @classmethod
    def _names_are_text(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            key: str(name).lower() if isinstance(name, bool) else str(name) if isinstance(name, int | float) else name
            for key, name in value.items()
            if name is not None
        }

    @model_validator(mode="after")
    def _label_is_no_text(self) -> DataConfig:
        texts = [self.text_column] if isinstance(self.text_column, str) else self.text_column
        if self.label_column in (*texts, self.text_pair_column):
            raise ValueError(
                f"label_column and a text column are both {self.label_column!r}: the answer would be in the text"
            )
        return self


class ModelChoice(Frozen):
    """A value of the `model` axis. A plain string is its path and its name."""

    path: Annotated[str, Field(min_length=1)]
    name: str = ""
    num_hidden_layers: Positive | None = Field(None, description="keep the first N layers only")
    revision: str | None = Field(None, description="commit of a Hub model")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"path": value}
        if isinstance(value, dict) and not value.get("name"):
            value = {**value, "name": value.get("path", "")}
        return value


class Point(Frozen):
    """One combination of axis values, without a seed."""

    model: ModelChoice
    freeze: str
    training: TrainingArguments
    axes: dict[str, Any] = Field(description="the values as written, for display")


class SearchConfig(Frozen):
    """Which points to try. Each block of `space` is the product of its lists; random and optuna may have ranges in it.

    `grace_period` and `reduction_factor` have the names and meanings of Ray Tune's ASHAScheduler.
    """

    space: Annotated[list[dict[str, Any]], Field(min_length=1)]
    algorithm: Literal["grid", "random", "optuna"] = "grid"
    num_trials: Positive | None = Field(None, description="points that random and optuna try, each with every seed")
    max_trials: Positive = Field(1000, description="a space of more trials is taken for a slip, and refused")
    scheduler: Literal["fifo", "asha"] = "fifo"
    grace_period: Positive = Field(1, description="asha: epochs that every trial may train")
    reduction_factor: Annotated[Number, Field(gt=1, le=100)] = Field(
        2, description="asha: of this many trials that reach a rung, one goes on; the next rung is as many times higher"
    )
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (42,)
    seed: Seed = Field(42, description="of the draws of random and optuna")

    @field_validator("seeds", mode="before")
    @classmethod
    def _one_seed(cls, value: Any) -> Any:
        return [value] if isinstance(value, int | float | str) else value


class ResourcesConfig(Frozen):
    """What each trial asks of the cluster."""

    cpus_per_trial: Positive = 1
    gpus_per_trial: Annotated[Number, Field(ge=0)] | None = Field(
        None, description="null: 1 where the cluster has GPUs, else 0"
    )
    workers_per_trial: Positive = 1
    max_concurrent_trials: Positive | None = None
    trial_timeout: Annotated[str | float, BeforeValidator(no_truth_value)] = "30m"

    @field_validator("gpus_per_trial")
    @classmethod
    def _whole_or_part(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and value != int(value):
            raise ValueError("must be a whole number, or a fraction of one GPU between 0 and 1")
        if value is not None and 0 < value < _LEAST_OF_A_GPU:
            raise ValueError(f"must be 0, or at least {_LEAST_OF_A_GPU} of a GPU")
        return value

    @field_validator("trial_timeout")
    @classmethod
    def _duration(cls, value: str | float) -> str | float:
        seconds(value)
        return value


class TrackingConfig(Frozen):
    """Where MLflow is and what it gets."""

    uri: str | None = None
    experiment: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    register_as: Annotated[str, AfterValidator(_can_be_registered)] | None = None
    checkpoints: Literal["none", "champion", "all"] = "champion"

    @field_validator("experiment")
    @classmethod
    def _can_be_a_folder(cls, value: str | None) -> str | None:
        if value is not None and (value in (".", "..") or not value.isprintable()):
            raise ValueError("must be printable, and not . or .., because a folder of artifacts is named after it")
        return value

    @field_validator("uri")
    @classmethod
    def _known_scheme(cls, value: str | None) -> str | None:
        schemes = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks")
        scheme = re.match(r"([a-z]+)(\+[a-z0-9]+)?(:|$)", value or "")
        if value is not None and (scheme is None or scheme[1] not in schemes):
            known = ", ".join(f"{name}:" for name in schemes)
            raise ValueError(f"must begin with one of {known} (a folder such as ./mlruns is not a store any more)")
        return value


class ErrorsConfig(Frozen):
    """Which wrong answers the report and MLflow show, and how much of their text."""

    count: Positive = Field(20, description="the test texts with the highest loss of each trial")
    include_text: Literal["full", "preview", "none"] = Field("preview", description="preview: the first 200 characters")


Severity = Literal["error", "warn", "note", "ignore"]


class CheckConfig(Frozen):
    """How much of a matter each finding of the check is: null leaves the grade to how much was found.

    One setting per check of `workflows.audit.checks`. An error ends a sweep before it begins. Only `drop_overlap`
    changes the data.
    """

    drop_overlap: bool = Field(False, description="take rows out of train whose text stands in test or validation")
    overlap: Severity | None = None
    normalised_overlap: Severity | None = None
    near_duplicates: Severity = Field("ignore", description="needs the extra near-duplicates, and time")
    conflicting_labels: Severity | None = None
    blank_texts: Severity | None = None
    placeholder_texts: Severity | None = None
    one_class: Severity | None = None
    missing_classes: Severity | None = None
    rare_classes: Severity | None = None
    label_spelling: Severity | None = None
    id_like_labels: Severity | None = None
    duplicates: Severity | None = None
    normalised_duplicates: Severity | None = None
    truncated: Severity | None = None
    unknown_tokens: Severity | None = None


class SweepConfig(Frozen):
    """A whole sweep file."""

    name: Annotated[str, AfterValidator(_can_be_a_name)]
    data: DataConfig
    search: SearchConfig
    training: TrainingArguments = TrainingArguments()
    baselines: tuple[str, ...] = ("majority", "tfidf")
    errors: ErrorsConfig = ErrorsConfig()
    check: CheckConfig = CheckConfig()
    resources: ResourcesConfig = ResourcesConfig()
    tracking: TrackingConfig = TrackingConfig()
    storage: Annotated[str, Field(min_length=1)] = "runs"

    @field_validator("baselines", mode="before")
    @classmethod
    def _one_baseline(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("baselines")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(value))
