"""What the machine is called, and the most that its matrix products reach: the limit beside each figure."""

from __future__ import annotations

import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.precision import probe

if TYPE_CHECKING:
    import torch

_SIZES = {"cpu": 2048, "cuda": 8192}
_PRODUCTS = 5


def peak_flops(device: torch.device) -> dict[str, float]:
    """FLOP/s of a square matrix product in fp32, on all cores or on the GPU: the best of several.

    And in bf16, where the hardware gains by it: a CPU that has none would take minutes.
    """
    import torch

    size = _SIZES[device.type]
    found: dict[str, float] = {}
    dtypes = {"fp32": torch.float32} | ({"bf16": torch.bfloat16} if probe().is_bf16_worthwhile else {})
    for name, dtype in dtypes.items():
        matrix: Any = torch.randn(size, size, device=device).to(dtype)
        matrix @ matrix
        seconds = []
        for _ in range(_PRODUCTS):
            wait(device)
            began = time.perf_counter()
            matrix @ matrix
            wait(device)
            seconds.append(time.perf_counter() - began)
        found[name] = 2 * size**3 / min(seconds)
    return found


def wait(device: torch.device) -> None:
    """Return when the device has done all that it was given."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def processor() -> str:
    """The GPU's name, else the processor's own, where the system tells it."""
    import torch

    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
