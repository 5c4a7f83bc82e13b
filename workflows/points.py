"""Which points of a leaderboard may be held against each other: those of which no seed failed or was stopped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def set_back(rows: Sequence[Row]) -> set[str]:
    """The ids of points that rank after the others, because a seed of theirs failed or was stopped.

    What such a point has left are the seeds that survived, and their mean flatters it. A seed that has not run yet says
    nothing against its point. Where every point has lost a seed, all are alike and none is set back.
    """
    done, lost = _with(rows, "DONE"), with_losses(rows)
    return done & lost if done - lost else set()


def with_losses(rows: Sequence[Row]) -> set[str]:
    """The ids of points of which a seed failed or was stopped."""
    return _with(rows, "FAILED", "STOPPED")


def _with(rows: Sequence[Row], *statuses: str) -> set[str]:
    return {row["point_id"] for row in rows if row["kind"] == "trial" and row["status"] in statuses}
