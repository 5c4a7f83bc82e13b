"""One forward pass over some texts of a split: without padding where the family allows it, else with little of it.

`passes` cuts a batch into what is run at once, `logits` runs it. The gradient of a batch does not depend on the cut.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from trainables import models
from trainables.attention import Texts
from trainables.tokens import TokenSplit

# Tokens of one pass on a CPU: with twice as many, activations leave its caches (MiniLM: 10 % slower).
_TOKENS_ON_CPU = 2048
# What a pass costs beside its tokens, counted in tokens: kernels launched, graphs built (measured on a CPU).
_TOKENS_PER_PASS = 80


def passes(model: nn.Module, split: TokenSplit, indices: np.ndarray) -> Iterator[np.ndarray]:
    """Cut a batch of text indices into passes of texts of similar length, shortest first.

    Without padding only the size of a pass matters, and a GPU takes the whole batch at once. With padding the cut is
    the cheapest one, weighing padding against the number of passes.
    """
    ordered = indices[np.argsort(split.lengths[indices], kind="stable")]
    lengths = split.lengths[ordered]
    on_cpu = next(model.parameters()).device.type == "cpu"
    most = _TOKENS_ON_CPU if on_cpu else math.inf
    cuts = _filled_cuts(lengths, most) if models.is_padding_free(model) else _cheapest_cuts(lengths, most)
    for start, end in zip([0, *cuts], [*cuts, len(ordered)], strict=True):
        yield ordered[start:end]


def logits(model: nn.Module, split: TokenSplit, indices: np.ndarray) -> torch.Tensor:
    """Logits of some texts, shape (texts, classes), in the order of `indices`, in the mode that the model is in."""
    device = next(model.parameters()).device
    if not models.is_padding_free(model):
        return padded_logits(model, split, indices)
    texts = Texts(split.lengths[indices].tolist(), device)
    # The head reads one vector of each text, so that is all that it is given.
    hook = models.encoder(model).register_forward_hook(_gather(texts, models.pooling(model)))
    try:
        found: torch.Tensor = model(**_row(model, split, indices, device), texts=texts).logits
    finally:
        hook.remove()
    return found


def padded_logits(model: nn.Module, split: TokenSplit, indices: np.ndarray) -> torch.Tensor:
    """The same with every text padded to the longest of them: how any family runs, and what the rest is tested with."""
    device = next(model.parameters()).device
    inputs = {name: tensor.to(device, non_blocking=True) for name, tensor in split.batch(indices).items()}
    found: torch.Tensor = model(**inputs).logits
    return found


def _row(model: nn.Module, split: TokenSplit, indices: np.ndarray, device: torch.device) -> dict[str, torch.Tensor]:
    """Inputs of a row without padding, each of shape (1, tokens): ids, types where there are any, positions."""
    spans = [slice(int(split.offsets[index]), int(split.offsets[index + 1])) for index in indices]
    first = models.first_position(model)
    arrays = {
        "input_ids": np.concatenate([split.input_ids[span] for span in spans]),
        "position_ids": np.concatenate([np.arange(first, first + span.stop - span.start) for span in spans]),
    }
    if split.token_type_ids is not None:
        arrays["token_type_ids"] = np.concatenate([split.token_type_ids[span] for span in spans])
    return {
        name: torch.from_numpy(array.astype(np.int64)).unsqueeze(0).to(device, non_blocking=True)
        for name, array in arrays.items()
    }


def _gather(texts: Texts, pooling: models.Pooling) -> Any:
    """A hook behind the encoder that leaves one vector per text, as rows of one token each."""

    def leave_one_each(_: nn.Module, __: Any, output: Any) -> Any:
        hidden = output.last_hidden_state[0]
        if pooling == "first":
            chosen = hidden[texts.starts]
        else:
            chosen = torch.stack([text.mean(dim=0) for text in hidden.split(texts.lengths)])
        output.last_hidden_state = chosen.unsqueeze(1)
        return output

    return leave_one_each


def _filled_cuts(lengths: np.ndarray, most: float) -> list[int]:
    """Where to cut so that each pass holds as many texts as `most` tokens allow, and at least one."""
    cuts, tokens = [], 0
    for index, length in enumerate(lengths):
        if tokens and tokens + length > most:
            cuts.append(index)
            tokens = 0
        tokens += length
    return cuts


def _cheapest_cuts(lengths: np.ndarray, most: float) -> list[int]:
    """Where to cut sorted lengths so that padded tokens and passes cost least in all, by dynamic programming.

    A pass of several texts holds at most `most` tokens, padding included.
    """
    best = [0.0]
    came_from = [0]
    for end in range(1, len(lengths) + 1):
        found = min(
            (best[start] + (end - start) * lengths[end - 1] + _TOKENS_PER_PASS, start)
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
