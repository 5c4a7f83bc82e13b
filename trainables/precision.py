"""What a worker's hardware can do, asked once per sweep before the trials are planned, and using it."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainables.arguments import Precision

if TYPE_CHECKING:
    import torch

_SIZE = 768
_REPEATS = 5
# Below this gain the rounding of bf16 buys nothing worth having.
WORTHWHILE = 1.3


@dataclass(frozen=True)
class Hardware:
    """The device that trials will run on, and how much faster a bf16 matrix product is there than an fp32 one."""

    device: str
    bf16_supported: bool
    bf16_gain: float


def probe() -> Hardware:
    """Time fp32 and bf16 matrix products side by side, interleaved, and compare their medians."""
    import torch

    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    name = torch.cuda.get_device_name() if cuda else "cpu"
    if cuda and not torch.cuda.is_bf16_supported(including_emulation=False):
        return Hardware(name, bf16_supported=False, bf16_gain=0.0)
    single = torch.randn(_SIZE, _SIZE, device=device)
    half = single.to(torch.bfloat16)
    single @ single, half @ half
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(_REPEATS):
        for matrix, found in zip((single, half), times, strict=True):
            began = time.perf_counter()
            matrix @ matrix
            if cuda:
                torch.cuda.synchronize()
            found.append(time.perf_counter() - began)
    gain = statistics.median(times[0]) / statistics.median(times[1])
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
