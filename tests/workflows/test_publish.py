"""What reaches MLflow of the checkpoints, and what is said where one does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trainables.directory import SweepDirectory
from trainables.errors import InfrastructureError
from workflows.config import TrackingConfig
from workflows.leaderboard import Leaderboard
from workflows.publish import publish
from workflows.tracking.mark import Mark


def test_where_the_worker_that_exports_is_lost_the_user_reads_that_the_same_command_continues(tmp_path: Path) -> None:
    def lost(*_: object) -> None:
        raise InfrastructureError("a worker was lost while it ran export_checked: no memory")

    row: dict[str, Any] = {"kind": "trial", "status": "DONE", "trial_id": "c15424d5fcf4"}
    board = Leaderboard("accuracy", [row], "c15424d5fcf4")
    mark = Mark("sqlite:///mlflow.db", "reviews")
    # Nothing is handed to the writer before there is something.
    writer: Any = None
    with pytest.raises(
        InfrastructureError, match=r"c15424d5fcf4 was not exported .*no memory.* same command continues"
    ):
        publish(SweepDirectory(tmp_path), board, TrackingConfig(), mark, lost, writer, tmp_path / "exports")
