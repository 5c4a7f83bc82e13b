"""Did turning a knob do anything? What a finished sweep has to say of runs that did not do what they were told.

Nothing here is an error: each finding is a sentence that a user should read before he believes a comparison. It is
made from what trials leave: their specs, applied rates, results and checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from trainables.arguments import TrialSpec
from trainables.directory import WEIGHTS, SweepDirectory
from trainables.errors import CorruptFile
from trainables.files import COMMIT, is_committed, read_json
from trainables.records import EpochRecord, Result
from workflows.plan import number

# So much of the rate that was asked for must have been applied at some step.
_APPLIED = 0.5
# Weights of fp32 that moved by less than this, relative to their norm, moved by nothing but rounding.
_STILL = 1e-6
_NAMED = 3


@dataclass(frozen=True)
class Trained:
    """A finished trial: what it is called, what it was told, what came of it, and the hash of its trained weights.

    `rates` are those that were applied to the head, step by step; `weights` is None where there is no checkpoint.
    """

    name: str
    spec: TrialSpec
    result: Result
    rates: Sequence[float]
    weights: str | None

    @property
    def has_moved(self) -> bool:
        """Whether training changed anything. Earlier versions did not measure it: then the rates decide."""
        return self.result.moved > _STILL if self.result.moved is not None else any(self.rates)


def findings(sweep: SweepDirectory, names: dict[str, str]) -> list[str]:
    """What there is to say of finished trials, `names` by their ids. What is damaged is left out.

    Sentences in plain text, the gravest first.
    """
    trials = [trial for trial_id, name in names.items() if (trial := _read(sweep, trial_id, name))]
    return [*_thawed(trials), *_unmoved(trials), *_identical(trials), *_slow(trials)]


def _read(sweep: SweepDirectory, trial_id: str, name: str) -> Trained | None:
    directory = sweep.trial(trial_id)
    try:
        epochs = [EpochRecord.read(path) for path in directory.epochs()]
        commit = directory.checkpoint / COMMIT
        files = read_json(commit)["files"] if is_committed(directory.checkpoint) else {}
        return Trained(
            name=name,
            spec=TrialSpec.model_validate(read_json(directory.spec)["spec"]),
            result=Result.read(directory.result),
            rates=[rate for epoch in epochs for rate in epoch.steps.learning_rate],
            weights=files.get(WEIGHTS, {}).get("sha256"),
        )
    except (CorruptFile, FileNotFoundError):
        return None


def _thawed(trials: Sequence[Trained]) -> Iterable[str]:
    """Frozen weights that are not what they were."""
    for trial in trials:
        if trial.result.frozen_hashes and len(set(trial.result.frozen_hashes)) > 1:
            yield (
                f"The frozen weights of {trial.name} changed while it trained, so its score is not that of its freeze "
                "policy. This is a defect in Fleetune; please report it."
            )


def _unmoved(trials: Sequence[Trained]) -> Iterable[str]:
    """Trials that trained nothing."""
    for trial in trials:
        if not trial.has_moved:
            peak = max(trial.rates, default=0.0)
            cause = (
                f"the highest learning rate that was applied is {number(peak)}, too low for any weight to change"
                if peak
                else f"the learning rate was 0 at each of its {len(trial.rates)} steps{_warming(trial)}"
            )
            yield f"Training never moved {trial.name}: {cause}."


def _identical(trials: Sequence[Trained]) -> Iterable[str]:
    """Trials of different points that ended with the same weights, although they moved."""
    same: dict[str, list[Trained]] = {}
    for trial in trials:
        if trial.weights and trial.has_moved:
            same.setdefault(trial.weights, []).append(trial)
    for group in same.values():
        if len({trial.spec.point_id for trial in group}) > 1:
            named = [trial.name for trial in group[:_NAMED]]
            rest = [f"{len(group) - _NAMED} more"] if len(group) > _NAMED else []
            *most, last = [*named, *rest]
            yield (
                f"{', '.join(most)} and {last} have identical weights: {_differing(group)} made no difference, and the "
                "sweep need not try it."
            )


def _slow(trials: Sequence[Trained]) -> Iterable[str]:
    """Trials to which far less than the rate that was asked for was ever applied."""
    for trial in trials:
        asked, peak = trial.spec.training.learning_rate, max(trial.rates, default=0.0)
        if trial.has_moved and trial.rates and peak < _APPLIED * asked:
            yield (
                f"The learning rate of {trial.name} never came near {number(asked)}: the highest that was applied is "
                f"{number(peak)}{_warming(trial)}."
            )


def _warming(trial: Trained) -> str:
    return f" (warmup_steps: {number(trial.spec.training.warmup_steps)}, of {len(trial.rates)} in all)"


def _differing(group: Sequence[Trained]) -> str:
    """What trials differ in, with its values."""
    told = [_told(trial.spec) for trial in group]
    found = []
    for key in dict.fromkeys(key for each in told for key in each):
        values = list(dict.fromkeys(str(each.get(key)) for each in told))
        if len(values) > 1:
            found.append(f"{key} ({', '.join(values[:_NAMED])}{', …' if len(values) > _NAMED else ''})")
    return " and ".join(found) or "what they differ in"


def _told(spec: TrialSpec) -> dict[str, Any]:
    """What a trial was told, by the names of the sweep file."""
    training = {
        key: number(value) if isinstance(value, float) else value
        for key, value in spec.training.meaning(spec.freeze).items()
    }
    layers = spec.model.num_hidden_layers
    return {"model": spec.model.name, "num_hidden_layers": layers, "freeze": spec.freeze, "seed": spec.seed} | training
