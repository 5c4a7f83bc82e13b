"""Training speed of one process on this machine's device, without Ray: tokens per second and share of the peak.

Models of well-known shapes with random weights, texts of one mean length, full fine-tuning. Each way of running a
batch does the same work; only the texts' own tokens are counted, whatever is padded beside them.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from trainables import attention, forward, trained_rows
from trainables.arguments import Frozen, Precision, TrainingArguments
from trainables.errors import BadInput, nearest
from trainables.graphed import GraphedSteps, Work
from trainables.optimization import Optimization
from trainables.precision import autocast
from trainables.tokens import TokenSplit
from trainables.training import pick_device, train_epoch
from workflows.bench.hardware import peak_flops, processor, wait
from workflows.bench.work import layer_flops

_MAX_LENGTH = 256
_WORDS = 1000
# Rounds in which kernels and allocators warm up, and on a GPU graphs are captured.
_WARM_UPS = {"cpu": 1, "cuda": 3}


@dataclass(frozen=True)
class Shape:
    """The size of an encoder, by the names of transformers' BertConfig."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int


SHAPES: Mapping[str, Shape] = {
    "bert-base": Shape(768, 12, 12, 3072),
    "distilbert": Shape(768, 6, 12, 3072),
    "MiniLM-L6": Shape(384, 6, 12, 1536),
}

Logits = Callable[[nn.Module, TokenSplit, np.ndarray], torch.Tensor]


@dataclass(frozen=True)
class Way:
    """One way to run a batch."""

    precision: Precision
    logits: Logits | None = None
    graphed: bool = False


def _padded_to_the_end(model: nn.Module, split: TokenSplit, indices: np.ndarray) -> torch.Tensor:
    """Every text padded to max_length, as in the tutorials."""
    inputs = split.batch(indices)
    missing = _MAX_LENGTH - inputs["input_ids"].shape[1]
    padded = {name: nn.functional.pad(tensor, (0, missing)) for name, tensor in inputs.items()}
    device = next(model.parameters()).device
    found: torch.Tensor = model(**{name: tensor.to(device) for name, tensor in padded.items()}).logits
    return found


_WAYS: Mapping[str, Way] = {
    f"fp32, padded to {_MAX_LENGTH}": Way("fp32", _padded_to_the_end),
    "bf16, padded to the longest": Way("bf16", forward.padded_logits),
    "fp32, no padding": Way("fp32"),
    "bf16, no padding": Way("bf16"),
}
_ON_GPU: Mapping[str, Way] = {
    "fp32, no padding, graphed": Way("fp32", graphed=True),
    "bf16, no padding, graphed": Way("bf16", graphed=True),
}


def ways(device: torch.device) -> Mapping[str, Way]:
    """The ways that a device has, in the order in which they take turns; the last is what a trial does."""
    return {**_WAYS, **(_ON_GPU if device.type == "cuda" else {})}


class Speed(Frozen):
    """One way on one shape and length: medians of all rounds. `mfu` is the share of the faster peak."""

    shape: str
    tokens_per_text: int
    way: str
    tokens_per_second: float
    mfu: float


class Throughput(Frozen):
    """All figures of one run, with the limit that they stand beside."""

    device: str
    peak_flops: dict[str, float]
    batch_size: int
    speeds: tuple[Speed, ...]


def measure(
    shapes: Sequence[str], lengths: Sequence[int], batch_size: int, steps: int, rounds: int, tell: Callable[[str], None]
) -> Throughput:
    """Time `steps` optimizer steps of every way in turn, `rounds` times. Raises BadInput for an unknown shape."""
    for name in shapes:
        if name not in SHAPES:
            raise BadInput(f"shape {name!r} is unknown; {nearest(name, SHAPES)}")
    device = pick_device()
    peaks = peak_flops(device)
    speeds = []
    for name in shapes:
        for length in lengths:
            speeds += _speeds(name, length, batch_size, steps, rounds, device, max(peaks.values()))
            tell(f"{name} · {length} tokens: {speeds[-1].tokens_per_second:,.0f} tokens/s, {speeds[-1].way}")
    return Throughput(device=processor(), peak_flops=peaks, batch_size=batch_size, speeds=tuple(speeds))


