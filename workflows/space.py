"""The space of a search: blocks of axes, and how a point is drawn from them.

An axis of a block is a scalar, a list, or a mapping with one key (names and meaning as in NumPy and Ray Tune):

    {choice: [a, b]}           the same as the list
    {uniform: [low, high]}     numbers between the bounds, each equally likely
    {loguniform: [low, high]}  numbers between the bounds, each order of magnitude equally likely
    {randint: [low, high]}     whole numbers from low to high - 1: `high` is excluded

A new kind of range is one class and one line of RANGES, and how Optuna is told of it in `workflows.study`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from trainables.arguments import TrainingArguments
from workflows.config import ModelChoice, SearchConfig

if TYPE_CHECKING:
    from numpy.random import Generator

CHOICE = "choice"
Values = dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """An axis with a list of values, each equally likely. Repeats are dropped."""

    values: tuple[Any, ...]

    def draw(self, generator: Generator) -> Any:
        """One of the values."""
        return self.values[int(generator.integers(len(self.values)))]

    def __contains__(self, value: Any) -> bool:
        return value in self.values

    def listed(self) -> Sequence[Any] | None:
        """All values."""
        return self.values


@dataclass(frozen=True)
class Range:
    """An axis of numbers between two bounds. `whole`: it draws whole numbers."""

    low: float
    high: float
    whole: ClassVar[bool] = False

    @property
    def last(self) -> float:
        """The highest number that may be drawn."""
        return self.high

    def problem(self) -> str | None:
        """What is wrong with the bounds."""
        return None if self.low < self.high else f"low must be below high, and {self.low:g} is not below {self.high:g}"

    def draw(self, generator: Generator) -> float:
        """One number."""
        raise NotImplementedError

    def __contains__(self, value: Any) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.last

    def listed(self) -> Sequence[Any] | None:
        """All numbers, or None where there is no end of them."""
        return None


class Uniform(Range):
    """Numbers between the bounds, each equally likely."""

    def draw(self, generator: Generator) -> float:
        return float(generator.uniform(self.low, self.high))


class LogUniform(Range):
    """Numbers between the bounds whose logarithm is uniform."""

    def problem(self) -> str | None:
        return super().problem() or (None if self.low > 0 else f"low must be above 0, and {self.low:g} is not")

    def draw(self, generator: Generator) -> float:
        drawn = math.exp(generator.uniform(math.log(self.low), math.log(self.high)))
        return min(max(drawn, self.low), self.high)


class RandInt(Range):
    """Whole numbers from low to high - 1, each equally likely."""

    whole = True
    _LARGEST = 2**53

    @property
    def last(self) -> float:
        return self.high - 1

    def problem(self) -> str | None:
        if not all(isinstance(bound, int) and abs(bound) <= self._LARGEST for bound in (self.low, self.high)):
            return "takes two whole numbers, [low, high]; high is excluded"
        return super().problem()

    def draw(self, generator: Generator) -> float:
        return int(generator.integers(int(self.low), int(self.high)))

    def listed(self) -> Sequence[Any] | None:
        return range(int(self.low), int(self.high))

    def __contains__(self, value: Any) -> bool:
        return super().__contains__(value) and value == int(value)


RANGES: dict[str, type[Range]] = {"uniform": Uniform, "loguniform": LogUniform, "randint": RandInt}
KINDS = (*RANGES, CHOICE)
Axis = Choice | Range


@dataclass(frozen=True)
class Block:
    """A block of a space: axes by name, as they stand in the sweep file."""

    axes: dict[str, Axis]

    def draw(self, generator: Generator) -> Values:
        """One value per axis. Where a key stands does not matter."""
        drawn = {name: self.axes[name].draw(generator) for name in sorted(self.axes)}
        return {name: drawn[name] for name in self.axes}

    def __contains__(self, values: Values) -> bool:
        return values.keys() == self.axes.keys() and all(values[name] in axis for name, axis in self.axes.items())

    def listed(self) -> Iterator[Values]:
        """Every combination of values, as sklearn's ParameterGrid has it; none where a range has no end of numbers."""
        listed = [axis.listed() for axis in self.axes.values()]
        for values in itertools.product(*(() if values is None else values for values in listed)):
            yield dict(zip(self.axes, values, strict=True))


@dataclass(frozen=True)
class Draw:
    """A point of a space: the number of its block, and a value for each of its axes."""

    block: int
    values: Values


def is_kind(axis: str, value: Any) -> bool:
    """Whether the value of an axis is a mapping such as {uniform: …}. One model may be a mapping too: {path: …}."""
    return isinstance(value, dict) and (axis != "model" or any(kind in value for kind in KINDS))


def parse(search: SearchConfig) -> list[Block]:
    """The blocks of a checked space."""
    return [Block({name: _axis(name, value) for name, value in block.items()}) for block in search.space]


def listed(blocks: Iterable[Block]) -> Iterator[Draw]:
    """Every point of the blocks that have an end, block by block. May hold repeats."""
    return (Draw(index, values) for index, block in enumerate(blocks) for values in block.listed())


def draws(blocks: Sequence[Block], seed: int) -> Iterator[Draw]:
    """Endless random points: first a block is drawn, then its axes. May hold repeats.

    The point with number i depends on (seed, i) alone, so whoever asks for more gets the same ones first.
    """
    import numpy as np

    for number in itertools.count():
        generator = np.random.default_rng([seed, number])
        block = int(generator.integers(len(blocks)))
        yield Draw(block, blocks[block].draw(generator))


def largest(blocks: Iterable[Block], axis: str, otherwise: int) -> int:
    """The highest value that any block gives a whole-number axis; `otherwise` where it has none."""
    return max(_highest(block.axes[axis]) if axis in block.axes else otherwise for block in blocks)


def _highest(axis: Axis) -> int:
    return int(axis.last if isinstance(axis, Range) else max(axis.values))


def written(name: str, value: Any) -> list[Any]:
    """The values that an axis lists, as trials have them, repeats and all; none where it is a range."""
    if is_kind(name, value):
        value = value.get(CHOICE, [])
    return [_typed(name, item) for item in (value if isinstance(value, list) else [value])]


def _axis(name: str, value: Any) -> Axis:
    if is_kind(name, value) and CHOICE not in value:
        ((kind, (low, high)),) = value.items()
        return RANGES[kind](low, high)
    return Choice(tuple(dict.fromkeys(written(name, value))))


def _typed(name: str, value: Any) -> Any:
    """A value that equals what trials have, so that it is found again in what they left: "1e-5" in quotes is 1e-5."""
    if name == "model":
        return ModelChoice.model_validate(value)
    if name != "freeze" and isinstance(value, str):
        return getattr(TrainingArguments.model_validate({name: value}), name)
    return value
