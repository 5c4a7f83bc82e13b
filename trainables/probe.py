"""How long the parts of a trial take: a few of each are run, on the trial's model and on texts of its own.

`probe` runs on a worker, as trials do, and by their code: the same model, policy and tokens, batches as an epoch has
them, a state and a checkpoint written where trials write theirs. It counts on texts that are evenly spaced by length,
and scales what it finds by the tokens of the whole splits, because without padding tokens are what takes time. The
first step, in which kernels are built, is run and does not count. Nothing that it does can be taken for a trial's.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from trainables import checkpoint, freeze, memory, models, predictions, prefix
from trainables.arguments import TrialSpec
from trainables.attempt import Attempt, now
from trainables.graphed import GraphedSteps, Work
from trainables.heads import Heads
from trainables.metrics import score
from trainables.optimization import Optimization
from trainables.precision import without_denormals
from trainables.records import SPLITS, EpochRecord, Split, StepSeries
from trainables.timing import Timing
from trainables.tokens import TokenSplit, tokenize
from trainables.training import OnStep, micro_batches, predict_logits, train_epoch
from trainables.trial import Setting

# Steps are timed until this many seconds have gone into them, but never fewer or more than so many.
SECONDS = 4.0
_LEAST_STEPS, _MOST_STEPS = 3, 12
# On a GPU the time is taken after every so many steps: it works on while the next ones are being prepared.
_STEPS_AT_ONCE_ON_GPU = 4
# Frozen layers run over no more texts than these, where that is enough for the fewest steps.
_FROZEN_TEXTS = 96
# Texts that are scored; on a GPU a pass takes many, and next to nothing longer for them.
_SCORED_TEXTS = {"cpu": 64, "cuda": 2048}
_WARM_UP_TEXTS = 8
# Texts that `fleetune` runs at once when it measures what predicting costs, and calls whose median counts.
_PREDICTED_TEXTS, _CALLS = 32, 3


def arrive(spec: TrialSpec) -> None:
    """What a new worker does once, before its first trial: imports, and the first model, which takes longest."""
    freeze.apply(models.load_model(spec.model, spec.labels, spec.seed), spec.freeze, spec.training, spec.seed)


def tokens_of(spec: TrialSpec) -> None:
    """Make a trial's tokens, where nobody has."""
    tokenize(spec)


@without_denormals()
def probe(specs: Sequence[TrialSpec], folder: Path, predicts: bool = False, seconds: float = SECONDS) -> Timing:
    """Time the parts of a trial, or of several that would train together, from their specs.

    `folder` is made and takes what a trial writes; it should lie where trials do. `predicts` asks for the time of
    predicting too. Raises what the trial itself would fail with: TrialFailure, BadInput, torch.OutOfMemoryError.
    """
    spec = specs[0].model_copy(update={"directory": str(folder)})
    began = time.perf_counter()
    setting = Setting.of(spec)
    setup = time.perf_counter() - began
    frozen = _Frozen.of(spec, setting)
    training = _training(specs, setting, frozen)
    chosen = _texts_for_steps(spec, setting.splits["train"], frozen)
    first = training.run(frozen.attach(_longest(spec, setting.splits["train"])), lambda _: None)
    longest = training.seconds
    clock = _Clock(setting.device, seconds)
    clock.time(training, frozen.attach(chosen))
    scale = _steps(spec, setting.splits["train"]) * _ratio(setting.splits["train"], chosen)
    scored = _Scored.of(spec, setting, frozen)
    commit, end = _endings(spec, setting, training, scored, first)
    one_text, texts = _predicting(setting) if predicts else (None, None)
    return Timing(
        together=training.together,
        setup=setup,
        prefix=frozen.seconds(setting),
        epoch=scale * statistics.median(clock.steps),
        longest_step=max([longest, *clock.steps]),
        validation=scored.seconds(setting.splits["validation"]),
        test=scored.seconds(setting.splits["test"]),
        commit=commit,
        end=end,
        one_text=one_text,
        texts=texts,
        steps=len(clock.steps) * clock.every,
        device=str(setting.device),
        peak_bytes=memory.peak_bytes(setting.device) if setting.measured else None,
        device_bytes=memory.total_bytes(setting.device),
        texts_at_once=setting.room.texts_at_once,
    )


