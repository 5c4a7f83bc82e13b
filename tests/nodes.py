"""A real Ray cluster of several nodes on this machine."""

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

import psutil

from tests.mounts import with_mounts

ROOT = Path(__file__).parents[1]
RAY = str(Path(sys.executable).parent / "ray")


def environment(**more: str) -> dict[str, str]:
    known = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    return known | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"} | more


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

    def join(
        self, ip: str, *arguments: str, path: Sequence[Path] = (ROOT,), mounts: str | None = None
    ) -> subprocess.Popen[bytes]:
        """Add a node and wait for it: two that start at once would take the same socket."""
        node = self.add(ip, f"--address={self.address}", "--num-cpus=1", *arguments, path=path, mounts=mounts)
        self.wait_for(len(self.running))
        return node

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

    def processes(self, *nodes: subprocess.Popen[bytes]) -> list[psutil.Process]:
        """All processes of some nodes; those that Ray has begun first."""
        found = []
        for node in nodes:
            with contextlib.suppress(psutil.NoSuchProcess):
                found += [*psutil.Process(node.pid).children(recursive=True), psutil.Process(node.pid)]
        return found

    def kill(self) -> None:
        """End all nodes at once, as a power cut does."""
        for process in self.processes(*self.running):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

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


@contextlib.contextmanager
def cluster(home: Path) -> Iterator[Nodes]:
    """A head that cannot run a trial, so that every node of a sweep is one that the test has added.

    The token by which the nodes know each other is below `home`.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # A short path: Ray puts sockets there, whose names are limited to 107 bytes.
    scratch = Path(f"/tmp/fleetune-nodes-{port}")  # noqa: S108
    known = environment(HOME=str(home), RAY_AUTH_MODE="token", RAY_ADDRESS=f"127.0.0.1:{port}")
    subprocess.run([RAY, "get-auth-token", "--generate"], env=known, check=True, capture_output=True)
    nodes = Nodes(scratch, known, f"127.0.0.1:{port}")
    try:
        head = ("--head", "--num-cpus=0", f"--port={port}", f"--temp-dir={scratch}", "--include-dashboard=false")
        nodes.add("127.0.0.1", *head)
        nodes.wait_for(1)
        yield nodes
    finally:
        nodes.stop()
