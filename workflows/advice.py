"""What a sweep file says that works, and is probably not meant. A sweep says so before it begins, and goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from trainables.files import sha256_json
from workflows import plan, space
from workflows.config import Point, SweepConfig
from workflows.space import Range

# Above this, encoders forget what they knew.
HIGH_RATE = 1e-2


def advice(config: SweepConfig, rows: Mapping[str, int]) -> list[str]:
    """One line for each thing to look at again; `rows` counts the texts of each split."""
    return [*_high_rates(config), *_repeats(config), *_single_steps(config, rows["train"])]


def _high_rates(config: SweepConfig) -> Iterator[str]:
    """Learning rates that are valid, and mostly a slip of the exponent."""
    found: dict[str, list[float]] = {}
    for index, block in enumerate(space.parse(config.search)):
        axis = block.axes.get("learning_rate")
        place = "training" if axis is None else f"search.space.{index}"
        rates = [axis.last] if isinstance(axis, Range) else axis.values if axis else [config.training.learning_rate]
        if high := [rate for rate in rates if rate > HIGH_RATE]:
            found[place] = high
    for place, high in found.items():
        yield f"{place}.learning_rate: {_listed(high)} is high; encoders mostly learn at 1e-5 to 1e-4, heads up to 1e-2"


def _repeats(config: SweepConfig) -> Iterator[str]:
    """Values that stand twice, and points that mean the same; each is trained once."""
    places: dict[str, list[Any]] = {
        f"search.space.{index}.{axis}": space.written(axis, value)
        for index, block in enumerate(config.search.space)
        for axis, value in block.items()
    }
    for place, values in (places | {"search.seeds": list(config.search.seeds)}).items():
        if twice := [value for value, count in Counter(values).items() if count > 1]:
            yield f"{place}: {_listed(twice)} stands more than once; it is tried once"
    if config.search.algorithm == "grid":
        points = plan.points(config)
        if extra := len(points) - len(set(map(_meaning, points))):
            yield f"search.space: {extra:,} of {len(points):,} points mean the same as another; each is trained once"


def _single_steps(config: SweepConfig, texts: int) -> Iterator[str]:
    """A batch that holds all of train leaves one step per epoch."""
    blocks = space.parse(config.search)
    names = ("per_device_train_batch_size", "gradient_accumulation_steps")
    sizes = {name: space.largest(blocks, name, getattr(config.training, name)) for name in names}
    if config.training.model_copy(update=sizes).optimizer_steps(texts) == 1:
        batch = sizes[names[0]] * sizes[names[1]]
        yield f"a batch of {batch:,} holds all {texts:,} texts of train: an epoch is a single optimizer step"


def _meaning(point: Point) -> str:
    model = point.model.model_dump(exclude={"name"})
    return sha256_json([model, point.freeze, point.training.meaning(point.freeze)])


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(plan.number(getattr(value, "name", value)) for value in values)