def evenly(split: TokenSplit, count: int) -> TokenSplit:
    """At most `count` texts of a split, evenly spaced by their length, as a split of its own."""
    ordered = np.argsort(split.lengths, kind="stable")
    count = min(count, len(split))
    return some(split, ordered[((np.arange(count) + 0.5) * len(split) / count).astype(int)])


def some(split: TokenSplit, indices: np.ndarray) -> TokenSplit:
    """The texts with these indices as a split of its own, in their order; without hidden states."""
    spans = [slice(int(split.offsets[index]), int(split.offsets[index + 1])) for index in indices]
    types = split.token_type_ids
    return TokenSplit(
        input_ids=np.concatenate([split.input_ids[span] for span in spans]),
        offsets=np.concatenate([[0], np.cumsum(split.lengths[indices])]),
        token_type_ids=None if types is None else np.concatenate([types[span] for span in spans]),
        labels=split.labels[indices],
        rows=split.rows[indices],
        tokens_cut=split.tokens_cut[indices],
        pad_token_id=split.pad_token_id,
    )


class _Training:
    """Optimizer steps of one trial, or of several heads at once; `seconds` is what the last run of them took."""

    def __init__(self, specs: Sequence[TrialSpec], setting: Setting, heads: bool) -> None:
        self.spec, self.setting = specs[0], setting
        self.together = len(specs) if heads else 1
        self.seconds = 0.0
        self._graphed: tuple[TokenSplit, GraphedSteps | None] | None = None
        arguments = [spec.training for spec in specs]
        self._heads = Heads(setting.model, arguments, setting.total_steps) if heads else None
        self.optimization = (
            self._heads.optimizations[0]
            if self._heads
            else Optimization.of(setting.model, arguments[0], setting.total_steps)
        )

    def run(self, split: TokenSplit, on_step: OnStep) -> StepSeries:
        """One epoch over a split."""
        began = time.perf_counter()
        found = self._steps(split, on_step)
        wait(self.setting.device)
        self.seconds = time.perf_counter() - began
        return found

    def _steps(self, split: TokenSplit, on_step: OnStep) -> StepSeries:
        spec, room = self.spec, self.setting.room
        if self._heads:
            applied = self._heads.train_epoch(
                split, seed=spec.seed, epoch=1, precision=spec.precision, on_step=on_step, room=room
            )
            self._heads.put(0)
            return applied[0].series()
        return train_epoch(
            self.setting.model,
            split,
            self.optimization,
            seed=spec.seed,
            epoch=1,
            precision=spec.precision,
            on_step=on_step,
            room=room,
            graphed=self._graphed_on(split),
        )

    def _graphed_on(self, split: TokenSplit) -> GraphedSteps | None:
        """The graphs of steps on a split, which are there from the run before where that was on the same one."""
        if self._graphed is None or self._graphed[0] is not split:
            work = Work(self.setting.model, split, self.optimization, self.spec.precision)
            self._graphed = (split, GraphedSteps.of(work))
        return self._graphed[1]


def _training(specs: Sequence[TrialSpec], setting: Setting, frozen: _Frozen) -> _Training:
    """As `trainables.group` does it: together where the head reads one vector of each text, and that is kept."""
    return _Training(specs, setting, heads=len(specs) > 1 and frozen.first_only)


