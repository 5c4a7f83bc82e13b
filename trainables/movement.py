"""Whether training did what it was told: what is frozen has stayed the same, and what trains has moved.

Taken before training and at its end. Frozen weights are hashed as a whole. Of those that train a sample is kept, since
a copy of a large model would need as much memory as the model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from trainables import freeze

# So many weights of each tensor are kept, evenly spaced: 64 KiB.
_SAMPLE = 16_384


@dataclass(frozen=True)
class Start:
    """A model before it trains: the hash of what is frozen (None: nothing is), a sample of each tensor that trains."""

    frozen: str | None
    trainable: dict[str, torch.Tensor]

    @classmethod
    def of(cls, model: nn.Module) -> Start:
        return cls(frozen_hash(model), {name: _sample(tensor) for name, tensor in _trainable(model).items()})

    def distance(self, model: nn.Module) -> float | None:
        """How far what trains is from where it began, relative to its norm there; 0 where no weight has moved.

        An estimate from the samples, each tensor counting by its size. None where weights are no finite numbers.
        """
        moved = began = 0.0
        for name, tensor in _trainable(model).items():
            before, now = self.trainable[name].double(), _sample(tensor).double()
            each = tensor.numel() / len(before)
            moved += each * float(((now - before) ** 2).sum())
            began += each * float((before**2).sum())
        relative = math.sqrt(moved / began) if began else float(moved > 0)
        return relative if math.isfinite(relative) else None


def frozen_hash(model: nn.Module) -> str | None:
    """The hash of all that is frozen in a model; None where all of it trains."""
    frozen = any(not parameter.requires_grad for parameter in model.parameters())
    return freeze.frozen_hash(model) if frozen else None


def _trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _sample(tensor: torch.Tensor) -> torch.Tensor:
    """Evenly spaced values of a tensor, on the CPU, as a copy."""
    flat = tensor.detach().reshape(-1)
    return flat[:: max(1, math.ceil(len(flat) / _SAMPLE))].to("cpu", copy=True)
