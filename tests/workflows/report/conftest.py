"""One written report that the tests of this folder read, and how to read it."""

from __future__ import annotations

import pytest

from tests.workflows.report import sweeps
from trainables.directory import SweepDirectory
from workflows.report import write_report


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> SweepDirectory:
    """A finished sweep of every policy, with a failed and a stopped trial, and its report. Read only."""
    made = sweeps.make(tmp_path_factory.mktemp("runs") / "reviews")
    write_report(made)
    return made