@dataclass
class _Frozen:
    """The frozen layers of a trial: what the cache has of them, and what they take for a token, or for a text."""

    spec: TrialSpec
    setting: Setting
    outlook: dict[Split, prefix.Outlook]
    first_only: bool = False
    per_token: float = 0.0

    @classmethod
    def of(cls, spec: TrialSpec, setting: Setting) -> _Frozen:
        """Run them over some texts, where they run once for all trials."""
        splits = setting.splits
        outlook = {split: prefix.outlook(spec, setting.model, splits[split], split) for split in SPLITS}
        found = cls(spec, setting, outlook)
        if found.is_kept:
            states = found.attach(evenly(splits["train"], _WARM_UP_TEXTS)).hidden
            found.first_only = states is not None and states.first_only
            timed = evenly(splits["train"], _SCORED_TEXTS[setting.device.type])
            began = time.perf_counter()
            found.attach(timed)
            wait(setting.device)
            found.per_token = (time.perf_counter() - began) / _tokens(timed)
        return found

    @property
    def is_kept(self) -> bool:
        """Whether trials begin with what these layers give, for training at least."""
        return self.outlook["train"] in ("kept", "missing")

    def attach(self, split: TokenSplit) -> TokenSplit:
        """Some texts as a trial would have them."""
        if not self.is_kept:
            return split
        return prefix.attach_in_memory(self.spec, self.setting.model, split, self.setting.room)

    def seconds(self, setting: Setting) -> float:
        """For all texts of the splits that the cache does not have."""
        missing = [split for split in SPLITS if self.outlook[split] == "missing"]
        return self.per_token * sum(_tokens(setting.splits[split]) for split in missing)


class _Clock:
    """Takes the time of optimizer steps, until they have taken long enough; `steps` has seconds per step."""

    def __init__(self, device: torch.device, seconds: float) -> None:
        self.device, self.most = device, seconds
        self.every = 1 if device.type == "cpu" else _STEPS_AT_ONCE_ON_GPU
        self.steps: list[float] = []

    def time(self, training: _Training, split: TokenSplit) -> None:
        """Train on a split, over and over where it is short, until there are enough steps."""
        while not self._is_enough():
            self._count, self._last = 0, time.perf_counter()
            try:
                training.run(split, self._on_step)
            except _Enough:
                return
            if not self.steps and self._count < self.every:
                # Less than one round of steps in all: what there is counts.
                self.steps.append(training.seconds / max(self._count, 1))
                return

    def _on_step(self, _: int) -> None:
        self._count += 1
        if self._count % self.every == 0:
            wait(self.device)
            self.steps.append((time.perf_counter() - self._last) / self.every)
            self._last = time.perf_counter()
            if self._is_enough():
                raise _Enough

    def _is_enough(self) -> bool:
        timed = len(self.steps)
        return timed >= _MOST_STEPS or (timed >= _LEAST_STEPS and sum(self.steps) * self.every >= self.most)


class _Enough(Exception):
    """Not an error: enough steps were timed."""


@dataclass
class _Scored:
    """Some texts of each scored split, as they are scored, and what that takes for a token, or for a text."""

    splits: dict[Split, TokenSplit]
    logits: dict[Split, np.ndarray]
    first_only: bool
    per_unit: float

    @classmethod
    def of(cls, spec: TrialSpec, setting: Setting, frozen: _Frozen) -> _Scored:
        size = spec.training.per_device_eval_batch_size

        def run(split: TokenSplit) -> np.ndarray:
            return predict_logits(setting.model, split, size, spec.precision, room=setting.room)

        scored: tuple[Split, ...] = ("validation", "test")
        most = _SCORED_TEXTS[setting.device.type]
        found = {split: frozen.attach(evenly(setting.splits[split], most)) for split in scored}
        run(frozen.attach(evenly(setting.splits["validation"], _WARM_UP_TEXTS)))
        began = time.perf_counter()
        logits = {split: run(found[split]) for split in found}
        wait(setting.device)
        took = time.perf_counter() - began
        units = sum(_units(split, frozen.first_only) for split in found.values())
        return cls(found, logits, frozen.first_only, took / units)

    def seconds(self, split: TokenSplit) -> float:
        """For all texts of a split."""
        return self.per_unit * _units(split, self.first_only)


