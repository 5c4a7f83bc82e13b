"""From a checked sweep file to the trials it means: points, seeds, deterministic ids, order of dispatch.

A trial's id is the hash of everything that decides its result, so the same trial has the same id wherever and
whenever it is planned, and a changed one cannot be mistaken for it.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trainables.arguments import ModelSpec, Precision, TrainingArguments, TrialSpec
from trainables.files import sha256_json
from trainables.freeze import trained_layers
from workflows import space
from workflows.config import ModelChoice, Point, SweepConfig
from workflows.space import Block, Draw, Range, Values

# Raise by one when the same arguments come to mean other results; finished trials are then run again.
TRAINING_SEMANTICS = 4
_ID_LENGTH = 12
_DEFAULT_FREEZE = "full"
# Draws that give nothing new, one after the other, before what is left of a space is looked through in order.
_REPEATS = 100
_MOST_LISTED = 100_000


@dataclass(frozen=True)
class PlannedTrial:
    """One point with one seed, named but not yet tied to folders and machines.

    `drawn` numbers the points that Optuna has drawn for this sweep, from 1.
    """

    trial_id: str
    point_id: str
    seed: int
    model: ModelSpec
    freeze: str
    training: TrainingArguments
    axes: dict[str, Any]
    drawn: int | None = None

    @property
    def policy(self) -> str:
        """The freeze policy with whatever other axes are in use, as in `lora, lora_r 8`."""
        return ", ".join([self.freeze, *(f"{axis} {number(value)}" for axis, value in self.axes.items())])

    @property
    def name(self) -> str:
        """What people read in MLflow: model, policy, then every other axis, then the seed."""
        shown = {"learning_rate": self.training.learning_rate} | self.axes
        rest = [f"{_SHORT.get(axis, axis)} {number(value)}" for axis, value in shown.items()]
        return " · ".join([self.model.name, self.freeze, *rest, f"seed {self.seed}"])


_SHORT = {"learning_rate": "lr", "num_train_epochs": "epochs", "per_device_train_batch_size": "batch"}


@dataclass(frozen=True)
class Planner:
    """Turns points of the space into trials with ids. `models` resolves each ModelChoice in use."""

    config: SweepConfig
    models: Mapping[ModelChoice, ModelSpec]
    data_fingerprint: str
    labels: tuple[str, ...]
    precision: Precision

    def trials(self, values: Values) -> list[PlannedTrial]:
        """The trials of one point, one per seed."""
        point, meaning = self._meaning(values)
        point_id = sha256_json(meaning)[:_ID_LENGTH]
        rest = (self.models[point.model], point.freeze, point.training, point.axes)
        return [
            PlannedTrial(_trial_id(meaning, seed), point_id, seed, *rest)
            for seed in dict.fromkeys(self.config.search.seeds)
        ]

    def find(self, blocks: Iterable[Block], spec: TrialSpec) -> Draw | None:
        """The point of the space that an earlier trial was; None if it is not in it or would be another trial."""
        for index, block in enumerate(blocks):
            known = spec.training.model_dump() | {"freeze": spec.freeze}
            for model in block.axes["model"].listed() or ():
                values = {axis: model if axis == "model" else known[axis] for axis in block.axes}
                if values in block and _trial_id(self._meaning(values)[1], spec.seed) == spec.trial_id:
                    return Draw(index, values)
        return None

    def _meaning(self, values: Values) -> tuple[Point, dict[str, Any]]:
        """A point, and all that decides the result of its trials but their seed."""
        point = _point(self.config, values)
        shared = {"data": self.data_fingerprint, "labels": list(self.labels), "precision": self.precision}
        model = _model_meaning(self.models[point.model])
        return point, {**shared, "version": TRAINING_SEMANTICS, "model": model, **_training_meaning(point)}


def points(config: SweepConfig) -> list[Point]:
    """The points that every model must be able to do: under grid all of them, else the far ends of each block.

    The ends are the combinations of model, freeze policy and highest max_length; nothing else depends on the model.
    """
    blocks = space.parse(config.search)
    if config.search.algorithm == "grid":
        return [_point(config, draw.values) for draw in space.listed(blocks)]
    return [_point(config, values) for block in blocks for values in _ends(block, config.training.max_length)]


def grid(planner: Planner) -> list[PlannedTrial]:
    """The trials of every point, in the order of the sweep file, without repeats."""
    blocks = space.parse(planner.config.search)
    found = (trial for draw in space.listed(blocks) for trial in planner.trials(draw.values))
    planned: dict[str, PlannedTrial] = {}
    for trial in found:
        planned.setdefault(trial.trial_id, trial)
    return list(planned.values())


def random_points(planner: Planner, tried: Container[str] = ()) -> Iterator[tuple[Draw, list[PlannedTrial]]]:
    """Random points that differ from each other and from the point ids in `tried`, with their trials.

    Where drawing gives nothing new, whatever a block without endless ranges still holds comes in order, until the
    space is exhausted.
    """
    blocks, seen, repeats = space.parse(planner.config.search), set[str](), 0
    drawn, rest = space.draws(blocks, planner.config.search.seed), itertools.islice(space.listed(blocks), _MOST_LISTED)
    while draw := next(drawn if repeats < _REPEATS else rest, None):
        found = planner.trials(draw.values)
        if found[0].point_id in seen or found[0].point_id in tried:
            repeats += 1
            continue
        repeats = 0 if repeats < _REPEATS else repeats
        seen.add(found[0].point_id)
        yield draw, found


def work(trial: PlannedTrial) -> float:
    """The work that a trial means, in arbitrary units, to order trials and to weigh them for the time left.

    Counted in layer passes: one forward and two backward through each layer that trains (Kaplan et al. 2020, section
    2.1), each as wide as the square of the hidden size. What frozen layers give is computed once for all trials, so
    it counts for none of them; the head alone counts as a hundredth of a layer.
    """
    passes = 3 * trained_layers(trial.freeze, trial.model.num_hidden_layers) + 0.01
    return passes * trial.model.hidden_size**2 * trial.training.num_train_epochs * trial.training.max_length


def _ends(block: Block, max_length: int) -> Iterator[Values]:
    first = {name: axis.low if isinstance(axis, Range) else axis.values[0] for name, axis in block.axes.items()}
    longest = {"max_length": space.largest([block], "max_length", max_length)}
    policies = block.axes["freeze"].listed() if "freeze" in block.axes else [_DEFAULT_FREEZE]
    for model, freeze in itertools.product(block.axes["model"].listed() or (), policies or ()):
        yield first | longest | {"model": model, "freeze": freeze}


def _point(config: SweepConfig, values: Values) -> Point:
    values = dict(values)
    model = values.pop("model")
    freeze = values.pop("freeze", _DEFAULT_FREEZE)
    training = TrainingArguments.model_validate(config.training.model_dump() | values)
    values.pop("learning_rate", None)
    return Point(model=model, freeze=freeze, training=training, axes=values)


def _model_meaning(model: ModelSpec) -> dict[str, Any]:
    return {"weights": model.sha256, "num_hidden_layers": model.num_hidden_layers}


def _training_meaning(point: Point) -> dict[str, Any]:
    return {"freeze": point.freeze, "training": point.training.meaning(point.freeze)}


def _trial_id(meaning: dict[str, Any], seed: int) -> str:
    return sha256_json({**meaning, "seed": seed})[:_ID_LENGTH]


def number(value: Any) -> str:
    """The value of an axis for people: what was typed as it was typed, what was drawn with three digits."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:g}" if float(f"{value:g}") == value else f"{value:.3g}"
