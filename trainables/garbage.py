"""What a process no longer needs goes back, to Python and to the system, where neither would see to it soon.

Python looks for cycles among its oldest objects only once a quarter of them is new. What large libraries import is
half a million objects that stay, so whatever is cyclic and lives a little (a drawing of matplotlib is) heaps up to some
40 MB before it goes. And glibc keeps what is freed, in pieces, for the next to come.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc

# Many times what a process makes and drops between two looks at its oldest objects.
_MANY = 100_000


def collect() -> None:
    """Free what is cyclic and unused, and have that done often from now on."""
    gc.collect()
    if len(gc.get_objects()) > _MANY:
        # It walked through what imports have left; the next one need not, and what counts as old is little again.
        gc.freeze()
        gc.collect()


def give_back() -> None:
    """The same, and what glibc holds free goes back to the system: a process that drew or trained holds much."""
    collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
