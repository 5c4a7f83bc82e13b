"""What the tests of MLflow share."""

from __future__ import annotations

from pathlib import Path

import pytest

from workflows.tracking.store import open_client


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty SQLite store. Creating one takes seconds, copying one none."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    open_client(f"sqlite:///{path}").search_experiments()
    return path
