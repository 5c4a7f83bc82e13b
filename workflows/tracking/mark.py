"""What each MLflow store has got of a sweep, kept in the sweep directory as tracking.json.

A mark saves work; it is not needed. Where there is none of a store, runs are found by their tags.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from trainables.directory import SweepDirectory
from trainables.errors import CorruptFile
from trainables.files import read_json, write_json
from trainables.redaction import redact


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
    """What was delivered to one experiment of one store."""

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
        """The stored mark of a store; an empty one where there is none."""
        empty = cls(redact(uri), experiment)
        return next((mark for mark in _stored(sweep) if mark._is_of_the_store_of(empty)), empty)

    def write(self, sweep: SweepDirectory) -> None:
        """Keep the mark beside those of other stores."""
        others = [mark for mark in _stored(sweep) if not mark._is_of_the_store_of(self)]
        write_json(sweep.tracking, {"stores": [dataclasses.asdict(mark) for mark in [*others, self]]})

    def _is_of_the_store_of(self, other: Mark) -> bool:
        return (self.uri, self.experiment) == (other.uri, other.experiment)


def _stored(sweep: SweepDirectory) -> list[Mark]:
    """The marks of all stores; none where the file is missing or damaged: what a store has is found by tags then."""
    try:
        return [
            Mark(**stored | {"runs": {name: RunMark(**run) for name, run in stored["runs"].items()}})
            for stored in read_json(sweep.tracking)["stores"]
        ]
    except (FileNotFoundError, CorruptFile, KeyError, TypeError, AttributeError):
        return []
