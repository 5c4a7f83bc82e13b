"""The middle of an epoch: what of it a state needs beside weights and averages, so that it is gone on with.

Which texts come next follows from the seed and the number of steps; dropout has drawn from torch's generators
meanwhile, so they are kept as they stand.
"""

from __future__ import annotations

import base64

import torch

from trainables.arguments import Frozen
from trainables.records import StepSeries


class Midway(Frozen):
    """An epoch that is under way: its steps so far, the seconds that they took, and torch's generators.

    `random` holds the generator's state for each type of device in use, as base64.
    """

    steps: StepSeries
    train_seconds: float
    random: dict[str, str]

    @classmethod
    def of(cls, steps: StepSeries, train_seconds: float, device: torch.device) -> Midway:
        """Where a trial stands on a device right after the last of `steps`."""
        states = {"cpu": torch.get_rng_state()}
        if device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(device)
        random = {name: base64.b64encode(value.numpy().tobytes()).decode() for name, value in states.items()}
        return cls(steps=steps, train_seconds=train_seconds, random=random)

    @property
    def step(self) -> int:
        """The last optimizer step that was made, counted over the whole trial."""
        return self.steps.step[-1]

    def restore_random(self, device: torch.device) -> None:
        """Put torch's generators where they stood, as far as this device has them."""
        torch.set_rng_state(_state(self.random["cpu"]))
        if device.type == "cuda" and "cuda" in self.random:
            torch.cuda.set_rng_state(_state(self.random["cuda"]), device)


def _state(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
