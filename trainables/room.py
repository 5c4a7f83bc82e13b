"""Out of memory on the device: the same work again in smaller passes, so that a trial ends and means what it meant.

What is computed does not depend on how a batch is cut into passes, so a batch stays what the user asked for.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
import torch

from trainables.errors import TrialFailure

Found = TypeVar("Found")


class Room:
    """How many texts one trial runs through its model at once, learned from what the device had no memory for.

    `texts_at_once` is None until then: as many as a batch has. It only ever shrinks; each trial has a room of its own.
    """

    def __init__(self, device: torch.device) -> None:
        self.texts_at_once: int | None = None
        self._device = device
        self._running = 1

    def restrict(self, texts_at_once: int | None) -> None:
        """Run no more texts at once than these; None restricts nothing."""
        if texts_at_once is not None:
            self.texts_at_once = min(texts_at_once, self.texts_at_once or texts_at_once)

    def cut(self, passes: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The same text indices in the same order, at most `texts_at_once` in each pass; for work inside `run`."""
        for indices in passes:
            most = self.texts_at_once or len(indices)
            for start in range(0, len(indices), most):
                found = indices[start : start + most]
                self._running = len(found)
                yield found

    def begin(self, texts: int) -> None:
        """Say that so many texts run at once now, for work inside `run` that is not cut."""
        self._running = texts

    def run(self, work: Callable[[], Found], undo: Callable[[], None] = lambda: None) -> Found:
        """What `work` returns, whose passes come from `cut`.

        Where the device is out of memory, `undo` takes back what `work` has done so far, half of the texts that did
        not fit become the most at once, and `work` is called again with the random state that it began with. Raises
        TrialFailure("oom") where a single text does not fit.
        """
        random_state = self._random_state()
        while True:
            try:
                return work()
            except torch.OutOfMemoryError as error:
                self._halve(error)
            # Only here, where nothing refers to the error any more, are the tensors of its frames free.
            undo()
            self._empty_cache()
            self._set_random_state(random_state)

    def _halve(self, error: torch.OutOfMemoryError) -> None:
        line = " ".join(str(error).split())
        if self._running == 1:
            advice = "a smaller max_length, or a policy that trains less, helps"
            message = f"out of memory on the device with one text at a time; {advice} ({line})"
            raise TrialFailure("oom", message) from error
        self.texts_at_once = self._running // 2
        logging.getLogger(__name__).warning(
            "out of memory on the device: batches stay as large, but run %d texts at once and no longer %d (%s)",
            self.texts_at_once,
            self._running,
            line,
        )

    def _empty_cache(self) -> None:
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _random_state(self) -> torch.Tensor:
        """Of the device's generator, which dropout draws from; it is kept on the CPU, so no step waits for it."""
        return torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else torch.get_rng_state()

    def _set_random_state(self, state: torch.Tensor) -> None:
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(state, self._device)
        else:
            torch.set_rng_state(state)
