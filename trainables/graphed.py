"""Optimizer steps on a GPU as CUDA graphs: the hundreds of kernels of a step are launched as one.

A step on short texts is over on a GPU before Python has launched the next one, so launching is what takes the time.
Here a whole step (forward, backward, clipping, AdamW) is captured once for each shape of a row and replayed from then
on (Nguyen et al. 2021, "Accelerating PyTorch with CUDA Graphs"). Rows without padding are of ever other lengths, so
they are filled up to a few; what fills a row is a text of its own that nothing reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from trainables import attention, forward, models
from trainables.arguments import Precision
from trainables.attention import Texts
from trainables.optimization import Optimization
from trainables.precision import autocast
from trainables.products import Copies
from trainables.tokens import TokenSplit

# Rows are filled up to a multiple of this; longer ones by at most an eighth of their length.
_MULTIPLE, _PARTS = 64, 8


@dataclass(frozen=True)
class Work:
    """What the steps of a trial work on."""

    model: nn.Module
    split: TokenSplit
    optimization: Optimization
    precision: Precision

    @property
    def texts(self) -> int:
        """Texts of a whole batch."""
        return self.optimization.arguments.per_device_train_batch_size

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return int(self.split.lengths.max())

    @property
    def is_alike(self) -> bool:
        """Whether its steps are the same kernels again and again: rows without padding, one to a step."""
        return (
            models.is_padding_free(self.model)
            and models.pooling(self.model) == "first"
            and self.optimization.arguments.gradient_accumulation_steps == 1
            and not (self.split.hidden and self.split.hidden.first_only)
        )

    def attends_at_once(self, capability: tuple[int, int]) -> bool:
        """Whether attention is a kernel that reads where texts lie from the device, on a GPU of this capability.

        Anything else goes by lengths on the host, of which a graph would keep those of the batch it was captured with.
        """
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        windowed = models.has_window(self.model)
        return attention.kernel(models.head_size(self.model), dtype, capability, windowed=windowed) is not None


class GraphedSteps:
    """The steps of one trial, each shape of row captured the second time that it comes.

    The first time, a step runs as it is, which makes what a graph must not make: the optimizer's averages, the
    libraries' workspaces. It draws the same random numbers as the graph will, so dropout does not depend on which of
    the two a step was. On a CPU all steps run as they are: that is how the rest of this is tested there.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._copies = Copies(work.model) if work.precision == "bf16" else None
        self._steps: dict[int, _Step] = {}
        self._memory: Any = None

    @classmethod
    def of(cls, work: Work) -> GraphedSteps | None:
        """For a trial on a GPU whose steps are alike and attend to all texts at once; None for any other."""
        device = next(work.model.parameters()).device
        if device.type != "cuda" or not work.is_alike:
            return None
        return cls(work) if work.attends_at_once(torch.cuda.get_device_capability(device)) else None

    def takes(self, indices: np.ndarray) -> bool:
        """Whether some texts are a whole batch, which is what `run` is for."""
        return len(indices) == self._work.texts

    def run(self, indices: np.ndarray) -> torch.Tensor:
        """Clipping and AdamW's update included, one step on a whole batch; returns the mean loss of its texts.

        That tensor is written over by later steps. What follows a step on the host, `Optimization.advance`, is left
        to the caller. Raises torch.OutOfMemoryError where the device has no memory for it; nothing is updated then.
        """
        tokens = filled(int(self._work.split.lengths[indices].sum()))
        if tokens not in self._steps:
            self._steps[tokens] = _Step(self._work, self._copies, tokens)
        step = self._steps[tokens]
        step.fill(indices)
        self._work.optimization.place_rates()
        if step.graph is not None:
            step.graph.replay()
        elif step.is_new or step.loss.device.type == "cpu":
            step.run()
        else:
            self._memory = self._memory or torch.cuda.graph_pool_handle()
            step.capture(self._memory)
        return step.loss

    def drop(self) -> None:
        """Free what graphs hold of the device's memory."""
        self._steps.clear()
        self._memory = None


