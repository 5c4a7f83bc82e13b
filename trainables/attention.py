"""Attention without padding: texts end to end in one row, each attending to itself alone.

Transformers models that go through its table of attention functions run unchanged with `attend`, which `register`
puts there. A model that is given `texts` has one row without padding; without, it works as usual, with a mask.
The technique is that of Krell et al. 2021 (arXiv:2107.02027) and of MosaicBERT (Portes et al. 2023, arXiv:2312.17482).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate, groupby
from typing import Any, Literal

import torch
from torch.nn.functional import scaled_dot_product_attention

from trainables import attention_on_cpu
from trainables.attention_on_cpu import Bucket

_NAME = "padding_free"
# Tokens up to which PyTorch's fused kernel is no gain on a CPU where nothing is trained either (measured).
_SHORT = 64


class Texts:
    """Where the texts of a row lie: one after the other, `lengths[i]` tokens from `starts[i]`, then `unused` ones.

    `boundaries` are the starts and the end of the last text, int32; `longest` is at least the longest length.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device, unused: int = 0) -> None:
        ends = [0, *accumulate(lengths)]
        self.starts = torch.tensor(ends[:-1], device=device)
        self.boundaries = torch.tensor(ends, dtype=torch.int32, device=device)
        self.longest = max(lengths)
        self.device, self.unused = device, unused
        self._windows: dict[tuple[int, int], torch.Tensor] = {}
        self.lie(lengths)

    @classmethod
    def in_place(cls, starts: torch.Tensor, boundaries: torch.Tensor, longest: int) -> Texts:
        """Texts of rows of one shape, whose tensors somebody else fills anew for each row, after `lie`."""
        texts = cls([longest], starts.device)
        texts.starts, texts.boundaries = starts, boundaries
        return texts

    def lie(self, lengths: Sequence[int]) -> None:
        """Be of these lengths from now on, as far as the tensors do not say so."""
        self.lengths = list(lengths)
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


Kernel = Literal["flash", "efficient"]
# What attends within the texts of a row: of query, key, value, dropout, scaling and texts.
_Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float, float | None, Texts], torch.Tensor]


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

    With `texts` there is one row and no mask; what unused tokens of it get is of no meaning, and on a GPU there must be
    none. `sliding_window` is ModernBERT's: half of its window, plus 1. Returns (rows, tokens, heads, head size), and no
    weights.
    """
    if texts is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        if attention_mask is None and sliding_window is not None:
            attention_mask = _window(query.shape[2], sliding_window, query.device)
        found: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=False, **kwargs
        )
        return found
    if query.is_cuda and (fused := _fused(query, sliding_window, texts)):
        return fused(query, key, value, dropout, scaling, texts), None
    if query.device.type == "cpu" and (dropout or torch.is_grad_enabled() or texts.longest <= _SHORT):
        return _attend_on_cpu(query, key, value, dropout, scaling, sliding_window, texts), None
    if query.is_cuda and torch.cuda.is_current_stream_capturing():
        raise RuntimeError("attention text by text cannot be captured: a graph would keep these texts' lengths")
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


def kernel(head_size: int, dtype: torch.dtype, capability: tuple[int, int], *, windowed: bool) -> Kernel | None:
    """The kernel that attends within all texts of a row at once on a GPU of some compute capability.

    None where it has none for such tensors; texts are then taken one after the other, by their lengths on the host.
    """
    if head_size % 8 or head_size > 256:
        return None
    if dtype in (torch.float16, torch.bfloat16) and capability >= (8, 0):
        return "flash"
    return None if windowed or dtype == torch.bfloat16 else "efficient"


def _fused(query: torch.Tensor, sliding_window: int | None, texts: Texts) -> _Attend | None:
    windowed = sliding_window is not None and texts.longest > sliding_window
    capability = torch.cuda.get_device_capability(query.device)
    found = kernel(query.shape[-1], query.dtype, capability, windowed=windowed)
    if found == "flash":
        return partial(_attend_flash, sliding_window=sliding_window)
    return _attend_efficient if found == "efficient" else None


def _attend_flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    dropout: float,
    scaling: float | None,
    texts: Texts,
    sliding_window: int | None,
) -> torch.Tensor:
    """FlashAttention-2 (Dao 2023, arXiv:2307.08691) as it is built into PyTorch.

    Called as `torch.nn.attention.varlen.varlen_attn` calls it, which has no dropout.
    """
    side = None if sliding_window is None else sliding_window - 1
    ends, longest = texts.boundaries, texts.longest
    attended = torch.ops.aten._flash_attention_forward(
        *(whole.squeeze(0).transpose(0, 1).contiguous() for whole in (query, key, value)),
        ends,
        ends,
        longest,
        longest,
        dropout,
        False,
        False,
        scale=scaling,
        window_size_left=side,
        window_size_right=side,
    )[0]
    row: torch.Tensor = attended.unsqueeze(0)
    return row


def _attend_efficient(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    dropout: float,
    scaling: float | None,
    texts: Texts,
) -> torch.Tensor:
    """Memory-efficient attention (Rabe and Staats 2021, arXiv:2112.05682; xFormers' kernel in PyTorch): fp32 too."""
    ends, longest = texts.boundaries, texts.longest
    row: torch.Tensor = torch.ops.aten._efficient_attention_forward(
        *(whole.transpose(1, 2).contiguous() for whole in (query, key, value)),
        None,
        ends,
        ends,
        longest,
        longest,
        dropout,
        0,
        True,
        scale=scaling,
    )[0]
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
