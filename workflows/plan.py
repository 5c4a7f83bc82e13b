"""From a checked sweep file to the trials it means: points, seeds, deterministic ids, order of dispatch.

A trial's id is the hash of everything that decides its result, so the same trial has the same id wherever and
whenever it is planned, and a changed one cannot be mistaken for it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trainables.arguments import ModelSpec, Precision, TrainingArguments
from trainables.files import sha256_json
from trainables.freeze import trained_layers
from workflows.config import ModelChoice, Point, SweepConfig
from workflows.sweep_file import axis_values

# Raise by one when the same arguments come to mean other results; finished trials are then run again.
TRAINING_SEMANTICS = 1
_ID_LENGTH = 12
_DEFAULT_FREEZE = "full"


@dataclass(frozen=True)
class PlannedTrial:
    """One point with one seed, named but not yet tied to folders and machines."""

    trial_id: str
    point_id: str
    seed: int
    model: ModelSpec
    freeze: str
    training: TrainingArguments
    axes: dict[str, Any]

    @property
    def policy(self) -> str:
        """The freeze policy with whatever other axes are in use, as in `lora, lora_r 8`."""
        return ", ".join([self.freeze, *(f"{axis} {_number(value)}" for axis, value in self.axes.items())])

    @property
    def name(self) -> str:
        """What people read in MLflow: model, policy, then every other axis, then the seed."""
        shown = {"learning_rate": self.training.learning_rate} | self.axes
        rest = [f"{_SHORT.get(axis, axis)} {_number(value)}" for axis, value in shown.items()]
        return " · ".join([self.model.name, self.freeze, *rest, f"seed {self.seed}"])


_SHORT = {"learning_rate": "lr", "num_train_epochs": "epochs", "per_device_train_batch_size": "batch"}


def points(config: SweepConfig) -> list[Point]:
    """Every combination of axis values, block by block, as sklearn's ParameterGrid has it. May hold repeats."""
    return [
        _point(config, dict(zip(block, values, strict=True)))
        for block in config.search.space
        for values in itertools.product(*(axis_values(value) for value in block.values()))
    ]


def trials(
    config: SweepConfig,
    models: Mapping[ModelChoice, ModelSpec],
    data_fingerprint: str,
    labels: Iterable[str],
    precision: Precision,
) -> list[PlannedTrial]:
    """Points × seeds, repeats dropped, in the order of the sweep file. `models` resolves each ModelChoice in use."""
    shared = {"data": data_fingerprint, "labels": list(labels), "precision": precision, "version": TRAINING_SEMANTICS}
    planned: dict[str, PlannedTrial] = {}
    for point in points(config):
        model = models[point.model]
        meaning = {**shared, "model": _model_meaning(model), **_training_meaning(point)}
        point_id = sha256_json(meaning)[:_ID_LENGTH]
        for seed in config.search.seeds:
            trial_id = sha256_json({**meaning, "seed": seed})[:_ID_LENGTH]
            trial = PlannedTrial(trial_id, point_id, seed, model, point.freeze, point.training, point.axes)
            planned.setdefault(trial_id, trial)
    return list(planned.values())


def work(trial: PlannedTrial) -> float:
    """The work that a trial means, in arbitrary units, to order trials and to weigh them for the time left.

    Counted in layer passes: one forward through every layer, two backward through each that trains (Kaplan et al.
    2020, section 2.1), each as wide as the square of the hidden size.
    """
    passes = trial.model.num_hidden_layers + 2 * trained_layers(trial.freeze, trial.model.num_hidden_layers)
    return passes * trial.model.hidden_size**2 * trial.training.num_train_epochs * trial.training.max_length


def _point(config: SweepConfig, values: dict[str, Any]) -> Point:
    model = ModelChoice.model_validate(values.pop("model"))
    freeze = values.pop("freeze", _DEFAULT_FREEZE)
    training = TrainingArguments.model_validate(config.training.model_dump() | values)
    values.pop("learning_rate", None)
    return Point(model=model, freeze=freeze, training=training, axes=values)


def _model_meaning(model: ModelSpec) -> dict[str, Any]:
    return {"weights": model.sha256, "num_hidden_layers": model.num_hidden_layers}


def _training_meaning(point: Point) -> dict[str, Any]:
    """What decides the result: LoRA's arguments count under LoRA only, `bf16` is in the resolved precision."""
    arguments = point.training.model_dump(exclude={"bf16"})
    if point.freeze != "lora":
        arguments = {key: value for key, value in arguments.items() if not key.startswith("lora_")}
    return {"freeze": point.freeze, "training": arguments}


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
