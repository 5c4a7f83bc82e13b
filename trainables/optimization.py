"""What updates a trial's weights: AdamW over what trains, its learning rates block by block, and their schedule."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from trainables import models, trained_rows
from trainables.arguments import TrainingArguments
from trainables.trained_rows import TrainedRows

# What of a schedule is ours: see `Optimization.write_rows`.
_DECAYS = "table_decays"


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
        on_gpu = self.trainable[0].is_cuda
        self._rates = torch.zeros(len(self.optimizer.param_groups), device="cuda") if on_gpu else None

    @classmethod
    def of(cls, model: nn.Module, arguments: TrainingArguments, total_steps: int) -> Optimization:
        """All that trains in a model."""
        return cls(trained_blocks(model, arguments), arguments, total_steps, trained_rows.of(model))

    def step(self) -> dict[str, float]:
        """Clip, update, advance the schedule; returns the learning rate that was applied to each block, top first."""
        self.apply()
        return self.advance()

    def apply(self) -> None:
        """What a step does to the weights; the gradients are used up."""
        self.place_rates()
        self.update()
        self.drop_gradients()

    def place_rates(self) -> None:
        """Put the learning rates of the next update where the device reads them; on a CPU they are read as they are."""
        if self._rates is not None:
            rates = torch.tensor([group["lr"] for group in self.optimizer.param_groups])
            self._rates.copy_(rates.pin_memory(), non_blocking=True)

    def update(self) -> None:
        """Clip the gradients and update what trains: work of the device alone, which a CUDA graph can hold."""
        nn.utils.clip_grad_norm_(self.trainable, self.arguments.max_grad_norm)
        with self._rates_on_device():
            self.optimizer.step()

    def advance(self) -> dict[str, float]:
        """What follows an update on the host; returns the learning rate that it applied to each block, top first."""
        applied = {group["block"]: float(group["lr"]) for group in self.optimizer.param_groups}
        for table, group in self._tables:
            table.decay *= 1 - group["lr"] * group["weight_decay"]
        self.scheduler.step()
        return applied

    @contextlib.contextmanager
    def _rates_on_device(self) -> Iterator[None]:
        """Inside the block the optimizer has its rates as tensors on a GPU: a graph replays what they say then."""
        groups = self.optimizer.param_groups
        if self._rates is None:
            yield
            return
        before = [group["lr"] for group in groups]
        for group, rate in zip(groups, self._rates, strict=True):
            group.update(lr=rate, capturable=torch.cuda.is_current_stream_capturing())
        try:
            yield
        finally:
            for group, rate in zip(groups, before, strict=True):
                group.update(lr=rate, capturable=False)

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
