"""The inner loops of a trial: one epoch of optimizer steps, one pass of evaluation.

Batch order and dropout come from the trial's seed alone (head and adapters do too, in `models` and `freeze`).
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from trainables import forward, freeze, models, trained_rows
from trainables.arguments import Precision, TrainingArguments
from trainables.errors import TrialFailure
from trainables.midway import Midway
from trainables.precision import autocast
from trainables.records import StepSeries
from trainables.room import Room
from trainables.seeds import derived_seed
from trainables.tokens import TokenSplit
from trainables.trained_rows import TrainedRows

# What of a schedule is ours: see `Optimization.write_rows`.
_DECAYS = "table_decays"

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


class Optimization:
    """AdamW over the trainable parameters only, with warm-up and one of transformers' schedules.

    Weight decay spares biases and norms, as `transformers.Trainer` does (Loshchilov and Hutter 2019 for AdamW).
    `layerwise_lr_decay` below 1 gives the head the full rate and each block that share of the one above it, as
    Clark et al. 2020 (ELECTRA, arXiv:2003.10555) fine-tune, after Howard and Ruder 2018 (arXiv:1801.06146).
    """

    def __init__(
        self,
        blocks: Mapping[str, Sequence[torch.Tensor]],
        arguments: TrainingArguments,
        total_steps: int,
        tables: Sequence[TrainedRows] = (),
    ) -> None:
        """`blocks` are what `trained_blocks` gives, `tables` the model's tables whose rows are among them."""
        from transformers import get_scheduler

        self.arguments = arguments
        self.trainable = [parameter for parameters in blocks.values() for parameter in parameters]
        self.optimizer = torch.optim.AdamW(
            parameter_groups(blocks, arguments),
            lr=arguments.learning_rate,
            betas=(arguments.adam_beta1, arguments.adam_beta2),
            eps=arguments.adam_epsilon,
            fused=True,
        )
        warmup = warmup_steps(arguments, total_steps)
        self.scheduler = get_scheduler(arguments.lr_scheduler_type, self.optimizer, warmup, total_steps)
        self._tables = [(table, _group_of(table.rows, self.optimizer)) for table in tables]

    @classmethod
    def of(cls, model: nn.Module, arguments: TrainingArguments, total_steps: int) -> Optimization:
        """All that trains in a model."""
        return cls(trained_blocks(model, arguments), arguments, total_steps, trained_rows.of(model))

    def step(self) -> dict[str, float]:
        """Clip, update, advance the schedule; returns the learning rate that was applied to each block, top first."""
        nn.utils.clip_grad_norm_(self.trainable, self.arguments.max_grad_norm)
        applied = {group["block"]: float(group["lr"]) for group in self.optimizer.param_groups}
        self.optimizer.step()
        for table, group in self._tables:
            table.decay *= 1 - group["lr"] * group["weight_decay"]
        self.scheduler.step()
        self.drop_gradients()
        return applied

    def drop_gradients(self) -> None:
        """Forget what backward passes have added up since the last step."""
        self.optimizer.zero_grad(set_to_none=True)

    def write_back(self) -> None:
        """Bring the model's weights up to date where they do not train in place."""
        for table, _ in self._tables:
            table.write_back()

    def write_rows(self) -> None:
        """The same for a state in the middle of an epoch: `schedule` has the decay that is still to come.

        Decaying once an epoch, wherever states are taken, keeps the bits of a trial from depending on `save_steps`.
        """
        for table, _ in self._tables:
            table.write_rows()

    def moments(self) -> dict[str, torch.Tensor]:
        """A copy of what AdamW keeps for each parameter, on the CPU, as `<number>/<name>`."""
        return {
            f"{number}/{name}": value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
            for number, parameter in enumerate(self.trainable)
            for name, value in self.optimizer.state[parameter].items()
        }

    def schedule(self) -> dict[str, Any]:
        """Where the schedule stands: plain numbers and lists."""
        return {**self.scheduler.state_dict(), _DECAYS: [table.decay for table, _ in self._tables]}

    def restore(self, moments: Mapping[str, torch.Tensor], schedule: Mapping[str, Any]) -> None:
        """Go on from where `moments` and `schedule` were taken, with the weights that the model has by now.

        Raises KeyError where they are of other parameters.
        """
        place = dict(schedule)
        for (table, _), decay in zip(self._tables, place.pop(_DECAYS), strict=True):
            table.read(decay)
        names = {key.partition("/")[2] for key in moments}
        for number, parameter in enumerate(self.trainable):
            kept = {name: moments[f"{number}/{name}"] for name in names}
            # The fused kernel walks averages and weights side by side, so they must lie in memory alike.
            self.optimizer.state[parameter] = {
                name: (torch.empty_like(parameter) if value.ndim else torch.empty_like(value, device=parameter.device))
                .detach()
                .copy_(value)
                for name, value in kept.items()
            }
        self.scheduler.load_state_dict(place)
        for group, rate in zip(self.optimizer.param_groups, self.scheduler.get_last_lr(), strict=True):
            group["lr"] = rate


