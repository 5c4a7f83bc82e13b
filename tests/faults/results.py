"""The table of results of a run of the fault suite: which fault, how often, and what it cost."""

from __future__ import annotations

import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from tests.faults.table import FAULTS

_HEAD = """# What the fault suite found

Written by `make faults`. Each sweep trains {trials} tiny trials of {epochs} epochs, is disturbed at a random moment,
and must end with the leaderboard, the checkpoints and the MLflow runs of the undisturbed one. Time is that of all its
commands together, against the undisturbed sweep.

| | fault | what comes of it | passed | time, median | time, worst |
|---|---|---|---|---|---|
"""


class Results:
    """Collects how the tests of the suite went; `notes` are what else was found, a paragraph each."""

    def __init__(self) -> None:
        self.passed: dict[str, list[bool]] = defaultdict(list)
        self.ratios: dict[str, list[float]] = defaultdict(list)
        self.notes: list[str] = []

    def add(self, number: str, passed: bool, ratio: float) -> None:
        """Take note of one disturbed sweep; `ratio` is its time against the undisturbed one's."""
        self.passed[number].append(passed)
        if passed:
            self.ratios[number].append(ratio)

    def write(self, path: Path, trials: int, epochs: int) -> None:
        lines = [_line(fault, self.passed[fault.number], self.ratios[fault.number]) for fault in FAULTS]
        text = [_HEAD.format(trials=trials, epochs=epochs) + "\n".join(lines), *self.notes]
        path.write_text("\n\n".join(text) + "\n", encoding="utf-8")


def _line(fault: Any, passed: list[bool], ratios: list[float]) -> str:
    count = f"{sum(passed)} of {len(passed)}" if passed else "not run"
    times = [f"{statistics.median(ratios):.1f} ×", f"{max(ratios):.1f} ×"] if ratios else ["", ""]
    return f"| {' | '.join([fault.number, fault.name, fault.expected, count, *times])} |"
