"""A lost request costs a moment, and is never carried out twice where that would do harm."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import recorded
from tests.artifact_store import artifact_store
from tests.faults.network import Proxy
from tests.mlflow_server import Server
from workflows.tracking.mirror import Mirror
from workflows.tracking.store import open_client
from workflows.tracking.writer import default_uri


class Scripted(Proxy):
    """Requests meet what is scripted, one after the other, and then nothing more."""

    def __init__(self, target: str) -> None:
        super().__init__(target, np.random.default_rng(0))
        self.script: list[str] = []

    def draw(self) -> str | None:
        return self.script.pop(0) if self.script else None


@pytest.fixture
def proxy(server: Server) -> Iterator[Scripted]:
    server.start()
    server.wait()
    between = Scripted(server.uri)
    between.come()
    yield between
    between.go()


@pytest.fixture
def client(proxy: Scripted) -> Any:
    return open_client(proxy.uri)


@pytest.fixture
def experiment(client: Any, request: pytest.FixtureRequest) -> str:
    return str(client.create_experiment(request.node.name))


def test_what_may_be_repeated_is_until_the_store_answers(client: Any, proxy: Scripted, experiment: str) -> None:
    run_id = client.create_run(experiment).info.run_id
    proxy.script = ["500", "429", "cut", "drop"]
    client.log_metric(run_id, "loss", 0.5, timestamp=1, step=1)
    assert proxy.script == []
    proxy.script = ["cut", "500"]
    assert [point.value for point in client.get_metric_history(run_id, "loss")] == [0.5]
    assert proxy.script == []


def test_a_run_whose_creation_nobody_answered_is_not_created_again(
    client: Any, proxy: Scripted, experiment: str
) -> None:
    proxy.script = ["drop"]
    with pytest.raises(Exception, match="failed with exception"):
        client.create_run(experiment)
    assert len(client.search_runs([experiment])) == 1


def test_what_a_store_refuses_is_asked_once(client: Any, experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waits before it asks again"))
    with pytest.raises(Exception, match="not found"):
        client.get_run("0" * 32)


def test_a_store_that_is_not_there_is_asked_once(client: Any, proxy: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy.go()
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waits before it asks again"))
    with pytest.raises(Exception, match="refused"):
        client.get_run("0" * 32)


def test_a_file_that_is_lost_is_sent_again_alone(storage: Path) -> None:
    sweep = recorded.begin(storage / "demo")
    recorded.finish(sweep)
    lost = ["test.json"]
    with artifact_store() as store:
        store.meets = lambda name: 500 if name in lost and not lost.remove(name) else 200
        open_client(default_uri(storage)).create_experiment("demo", store.uri)
        Mirror(sweep, default_uri(storage), "demo").deliver()
        assert lost == []
        assert store.taken.count("validation.json") == store.taken.count("test.json")
