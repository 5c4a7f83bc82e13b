"""The disk that a sweep is going to need, estimated from its plan and the headers of its models' weights.

Counted is what is large: checkpoints, the states of trials under way, and what MLflow gets. What cannot be known
yet counts as the least it can be, so that a sweep that would fit is never refused; records, predictions and tokens
are small beside weights and do not count at all.
"""

from __future__ import annotations

import heapq
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainables import freeze
from trainables.arguments import ModelSpec, TrainingArguments
from trainables.model_folder import tokenizer_files, weight_files
from trainables.models import FAMILIES
from workflows import plan, space, trials
from workflows.groups import groups
from workflows.prepare import Prepared

# All weights are trained and kept in float32.
_BYTES = 4
# A state holds each weight that trains and AdamW's two averages of it, at most: none of tokens that are not in train.
_STATE_COPIES = 3
# Two states are kept, and while a new one is written there are three.
_STATES = 3


@dataclass(frozen=True)
class Parameters:
    """How many parameters the blocks of a classification model have."""

    embeddings: int
    layers: tuple[int, ...]
    head: int

    @property
    def total(self) -> int:
        return self.embeddings + sum(self.layers) + self.head


@dataclass(frozen=True)
class Footprint:
    """Bytes in the storage: what stays, what is there while trials run, and what is there once they have ended.

    `held` is what unfinished trials have written already, which counts for all of these.
    """

    checkpoints: int
    states: int
    published: int
    held: int

    @property
    def needed(self) -> int:
        """The bytes that must still be free."""
        return max(0, self.checkpoints + max(self.states, self.published) - self.held)


@dataclass(frozen=True)
class _Trial:
    """Bytes of one trial: its checkpoint, its states while it runs, and its model as a whole."""

    checkpoint: int
    states: int
    whole: int


def estimate(prepared: Prepared, slots: int) -> Footprint:
    """What the sweep still needs in its storage when `slots` groups run at once."""
    # Nothing of a new sweep is finished, so its precision, which is part of a trial's id, does not matter yet.
    precision = prepared.kept_precision or "fp32"
    planned = prepared.plan(precision)
    results = trials.results(prepared, planned)
    waiting = {
        trial.trial_id: trial
        for trial in planned
        if trial.trial_id not in results or not results[trial.trial_id].is_final
    }
    sizes = _Sizes(len(prepared.data.labels), prepared.data.rows["train"])
    found = {trial_id: sizes.of(trial.model, trial.freeze, trial.training) for trial_id, trial in waiting.items()}
    together = groups(planned, prepared.config.search, prepared.earlier)
    running = [sum(found[trial_id].states for trial_id in group if trial_id in found) for group in together]
    undrawn = _undrawn(prepared, trials.expected_count(prepared, planned, precision) - len(planned))
    drawn_later = [_least(prepared, sizes)] * undrawn if undrawn else []
    running += [trial.states for trial in drawn_later]
    every = [*found.values(), *drawn_later]
    return Footprint(
        checkpoints=sum(trial.checkpoint for trial in every),
        states=sum(heapq.nlargest(slots, running)),
        published=_published(prepared, every),
        held=sum(_bytes_in(prepared.sweep.trial(trial_id).root) for trial_id in waiting),
    )


def parameters(model: ModelSpec, num_labels: int) -> Parameters:
    """Count the parameters of a model with a head for `num_labels` classes, from the headers of its files.

    The head, of which a pretrained model may have nothing, is taken for one dense layer and the output layer.
    """
    family = FAMILIES[model.model_type]
    embeddings = re.compile("|".join(map(_under, family.embeddings)))
    layer = re.compile(_under(family.layers) + r"(\d+)\.")
    found, layers = 0, dict[int, int]()
    for name, size in _tensors(Path(model.path)).items():
        if embeddings.match(name):
            found += size
        elif match := layer.match(name):
            layers[int(match[1])] = layers.get(int(match[1]), 0) + size
    used = sorted(layers) if family.shared_layers else sorted(layers)[: model.num_hidden_layers]
    head = (model.hidden_size + 1) * (model.hidden_size + num_labels)
    return Parameters(found, tuple(layers[index] for index in used), head)


