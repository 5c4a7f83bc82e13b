"""What a process no longer needs goes back, to Python and to the system, where neither would see to it soon.

Python looks for cycles among its oldest objects only once a quarter of them is new. What large libraries import is
half a million objects that stay, so whatever is cyclic and lives a little (a drawing of matplotlib is) heaps up to some
40 MB before it goes. And glibc keeps what is freed, in pieces, for the next to come.

Nothing here asks for the objects themselves: `gc.get_objects` holds on to what another thread is just building, and a
tuple that is being built breaks by it with a SystemError.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc


def collect_all() -> None:
    """Free all that is cyclic and unused; what stays is left out of what Python looks through from now on.

    It walks through all that imports have left, which may take half a second.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    # With nothing to look through: now what counts as old is little again.
    gc.collect()


@functools.cache
def collect_imports() -> None:
    """Let `collect_all` be done with what imports have left; only the first call in a process does anything."""
    collect_all()


def give_back() -> None:
    """Free what is cyclic, unused and newer than the last `collect_all`; what is free goes back to the system."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
