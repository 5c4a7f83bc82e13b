"""What every disturbed sweep must have come to: the same as the undisturbed one."""

from __future__ import annotations

from collections import Counter
from typing import Any

from trainables import checkpoint
from trainables.directory import SweepDirectory
from trainables.files import read_json, verify
from workflows.tracking.store import open_client

# What a clock or a scale measured; everything else in a leaderboard is promised to be the same.
_MEASURED = ("seconds", "train_seconds", "peak_memory_bytes", "latency_p50_ms", "latency_p95_ms", "throughput")


def rows(sweep: SweepDirectory) -> list[dict[str, Any]]:
    """The leaderboard without what was measured."""
    found = read_json(sweep.leaderboard_json)["rows"]
    return [{key: value for key, value in row.items() if key not in _MEASURED} for row in found]


def check(sweep: SweepDirectory, calm: list[dict[str, Any]], uri: str) -> None:
    """Assert that a sweep has ended as the undisturbed one did, whose rows are `calm`, also in MLflow at `uri`."""
    assert rows(sweep) == calm
    for row in calm:
        if row["kind"] == "trial":
            trial = sweep.trial(row["trial_id"])
            verify(trial.checkpoint)
            checkpoint.load(trial.checkpoint)
            assert not trial.state.exists()
    left = [path for path in sweep.root.rglob(".*") if path.parent.name != "cache"]
    assert not left
    assert not sweep.lease.exists()
    _check_store(sweep, calm, uri)


def _check_store(sweep: SweepDirectory, calm: list[dict[str, Any]], uri: str) -> None:
    """One run per row and one for the sweep, all FINISHED, every point once, the champion registered once."""
    client = open_client(uri)
    name = sweep.root.name
    runs = list(client.search_runs([client.get_experiment_by_name(name).experiment_id]))
    assert Counter(run.info.status for run in runs) == {"FINISHED": len(calm) + 1}
    known = [run.data.tags.get("fleetune.trial_id", "sweep") for run in runs]
    assert sorted(known) == sorted([*(row["trial_id"] for row in calm), "sweep"])
    for run in runs:
        for key in run.data.metrics:
            points = Counter(point.step for point in client.get_metric_history(run.info.run_id, key))
            assert set(points.values()) == {1}, f"{key} of {run.info.run_name}: {points}"
    versions = client.search_model_versions(f"name = '{name}'")
    assert [version.tags["fleetune.trial_id"] for version in versions] == [calm[0]["trial_id"]]
    _check_epochs(client, sweep, runs)


def _check_epochs(client: Any, sweep: SweepDirectory, runs: list[Any]) -> None:
    """Every recorded epoch is in MLflow with its figure."""
    for run in runs:
        trial = sweep.trial(run.data.tags.get("fleetune.trial_id", "sweep"))
        for path in trial.epochs():
            record = read_json(path)
            history = client.get_metric_history(run.info.run_id, "validation/accuracy")
            assert (record["step"], record["metrics"]["validation/accuracy"]) in {(p.step, p.value) for p in history}
