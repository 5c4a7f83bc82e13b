"""One bad input as a row of a table, and the folder that it is tried in.

Numbers are those of the list of bad inputs in the project's notes.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs import run as runner
from jobs.screen import Screen
from workflows.prepare import Prepared, prepare
from workflows.sweep_file import load

SWEEP: dict[str, Any] = {
    "name": "tiny",
    "data": {"path": "reviews.csv"},
    "search": {"space": [{"model": "./bert", "learning_rate": [1e-3]}]},
    "training": {"num_train_epochs": 1, "per_device_train_batch_size": 8, "max_length": 32},
    "storage": "runs",
}
Change = Callable[[Path], object]


@dataclass(frozen=True)
class Row:
    """What is done to a sound sweep, and what the message must say of it.

    `sets` are `--set` overrides, `text` replaces the sweep file, `change` gets the folder. `says` are parts of the
    refusal, or with `accepted` of what is printed before the sweep goes on; `never` must not be in it.
    """

    number: str
    what: str
    sets: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    text: str | None = None
    change: Change | None = None
    file: str = "sweep.yaml"
    accepted: bool = False
    never: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.number}: {self.what}"


def made(row: Row, folder: Path) -> None:
    """Lay a row's sweep file and data into a folder with models."""
    (folder / "sweep.yaml").write_text(yaml.safe_dump(SWEEP) if row.text is None else row.text)
    if row.change is not None:
        row.change(folder)


def before_ray(row: Row) -> tuple[Prepared, str]:
    """All that `fleetune sweep` does before it starts Ray, in the current folder, and what it prints."""
    printed = io.StringIO()
    prepared = prepare(load(Path(row.file), row.sets), Screen(file=printed, width=1000))
    prepared.plan("fp32")
    return prepared, printed.getvalue()


def ended(action: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    """The exit code of an action that a command does, and what stands on stderr then."""
    with pytest.raises(SystemExit) as exited:
        runner.run(action)  # type: ignore[arg-type]
    return exited.value.code, capsys.readouterr().err
