"""Processes that see other mounts than the tests do, as another machine would: a mount namespace of their own."""

from __future__ import annotations

import functools
import shlex
import subprocess
from collections.abc import Sequence

import pytest


def with_mounts(script: str, command: Sequence[str]) -> list[str]:
    """A command line that runs `script` (mount …) in a new mount namespace and then becomes `command`.

    Skips the test where this user may not do that.
    """
    return [*_unshare(), "sh", "-ec", f"{script}\nexec {shlex.join(command)}"]


@functools.cache
def _unshare() -> list[str]:
    """Root needs no user namespace; others become root in one where the kernel lets them."""
    for prefix in (["unshare", "-m"], ["unshare", "-rm"]):
        try:
            allowed = subprocess.run([*prefix, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True)
        except FileNotFoundError:
            break
        if allowed.returncode == 0:
            return prefix
    pytest.skip("mounting in a namespace of its own is not allowed here")
