"""One forward pass over some texts of a split: without padding where the family allows it, else with little of it.

`passes` cuts a batch into what is run at once, `logits` runs it; the gradient of a batch does not depend on the cut.
A split that holds the hidden states of a frozen prefix is run from there on; `hidden_states` is what makes them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from trainables import models
from trainables.attention import Texts
from trainables.tokens import HiddenStates, TokenSplit

# Tokens of one pass on a CPU: with twice as many, activations leave its caches (MiniLM: 10 % slower).
_TOKENS_ON_CPU = 2048
# The tokens of a row are filled up to a multiple of this on a CPU: oneDNN builds and caches its kernels by shape, and
# rows that were each of another length took a third longer (MiniLM, 430 tokens).
_ROW_MULTIPLE = 64
# Of this, where a row has fewer tokens, as a text alone has: there filling up costs more than it saves.
_SHORT_ROW, _SHORT_ROW_MULTIPLE = 256, 16
# Tokens that are scored at once on a GPU, whatever the batch size: as many as 32 texts of 512 have.
_SCORED_TOKENS_ON_GPU = 16_384
# What a pass costs beside its tokens, counted in tokens: kernels launched, graphs built (measured on a CPU; on a GPU
# launching a pass takes as long as running some thousand tokens).
_TOKENS_PER_PASS = {"cpu": 80, "cuda": 4000}


def passes(model: nn.Module, split: TokenSplit, indices: np.ndarray) -> Iterator[np.ndarray]:
    """Cut a batch of text indices into passes of texts of similar length, shortest first.

    Without padding only the size of a pass matters, and a GPU takes the whole batch at once. With padding the cut is
    the cheapest one, weighing padding against the number of passes.
    """
    if split.hidden and split.hidden.first_only:
        yield indices
        return
    ordered = indices[np.argsort(split.lengths[indices], kind="stable")]
    lengths = split.lengths[ordered]
    device = _device(model).type
    most = _TOKENS_ON_CPU if device == "cpu" else math.inf
    padding_free = models.is_padding_free(model)
    cuts = _filled_cuts(lengths, most) if padding_free else _cheapest_cuts(lengths, most, _TOKENS_PER_PASS[device])
    for start, end in zip([0, *cuts], [*cuts, len(ordered)], strict=True):
        yield ordered[start:end]


def all_passes(model: nn.Module, split: TokenSplit, batch_size: int) -> Iterator[np.ndarray]:
    """Passes over a whole split, shortest texts first, from batches of `batch_size` texts.

    On a GPU batches of few tokens are made larger where that adds no padding.
    """
    ordered = np.argsort(split.lengths, kind="stable")
    first_only = bool(split.hidden and split.hidden.first_only)
    free = _device(model).type == "cuda" and (first_only or models.is_padding_free(model))
    ends = np.cumsum(np.ones(len(ordered)) if first_only else split.lengths[ordered])
    start = 0
    while start < len(ordered):
        before = ends[start - 1] if start else 0
        fitting = int(np.searchsorted(ends, before + _SCORED_TOKENS_ON_GPU, "right")) - start if free else 0
        size = max(batch_size, fitting)
        yield from passes(model, split, ordered[start : start + size])
        start += size


def logits(model: nn.Module, split: TokenSplit, indices: np.ndarray) -> torch.Tensor:
    """Logits of some texts, shape (texts, classes), in the order of `indices`, in the mode that the model is in."""
    if split.hidden is None:
        return _whole_logits(model, split, indices)
    run = _first_tokens_logits if split.hidden.first_only else _whole_logits
    with resumed(model, split.hidden.boundary, _kept(model, split, split.hidden, indices)):
        return run(model, split, indices)


def logits_of_heads(
    model: nn.Module, split: TokenSplit, indices: np.ndarray, heads: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """Logits of several heads at once, shape (heads, texts, classes), from what the frozen layers below them gave.

    `heads` has the head's parameters by their name in the model, those of each head along the first dimension. All
    heads see the same dropout. The split must hold first tokens of the last layer (`hidden.first_only`).
    """
    if split.hidden is None or not split.hidden.first_only:
        raise ValueError("heads run together on what the last frozen layer gave, and this split does not hold that")
    inputs = {"input_ids": _first_tokens(model, split, indices)}

    def one(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
        found: torch.Tensor = torch.func.functional_call(model, parameters, (), inputs).logits
        return found

    with resumed(model, split.hidden.boundary, _kept(model, split, split.hidden, indices)):
        return torch.vmap(one, randomness="same")(dict(heads))


def padded_logits(model: nn.Module, split: TokenSplit, indices: np.ndarray) -> torch.Tensor:
    """The same with every text padded to the longest of them: how any family runs, and what the rest is tested with."""
    inputs = {name: tensor.to(_device(model), non_blocking=True) for name, tensor in split.batch(indices).items()}
    found: torch.Tensor = model(**inputs).logits
    return found


def hidden_states(
    model: nn.Module, split: TokenSplit, indices: np.ndarray, boundary: int, *, first_only: bool
) -> list[torch.Tensor]:
    """The input of layer `boundary` for some texts, one tensor each: (tokens, hidden size).

    `boundary` may be the number of layers: then it is what the last layer gives. Only the first token of each text is
    returned where `first_only`. Nothing above the boundary is computed.
    """
    kept: list[torch.Tensor] = []

    def keep(hidden: torch.Tensor) -> torch.Tensor:
        kept.append(hidden)
        raise _Enough

    lengths = split.lengths[indices].tolist()
    with _intercepted(model, boundary, keep), contextlib.suppress(_Enough):
        _whole_logits(model, split, indices)
    if models.is_padding_free(model):
        texts = list(kept[0][0, : sum(lengths)].split(lengths))
    else:
        texts = [row[:length] for row, length in zip(kept[0], lengths, strict=True)]
    return [text[:1] for text in texts] if first_only else texts


class _Enough(Exception):
    """Not an error: what a pass was run for is there."""


def _whole_logits(model: nn.Module, split: TokenSplit, indices: np.ndarray) -> torch.Tensor:
    """From all tokens of the texts, without padding where the family allows it."""
    run = _row_logits if models.is_padding_free(model) else padded_logits
    return run(model, split, indices)


def _row_logits(model: nn.Module, split: TokenSplit, indices: np.ndarray) -> torch.Tensor:
    """All texts end to end in one row."""
    unused = _unused(model, split, indices)
    texts = Texts(split.lengths[indices].tolist(), _device(model), unused)
    arrays = row(model, split, indices, unused)
    inputs = {name: torch.from_numpy(array).to(_device(model), non_blocking=True) for name, array in arrays.items()}
    return row_logits(model, inputs, texts)


def row_logits(model: nn.Module, inputs: Mapping[str, torch.Tensor], texts: Texts) -> torch.Tensor:
    """Logits of texts that lie end to end: `inputs` are what `row` gives, on the model's device."""
    # The head reads one vector of each text, so that is all that it is given.
    hook = models.encoder(model).register_forward_hook(_gather(texts, models.pooling(model)))
    with _removed(hook):
        found: torch.Tensor = model(**{name: array.unsqueeze(0) for name, array in inputs.items()}, texts=texts).logits
    return found


