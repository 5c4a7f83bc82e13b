"""A sweep on its way to be disturbed: the driver's process, its workers, and how far it has got."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from tests.faults.network import Proxy
from tests.mlflow_server import Server
from tests.nodes import Nodes, cluster
from tests.workplace import Workplace
from trainables.directory import SweepDirectory

_PATIENCE = 240.0


@dataclass
class Disturbed:
    """One sweep of a workplace under a name of its own, from the command that begins it to the one that ends it.

    `moments` decides when the fault comes. `environment` is what its commands have beyond the usual. What a fault
    opens for longer goes onto the `stack`, which is closed when the sweep was judged. `spent` is what each of its
    commands took, in seconds.
    """

    workplace: Workplace
    name: str
    moments: np.random.Generator
    trials: int
    epochs: int
    server: Server
    overrides: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    stack: ExitStack = field(default_factory=ExitStack)
    spent: list[float] = field(default_factory=list)
    driver: subprocess.Popen[str] | None = None

    @property
    def seconds(self) -> float:
        """What its commands took together."""
        return sum(self.spent)

    def seconds_beyond(self, restart: float) -> float:
        """The same without the restarts: each command after the first has that many seconds, if it took as long."""
        return self.seconds - sum(min(each, restart) for each in self.spent[1:])

    @property
    def storage(self) -> Path:
        return self.workplace.folder / self.name / "runs"

    @property
    def sweep(self) -> SweepDirectory:
        return SweepDirectory(self.storage / self.name)

    @property
    def uri(self) -> str:
        """Where its runs are."""
        is_proxied = any(override.startswith("tracking.uri=") for override in self.overrides)
        return self.server.uri if is_proxied else f"sqlite:///{self.storage / 'mlflow.db'}"

    def proxy(self) -> Proxy:
        """A proxy before a real MLflow server, which the sweep uses from now on; not there until it is told to come."""
        self.server.start()
        self.server.wait()
        proxy = Proxy(self.server.uri, self.moments)
        self.stack.callback(proxy.go)
        self.overrides.append(f"tracking.uri={proxy.uri}")
        return proxy

    def cluster(self) -> Nodes:
        """Real nodes for one trial each, which the sweep runs on from now on."""
        home = self.workplace.folder / self.name / "home"
        home.mkdir(parents=True, exist_ok=True)
        nodes = self.stack.enter_context(cluster(home))
        names = ("HOME", "RAY_AUTH_MODE", "RAY_ADDRESS")
        self.environment = {name: nodes.environment[name] for name in names}
        return nodes

    def command(self, *more: str) -> list[str]:
        names = [f"name={self.name}", f"storage={self.storage}", f"tracking.register_as={self.name}"]
        values = [*names, *self.overrides, *more]
        return ["sweep", "sweep.yaml", *(part for value in values for part in ("--set", value))]

    def start(self, *more: str, **environment: str) -> subprocess.Popen[str]:
        """Begin or continue the sweep, and come back while it runs."""
        self._began = time.monotonic()
        self.driver = self.workplace.start(*self.command(*more), **(self.environment | environment))
        return self.driver

    def wait(self) -> tuple[int, str]:
        """The exit code and the output of the command that was started."""
        assert self.driver
        output, _ = self.driver.communicate(timeout=_PATIENCE)
        self.spent.append(time.monotonic() - self._began)
        return self.driver.returncode, output

    def run(self, *more: str, **environment: str) -> tuple[int, str]:
        self.start(*more, **environment)
        return self.wait()

    def ends_well(self) -> None:
        """Wait for the command that was started, which must succeed."""
        code, output = self.wait()
        assert code == 0, output

    def finish(self) -> None:
        """The same command again, to its good end."""
        self.start()
        self.ends_well()

    def cut_off(self) -> None:
        """Begin the sweep, and kill its driver somewhere on the way."""
        driver = self.start()
        self.some_way()
        driver.kill()
        self.wait()

    def some_way(self) -> None:
        """Wait for a moment between the first epoch and the last trial's end, whatever it is."""
        least = int(self.moments.integers(1, self.trials * (self.epochs - 1)))
        self.until(lambda: len(list(self.sweep.trials.glob("*/epoch-*.json"))) >= least)
        time.sleep(self.moments.uniform(0, 0.3))

    def until(self, holds: Callable[[], object]) -> None:
        """Wait until something holds; fails where the driver ends before it does."""
        assert self.driver
        deadline = time.monotonic() + _PATIENCE
        while not holds():
            if self.driver.poll() is not None:
                raise AssertionError(f"the sweep ended too early: {self.wait()[1]}")
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def workers(self) -> list[psutil.Process]:
        """The processes that run trials now."""
        return [process for process in self.family() if "ImplicitFunc" in " ".join(_command(process))]

    def a_worker(self) -> psutil.Process:
        """One of them, whichever."""
        self.until(self.workers)
        found = self.workers()
        return found[int(self.moments.integers(len(found)))]

    def family(self) -> list[psutil.Process]:
        """The driver's processes, Ray's among them."""
        assert self.driver
        try:
            return psutil.Process(self.driver.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def gone(processes: list[psutil.Process], seconds: float = 30) -> bool:
    """Whether all processes end in time. Some then wait for a parent that may never ask for them."""
    deadline = time.monotonic() + seconds
    while alive := [process for process in processes if _is_alive(process)]:
        if time.monotonic() > deadline:
            return False
        psutil.wait_procs(alive, timeout=0.2)
    return True


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