def _endings(
    spec: TrialSpec, setting: Setting, training: _Training, scored: _Scored, steps: StepSeries
) -> tuple[float, float]:
    """What the end of an epoch takes, and that of a trial, without the passes of scoring. Writes both, twice.

    The second time counts: the first one imports. Each epoch is made to be the best so far, as most are.
    """
    attempt = Attempt(spec)
    key = f"validation/{spec.training.metric_for_best_model}"
    loss = spec.training.metric_for_best_model == "loss"
    seconds = []
    for epoch in (1, 2):
        began = time.perf_counter()
        found = score(scored.logits["validation"], scored.splits["validation"].labels, spec.labels)
        metrics = {f"validation/{name}": value for name, value in found.metrics.items()}
        record = EpochRecord(
            trial_id=spec.trial_id,
            epoch=epoch,
            step=steps.step[-1],
            timestamp=now(),
            seconds=0.0,
            metrics=metrics | {key: float(-epoch if loss else epoch)},
            steps=steps,
        )
        attempt.commit(record, scored.logits["validation"], setting.model, training.optimization, setting.total_steps)
        attempt.settle()
        seconds.append(time.perf_counter() - began)
    began = time.perf_counter()
    checkpoint.restore(setting.model, attempt.directory.checkpoint)
    for split, logits in scored.logits.items():
        score(logits, scored.splits[split].labels, spec.labels)
    tables = {split: predictions.Scored.of(scored.splits[split], logits) for split, logits in scored.logits.items()}
    predictions.write(attempt.directory.predictions, tables)
    return seconds[-1], time.perf_counter() - began


def _predicting(setting: Setting) -> tuple[float, float]:
    """Seconds for one text of middling length, and for several at once, in fp32, by the whole model."""

    def median(split: TokenSplit) -> float:
        found = []
        for _ in range(1 + _CALLS):
            began = time.perf_counter()
            predict_logits(setting.model, split, len(split), "fp32", room=setting.room)
            wait(setting.device)
            found.append(time.perf_counter() - began)
        return statistics.median(found[1:])

    test = setting.splits["test"]
    return median(evenly(test, 1)), median(evenly(test, _PREDICTED_TEXTS))


def _texts_for_steps(spec: TrialSpec, split: TokenSplit, frozen: _Frozen) -> TokenSplit:
    """Texts for as many steps as may be timed; fewer where frozen layers must run over them first."""
    each = spec.training.per_device_train_batch_size * spec.training.gradient_accumulation_steps
    most = each * _MOST_STEPS
    return evenly(split, min(most, max(_FROZEN_TEXTS, each * _LEAST_STEPS)) if frozen.is_kept else most)


def _longest(spec: TrialSpec, split: TokenSplit) -> TokenSplit:
    """The texts of the step of the first epoch that has the most tokens: it needs the most memory."""
    steps = micro_batches(spec.training, len(split), spec.seed, 1)
    return some(split, np.concatenate(max(steps, key=lambda batches: split.lengths[np.concatenate(batches)].sum())))


def _steps(spec: TrialSpec, split: TokenSplit) -> float:
    """Steps of an epoch, a last, smaller one as the part that it is."""
    each = spec.training.per_device_train_batch_size * spec.training.gradient_accumulation_steps
    return max(1.0, len(split) / each)


def _ratio(whole: TokenSplit, part: TokenSplit) -> float:
    """Tokens per text of a split against those of the texts that were taken from it."""
    return float(whole.lengths.mean() / part.lengths.mean())


def _tokens(split: TokenSplit) -> int:
    return int(split.lengths.sum())


def _units(split: TokenSplit, first_only: bool) -> int:
    """What takes time: tokens, or where only the first of each text is left, texts."""
    return len(split) if first_only else _tokens(split)


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
