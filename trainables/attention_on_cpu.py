"""Attention of a row of texts on a CPU, forward and backward, in a handful of batched products per bucket of texts.

Faster there than PyTorch's own `scaled_dot_product_attention` wherever something is trained: with dropout that falls
back to float32 and to one double per weight, and its fused kernel's backward pass is slow for small heads. Texts of
similar length are padded to a bucket, inside the attention only; what that costs is weighed against one more bucket.
A row may have tokens behind the last text: nothing attends to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch

from trainables import dropout

# Lengths are rounded up to a multiple of this: oneDNN builds and caches its kernels by shape.
_MULTIPLE = 16
# What a bucket costs beside its weights, counted in weights of one head (measured: MiniLM, 12 heads, bf16).
_WEIGHTS_PER_BUCKET = 5_000
# Weights of one head that a bucket of several texts may hold: more would leave the processor's caches.
_MOST_WEIGHTS = 50_000


@dataclass(frozen=True)
class Bucket:
    """Neighbouring texts of a row: tokens `start` to `end`, each text padded to `longest`.

    `real` are the places of their tokens among `texts * longest`, `padding` says which keys are none, bool, shape
    (texts, 1, longest); both None where all are that long.
    """

    start: int
    end: int
    texts: int
    longest: int
    real: torch.Tensor | None
    padding: torch.Tensor | None


def buckets(lengths: Sequence[int]) -> list[Bucket]:
    """Cut a row of texts where that costs least in all, by dynamic programming."""
    rounded = [-(-length // _MULTIPLE) * _MULTIPLE for length in lengths]
    best, came_from = [0.0], [0]
    for end in range(1, len(lengths) + 1):
        longest, found = 0, (float("inf"), 0)
        for start in range(end - 1, -1, -1):
            longest = max(longest, rounded[start])
            weights = (end - start) * longest**2
            if end - start > 1 and weights > _MOST_WEIGHTS:
                break
            found = min(found, (best[start] + weights + _WEIGHTS_PER_BUCKET, start))
        best.append(found[0])
        came_from.append(found[1])
    cuts = [len(lengths)]
    while cuts[-1]:
        cuts.append(came_from[cuts[-1]])
    cuts.reverse()
    starts = [0, *accumulate(lengths)]
    return [_bucket(lengths[a:b], starts[a], max(rounded[a:b])) for a, b in pairwise(cuts)]


def _bucket(lengths: Sequence[int], start: int, longest: int) -> Bucket:
    texts, tokens = len(lengths), sum(lengths)
    if tokens == texts * longest:
        return Bucket(start, start + tokens, texts, longest, None, None)
    within = torch.arange(longest) < torch.tensor(lengths)[:, None]
    return Bucket(start, start + tokens, texts, longest, within.flatten().nonzero()[:, 0], ~within[:, None])


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    found: Sequence[Bucket],
    *,
    probability: float,
    scaling: float,
    hidden: Sequence[torch.Tensor | None],
) -> torch.Tensor:
    """Scaled dot-product attention within each text; tensors of shape (1, heads, tokens, head size).

    `probability` is dropout's; `hidden` has for each bucket which of its tokens do not see each other (bool, shape
    (longest, longest)), or None. Returns (1, tokens, heads, head size) in the dtype that autocast gives products.
    """
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    row: torch.Tensor = _Attention.apply(query, key, value, found, probability, scaling, hidden)
    return row


class _Attention(torch.autograd.Function):
    """All buckets of a row. Scores and weights are kept in the inputs' dtype, the softmax is computed in float32."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        found: Sequence[Bucket],
        probability: float,
        scaling: float,
        hidden: Sequence[torch.Tensor | None],
    ) -> torch.Tensor:
        heads = query.shape[1]
        rows = [whole[0].transpose(0, 1) for whole in (query, key, value)]
        attended = _like(rows[0], found)
        kept: list[torch.Tensor | None] = []
        with torch.autocast("cpu", enabled=False):
            for bucket, unseen in zip(found, hidden, strict=True):
                q, k, v = (_padded(row, bucket) for row in rows)
                weights = _weights(q, k, bucket, unseen, heads, scaling)
                drop = dropout.mask(weights.shape, probability, weights.dtype) if probability else None
                dropped = weights if drop is None else weights * drop
                _unpad(torch.bmm(dropped, v), bucket, heads, attended)
                kept += (q, k, v, weights, drop)
        ctx.save_for_backward(*kept)
        ctx.found, ctx.scaling, ctx.heads = found, scaling, heads
        return attended.unsqueeze(0)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        heads, kept = ctx.heads, ctx.saved_tensors
        row = gradient[0]
        gradients = [_like(row, ctx.found) for _ in range(3)]
        for number, bucket in enumerate(ctx.found):
            q, k, v, weights, drop = kept[5 * number : 5 * number + 5]
            above = _padded(row, bucket)
            to_weights = torch.bmm(above, v.transpose(1, 2))
            dropped = weights
            if drop is not None:
                to_weights.mul_(drop)
                dropped = weights * drop
            to_scores = torch._softmax_backward_data(to_weights, weights, -1, weights.dtype)
            _unpad(_product(to_scores, k, ctx.scaling), bucket, heads, gradients[0])
            _unpad(_product(to_scores.transpose(1, 2), q, ctx.scaling), bucket, heads, gradients[1])
            _unpad(torch.bmm(dropped.transpose(1, 2), above), bucket, heads, gradients[2])
        to_query, to_key, to_value = (found.transpose(0, 1).unsqueeze(0) for found in gradients)
        return to_query, to_key, to_value, None, None, None, None


