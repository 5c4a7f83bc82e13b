"""Attention without padding: texts end to end in one row, each attending to itself alone.

Transformers models that go through its table of attention functions run unchanged with `attend`, which `register`
puts there. A model that is given `texts` has one row without padding; without, it works as usual, with a mask.
The technique is that of Krell et al. 2021 (arXiv:2107.02027) and of MosaicBERT (Portes et al. 2023, arXiv:2312.17482).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from trainables import attention_on_cpu
from trainables.attention_on_cpu import Bucket

_NAME = "padding_free"
# Tokens up to which PyTorch's fused kernel is no gain on a CPU where nothing is trained either (measured).
_SHORT = 64


class Texts:
    """Where the texts of a row lie: one after the other, `lengths[i]` tokens from `starts[i]`, then `unused` ones."""

    def __init__(self, lengths: Sequence[int], device: torch.device, unused: int = 0) -> None:
        self.lengths, self.device, self.unused = list(lengths), device, unused
        ends = [0, *accumulate(self.lengths)]
        self.longest = max(self.lengths)
        self.starts = torch.tensor(ends[:-1], device=device)
        self.boundaries = torch.tensor(ends, dtype=torch.int32, device=device)
        self._windows: dict[tuple[int, int], torch.Tensor] = {}
        self._buckets: list[Bucket] | None = None

    def buckets(self) -> list[Bucket]:
        """How the texts are padded to one another on a CPU; found once for all layers."""
        if self._buckets is None:
            self._buckets = attention_on_cpu.buckets(self.lengths)
        return self._buckets

    def runs(self) -> Iterator[tuple[int, int, int]]:
        """(first token, texts, tokens per text) of each run of neighbours that are equally long."""
        start = 0
        for length, run in groupby(self.lengths):
            texts = len(list(run))
            yield start, texts, length
            start += texts * length

    def window(self, width: int, length: int) -> torch.Tensor:
        """Which of `length` tokens see each other where |i - j| < width; made once for all layers."""
        if (width, length) not in self._windows:
            self._windows[width, length] = _window(length, width, self.device)
        return self._windows[width, length]


def register() -> str:
    """Put `attend` into transformers' table; returns its name there, which is what `attn_implementation` takes."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(_NAME, attend)
    AttentionMaskInterface.register(_NAME, _mask)
    return _NAME


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    texts: Texts | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Scaled dot-product attention as transformers calls it; tensors of shape (rows, heads, tokens, head size).

    With `texts` there is one row and no mask, and on a GPU no unused token. `sliding_window` is ModernBERT's: half of
    its window, plus 1. Returns (rows, tokens, heads, head size), and no weights.
    """
    if texts is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        if attention_mask is None and sliding_window is not None:
            attention_mask = _window(query.shape[2], sliding_window, query.device)
        found: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=False, **kwargs
        )
        return found
    if query.is_cuda and dropout == 0 and query.dtype in (torch.float16, torch.bfloat16):
        return _attend_varlen(query, key, value, scaling, sliding_window, texts), None
    if query.device.type == "cpu" and (dropout or torch.is_grad_enabled() or texts.longest <= _SHORT):
        return _attend_on_cpu(query, key, value, dropout, scaling, sliding_window, texts), None
    parts = [_attend_run(query, key, value, run, dropout, scaling, sliding_window, texts) for run in texts.runs()]
    parts.append(parts[0].new_zeros(texts.unused, *parts[0].shape[1:]))
    return torch.cat(parts).unsqueeze(0), None


def _attend_on_cpu(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    dropout: float,
    scaling: float | None,
    sliding_window: int | None,
    texts: Texts,
) -> torch.Tensor:
    """Attention in batched products, a bucket of texts at a time."""
    found = texts.buckets()
    hidden: list[torch.Tensor | None] = [None] * len(found)
    if sliding_window is not None and texts.longest > sliding_window:
        hidden = [~texts.window(sliding_window, bucket.longest) for bucket in found]
    return attention_on_cpu.attend(
        query,
        key,
        value,
        found,
        probability=dropout,
        scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
        hidden=hidden,
    )


def _attend_run(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    run: tuple[int, int, int],
    dropout: float,
    scaling: float | None,
    sliding_window: int | None,
    texts: Texts,
) -> torch.Tensor:
    """Attention within each text of a run; returns (tokens of the run, heads, head size)."""
    start, count, length = run
    run_query, run_key, run_value = (
        whole[0, :, start : start + count * length].unflatten(1, (count, length)).transpose(0, 1)
        for whole in (query, key, value)
    )
    mask = None
    if sliding_window is not None and length > sliding_window:
        mask = texts.window(sliding_window, length)
    attended = scaled_dot_product_attention(
        run_query, run_key, run_value, attn_mask=mask, dropout_p=dropout, scale=scaling
    )
    return attended.transpose(1, 2).flatten(0, 1)


def _attend_varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    sliding_window: int | None,
    texts: Texts,
) -> torch.Tensor:
    """One kernel for all texts of a row, where the GPU has it (PyTorch's, after FlashAttention, arXiv:2307.08691)."""
    from torch.nn.attention.varlen import varlen_attn

    side = -1 if sliding_window is None else sliding_window - 1
    ends = texts.boundaries
    row_query, row_key, row_value = (whole[0].transpose(0, 1).contiguous() for whole in (query, key, value))
    attended: Any = varlen_attn(
        row_query,
        row_key,
        row_value,
        ends,
        ends,
        texts.longest,
        texts.longest,
        scale=scaling,
        window_size=(side, side),
    )
    row: torch.Tensor = attended.unsqueeze(0)
    return row


def _mask(*args: Any, attention_mask: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor | None:
    """The mask of padded rows; rows without padding come without one, and must not get one of all their tokens."""
    from transformers.masking_utils import sdpa_mask

    if attention_mask is None:
        return None
    mask: torch.Tensor | None = sdpa_mask(*args, attention_mask=attention_mask, **kwargs)
    return mask


def _window(length: int, width: int, device: torch.device) -> torch.Tensor:
    positions = torch.arange(length, device=device)
    return (positions[:, None] - positions[None, :]).abs() < width
