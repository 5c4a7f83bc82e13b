"""The inner loops of a trial: one epoch of optimizer steps, one pass of evaluation.

Batch order and dropout come from the trial's seed alone (head and adapters do too, in `models` and `freeze`).
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import nn

from trainables import forward, freeze
from trainables.arguments import Precision, TrainingArguments
from trainables.errors import TrialFailure
from trainables.graphed import GraphedSteps
from trainables.midway import Midway
from trainables.optimization import Optimization
from trainables.precision import autocast
from trainables.records import StepSeries
from trainables.room import Room
from trainables.seeds import derived_seed
from trainables.tokens import TokenSplit

OnStep = Callable[[int], None]
OnSave = Callable[[StepSeries], None]


def batch_order(seed: int, epoch: int, texts: int, batch_size: int) -> list[np.ndarray]:
    """Text indices of each batch of an epoch. Depends on nothing but its arguments; the last may be smaller."""
    generator = torch.Generator().manual_seed(derived_seed(seed, f"order/{epoch}"))
    order = torch.randperm(texts, generator=generator).numpy()
    return [order[start : start + batch_size] for start in range(0, texts, batch_size)]


def pick_device() -> torch.device:
    """Where a trial runs and its checkpoint is scored again: the GPU that the process was given, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Steps:
    """What is applied at each optimizer step of one epoch. Losses stay on the device: no step waits for them.

    `before` has those steps of the epoch that were made already.
    """

    def __init__(self, epoch: int, steps: int, device: torch.device, before: StepSeries | None = None) -> None:
        self.first = (epoch - 1) * steps + 1
        self._losses = torch.zeros(steps, device=device)
        self._rates: list[dict[str, float]] = []
        self._stamps: list[int] = []
        if before:
            self._losses[: len(before.loss)] = torch.tensor(before.loss)
            self._rates += _rates(before)
            self._stamps += before.timestamp

    def __len__(self) -> int:
        """How many steps were made."""
        return len(self._rates)

    @property
    def is_complete(self) -> bool:
        """Whether that was the epoch's last step."""
        return len(self) == len(self._losses)

    def add(self, loss: torch.Tensor, rates: dict[str, float]) -> int:
        """Take the mean loss of the next step and the rate of each block, top first; returns the step's number."""
        self._losses[len(self._rates)] = loss
        self._rates.append(rates)
        self._stamps.append(int(time.time() * 1000))
        return self.first + len(self._rates) - 1

    def series(self) -> StepSeries:
        """The steps so far. Raises TrialFailure("nan") naming step and rate of the first loss that is not finite."""
        rates, losses = self._rates, self._losses[: len(self)].tolist()
        top = [next(iter(applied.values())) for applied in rates]
        for index, value in enumerate(losses):
            if not math.isfinite(value):
                raise TrialFailure(
                    "nan", f"training loss became {value} at step {self.first + index} (learning rate {top[index]:g})"
                )
        by_block = {block: [applied[block] for applied in rates] for block in rates[0]} if len(rates[0]) > 1 else {}
        return StepSeries(
            step=list(range(self.first, self.first + len(rates))),
            learning_rate=top,
            loss=losses,
            timestamp=list(self._stamps),
            block_learning_rates=by_block,
        )


def _rates(series: StepSeries) -> list[dict[str, float]]:
    """The rate of each block at each step, top first, as `Steps.add` takes them."""
    by_block = series.block_learning_rates or {"all": series.learning_rate}
    return [dict(zip(by_block, rates, strict=True)) for rates in zip(*by_block.values(), strict=True)]


def micro_batches(arguments: TrainingArguments, texts: int, seed: int, epoch: int) -> list[list[np.ndarray]]:
    """The batches of each optimizer step of an epoch, as arrays of text indices."""
    batches = batch_order(seed, epoch, texts, arguments.per_device_train_batch_size)
    width = arguments.gradient_accumulation_steps
    return [batches[start : start + width] for start in range(0, len(batches), width)]