def _speeds(
    name: str, length: int, batch_size: int, steps: int, rounds: int, device: torch.device, peak: float
) -> list[Speed]:
    shape, split = SHAPES[name], _texts(length, batch_size * steps)
    model = _model(shape)
    trainings = {
        label: _Training(copy.deepcopy(model).to(device), split, batch_size, way) for label, way in ways(device).items()
    }
    seconds: dict[str, list[float]] = {label: [] for label in trainings}
    for number in range(_WARM_UPS[device.type] + rounds):
        for label, training in trainings.items():
            took = training.epoch(device)
            if number >= _WARM_UPS[device.type]:
                seconds[label].append(took)
    flops = 3 * shape.num_hidden_layers * layer_flops(shape.hidden_size, shape.intermediate_size, split.lengths)
    tokens = int(split.lengths.sum())
    return [
        Speed(
            shape=name,
            tokens_per_text=length,
            way=way,
            tokens_per_second=tokens / statistics.median(found),
            mfu=flops / statistics.median(found) / peak,
        )
        for way, found in seconds.items()
    ]


class _Training:
    """A model that is trained in one way, epoch after epoch."""

    def __init__(self, model: nn.Module, split: TokenSplit, batch_size: int, way: Way) -> None:
        arguments = TrainingArguments(per_device_train_batch_size=batch_size, num_train_epochs=1)
        if way.logits is None:
            trained_rows.replace(model, split)
        self._model, self._split, self._way = model, split, way
        # So long a schedule never comes to rates of 0.
        self._optimization = Optimization.of(model, arguments, 1000 * len(split) // batch_size)
        work = Work(model, split, self._optimization, way.precision)
        self._graphed = GraphedSteps.of(work) if way.graphed else None

    def epoch(self, device: torch.device) -> float:
        """Train for an epoch; returns its seconds."""
        wait(device)
        began = time.perf_counter()
        if self._way.logits:
            _plain_epoch(self._model, self._split, self._optimization, self._way.logits, self._way.precision)
        else:
            train_epoch(
                self._model,
                self._split,
                self._optimization,
                seed=1,
                epoch=1,
                precision=self._way.precision,
                on_step=lambda _: None,
                graphed=self._graphed,
            )
        wait(device)
        return time.perf_counter() - began


def _plain_epoch(
    model: nn.Module, split: TokenSplit, optimization: Optimization, logits: Logits, precision: Precision
) -> None:
    """Whole batches, one after the other."""
    device = next(model.parameters()).device
    size = optimization.arguments.per_device_train_batch_size
    model.train()
    for start in range(0, len(split), size):
        indices = np.arange(start, start + size)
        with autocast(device, precision):
            found = logits(model, split, indices)
        labels = torch.from_numpy(split.labels[indices]).to(device)
        nn.functional.cross_entropy(found.float(), labels).backward()
        optimization.step()


def _model(shape: Shape) -> Any:
    from transformers import AutoModelForSequenceClassification, BertConfig

    config = BertConfig(
        vocab_size=_WORDS,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.num_hidden_layers,
        num_attention_heads=shape.num_attention_heads,
        intermediate_size=shape.intermediate_size,
    )
    return AutoModelForSequenceClassification.from_config(config, attn_implementation=attention.register())


def _texts(length: int, count: int) -> TokenSplit:
    """Texts of random words, up to half as long again as the mean or half shorter, none beyond the most allowed."""
    generator = np.random.default_rng(0)
    spread = min(length // 2, _MAX_LENGTH - length)
    lengths = generator.integers(length - spread, length + spread + 1, count)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return TokenSplit(
        input_ids=generator.integers(5, _WORDS, offsets[-1]).astype(np.int32),
        offsets=offsets,
        token_type_ids=None,
        labels=generator.integers(0, 2, count),
        rows=np.arange(count),
        tokens_cut=np.zeros(count, np.int64),
        pad_token_id=0,
    )