def row(model: nn.Module, split: TokenSplit, indices: np.ndarray, unused: int) -> dict[str, np.ndarray]:
    """Some texts end to end, int64: ids, types where there are any, positions. `unused` tokens stand last."""
    spans = _spans(split, indices)
    first = models.first_position(model)
    arrays = {
        "input_ids": np.concatenate([split.input_ids[span] for span in spans]),
        "position_ids": np.concatenate([np.arange(first, first + span.stop - span.start) for span in spans]),
    }
    if first and (arrays["input_ids"] == first - 1).any():
        arrays["position_ids"] = np.concatenate([_positions(split.input_ids[span], first) for span in spans])
    if split.token_type_ids is not None:
        arrays["token_type_ids"] = np.concatenate([split.token_type_ids[span] for span in spans])
    fill = {"input_ids": split.pad_token_id, "position_ids": first, "token_type_ids": 0}
    return {
        name: np.pad(array.astype(np.int64), (0, unused), constant_values=fill[name]) for name, array in arrays.items()
    }


def _positions(ids: np.ndarray, first: int) -> np.ndarray:
    """Positions of the tokens of a text as RoBERTa has them: a padding token in it has `first` - 1, uncounted."""
    counted = ids != first - 1
    return np.where(counted, first - 1 + np.cumsum(counted), first - 1)


def _first_tokens_logits(model: nn.Module, split: TokenSplit, indices: np.ndarray) -> torch.Tensor:
    """Each text a row of its first token, which is all that the head needs of what the layers gave."""
    found: torch.Tensor = model(input_ids=_first_tokens(model, split, indices)).logits
    return found


def _first_tokens(model: nn.Module, split: TokenSplit, indices: np.ndarray) -> torch.Tensor:
    first = torch.from_numpy(split.input_ids[split.offsets[indices]].astype(np.int64)).unsqueeze(1)
    return first.to(_device(model))


def _unused(model: nn.Module, split: TokenSplit, indices: np.ndarray) -> int:
    """Tokens behind the last text of a row that belong to none, so that rows are of few different lengths."""
    if _device(model).type != "cpu":
        return 0
    tokens = int(split.lengths[indices].sum())
    return -tokens % (_SHORT_ROW_MULTIPLE if tokens < _SHORT_ROW else _ROW_MULTIPLE)