def train_epoch(
    model: nn.Module,
    split: TokenSplit,
    optimization: Optimization,
    *,
    seed: int,
    epoch: int,
    precision: Precision,
    on_step: OnStep,
    room: Room | None = None,
    on_save: OnSave = lambda _: None,
    midway: Midway | None = None,
    graphed: GraphedSteps | None = None,
) -> StepSeries:
    """One pass over the training texts, or the rest of it from `midway` on; returns the steps of the whole pass.

    `on_save` gets the steps so far after every `save_steps` of the trial, but for the epoch's last. `graphed` runs the
    steps that it takes, on the same model, texts and optimization. Raises TrialFailure("nan") where a loss is not
    finite.
    """
    device, every = next(model.parameters()).device, optimization.arguments.save_steps
    room = room or Room(device)
    steps = micro_batches(optimization.arguments, len(split), seed, epoch)
    applied = Steps(epoch, len(steps), device, midway.steps if midway else None)
    begin_epoch(model, seed, epoch)
    if midway:
        midway.restore_random(device)
    for batches in steps[len(applied) :]:
        work = partial(_update, model, split, batches, optimization, precision, room, graphed)
        loss = room.run(work, optimization.drop_gradients)
        step = applied.add(loss, optimization.advance())
        on_step(step)
        if every and step % every == 0 and not applied.is_complete:
            optimization.write_rows()
            on_save(applied.series())
    optimization.write_back()
    return applied.series()


def begin_epoch(model: nn.Module, seed: int, epoch: int) -> None:
    """Put the blocks that train in train mode, and dropout at where the trial's seed has it for this epoch."""
    torch.manual_seed(derived_seed(seed, f"dropout/{epoch}"))
    freeze.set_train_mode(model)


def _update(
    model: nn.Module,
    split: TokenSplit,
    batches: list[np.ndarray],
    optimization: Optimization,
    precision: Precision,
    room: Room,
    graphed: GraphedSteps | None,
) -> torch.Tensor:
    """Update the weights from some micro-batches; returns the mean loss over all their texts, detached."""
    if graphed:
        if room.texts_at_once is None and graphed.takes(batches[0]):
            room.begin(len(batches[0]))
            return graphed.run(batches[0])
        if room.texts_at_once is not None:
            graphed.drop()
    loss = _accumulate(model, split, batches, precision, room)
    optimization.apply()
    return loss


def _accumulate(
    model: nn.Module, split: TokenSplit, batches: list[np.ndarray], precision: Precision, room: Room
) -> torch.Tensor:
    """Gradients of the mean loss over all texts of some micro-batches; returns that mean, detached."""
    device = next(model.parameters()).device
    texts = sum(map(len, batches))
    total = torch.zeros((), device=device)
    passes = itertools.chain.from_iterable(forward.passes(model, split, batch) for batch in batches)
    for indices in room.cut(passes):
        labels = torch.from_numpy(split.labels[indices]).to(device)
        with autocast(device, precision):
            logits = forward.logits(model, split, indices)
        loss = nn.functional.cross_entropy(logits.float(), labels, reduction="sum") / texts
        loss.backward()
        total += loss.detach()
    return total


def predict_logits(
    model: nn.Module,
    split: TokenSplit,
    batch_size: int,
    precision: Precision,
    on_step: OnStep = lambda _: None,
    room: Room | None = None,
) -> np.ndarray:
    """Logits of every text, float32, shape (texts, classes), in the split's order.

    Texts are taken in order of length: those that are equally long run together.
    """
    model.eval()
    room = room or Room(next(model.parameters()).device)
    parts, taken = [], []
    with torch.inference_mode():
        for indices in forward.all_passes(model, split, batch_size):
            parts.append(room.run(partial(_pass_logits, model, split, indices, precision, room)))
            taken.append(indices)
            on_step(len(taken))
    logits = torch.cat(parts).cpu().numpy()
    result = np.empty_like(logits)
    result[np.concatenate(taken)] = logits
    return result


def _pass_logits(
    model: nn.Module, split: TokenSplit, indices: np.ndarray, precision: Precision, room: Room
) -> torch.Tensor:
    """Logits of the texts of one pass, which is cut where the room is smaller."""
    with autocast(next(model.parameters()).device, precision):
        return torch.cat([forward.logits(model, split, some).float() for some in room.cut([indices])])
