"""A recorded sweep into real MLflow stores after the fact."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests import recorded
from trainables.directory import SweepDirectory
from trainables.errors import BadInput, InfrastructureError, Interrupted
from workflows import lease
from workflows.sync import Delivered, sync
from workflows.tracking.store import open_client
from workflows.tracking.writer import Writer, default_uri

FIRST, SECOND = recorded.TRIALS


@pytest.fixture
def sweep(tmp_path: Path) -> SweepDirectory:
    """A sweep whose second trial has not ended, and whose driver has."""
    sweep = recorded.begin(tmp_path / "runs" / "demo")
    recorded.epoch(sweep, FIRST, 1)
    recorded.epoch(sweep, FIRST, 2, accuracy=0.75)
    recorded.result(sweep, FIRST, best=2, accuracy=0.75)
    recorded.epoch(sweep, SECOND, 1)
    return sweep


def deliver(sweep: SweepDirectory, uri: str | None = None, **more: Any) -> Delivered:
    return sync(sweep, uri, None, Console(quiet=True), **more)


def points(uri: str) -> dict[str, tuple[str, list[tuple[int, float]]]]:
    """By trial id its run's status and its validation accuracies by step."""
    client = open_client(uri)
    experiment = client.get_experiment_by_name("demo")
    listed = client.search_runs([experiment.experiment_id])
    return {
        run.data.tags.get("fleetune.trial_id", "sweep"): (
            run.info.status,
            [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "validation/accuracy")],
        )
        for run in listed
    }


def test_a_store_gets_what_is_there_and_a_second_time_adds_nothing(sweep: SweepDirectory) -> None:
    uri = default_uri(sweep.root.parent)
    assert deliver(sweep).runs == 2
    found = points(uri)
    assert found["sweep"][0] == "KILLED"
    assert found[FIRST] == ("FINISHED", [(3, 0.5), (6, 0.75)])
    assert found[SECOND] == ("KILLED", [(3, 0.5)])
    deliver(sweep)
    assert points(uri) == found


def test_another_store_gets_everything_and_the_first_one_stays_complete(sweep: SweepDirectory, tmp_path: Path) -> None:
    recorded.finish(sweep)
    own, other = default_uri(sweep.root.parent), f"sqlite:///{tmp_path / 'other.db'}"
    deliver(sweep)
    deliver(sweep, other)
    assert points(other) == points(own)
    assert points(own)["sweep"][0] == "FINISHED"
    assert Writer.is_complete(sweep, own)
    assert Writer.is_complete(sweep, other)


def test_a_server_that_is_away_ends_as_infrastructure_and_loses_nothing(sweep: SweepDirectory) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        away = f"http://user:secret@127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(InfrastructureError, match="has not got everything") as raised:
        deliver(sweep, away, timeout=1.0)
    assert "secret" not in str(raised.value)
    assert deliver(sweep).runs == 2


def test_a_sweep_that_is_being_driven_is_left_to_its_driver(sweep: SweepDirectory) -> None:
    with lease.held(sweep), pytest.raises(InfrastructureError, match="driven by another process"):
        deliver(sweep)
    assert not (sweep.root.parent / "mlflow.db").exists()


def test_a_folder_without_a_sweep_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"manifest\.json"):
        deliver(SweepDirectory(tmp_path))
    assert not list(tmp_path.iterdir())


def test_an_address_that_cannot_be_one_is_bad_input(sweep: SweepDirectory) -> None:
    with pytest.raises(BadInput, match="sqlite"):
        deliver(sweep, "sqlite:relative.db")


def test_a_champion_that_cannot_be_exported_here_holds_up_nothing_else(tmp_path: Path) -> None:
    sweep = recorded.begin(tmp_path / "runs" / "demo", checkpoints="champion")
    recorded.finish(sweep)
    with pytest.raises(BadInput, match="no such checkpoint folder"):
        deliver(sweep)
    found = points(default_uri(sweep.root.parent))
    assert {name: status for name, (status, _) in found.items()} == dict.fromkeys(
        ("sweep", FIRST, SECOND, "majority"), "FINISHED"
    )
    assert found[SECOND][1] == [(3, 0.8), (6, 0.6), (7, 0.8)]


def test_an_interrupt_waits_until_no_run_is_running(sweep: SweepDirectory) -> None:
    uri = default_uri(sweep.root.parent)
    deliver(sweep)
    recorded.epoch(sweep, SECOND, 2)
    interrupted = threading.Event()

    def interrupt() -> None:
        while not any(thread.name == "fleetune-mlflow" for thread in threading.enumerate()):
            time.sleep(0.01)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.5)
        interrupted.set()
        busy.rollback()

    with contextlib.closing(sqlite3.connect(sweep.root.parent / "mlflow.db", check_same_thread=False)) as busy:
        busy.execute("BEGIN EXCLUSIVE")
        threading.Thread(target=interrupt).start()
        with pytest.raises(Interrupted):
            deliver(sweep)
        assert interrupted.is_set()
    assert {status for status, _ in points(uri).values()} == {"KILLED", "FINISHED"}
