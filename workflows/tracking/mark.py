"""What one MLflow store has got of a sweep, kept in the sweep directory as tracking.json.

The mark saves work; it is not needed. Where it is missing or of another store, runs are found by their tags.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from trainables.directory import SweepDirectory
from trainables.errors import CorruptFile
from trainables.files import read_json, write_json
from workflows.redaction import redact


@dataclass
class RunMark:
    """What the run of one trial or baseline has got.

    The timestamps of its epochs, when its result was written, and when its inference cost was measured.
    """

    run_id: str
    status: str = "RUNNING"
    described: bool = False
    epochs: list[int] = field(default_factory=list)
    ended: int | None = None
    artifacts: bool = False
    measured: int | None = None
    published: str | None = None


@dataclass
class Mark:
    """What was delivered to one store; kept in the sweep directory as tracking.json."""

    uri: str
    experiment: str
    experiment_id: str = ""
    parent_run_id: str = ""
    parent_status: str = "RUNNING"
    parent_content: str | None = None
    registered: list[str] | None = None
    runs: dict[str, RunMark] = field(default_factory=dict)

    @classmethod
    def read(cls, sweep: SweepDirectory, uri: str, experiment: str) -> Mark:
        """The stored mark; an empty one where there is none, or one of another store."""
        empty = cls(redact(uri), experiment)
        try:
            stored = read_json(sweep.tracking)
            runs = {name: RunMark(**run) for name, run in stored.pop("runs").items()}
            mark = cls(**stored, runs=runs)
        except (FileNotFoundError, CorruptFile, KeyError, TypeError, AttributeError):
            # Whatever is in the store is found by its tags.
            return empty
        return mark if (mark.uri, mark.experiment) == (empty.uri, empty.experiment) else empty

    def write(self, sweep: SweepDirectory) -> None:
        write_json(sweep.tracking, dataclasses.asdict(self))
