"""What the fault suite works on: one tiny sweep, run once without any fault, and a server that a fault may ask for."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.faults import oracle
from tests.faults.disturbed import Disturbed
from tests.faults.results import RECORDS, Results
from tests.mlflow_server import Server
from tests.tiny import tiny_model
from tests.tiny_data import reviews_csv
from tests.workplace import Workplace
from workflows.tracking.store import open_client

EPOCHS = 12
TRIALS = 5
_CONFIG = {
    "name": "calm",
    "data": {"path": "reviews.csv"},
    "search": {
        "space": [
            {"model": "./bert", "freeze": ["full", "top-1", "lora"], "learning_rate": 3e-3},
            {"model": "./bert", "freeze": "head", "learning_rate": [3e-3, 1e-2]},
        ]
    },
    "training": {"num_train_epochs": EPOCHS, "per_device_train_batch_size": 4, "max_length": 32, "bf16": False},
    "baselines": ["majority"],
}


@dataclass(frozen=True)
class Calm:
    """The undisturbed sweep: where it ran, its leaderboard, how long it took, and after how long it had an epoch."""

    workplace: Workplace
    rows: list[dict[str, Any]]
    seconds: float
    restart: float


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    folder = tmp_path_factory.mktemp("faults")
    tiny_model("bert", folder / "bert")
    reviews_csv(folder / "reviews.csv", count=240)
    reviews_csv(folder / "other.csv", count=200)
    (folder / "sweep.yaml").write_text(yaml.safe_dump(_CONFIG))
    workplace = Workplace(folder)
    undisturbed = disturbed(workplace, "calm", 0, Server(folder))
    began = time.monotonic()
    undisturbed.start()
    undisturbed.until(lambda: any(undisturbed.sweep.trials.glob("*/epoch-*.json")))
    restart = time.monotonic() - began
    undisturbed.ends_well()
    rows = oracle.rows(undisturbed.sweep)
    oracle.check(undisturbed.sweep, rows, undisturbed.uri)
    return Calm(workplace, rows, undisturbed.seconds, restart)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that is started when somebody wants it."""
    folder = tmp_path_factory.mktemp("server")
    open_client(f"sqlite:///{folder / 'mlflow.db'}").search_experiments()
    server = Server(folder)
    yield server
    server.stop()


def disturbed(workplace: Workplace, name: str, seed: int | list[int], server: Server) -> Disturbed:
    """A sweep that nothing has happened to yet."""
    return Disturbed(workplace, name, np.random.default_rng(seed), TRIALS, EPOCHS, server)


@pytest.fixture(scope="session")
def results() -> Iterator[Results]:
    """What becomes the table of results, kept in the folder that FAULT_RESULTS names."""
    folder = os.environ.get("FAULT_RESULTS")
    found = Results.read(Path(folder) / RECORDS) if folder else Results()
    yield found
    if folder:
        found.write(Path(folder), TRIALS, EPOCHS)
