"""What a worker's hardware can do, asked once per sweep before the trials are planned, and using it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainables.arguments import Precision

if TYPE_CHECKING:
    import torch

_SIZE = 768
# Where a bf16 product is emulated, one takes the best part of a second.
_FEWEST, _ENOUGH, _SECONDS = 2, 5, 0.5
# Below this gain the rounding of bf16 buys nothing worth having.
WORTHWHILE = 1.3
# A gain beyond this is no accident.
_CLEAR = 2.0


@dataclass(frozen=True)
class Hardware:
    """The device that trials will run on, and how much faster a bf16 matrix product is there than an fp32 one."""

    device: str
    bf16_supported: bool
    bf16_gain: float

    @property
    def is_bf16_worthwhile(self) -> bool:
        """Whether bf16 is so much faster that it is chosen where nobody asks for either."""
        return self.bf16_gain >= WORTHWHILE


def probe() -> Hardware:
    """Time fp32 and bf16 matrix products side by side, interleaved, and compare the best of each.

    The best, as other processes only ever make one slower, and for half a second where no gain is clear before: Ray is
    starting on the same cores, and what is decided here may double the time of a sweep.
    """
    import torch

    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    name = torch.cuda.get_device_name() if cuda else "cpu"
    if cuda and not torch.cuda.is_bf16_supported(including_emulation=False):
        return Hardware(name, bf16_supported=False, bf16_gain=0.0)
    single = torch.randn(_SIZE, _SIZE, device=device)
    half = single.to(torch.bfloat16)
    # Libraries set themselves up in their first product, of whatever size.
    single[:8] @ single, half[:8] @ half
    best = [float("inf"), float("inf")]
    gain, number, spent = 0.0, 0, 0.0
    while number < _FEWEST or (spent < _SECONDS and (number < _ENOUGH or gain < _CLEAR)):
        number += 1
        for which, matrix in enumerate((single, half)):
            began = time.perf_counter()
            matrix @ matrix
            if cuda:
                torch.cuda.synchronize()
            took = time.perf_counter() - began
            best[which], spent = min(best[which], took), spent + took
        gain = best[0] / best[1]
    return Hardware(name, bf16_supported=True, bf16_gain=gain)


@contextlib.contextmanager
def autocast(device: torch.device, precision: Precision) -> Iterator[None]:
    """bf16 products with fp32 master weights (Micikevicius et al. 2018), or nothing for fp32."""
    import torch

    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        yield


@contextlib.contextmanager
def without_denormals() -> Iterator[None]:
    """Inside the block, and for this thread, the CPU takes numbers too small for full precision as zero.

    AdamW's moments of what is seldom updated fade away into such numbers, which it handles thirty times as slowly.
    """
    import torch

    before = bool(torch.full((1,), torch.finfo(torch.float32).tiny) / 2 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