def trained(counted: Parameters, policy: str, training: TrainingArguments, hidden_size: int) -> int:
    """How many parameters train under a freeze policy.

    LoRA's adapters sit at two square projections of each layer, or at one that holds three: either way four times
    rank × width.
    """
    known = freeze.parse(policy)
    if known.adapters:
        return counted.head + 4 * training.lora_r * hidden_size * len(counted.layers)
    first = 0 if known.layers is None else len(counted.layers) - known.layers
    return counted.head + sum(counted.layers[first:]) + (counted.embeddings if known.embeddings else 0)


class _Sizes:
    """The bytes of trials that train on some texts; each model's headers are read once."""

    def __init__(self, num_labels: int, train_texts: int) -> None:
        self._num_labels, self._train_texts = num_labels, train_texts
        self._models: dict[ModelSpec, tuple[Parameters, int]] = {}

    def of(self, model: ModelSpec, policy: str, training: TrainingArguments) -> _Trial:
        if model not in self._models:
            tokenizer = sum(path.stat().st_size for path in tokenizer_files(Path(model.path)))
            self._models[model] = parameters(model, self._num_labels), tokenizer
        counted, tokenizer = self._models[model]
        weights = _BYTES * trained(counted, policy, training, model.hidden_size)
        return _Trial(
            checkpoint=weights + tokenizer,
            states=min(_STATES, self._written(policy, training)) * _STATE_COPIES * weights,
            whole=_BYTES * counted.total + tokenizer,
        )

    def _written(self, policy: str, training: TrainingArguments) -> int:
        """How many states a trial writes at least: one after each epoch, and where it trains alone some within."""
        epochs, every = training.num_train_epochs, training.save_steps
        if every is None or policy == "head":
            return epochs
        steps = training.optimizer_steps(self._train_texts)
        return epochs + epochs * steps // every - epochs * steps // math.lcm(steps, every)


def _undrawn(prepared: Prepared, expected: int) -> int:
    """How many of the trials that a search is `expected` to draw there can be: a space may hold fewer points."""
    blocks, search = space.parse(prepared.config.search), prepared.config.search
    if any(axis.listed() is None for block in blocks for axis in block.axes.values()):
        return expected
    points = sum(1 for _ in itertools.islice(space.listed(blocks), expected))
    return min(expected, points * len(set(search.seeds)))


def _least(prepared: Prepared, sizes: _Sizes) -> _Trial:
    """What any point that is still to be drawn needs at least."""
    ends = [sizes.of(prepared.models[p.model], p.freeze, p.training) for p in plan.points(prepared.config)]
    return _Trial(
        checkpoint=min(end.checkpoint for end in ends),
        states=min(end.states for end in ends),
        whole=min(end.whole for end in ends),
    )


def _published(prepared: Prepared, every: Sequence[_Trial]) -> int:
    """Whole models on their way to MLflow: each exported, then copied where its store is in the storage too."""
    tracking = prepared.config.tracking
    copies = 0 if tracking.uri else 1
    whole = sorted(trial.whole for trial in every)
    if not tracking.register_as and tracking.checkpoints == "none":
        return 0
    wanted = whole if tracking.checkpoints == "all" else whole[:1]
    registered = copies * sum(whole[:1]) if tracking.register_as else 0
    return (1 + copies) * sum(wanted) + registered


def _tensors(folder: Path) -> Mapping[str, int]:
    """The number of elements of each tensor of a model folder."""
    from safetensors import SafetensorError, safe_open

    found: dict[str, int] = {}
    for path in weight_files(folder):
        if path.suffix != ".safetensors":
            continue
        try:
            with safe_open(path, framework="np") as file:
                for name in file.keys():  # noqa: SIM118 - it is no mapping
                    found[name] = math.prod(file.get_slice(name).get_shape())
        except SafetensorError:
            # Trials of a model that cannot be read say so themselves; they leave nothing behind.
            continue
    return found


def _under(path: str) -> str:
    """A pattern for the names below a module: the base model's own name, which comes first, may be missing."""
    base, _, rest = path.partition(".")
    return rf"(?:{re.escape(base)}\.)?{re.escape(rest)}\."


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
