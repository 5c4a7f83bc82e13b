"""Dropout on a CPU with masks that cost a fraction of PyTorch's: four 16-bit draws out of each 64-bit random number.

PyTorch draws a double per element, which took up to a third of a training step. Here an element is kept where its 16
bits reach a threshold, so a probability is met to within 1 / 65,536. The numbers come from NumPy's SFC64, seeded anew
for each mask by one draw of PyTorch's generator: PyTorch's random state alone decides, as it does without this. On a
GPU nothing changes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

_VALUES = 2**16
_SEEDS = 2**63 - 1
# Integers of the size of each kind of float.
_INTEGERS = {torch.float32: (np.int32, torch.int32), torch.bfloat16: (np.int16, torch.int16)}


def mask(shape: Sequence[int], probability: float, dtype: torch.dtype) -> torch.Tensor:
    """What to multiply with: 0 with `probability` (to within 1 / 65,536), else 1 / (1 - probability), on the CPU.

    Advances PyTorch's default generator by one draw. `dtype` is float32 or bfloat16.
    """
    count = math.prod(shape)
    seed = int(torch.randint(_SEEDS, ()))
    random = np.random.Generator(np.random.SFC64(seed))
    draws = random.integers(0, 2**64, size=-(-count // 4), dtype=np.uint64).view(np.uint16)[:count]
    keep = (draws >= round(probability * _VALUES)).view(np.int8)
    # Zero has no bit set and what is kept is one number, so a mask is that number's bits times 0 or 1.
    narrow, same = _INTEGERS[dtype]
    bits = torch.tensor(1 / (1 - probability), dtype=dtype).view(same).item()
    return torch.from_numpy(np.multiply(keep, bits, dtype=narrow)).view(dtype).view(*shape)


class Dropout(nn.Dropout):
    """`nn.Dropout` with the masks of this module, where they apply."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Zero some elements and scale the others (Srivastava et al. 2014), while training."""
        if not self.training or self.p == 0:
            return input
        if input.device.type != "cpu" or input.dtype not in _INTEGERS or self.p == 1:
            return super().forward(input)
        return input * mask(input.shape, self.p, input.dtype)


def replace(model: nn.Module) -> None:
    """Let every `nn.Dropout` of a model draw as this module does, in place."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = Dropout
