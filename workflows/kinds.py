"""What decides how long the parts of a trial take, so that each is timed once, and what trials share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from trainables import freeze
from trainables.arguments import Frozen, ModelSpec
from trainables.files import sha256_json
from trainables.timing import Timing
from workflows.plan import PlannedTrial

Group = Sequence[PlannedTrial]


class Kind(Frozen):
    """What decides how long the parts of a trial take: its model, policy and batches, and how many train at once."""

    model: ModelSpec
    freeze: str
    lora_r: int | None
    max_length: int
    per_device_train_batch_size: int
    gradient_accumulation_steps: int
    per_device_eval_batch_size: int
    has_layerwise_decay: bool
    together: int

    @classmethod
    def of(cls, group: Group) -> Kind:
        """The kind of a group."""
        trial, training = group[0], group[0].training
        return cls(
            model=trial.model,
            freeze=trial.freeze,
            lora_r=training.lora_r if freeze.parse(trial.freeze).adapters else None,
            max_length=training.max_length,
            per_device_train_batch_size=training.per_device_train_batch_size,
            gradient_accumulation_steps=training.gradient_accumulation_steps,
            per_device_eval_batch_size=training.per_device_eval_batch_size,
            has_layerwise_decay=training.layerwise_lr_decay < 1,
            together=len(group),
        )

    @property
    def graph(self) -> tuple[str, int, int]:
        """Kinds that agree in this predict by the same operations."""
        return self.model.sha256, self.model.num_hidden_layers, self.max_length


def prefix_key(trial: PlannedTrial) -> str | None:
    """What trials that agree in it share of frozen layers; None where none are frozen for good."""
    boundary = freeze.frozen_layers(trial.freeze, trial.model.num_hidden_layers)
    if not boundary:
        return None
    return sha256_json(
        {
            "weights": trial.model.sha256,
            "boundary": boundary,
            "is_all": boundary == trial.model.num_hidden_layers,
            "tokens": tokens_key(trial),
        }
    )


def tokens_key(trial: PlannedTrial) -> str:
    """What trials that agree in it share of tokens."""
    return sha256_json({"tokenizer": trial.model.tokenizer_sha256, "max_length": trial.training.max_length})


def timing_of(group: Group, timings: Mapping[Kind, Timing]) -> Timing:
    """The timing of a group's kind, or of the nearest kind, with its training and scoring scaled by the work.

    Nearest is, in this order: of the same model, the same policy, the work of an epoch most alike.
    """
    kind = Kind.of(group)
    if kind in timings:
        return timings[kind]

    def distance(other: Kind) -> tuple[bool, bool, float]:
        ratio = _work(kind) / _work(other)
        return other.model != kind.model, other.freeze != kind.freeze, max(ratio, 1 / ratio)

    nearest = min(timings, key=distance)
    scale = _work(kind) / _work(nearest)
    known = timings[nearest]
    parts = ("prefix", "epoch", "longest_step", "validation", "test")
    scaled = {part: getattr(known, part) * scale for part in parts}
    return known.model_copy(update=scaled | {"together": kind.together if known.together > 1 else 1})


def details(kinds: Iterable[Kind]) -> dict[Kind, str]:
    """What tells kinds of the same model and policy apart, for people."""
    kinds = list(kinds)
    found = {}
    for kind in kinds:
        like = [other for other in kinds if (other.model, other.freeze) == (kind.model, kind.freeze)]
        varied = [name for name, read in _DETAILS.items() if len({read(other) for other in like}) > 1]
        found[kind] = ", ".join(f"{name} {_DETAILS[name](kind)}" for name in varied)
    return found


_DETAILS: Mapping[str, Callable[[Kind], Any]] = {
    "lora_r": lambda kind: kind.lora_r,
    "max_length": lambda kind: kind.max_length,
    "batch": lambda kind: kind.per_device_train_batch_size,
    "accumulated": lambda kind: kind.gradient_accumulation_steps,
    "eval batch": lambda kind: kind.per_device_eval_batch_size,
    "layer-wise decay": lambda kind: "on" if kind.has_layerwise_decay else "off",
    "at once": lambda kind: kind.together,
}


def _work(kind: Kind) -> float:
    """The work of an epoch, in the units of `plan.work`."""
    passes = 1 + 3 * freeze.trained_layers(kind.freeze, kind.model.num_hidden_layers)
    return passes * kind.model.hidden_size**2 * kind.max_length
