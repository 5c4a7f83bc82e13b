"""What no node or storage can carry is refused by the command line before anything is started, with exit 4."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from tests.mounts import with_mounts
from tests.tiny import tiny_model
from tests.tiny_data import reviews_csv
from trainables.files import read_json

ROOT = Path(__file__).parents[2]
RAY = str(Path(sys.executable).parent / "ray")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of one trial; its storage is `runs` beside the sweep file."""
    folder = tmp_path_factory.mktemp("preflight")
    tiny_model("bert", folder / "bert", hidden=128)
    reviews_csv(folder / "reviews.csv")
    config = {
        "name": "tiny",
        "data": {"path": str(folder / "reviews.csv")},
        "search": {"space": [{"model": str(folder / "bert"), "learning_rate": 3e-3}]},
        "training": {"num_train_epochs": 3, "per_device_train_batch_size": 8, "max_length": 32, "bf16": False},
        "storage": str(folder / "runs"),
    }
    (folder / "runs").mkdir()
    (folder / "sweep.yaml").write_text(yaml.safe_dump(config))
    return folder


def environment(**more: str) -> dict[str, str]:
    known = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    return known | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"} | more


def test_a_storage_that_is_too_small_for_the_sweep_is_refused_and_nothing_is_started(folder: Path) -> None:
    # What is in the storage can be seen only from inside the namespace, so the shell lists it after the sweep.
    listing = '"$@"; code=$?; ls -A runs runs/*; exit $code'
    sweep = ["sh", "-c", listing, "sh", sys.executable, "-m", "jobs.cli", "sweep", "sweep.yaml"]
    inside = with_mounts(f"mount -t tmpfs -o size=3m none {folder}/runs", sweep)
    refused = subprocess.run(inside, cwd=folder, env=environment(), capture_output=True, text=True, timeout=200)
    assert refused.returncode == 4, refused.stdout + refused.stderr
    assert f"storage {folder}/runs: about " in refused.stderr
    assert " MB are free" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "trials to run" not in refused.stdout
    listed = refused.stdout.split("runs:\n")[1]
    assert "cache" in listed
    for name in ("manifest.json", "trials", "mlflow.db", ".preflight"):
        assert name not in listed


@dataclass
class Nodes:
    """A Ray cluster of processes on this machine, each with an address, mounts and packages of its own."""

    scratch: Path
    environment: dict[str, str]
    address: str
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def add(
        self, ip: str, *arguments: str, path: Sequence[Path] = (ROOT,), mounts: str | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a node, which joins a head or is one, on whatever ports are free."""
        command = [RAY, "start", "--block", f"--node-ip-address={ip}", "--object-store-memory=80000000", *arguments]
        command += ["--dashboard-agent-listen-port=0", "--dashboard-agent-grpc-port=0"]
        command += ["--metrics-export-port=0", "--runtime-env-agent-port=0"]
        node = subprocess.Popen(
            command if mounts is None else with_mounts(mounts, command),
            env=self.environment | {"PYTHONPATH": os.pathsep.join(map(str, path))},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.running.append(node)
        return node

    def join(self, ip: str, *arguments: str, path: Sequence[Path] = (ROOT,), mounts: str | None = None) -> None:
        """Add a node and wait for it: two that start at once would take the same socket."""
        self.add(ip, f"--address={self.address}", "--num-cpus=1", *arguments, path=path, mounts=mounts)
        self.wait_for(len(self.running))

    def wait_for(self, count: int) -> None:
        """Wait until so many nodes are alive."""
        script = "import ray, sys; ray.init(log_to_driver=False); sys.exit(sum(n['Alive'] for n in ray.nodes()))"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            alive = subprocess.run([sys.executable, "-c", script], env=self.environment, capture_output=True)
            if alive.returncode == count:
                return
            time.sleep(1)
        raise AssertionError(f"{count} nodes did not come up; last: {alive.returncode} {alive.stderr.decode()}")

    def sweep(self, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "jobs.cli", "sweep", "sweep.yaml", *arguments],
            cwd=folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=500,
        )

    def stop(self) -> None:
        for node in reversed(self.running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(node.pid, signal.SIGTERM)
        for node in self.running:
            try:
                node.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(node.pid, signal.SIGKILL)
        shutil.rmtree(self.scratch, ignore_errors=True)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    """A head that cannot run a trial, so that every node of a sweep is one that the test has added."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # A short path: Ray puts sockets there, whose names are limited to 107 bytes.
    scratch = Path(f"/tmp/fleetune-nodes-{port}")  # noqa: S108
    known = environment(HOME=str(tmp_path), RAY_AUTH_MODE="token", RAY_ADDRESS=f"127.0.0.1:{port}")
    subprocess.run([RAY, "get-auth-token", "--generate"], env=known, check=True, capture_output=True)
    nodes = Nodes(scratch, known, f"127.0.0.1:{port}")
    try:
        head = ("--head", "--num-cpus=0", f"--port={port}", f"--temp-dir={scratch}", "--include-dashboard=false")
        nodes.add("127.0.0.1", *head)
        nodes.wait_for(1)
        yield nodes
    finally:
        nodes.stop()


@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_nodes_that_are_unlike_the_driver_are_all_named_before_anything_is_started(
    nodes: Nodes, folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "transformers-4.56.1.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 4.56.1\n")
    (tmp_path / "elsewhere").mkdir()
    nodes.join("127.0.0.2", mounts=f"mount --bind {tmp_path}/elsewhere {folder}/runs")
    nodes.join("127.0.0.3", path=(tmp_path, ROOT))
    refused = nodes.sweep(folder)
    assert refused.returncode == 4, refused.stdout + refused.stderr
    lines = [line.strip() for line in refused.stderr.splitlines() if "127.0.0." in line]
    assert [line.split(":")[0] for line in sorted(lines)] == ["127.0.0.2", "127.0.0.3"], refused.stderr
    assert f"storage {folder}/runs: a file that the driver has just written there cannot be read" in refused.stderr
    assert "127.0.0.3: transformers 4.56.1 (the driver has " in refused.stderr
    assert sorted(path.name for path in (folder / "runs" / "tiny").iterdir()) == ["baselines"]
    assert not list((folder / "runs").glob(".preflight*"))
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_a_gpu_that_torch_cannot_use_is_refused_and_the_same_nodes_train_on_their_cpus(
    nodes: Nodes, folder: Path
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU that torch can use")
    nodes.join("127.0.0.2", "--num-gpus=1")
    refused = nodes.sweep(folder)
    assert refused.returncode == 4, refused.stdout + refused.stderr
    assert "127.0.0.2: its GPU cannot be used: torch.cuda.is_available() is False there (torch " in refused.stderr
    assert not (folder / "runs" / "tiny" / "manifest.json").exists()
    trained = nodes.sweep(folder, "--set", "resources.gpus_per_trial=0", "--set", "training.num_train_epochs=1")
    assert trained.returncode == 0, trained.stdout + trained.stderr
    board = read_json(folder / "runs" / "tiny" / "leaderboard.json")
    assert {row["status"] for row in board["rows"]} == {"DONE"}