def _like(row: torch.Tensor, found: Sequence[Bucket]) -> torch.Tensor:
    """A row for what is found, zero beyond the last text."""
    made = torch.empty(row.shape, dtype=row.dtype)
    made[found[-1].end :].zero_()
    return made


def _weights(
    query: torch.Tensor, key: torch.Tensor, bucket: Bucket, unseen: torch.Tensor | None, heads: int, scaling: float
) -> torch.Tensor:
    """What each token takes of each other one, shape (texts * heads, longest, longest)."""
    scores = _product(query, key.transpose(1, 2), scaling).float()
    # Not -inf: a place of padding may see nothing but padding, and must come out as any number.
    nothing = torch.finfo(torch.float32).min
    if bucket.padding is not None:
        scores.unflatten(0, (bucket.texts, heads)).masked_fill_(bucket.padding[:, None], nothing)
    if unseen is not None:
        scores.masked_fill_(unseen, nothing)
    return torch.softmax(scores, -1).to(query.dtype)


def _product(left: torch.Tensor, right: torch.Tensor, factor: float) -> torch.Tensor:
    """A batched product times a factor, rounded once."""
    return torch.baddbmm(left.new_empty(()), left, right, beta=0, alpha=factor)


def _padded(row: torch.Tensor, bucket: Bucket) -> torch.Tensor:
    """The tokens of a bucket, shape (texts * heads, longest, head size), zeros where there is none."""
    tokens, (heads, size) = row[bucket.start : bucket.end], row.shape[1:]
    if bucket.real is not None:
        filled = row.new_zeros(bucket.texts * bucket.longest, heads, size)
        tokens = filled.index_copy_(0, bucket.real, tokens)
    whole = tokens.unflatten(0, (bucket.texts, bucket.longest)).transpose(1, 2)
    return whole.reshape(bucket.texts * heads, bucket.longest, size)


def _unpad(found: torch.Tensor, bucket: Bucket, heads: int, row: torch.Tensor) -> None:
    """Put what was found for a bucket where its tokens lie in a row."""
    whole = found.unflatten(0, (bucket.texts, heads)).transpose(1, 2)
    target = row[bucket.start : bucket.end]
    if bucket.real is None:
        target.unflatten(0, (bucket.texts, bucket.longest)).copy_(whole)
    else:
        torch.index_select(whole.flatten(0, 1), 0, bucket.real, out=target)
