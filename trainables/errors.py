"""Every exception that Fleetune raises on purpose, and the exit code each one means.

FleetuneError                 1  a defect in Fleetune (never raised itself)
├── BadInput                  2  config, data, model or argument that cannot work; nothing was started
│   └── UnusableData          2  labelled text that cannot be trained on as it is
├── InfrastructureError       4  storage, cluster, tracking, another live driver; what was done is kept
├── CorruptFile               4  a file of the sweep directory that is not what was written
├── Superseded                –  ends an attempt at a trial that is another's by now; the sweep goes on
├── Interrupted             130  Ctrl-C or SIGTERM; what was done is kept
└── TrialFailure              –  ends one trial as FAILED(reason); the sweep goes on (exit 3 at its end)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Literal

Reason = Literal["oom", "host-oom", "nan", "data", "timeout", "infra", "user"]
# What would fail again is kept; these may go well the next time.
WORTH_ANOTHER_TRY: tuple[Reason, ...] = ("infra", "host-oom", "timeout")


class FleetuneError(Exception):
    """Root of all errors that are shown as one message, without a traceback."""

    exit_code = 1


class BadInput(FleetuneError):
    """The user's config, data, model or argument cannot work as given."""

    exit_code = 2


class UnusableData(BadInput):
    """The labelled text cannot be read, split or trained on as the sweep file says."""


class InfrastructureError(FleetuneError):
    """Something outside Fleetune and outside the user's input is missing or broken."""

    exit_code = 4


class CorruptFile(InfrastructureError):
    """A file whose content does not carry the hash that was written with it."""


class Interrupted(FleetuneError):
    """The user or the cluster asked the sweep to stop."""

    exit_code = 130


class Superseded(InfrastructureError):
    """Another attempt has the trial by now, or the trial has ended: this one must leave it alone."""


class TrialFailure(FleetuneError):
    """Ends one trial; `reason` is one of the words of the leaderboard's FAILED(reason)."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a message for an unknown name: the nearest known one, then all of them.

    >>> nearest("hed", ["full", "head"])
    "did you mean 'head'? Known: full, head"
    """
    names = [str(item) for item in known]
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}Known: {', '.join(names)}"
