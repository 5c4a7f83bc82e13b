"""`ray job submit` against a real Ray head with token authentication: the same sweep file as on a laptop."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.tiny import tiny_model
from tests.tiny_data import reviews_csv
from trainables.files import read_json

ROOT = Path(__file__).parents[2]
RAY = str(Path(sys.executable).parent / "ray")

pytestmark = [pytest.mark.cluster, pytest.mark.quick, pytest.mark.timeout(600)]


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@dataclass
class Head:
    """A Ray head of its own: where it is and the environment that may use it."""

    dashboard: str
    environment: dict[str, str]

    def submit(self, working_dir: Path, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [RAY, "job", "submit", "--address", self.dashboard, "--working-dir", str(working_dir), "--", *command],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=400,
        )


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    home = tmp_path_factory.mktemp("home")
    gcs, dashboard, agent_http, agent_grpc, metrics, runtime_env, client = free_ports(7)
    environment = {key: value for key, value in os.environ.items() if key not in ("RAY_ADDRESS", "PYTHONPATH")}
    environment |= {"HOME": str(home), "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    subprocess.run([RAY, "get-auth-token", "--generate"], env=environment, check=True, capture_output=True)
    # A short path: Ray puts sockets there, whose names are limited to 107 bytes.
    scratch = Path(f"/tmp/fleetune-ray-{gcs}")  # noqa: S108
    head = subprocess.Popen(
        [
            *(RAY, "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={gcs}", "--num-cpus=2"),
            *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--temp-dir={scratch}"),
            *(f"--dashboard-agent-listen-port={agent_http}", f"--dashboard-agent-grpc-port={agent_grpc}"),
            *(f"--metrics-export-port={metrics}", f"--runtime-env-agent-port={runtime_env}"),
            *(f"--ray-client-server-port={client}", "--object-store-memory=100000000"),
        ],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        ready = Head(f"http://127.0.0.1:{dashboard}", environment)
        _wait_until_up(ready, head)
        yield ready
    finally:
        head.terminate()
        try:
            head.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, 9)
        shutil.rmtree(scratch, ignore_errors=True)


def _wait_until_up(head: Head, process: subprocess.Popen[str]) -> None:
    import time

    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        listed = subprocess.run(
            [RAY, "job", "list", "--address", head.dashboard], env=head.environment, capture_output=True, text=True
        )
        if listed.returncode == 0:
            return
        time.sleep(1)
    raise AssertionError(f"the Ray head did not come up: {listed.stdout}{listed.stderr}")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that every node reaches: data, model, sweep file, storage."""
    folder = tmp_path_factory.mktemp("shared")
    tiny_model("bert", folder / "bert")
    reviews_csv(folder / "reviews.csv")
    config = {
        "name": "job",
        "data": {"path": str(folder / "reviews.csv")},
        "search": {"space": [{"model": str(folder / "bert"), "freeze": ["full", "head"], "learning_rate": 3e-3}]},
        "training": {"num_train_epochs": 1, "per_device_train_batch_size": 8, "max_length": 32},
        "storage": str(folder / "runs"),
    }
    (folder / "sweep.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `--working-dir .` ships from a clone: the three folders and the project file."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("jobs", "workflows", "trainables"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def status_of(head: Head, output: str) -> str:
    import re

    (identity,) = set(re.findall(r"raysubmit_\w+", output))
    script = (
        "import sys; from ray.job_submission import JobSubmissionClient as C;"
        "print(C(sys.argv[1]).get_job_status(sys.argv[2]).value)"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, head.dashboard, identity], env=head.environment, capture_output=True, text=True
    )
    return found.stdout.strip()


def test_a_submitted_sweep_succeeds_with_its_leaderboard_and_runs(head: Head, shared: Path, checkout: Path) -> None:
    ended = head.submit(checkout, "python", "-m", "jobs.sweep", str(shared / "sweep.yaml"))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert status_of(head, ended.stdout + ended.stderr) == "SUCCEEDED"
    board = read_json(shared / "runs" / "job" / "leaderboard.json")
    assert [row["status"] for row in board["rows"]] == ["DONE"] * 4
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{shared}/runs/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("job").experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * 5
    log = ended.stdout
    assert "validation/accuracy" in log


def test_a_relative_storage_is_refused_inside_a_job(head: Head, shared: Path, checkout: Path) -> None:
    command = ("python", "-m", "jobs.sweep", str(shared / "sweep.yaml"), "--set", "storage=runs")
    ended = head.submit(checkout, *command)
    assert status_of(head, ended.stdout + ended.stderr) == "FAILED"
    assert "storage: 'runs' is relative" in ended.stdout.replace("\n", " ")


def test_without_the_token_nothing_is_submitted(head: Head, shared: Path, checkout: Path, tmp_path: Path) -> None:
    stranger = Head(head.dashboard, head.environment | {"HOME": str(tmp_path)})
    refused = stranger.submit(checkout, "python", "-c", "print('in')")
    assert refused.returncode != 0
    assert "token" in (refused.stdout + refused.stderr).lower()
    assert json.dumps("in") not in refused.stdout
