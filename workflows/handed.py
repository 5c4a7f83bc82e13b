"""What Tune is given, and what it loses: which group is next, which runs alone, which trial is given up.

When memory runs out, what is killed is not always what took it. So every group that was lost then is a suspect: it
runs with nothing beside it before the rest goes on, and one that is lost again has only itself to blame.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from trainables.directory import TrialDirectory
from trainables.files import is_listed
from workflows import attempts
from workflows.endings import Loss, record_lost

Group = list[TrialDirectory]
OnReport = Callable[[dict[str, Any]], None]

_MOST_LOSSES = 3


class Source(Protocol):
    """Where groups come from."""

    def next(self) -> Group | None:
        """The group to run next, or None where there is no more."""

    def ended(self, group: Group) -> None:
        """Take note that every trial of a group has its result."""


class Handed:
    """The groups of a source on their way through Tune, which runs several times where it gives up as a whole.

    `seen` are the trials that were handed out, `addresses` those of the nodes that they were last heard from. What is
    lost is handed out again before anything new; a trial that is lost for the third time is recorded as FAILED, and
    `on_report` is told.
    """

    def __init__(self, source: Source, on_report: OnReport) -> None:
        self.source, self.on_report = source, on_report
        self.open: list[Group] = []
        self.seen: list[TrialDirectory] = []
        self.addresses: dict[str, str] = {}
        self.is_alone = False
        self._again: list[Group] = []
        self._suspects: list[Group] = []
        self._losses: Counter[str] = Counter()
        self._is_dry = False

    def more(self) -> bool:
        """Whether there is a group for another run of Tune; if `is_alone`, it has to run them one at a time."""
        self.is_alone = bool(self._suspects)
        if not self._suspects and not self._again and (group := self._new()):
            self._again.append(group)
        return bool(self._suspects or self._again)

    def next(self) -> Group | None:
        """The group to run next, or None where there is none now; see `may_have_more`."""
        if self.is_alone:
            group = self._suspects.pop(0) if self._suspects else None
        elif self._suspects:
            group = None
        else:
            group = self._again.pop(0) if self._again else self._new()
        if group:
            self.open.append(group)
            self.seen += group
            for trial in group:
                self.addresses.pop(trial.root.name, None)
        return group

    def may_have_more(self) -> bool:
        """Whether this run of Tune may get another group later: one of those that are open may be lost.

        With a suspect about, what is open only ends.
        """
        return bool(self.open) and not self.is_alone and not self._suspects

    def ended(self, group: Group) -> None:
        """Tune is done with a group. Where a trial has no result all the same, it was lost."""
        attempts.end(group)
        if _unfinished(group):
            self.lost(group, Loss())
        else:
            self.open.remove(group)
            self.source.ended(group)

    def lost(self, group: Group, loss: Loss) -> None:
        """The worker of a group has gone before all its trials had their results."""
        attempts.end(group)
        self.open.remove(group)
        for trial in _unfinished(group):
            self._losses[trial.root.name] += 1
            if self._losses[trial.root.name] >= _MOST_LOSSES:
                result = record_lost(trial, loss, _MOST_LOSSES)
                self.on_report({"trial": trial.root.name, **result.outcome()})
        rest = _unfinished(group)
        if not rest:
            self.source.ended(group)
        elif not loss.for_memory:
            self._again.append(rest)
        elif self.is_alone:
            # It has taken too much by itself; its trials one by one may take less.
            self._suspects += [[trial] for trial in rest]
        else:
            self._suspects.append(rest)

    def take_back(self, loss: Loss) -> None:
        """Tune has given up: what it has not ended is lost. Groups on other nodes had no part in it."""
        for group in list(self.open):
            if not _unfinished(group):
                self.ended(group)
        elsewhere = [group for group in self.open if self._is_elsewhere(group, loss.address)]
        if len(elsewhere) == len(self.open):
            elsewhere = []
        for group in elsewhere:
            attempts.end(group)
            self.open.remove(group)
            self._again.append(_unfinished(group))
        for group in list(self.open):
            self.lost(group, loss)

    def _is_elsewhere(self, group: Group, address: str | None) -> bool:
        known = {self.addresses.get(trial.root.name) for trial in group} - {None}
        return address is not None and bool(known) and address not in known

    def _new(self) -> Group | None:
        """The next group of the source, which is not asked again once it has no more."""
        group = None if self._is_dry else self.source.next()
        self._is_dry = group is None
        return group


def _unfinished(group: Group) -> Group:
    """Those without a result. Another node may have written it just now, so the folder is listed."""
    return [trial for trial in group if not is_listed(trial.result)]