def _group_of(parameter: torch.Tensor, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return next(group for group in optimizer.param_groups if any(one is parameter for one in group["params"]))


def trained_blocks(model: nn.Module, arguments: TrainingArguments) -> dict[str, list[torch.Tensor]]:
    """What an optimizer trains of each block that learns at a rate of its own, from the head down.

    That is its trainable parameters; for a table of which some rows train, these. Without layer-wise decay all are of
    one block, called `all`.
    """
    rows: dict[torch.Tensor, torch.Tensor] = {table.weight: table.rows for table in trained_rows.of(model)}
    if arguments.layerwise_lr_decay == 1:
        blocks = {"all": list(model.parameters())}
    else:
        found = models.parts(model).blocks()
        blocks = {name: [p for module in found[name] for p in module.parameters()] for name in reversed(found)}
    return {
        block: [rows.get(parameter, parameter) for parameter in dict.fromkeys(parameters) if parameter.requires_grad]
        for block, parameters in blocks.items()
    }


def parameter_groups(
    blocks: Mapping[str, Sequence[torch.Tensor]], arguments: TrainingArguments
) -> list[dict[str, Any]]:
    """AdamW's groups: per block, from the head down, those that decay (matrices) and those that do not."""
    groups = []
    for depth, (block, parameters) in enumerate(blocks.items()):
        rate = arguments.learning_rate * arguments.layerwise_lr_decay**depth
        for chosen, decay in (
            ([p for p in parameters if p.ndim >= 2], arguments.weight_decay),
            ([p for p in parameters if p.ndim < 2], 0.0),
        ):
            if chosen:
                groups.append({"params": chosen, "weight_decay": decay, "lr": rate, "block": block})
    return groups


def warmup_steps(arguments: TrainingArguments, total_steps: int) -> int:
    """Steps of warm-up: below 1 a share of all steps (rounded up), from 1 a number, as transformers 5 reads it."""
    wanted = arguments.warmup_steps
    return int(wanted) if wanted >= 1 else math.ceil(total_steps * wanted)


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
) -> StepSeries:
    """One pass over the training texts, or the rest of it from `midway` on; returns the steps of the whole pass.

    `on_save` gets the steps so far after every `save_steps` of the trial, but for the epoch's last. Raises
    TrialFailure("nan") where a loss is not finite.
    """
    device, every = next(model.parameters()).device, optimization.arguments.save_steps
    room = room or Room(device)
    steps = micro_batches(optimization.arguments, len(split), seed, epoch)
    applied = Steps(epoch, len(steps), device, midway.steps if midway else None)
    begin_epoch(model, seed, epoch)
    if midway:
        midway.restore_random(device)
    for batches in steps[len(applied) :]:
        loss = room.run(partial(_accumulate, model, split, batches, precision, room), optimization.drop_gradients)
        step = applied.add(loss, optimization.step())
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
