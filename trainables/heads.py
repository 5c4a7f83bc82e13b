"""Heads of several trials on one frozen encoder, trained at once: each step is one batched product for all of them.

Horizontally fused training as in HFTA (Wang et al., MLSys 2021), by `torch.vmap`: the weights of all heads are
stacked, the texts of a batch are read once. Each head has an optimizer and a schedule of its own, and nothing of one
head enters another, so one that diverges leaves the others as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import nn

from trainables import forward
from trainables.arguments import Precision, TrainingArguments
from trainables.optimization import Optimization, trained_blocks
from trainables.precision import autocast
from trainables.room import Room
from trainables.tokens import TokenSplit
from trainables.training import OnStep, Steps, begin_epoch, micro_batches


class Heads:
    """One head for each of `trainings`, which differ in what the optimizer reads and in nothing else.

    All begin as the head of `model` is; `put` makes the model's head one of them, `take` the other way round.
    """

    def __init__(self, model: nn.Module, trainings: Sequence[TrainingArguments], total_steps: int) -> None:
        self.model, self.arguments = model, trainings[0]
        own = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self._stacked = {name: _stack(parameter, len(trainings)) for name, parameter in own.items()}
        self._heads = [
            {name: nn.Parameter(stacked.detach()[index]) for name, stacked in self._stacked.items()}
            for index in range(len(trainings))
        ]
        names: dict[torch.Tensor, str] = {parameter: name for name, parameter in own.items()}
        self.optimizations: list[Optimization] = []
        for head, training in zip(self._heads, trainings, strict=True):
            blocks = trained_blocks(model, training)
            of_head = {block: [head[names[parameter]] for parameter in found] for block, found in blocks.items()}
            self.optimizations.append(Optimization(of_head, training, total_steps))

    def train_epoch(
        self,
        split: TokenSplit,
        *,
        seed: int,
        epoch: int,
        precision: Precision,
        on_step: OnStep,
        room: Room | None = None,
    ) -> list[Steps]:
        """One pass over the training texts; returns what was applied to each head."""
        steps = micro_batches(self.arguments, len(split), seed, epoch)
        device = next(self.model.parameters()).device
        room = room or Room(device)
        applied = [Steps(epoch, len(steps), device) for _ in self._heads]
        begin_epoch(self.model, seed, epoch)
        for batches in steps:
            losses = room.run(partial(self._accumulate, split, batches, precision, room), self._drop_gradients)
            for index, (head, optimization) in enumerate(zip(self._heads, self.optimizations, strict=True)):
                for name, parameter in head.items():
                    parameter.grad = _gradient(self._stacked[name])[index]
                step = applied[index].add(losses[index], optimization.step())
            self._drop_gradients()
            on_step(step)
        return applied

    def put(self, index: int) -> None:
        """Give the model one of the heads, as a copy."""
        own = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, parameter in self._heads[index].items():
                own[name].copy_(parameter)

    def take(self, index: int) -> None:
        """Give one of the heads what the model's head is, as a copy."""
        own = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, parameter in self._heads[index].items():
                parameter.copy_(own[name])

    def _drop_gradients(self) -> None:
        for stacked in self._stacked.values():
            stacked.grad = None

    def _accumulate(
        self, split: TokenSplit, batches: Sequence[np.ndarray], precision: Precision, room: Room
    ) -> torch.Tensor:
        """Gradients of each head's mean loss over all texts of some micro-batches; returns those means, detached."""
        device = next(self.model.parameters()).device
        texts = sum(map(len, batches))
        total = torch.zeros(len(self._heads), device=device)
        for indices in room.cut(batches):
            labels = torch.from_numpy(split.labels[indices]).to(device)
            with autocast(device, precision):
                logits = forward.logits_of_heads(self.model, split, indices, self._stacked)
            each = nn.functional.cross_entropy(
                logits.float().transpose(1, 2), labels.expand(len(self._heads), -1), reduction="none"
            )
            losses = each.sum(dim=1) / texts
            losses.sum().backward()
            total += losses.detach()
        return total


def _stack(parameter: nn.Parameter, times: int) -> torch.Tensor:
    """Copies of a parameter along a new first dimension, as a leaf.

    Matrices lie in memory as their gradients come out of a batched product, transposed: copying each gradient into
    the other order took longer than the products.
    """
    copied = parameter.detach()
    if copied.ndim == 2:
        return torch.stack([copied.t()] * times).transpose(1, 2).requires_grad_()
    return torch.stack([copied] * times).requires_grad_()


def _gradient(stacked: torch.Tensor) -> torch.Tensor:
    if stacked.grad is None:
        raise RuntimeError("a parameter of the head took no part in the forward pass")
    return stacked.grad
