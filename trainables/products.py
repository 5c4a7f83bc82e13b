"""Matrix products in bf16 by copies of the weights, for training with fp32 weights on a GPU.

Autocast casts each weight by a kernel of its own in every pass, and each gradient back by another, transposed, which
the optimizer's layout then makes a third out of. Here the copies of all weights are made at once, and the products
that give gradients write fp32 as they accumulate it: a third fewer kernels in a step, and no gradient that is rounded
to bf16 on its way (Micikevicius et al. 2018, arXiv:1710.03740, for the master weights).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class _Ones:
    """Rows of ones in bf16: a product with one sums over tokens, which is faster than PyTorch's own sums of columns."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._rows: dict[int, torch.Tensor] = {}

    def row(self, length: int) -> torch.Tensor:
        """Shape (1, length); made once."""
        if length not in self._rows:
            self._rows[length] = torch.ones(1, length, dtype=torch.bfloat16, device=self._device)
        return self._rows[length]


class Linear(nn.Linear):
    """`nn.Linear`, which multiplies by bf16 copies of its weight and bias while it has them."""

    copies: tuple[torch.Tensor, torch.Tensor | None, _Ones] | None = None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """In bf16, as under autocast, while there are copies."""
        if self.copies is None:
            return super().forward(input)
        weight, bias, ones = self.copies
        row = ones.row(input.shape[:-1].numel())
        found: torch.Tensor = _Product.apply(input, self.weight, self.bias, weight, bias, row)
        return found


class Copies:
    """Copies of the weights of all `nn.Linear` of a model, which become `Linear`, in place."""

    def __init__(self, model: nn.Module) -> None:
        self._linears: dict[Linear, tuple[torch.Tensor, torch.Tensor | None, _Ones]] = {}
        self._trained: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
        ones = _Ones(next(model.parameters()).device)
        for module in model.modules():
            if type(module) is nn.Linear:
                module.__class__ = Linear
            if isinstance(module, Linear) and module.weight.dtype == torch.float32:
                self._linears[module] = (self._copy(module.weight), self._copy(module.bias), ones)

    def _copy(self, weight: torch.Tensor | None) -> Any:
        if weight is None:
            return None
        copy = weight.detach().to(torch.bfloat16)
        if weight.requires_grad:
            self._trained[0].append(copy)
            self._trained[1].append(weight)
        return copy

    @contextmanager
    def used(self) -> Iterator[None]:
        """Inside the block products use the copies, of the weights as they are when it begins."""
        if self._trained[0]:
            with torch.no_grad():
                torch._foreach_copy_(*self._trained)
        try:
            for linear, copies in self._linears.items():
                linear.copies = copies
            yield
        finally:
            for linear in self._linears:
                linear.copies = None


class _Product(torch.autograd.Function):
    """x W' + b in bf16, of which the gradients of W and b are fp32, and that of x is what x is."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        _weight: torch.Tensor,
        _bias: torch.Tensor | None,
        half_weight: torch.Tensor,
        half_bias: torch.Tensor | None,
        ones: torch.Tensor,
    ) -> torch.Tensor:
        half = x.to(torch.bfloat16)
        ctx.save_for_backward(half if ctx.needs_input_grad[1] else None, half_weight, ones)
        ctx.x_dtype = x.dtype
        return nn.functional.linear(half, half_weight, half_bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        half, half_weight, ones = ctx.saved_tensors
        (gradient,) = gradients
        rows = gradient.reshape(-1, gradient.shape[-1])
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = _product(rows, half_weight, ctx.x_dtype).view(*gradient.shape[:-1], -1)
        if ctx.needs_input_grad[1]:
            of_weight = _product(rows.t(), half.reshape(-1, half.shape[-1]), torch.float32)
        if ctx.needs_input_grad[2]:
            of_bias = _product(ones, rows, torch.float32)[0]
        return of_x, of_weight, of_bias, None, None, None


def _product(left: torch.Tensor, right: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A product of bf16 matrices, accumulated in fp32 and written in `dtype`."""
    if dtype == left.dtype:
        return left @ right
    if left.is_cuda:
        return torch.mm(left, right, out_dtype=dtype)
    return left.to(dtype) @ right.to(dtype)
