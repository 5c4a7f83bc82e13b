"""What the tests of MLflow share: an empty store to copy, a server, and a PostgreSQL."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import postgres
from tests.mlflow_server import Server
from workflows.tracking.store import open_client


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty SQLite store. Creating one takes seconds, copying one none."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    open_client(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def storage(tmp_path: Path, migrated: Path) -> Path:
    """A storage folder with an empty store, of a name that URIs must escape."""
    folder = tmp_path / "my runs #1"
    folder.mkdir()
    shutil.copy(migrated, folder / "mlflow.db")
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Iterator[Server]:
    """A server that a test starts when it wants it."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(migrated, folder / "mlflow.db")
    server = Server(folder)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The address of a PostgreSQL with MLflow's tables in it. MLflow makes them as it does for a user."""
    found = postgres.binaries()
    if found is None:
        pytest.skip("no PostgreSQL server in /usr/lib/postgresql (apt-get install postgresql)")
    if importlib.util.find_spec("psycopg2") is None:
        pytest.skip("no driver for PostgreSQL (pip install psycopg2-binary)")
    running = postgres.Postgres(found)
    try:
        running.start()
        open_client(running.uri).search_experiments()
        yield running.uri
    finally:
        running.stop()