class _Step:
    """One step on rows of one shape. Its tensors keep their place in memory; `fill` gives them other values."""

    def __init__(self, work: Work, copies: Copies | None, tokens: int) -> None:
        self._work, self._copies, self._tokens = work, copies, tokens
        self.graph: torch.cuda.CUDAGraph | None = None
        self.is_new = True
        device = next(work.model.parameters()).device
        names = ["input_ids", "position_ids"] + ["token_type_ids"] * (work.split.token_type_ids is not None)
        sizes = [tokens] * len(names) + [work.texts, work.texts + 2, work.texts]
        # One buffer for all numbers of a step, so that they travel in one copy.
        self._numbers = torch.zeros(sum(sizes), dtype=torch.int64, device=device)
        *inputs, starts, self._ends, self._labels = self._numbers.split(sizes)
        self._inputs = dict(zip(names, inputs, strict=True))
        boundaries = torch.zeros(work.texts + 2, dtype=torch.int32, device=device)
        self._texts = Texts.in_place(starts, boundaries, max(work.longest, _multiple(tokens)))
        self._states: torch.Tensor | None = None
        if work.split.hidden:
            self._states = torch.zeros(tokens, work.split.hidden.states.shape[1], device=device)
        self.loss = torch.zeros((), device=device)

    def fill(self, indices: np.ndarray) -> None:
        """Take these texts, without waiting for the device."""
        split = self._work.split
        lengths = split.lengths[indices]
        unused = self._tokens - int(lengths.sum())
        lie = [*lengths.tolist(), unused]
        ends = np.concatenate([[0], np.cumsum(lie)])
        arrays = forward.row(self._work.model, split, indices, unused)
        numbers = [*(arrays[name] for name in self._inputs), ends[: len(indices)], ends, split.labels[indices]]
        self._place(self._numbers, torch.from_numpy(np.concatenate(numbers)))
        if self._states is not None and split.hidden:
            self._place(self._states, forward.kept_row(split, split.hidden, indices, unused))
        self._texts.lie(lie)

    def run(self) -> None:
        """Launch every kernel by itself."""
        self._launch()
        self.is_new = False

    def capture(self, memory: Any) -> None:
        """Make a graph of the step, and run it."""
        graph = torch.cuda.CUDAGraph()
        with _captured(graph, memory):
            self._launch()
        graph.replay()
        self.graph = graph

    def _launch(self) -> None:
        work = self._work
        self._texts.boundaries.copy_(self._ends)
        with autocast(self.loss.device, work.precision), self._copies.used() if self._copies else nullcontext():
            logits = self._logits()
        loss = nn.functional.cross_entropy(logits.float(), self._labels, reduction="sum") / work.texts
        loss.backward()
        self.loss.copy_(loss.detach())
        work.optimization.update()
        work.optimization.drop_gradients()

    def _logits(self) -> torch.Tensor:
        work = self._work
        if self._states is None or work.split.hidden is None:
            return forward.row_logits(work.model, self._inputs, self._texts)
        with forward.resumed(work.model, work.split.hidden.boundary, self._states.unsqueeze(0)):
            return forward.row_logits(work.model, self._inputs, self._texts)

    def _place(self, place: torch.Tensor, values: torch.Tensor) -> None:
        # Pinned memory is given back when the copy is over, so nothing is written over that is still to be read.
        place.copy_(values.pin_memory() if place.is_cuda else values, non_blocking=True)


def filled(tokens: int) -> int:
    """Tokens of the row that so many tokens are put into."""
    multiple = _multiple(tokens)
    return -(-tokens // multiple) * multiple


def _multiple(tokens: int) -> int:
    return max(_MULTIPLE, 2 ** (tokens.bit_length() - 1) // _PARTS)


@contextmanager
def _captured(graph: torch.cuda.CUDAGraph, memory: Any) -> Iterator[None]:
    """Inside the block kernels go into a graph instead of running.

    As `torch.cuda.graph` does it, but that collects garbage and gives all free memory back each time, which takes
    longer than the rest.
    """
    stream, current = torch.cuda.Stream(), torch.cuda.current_stream()
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        # Other threads may wait for the device meanwhile, as those that write checkpoints do.
        graph.capture_begin(pool=memory, capture_error_mode="thread_local")
        try:
            yield
        except BaseException:
            # What a capture says that was broken off is no news beside what broke it off.
            with suppress(RuntimeError):
                graph.capture_end()
            raise
        graph.capture_end()
    current.wait_stream(stream)
