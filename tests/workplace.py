"""A folder to run whole sweeps in, by the command line as users do."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.files import read_json

ROOT = Path(__file__).parents[1]


@dataclass
class Workplace:
    """A folder with a sweep file, its data and its model, and the commands to use it."""

    folder: Path

    def fleetune(self, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
        return subprocess.run(
            [sys.executable, "-m", "jobs.cli", *arguments],
            cwd=self.folder,
            env=environment | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=280,
            **more,
        )

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "jobs.cli", *arguments],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def leaderboard(self, name: str = "tiny") -> dict[str, Any]:
        return read_json(self.folder / "runs" / name / "leaderboard.json")

    def runs(self, experiment: str = "tiny") -> list[Any]:
        """All MLflow runs of an experiment."""
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.folder}/runs/mlflow.db")
        found = client.get_experiment_by_name(experiment)
        return list(client.search_runs([found.experiment_id])) if found else []
