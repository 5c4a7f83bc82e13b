"""What the fault suite found: a record per disturbed sweep, kept from run to run, and the table made of them."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.faults.table import ELSEWHERE, FAULTS, Fault

RECORDS, TABLE = "results.json", "RESULTS.md"
_HEAD = """# What the fault suite found

Written by `make faults` from `{records}`, which keeps the newest record of every round, with the commit that it was run
on: {commits}. Each sweep trains {trials} tiny trials of {epochs} epochs, is disturbed at a random moment (another one
each round), and must end with the leaderboard, the checkpoints and the MLflow runs of the undisturbed one. Time is that
of all its commands together, against the undisturbed sweep; the last two columns leave out restarts, which count for
what the undisturbed sweep took from its command to its first epoch.

| | fault | what comes of it | passed | time, median | worst | without restarts, median | worst |
|---|---|---|---|---|---|---|---|
"""
_ELSEWHERE_HEAD = """## Not in this suite

| | fault | where it is tested, or why it is not |
|---|---|---|
"""


@dataclass(frozen=True)
class Record:
    """One disturbed sweep: whether it ended as it must, and its time against the undisturbed one's.

    `beyond` leaves out restarts; records of old have none.
    """

    fault: str
    round: int
    passed: bool
    ratio: float
    commit: str
    beyond: float | None = None


@dataclass(frozen=True)
class Note:
    """What a test found that is no round of a fault, as a sentence."""

    subject: str
    text: str
    commit: str


@dataclass
class Results:
    """Records by fault and round, and notes by subject; a newer one takes the place of the one before."""

    records: dict[tuple[str, int], Record] = field(default_factory=dict)
    notes: dict[str, Note] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Results:
        """What earlier runs left; nothing where there is no file."""
        if not path.exists():
            return cls()
        left = json.loads(path.read_text(encoding="utf-8"))
        records = [Record(**each) for each in left["records"]]
        notes = [Note(**each) for each in left["notes"]]
        return cls({(each.fault, each.round): each for each in records}, {each.subject: each for each in notes})

    def add(self, fault: str, number: int, passed: bool, ratio: float, beyond: float) -> None:
        """Take note of one round of a fault."""
        self.records[fault, number] = Record(fault, number, passed, round(ratio, 2), commit(), round(beyond, 2))

    def say(self, subject: str, text: str) -> None:
        """Take note of what else was found."""
        self.notes[subject] = Note(subject, text, commit())

    def passed(self, fault: str, number: int) -> bool:
        """Whether the newest record of a round says that it went well."""
        found = self.records.get((fault, number))
        return found is not None and found.passed

    def write(self, folder: Path, trials: int, epochs: int) -> None:
        """Write the records, and the table that is made of them."""
        ordered = [self.records[key] for key in sorted(self.records)]
        notes = [self.notes[subject] for subject in sorted(self.notes)]
        left = {"records": [asdict(each) for each in ordered], "notes": [asdict(each) for each in notes]}
        (folder / RECORDS).write_text(json.dumps(left, indent=1) + "\n", encoding="utf-8")
        commits = ", ".join(sorted({each.commit for each in [*ordered, *notes]}))
        head = _HEAD.format(records=RECORDS, commits=commits, trials=trials, epochs=epochs)
        lines = [_line(fault, [each for each in ordered if each.fault == fault.number]) for fault in FAULTS]
        elsewhere = [f"| {' | '.join(line)} |" for line in ELSEWHERE]
        text = [head + "\n".join(lines), *(each.text for each in notes), _ELSEWHERE_HEAD + "\n".join(elsewhere)]
        (folder / TABLE).write_text("\n\n".join(text) + "\n", encoding="utf-8")


def _line(fault: Fault, records: Sequence[Record]) -> str:
    passed = [each for each in records if each.passed]
    count = f"{len(passed)} of {len(records)}" if records else "not run"
    times = _times([each.ratio for each in passed])
    beyond = _times([each.beyond for each in passed if each.beyond is not None])
    return f"| {' | '.join([fault.number, fault.name, fault.expected, count, *times, *beyond])} |"


def _times(ratios: Sequence[float]) -> list[str]:
    return [f"{statistics.median(ratios):.1f} ×", f"{max(ratios):.1f} ×"] if ratios else ["", ""]


def commit() -> str:
    """The commit of this checkout, with a + where something is not committed; ? where git cannot say."""
    here = Path(__file__).parent
    head = _git(here, "rev-parse", "--short=7", "HEAD")
    changed = _git(here, "status", "--porcelain", "--untracked-files=no", "--", ":/", ":!results.json", ":!RESULTS.md")
    return "?" if head is None else f"{head}{'+' if changed else ''}"


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        return subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
