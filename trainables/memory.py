"""How much memory a trial needed at most: on the device it trained on, started anew for each trial of a warm worker."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from pathlib import Path

import torch

from trainables import garbage

_LIMIT = Path("/sys/fs/cgroup/memory.max")
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
# What proc(5) calls resetting the peak resident set size.
_RESET_PEAK = "5"
# Parameters of glibc's mallopt(3): from which size a block is mapped by itself, and how much may lie free at the top.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 2**31 - 1


def start_measuring(device: torch.device) -> bool:
    """Forget the peak so far; returns whether that is possible here (on a CPU it takes Linux's /proc).

    What earlier trials have freed goes back to the system first, or it would count for this one.
    """
    _give_back()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:
        return False
    return _STATUS.exists()


def keep_freed() -> None:
    """Let glibc keep what is freed, for the next step: by default each gets its large tensors anew, page by page.

    That took a tenth of a training step on a CPU, where all is allocated by malloc. `start_measuring` gives it back.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def peak_bytes(device: torch.device) -> int:
    """The most that was held since `start_measuring`: allocated on the GPU, or resident in this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    found = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())
    return int(found[1]) * 1024 if found else 0


def total_bytes(device: torch.device) -> int:
    """What there is in all: on the GPU, or on this machine, less where a container may have less."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):
        found = min(found, int(_LIMIT.read_text()))
    return found


def _give_back() -> None:
    """What is free here, on the device too: after a trial on long texts more than a gigabyte."""
    garbage.collect_imports()
    garbage.give_back()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
