"""Optuna's side of a search: a space as parameters, points asked for, and how they ended told.

The sampler is TPE (Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization"): the block is a parameter,
and each axis of a block is a parameter of its own, which only points of that block have. So an axis that several
blocks share is learned for each of them apart. The study lives in memory; the sweep directory is what is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from trainables.arguments import Metric
from workflows.space import Axis, Block, Choice, Draw, LogUniform, RandInt, Range, Uniform

if TYPE_CHECKING:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
    from optuna.trial import Trial

_BLOCK = "block"
# A point that was asked for and not told yet.
Asked: TypeAlias = "Trial"
Distribution: TypeAlias = "CategoricalDistribution | FloatDistribution | IntDistribution"


@dataclass(frozen=True)
class Ending:
    """How a point ended, over all its seeds.

    COMPLETE has the mean validation metric as `value`; PRUNED (stopped by a scheduler) its mean after each epoch
    trained, by epoch; FAIL has neither.
    """

    state: Literal["COMPLETE", "PRUNED", "FAIL"]
    value: float | None = None
    by_epoch: dict[int, float] = field(default_factory=dict)


class Study:
    """What Optuna knows of a search.

    `known` is how many points will be told before the first is asked for: it enters the sampler's seed, because a
    sampler with the same seed would draw those points again.
    """

    def __init__(self, blocks: Sequence[Block], metric: Metric, seed: int, known: int = 0) -> None:
        import numpy as np
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        state = int(np.random.SeedSequence([seed, known]).generate_state(1)[0])
        sampler = optuna.samplers.TPESampler(seed=state, constant_liar=True)
        direction = "minimize" if metric == "loss" else "maximize"
        self.blocks = blocks
        self._study = optuna.create_study(sampler=sampler, direction=direction)

    def add(self, draw: Draw, ending: Ending) -> None:
        """Tell of a point that has ended before."""
        from optuna.trial import TrialState, create_trial

        trial = create_trial(
            state=TrialState[ending.state],
            value=ending.value,
            params=self._parameters(draw),
            distributions=self._distributions(draw.block),
            intermediate_values=ending.by_epoch,
        )
        self._study.add_trial(trial)

    def ask(self) -> tuple[Asked, Draw]:
        """Draw a point. It counts as running until `tell`."""
        trial = self._study.ask()
        block = self._suggest(trial, _BLOCK, _choose(len(self.blocks))) if len(self.blocks) > 1 else 0
        return trial, Draw(
            block,
            {
                name: _value(axis, self._suggest(trial, f"{block}.{name}", _distribution(axis)))
                for name, axis in self.blocks[block].axes.items()
            },
        )

    def run(self, draw: Draw) -> Asked:
        """Take up a point that was drawn elsewhere or before. It counts as running until `tell`."""
        self._study.enqueue_trial(self._parameters(draw))
        return self.ask()[0]

    def tell(self, trial: Asked, ending: Ending) -> None:
        """Say how a point has ended."""
        from optuna.trial import TrialState

        for epoch, value in ending.by_epoch.items():
            trial.report(value, epoch)
        self._study.tell(trial, ending.value, TrialState[ending.state])

    def _parameters(self, draw: Draw) -> dict[str, Any]:
        axes = self.blocks[draw.block].axes
        own = {f"{draw.block}.{name}": _parameter(axes[name], value) for name, value in draw.values.items()}
        return own | ({_BLOCK: draw.block} if len(self.blocks) > 1 else {})

    def _distributions(self, block: int) -> dict[str, Distribution]:
        own = {f"{block}.{name}": _distribution(axis) for name, axis in self.blocks[block].axes.items()}
        return own | ({_BLOCK: _choose(len(self.blocks))} if len(self.blocks) > 1 else {})

    def _suggest(self, trial: Asked, name: str, distribution: Distribution) -> Any:
        from optuna.distributions import FloatDistribution, IntDistribution

        if isinstance(distribution, FloatDistribution):
            return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
        if isinstance(distribution, IntDistribution):
            return trial.suggest_int(name, distribution.low, distribution.high)
        return trial.suggest_categorical(name, distribution.choices)


def _choose(count: int) -> CategoricalDistribution:
    from optuna.distributions import CategoricalDistribution

    return CategoricalDistribution(range(count))


def _distribution(axis: Axis) -> Distribution:
    """Choices are told to Optuna by their position, because a model may be a mapping."""
    from optuna.distributions import FloatDistribution, IntDistribution

    if isinstance(axis, Choice):
        return _choose(len(axis.values))
    kinds: dict[type[Range], Callable[[Range], Distribution]] = {
        Uniform: lambda found: FloatDistribution(found.low, found.high),
        LogUniform: lambda found: FloatDistribution(found.low, found.high, log=True),
        RandInt: lambda found: IntDistribution(int(found.low), int(found.last)),
    }
    return kinds[type(axis)](axis)


def _parameter(axis: Axis, value: Any) -> Any:
    return axis.values.index(value) if isinstance(axis, Choice) else value


def _value(axis: Axis, parameter: Any) -> Any:
    return axis.values[parameter] if isinstance(axis, Choice) else parameter