def _gather(texts: Texts, pooling: models.Pooling) -> Callable[[nn.Module, Any, Any], Any]:
    """A hook behind the encoder that leaves one vector per text, as rows of one token each."""

    def leave_one_each(_: nn.Module, __: Any, output: Any) -> Any:
        hidden = output.last_hidden_state[0]
        if pooling == "first":
            chosen = hidden.index_select(0, texts.starts)
        else:
            used = hidden[: sum(texts.lengths)]
            chosen = torch.stack([text.mean(dim=0) for text in used.split(texts.lengths)])
        output.last_hidden_state = chosen.unsqueeze(1)
        return output

    return leave_one_each


def _kept(model: nn.Module, split: TokenSplit, hidden: HiddenStates, indices: np.ndarray) -> torch.Tensor:
    """Kept states of some texts as the model would have them: one row, padded rows, or rows of one token."""
    if hidden.first_only:
        return _tensor(hidden.states[indices]).unsqueeze(1).to(_device(model), non_blocking=True)
    if models.is_padding_free(model):
        kept = kept_row(split, hidden, indices, _unused(model, split, indices))
        return kept.unsqueeze(0).to(_device(model), non_blocking=True)
    parts = [hidden.states[span] for span in _spans(split, indices)]
    rows = pad_sequence([_tensor(np.array(part)) for part in parts], batch_first=True)
    return rows.to(_device(model), non_blocking=True)


def kept_row(split: TokenSplit, hidden: HiddenStates, indices: np.ndarray, unused: int) -> torch.Tensor:
    """Kept states of some texts end to end, float32, shape (tokens, hidden size); zeros for `unused` tokens, last."""
    parts = [hidden.states[span] for span in _spans(split, indices)]
    return _tensor(np.concatenate([*parts, np.zeros((unused, *parts[0].shape[1:]), parts[0].dtype)]))


@contextlib.contextmanager
def resumed(model: nn.Module, boundary: int, states: torch.Tensor) -> Iterator[None]:
    """Inside the block the layers below the boundary do nothing, and `states` come out of them."""
    below = models.layers(model)[:boundary]
    as_layer = models.unchanged(model)
    with _intercepted(model, boundary, lambda _: states):
        for layer in below:
            layer.forward = as_layer
        try:
            yield
        finally:
            for layer in below:
                del layer.forward


@contextlib.contextmanager
def _intercepted(model: nn.Module, boundary: int, replace: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Inside the block, what comes to layer `boundary` (after the last layer: out of it) goes through `replace`.

    Once: layers that share their weights are one module, which is called again for each of them.
    """
    done = False

    def before(_: nn.Module, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        nonlocal done
        if done:
            return arguments
        done = True
        return (replace(arguments[0]), *arguments[1:])

    def after(_: nn.Module, __: Any, output: Any) -> Any:
        output.last_hidden_state = replace(output.last_hidden_state)
        return output

    layers = models.layers(model)
    above = layers[boundary] if boundary < len(layers) else models.final_norm(model)
    if above is not None:
        hook = above.register_forward_pre_hook(before)
    else:
        hook = models.encoder(model).register_forward_hook(after)
    with _removed(hook):
        yield


@contextlib.contextmanager
def _removed(hook: Any) -> Iterator[None]:
    try:
        yield
    finally:
        hook.remove()


def _spans(split: TokenSplit, indices: np.ndarray) -> list[slice]:
    return [slice(int(split.offsets[index]), int(split.offsets[index + 1])) for index in indices]


def _tensor(states: np.ndarray) -> torch.Tensor:
    """Kept states in float32."""
    if states.dtype == np.uint16:
        return torch.from_numpy(states).view(torch.bfloat16).float()
    return torch.from_numpy(states)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _filled_cuts(lengths: np.ndarray, most: float) -> list[int]:
    """Where to cut so that each pass holds as many texts as `most` tokens allow, and at least one."""
    cuts, tokens = [], 0
    for index, length in enumerate(lengths):
        if tokens and tokens + length > most:
            cuts.append(index)
            tokens = 0
        tokens += length
    return cuts


def _cheapest_cuts(lengths: np.ndarray, most: float, per_pass: int) -> list[int]:
    """Where to cut sorted lengths so that padded tokens and passes cost least in all, by dynamic programming.

    A pass of several texts holds at most `most` tokens, padding included; each costs `per_pass` tokens more.
    """
    best = [0.0]
    came_from = [0]
    for end in range(1, len(lengths) + 1):
        found = min(
            (best[start] + (end - start) * lengths[end - 1] + per_pass, start)
            for start in range(end)
            if end - start == 1 or (end - start) * lengths[end - 1] <= most
        )
        best.append(found[0])
        came_from.append(found[1])
    cuts, end = [], len(lengths)
    while came_from[end]:
        end = came_from[end]
        cuts.append(end)
    return cuts[::-1]
