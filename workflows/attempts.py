"""One attempt at a trial writes at a time: whoever was given up leaves the trial alone, however late he comes back.

A worker that was frozen, or cut off, may go on when its trial is another's by now, or has ended. So an attempt reaches
the trial's folder by a link of its own, `.attempts/<name of the attempt>/<trial id>`, and every path that its worker
uses begins with that. The driver takes the link away before it hands the trial out again and when the trial has ended.
From then on the renames that commit, and whatever deletes, fail: the kernel looks the link up within the very call, so
there is no moment between a check and what it was for. (On a network file system other machines may know the link for
a moment longer.)
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from trainables.directory import SweepDirectory, TrialDirectory


def begin(group: Sequence[TrialDirectory]) -> list[Path]:
    """Begin an attempt at the trials of a group, which ends earlier ones; returns the way to each for its worker."""
    end(group)
    attempts = _attempts(group[0])
    attempts.mkdir(exist_ok=True)
    ways = Path(tempfile.mkdtemp(dir=attempts, prefix=""))
    # Workers may run under another user.
    ways.chmod(0o755)
    return [_link(ways / trial.root.name, trial) for trial in group]


def end(group: Sequence[TrialDirectory]) -> None:
    """End whatever attempts there are at the trials of a group."""
    for trial in group:
        for way in _attempts(trial).glob(f"*/{trial.root.name}"):
            way.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                way.parent.rmdir()


def end_all(sweep: SweepDirectory) -> None:
    """End all attempts at trials of a sweep, also those that a driver before this one has begun."""
    shutil.rmtree(sweep.attempts, ignore_errors=True)


def _link(way: Path, trial: TrialDirectory) -> Path:
    """The way to a trial; where the storage has no links, its folder itself."""
    try:
        way.symlink_to(os.path.relpath(trial.root, way.parent), target_is_directory=True)
    except OSError:
        return trial.root
    return way


def _attempts(trial: TrialDirectory) -> Path:
    """Where the attempts at a trial of a sweep are."""
    return SweepDirectory(trial.root.parents[1]).attempts
