"""Ray itself: join the cluster or start a local one, see what it has, refuse what it can never give."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from trainables.arguments import Precision
from trainables.errors import BadInput, InfrastructureError
from trainables.precision import WORTHWHILE, probe
from workflows.config import ResourcesConfig
from workflows.interrupts import handlers_kept

Result = TypeVar("Result")
_OBJECT_STORE_BYTES = 100 * 2**20
_RETRIES = 2


@dataclass(frozen=True)
class Request:
    """What one group asks of the cluster while it runs."""

    cpus: int
    gpus: float

    def __str__(self) -> str:
        return f"{self.cpus} CPU{'s' if self.cpus != 1 else ''}" + (f" and {self.gpus:g} GPU" if self.gpus else "")


@dataclass(frozen=True)
class Node:
    """The resources of one alive node. `node_id` is Ray's; several nodes may share an address."""

    address: str
    cpus: float
    gpus: float
    node_id: str


@dataclass(frozen=True)
class Cluster:
    """The nodes that are there now. `is_own`: `connect` has started it, with this machine as its only node."""

    nodes: tuple[Node, ...]
    is_own: bool = False

    @property
    def gpus(self) -> float:
        return sum(node.gpus for node in self.nodes)

    def request(self, resources: ResourcesConfig) -> Request:
        """What each group will ask for. Raises InfrastructureError where no node can ever meet it."""
        gpus = resources.gpus_per_trial
        if gpus is None:
            gpus = 1.0 if self.gpus >= 1 else 0.0
        request = Request(resources.cpus_per_trial, gpus)
        if not self.able(request):
            largest = "; ".join(f"{node.address}: {node.cpus:g} CPUs, {node.gpus:g} GPUs" for node in self.nodes)
            raise InfrastructureError(
                f"resources: every trial asks for {request}, and no node has that ({largest}). "
                "Lower resources.cpus_per_trial or resources.gpus_per_trial, or add such a node."
            )
        return request

    def able(self, request: Request) -> list[Node]:
        """The nodes that can run a trial."""
        return [node for node in self.nodes if _fits(node, request)]

    def slots(self, request: Request, limit: int | None) -> int:
        """How many groups can run at once: what fits on the nodes, at most `limit`."""
        fits = sum(_fits(node, request) for node in self.nodes)
        return max(1, min(fits, limit or fits))


def _fits(node: Node, request: Request) -> int:
    by_cpu = int(node.cpus // request.cpus)
    return min(by_cpu, int(node.gpus / request.gpus + 1e-9)) if request.gpus else by_cpu


@contextlib.contextmanager
def connect() -> Iterator[Cluster]:
    """Join the cluster that RAY_ADDRESS names (a submitted job has it set), else start Ray on this machine.

    Leaves Ray as it found it: what was started here is stopped at the end.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray would run a task that its memory monitor kills again for ever.
    os.environ.setdefault("RAY_task_oom_retries", str(_RETRIES))
    import ray

    address = os.environ.get("RAY_ADDRESS")
    try:
        # Ray takes SIGTERM for itself; how a sweep is interrupted is ours.
        with handlers_kept():
            if address:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            else:
                ray.init(
                    address="local",
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    object_store_memory=_OBJECT_STORE_BYTES,
                )
    # Ray raises Exception itself where a node does not start in time.
    except Exception as error:
        raise InfrastructureError(f"Ray at {address or 'this machine'} cannot be reached: {error}") from error
    try:
        yield Cluster(tuple(_nodes(ray.nodes())), is_own=not address)
    finally:
        ray.shutdown()


def _nodes(listed: list[dict]) -> Iterator[Node]:
    for node in listed:
        if node["Alive"]:
            found = node["Resources"]
            yield Node(node["NodeManagerAddress"], found.get("CPU", 0.0), found.get("GPU", 0.0), node["NodeID"])


def choose_precision(wanted: bool | None, request: Request) -> Precision:
    """Resolve `training.bf16` for the whole sweep: as asked, else where a probe on a worker shows a gain.

    Raises BadInput where bf16 was asked for and the device has none.
    """
    if wanted is False:
        return "fp32"
    hardware = run_on_worker(probe, request)
    if wanted and not hardware.bf16_supported:
        raise BadInput(f"training.bf16: true, but {hardware.device} has no bf16; set it to false or null")
    return "bf16" if wanted or hardware.bf16_gain >= WORTHWHILE else "fp32"


def run_on_worker(function: Callable[..., Result], request: Request, *arguments: Any) -> Result:
    """Call a function on a worker with a trial's resources, on the hardware that trials see; its errors come here."""
    import ray

    task = ray.remote(num_cpus=request.cpus, num_gpus=request.gpus, max_retries=_RETRIES)(function)
    try:
        found: Result = ray.get(task.remote(*arguments))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise InfrastructureError(f"a worker was lost while it ran {function.__name__}: {first}") from error
    return found


def on_every_node(
    function: Callable[..., Result], nodes: Sequence[Node], *arguments: Any, gpus: float = 0.0, timeout: float
) -> tuple[dict[Node, Result], dict[Node, str]]:
    """Call a function once on each of some nodes, at the same time: what came back, and what went wrong on others.

    A call takes no CPU, so that a busy node answers too; `gpus` it has to wait for. A node that has not answered
    after `timeout` seconds is in neither; its call is ended.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    calls = {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
        task = ray.remote(num_cpus=0, num_gpus=gpus, max_retries=0, scheduling_strategy=there)(function)
        calls[task.remote(*arguments)] = node
    ended, late = ray.wait(list(calls), num_returns=len(calls), timeout=timeout)
    found: dict[Node, Result] = {}
    failed: dict[Node, str] = {}
    for call in late:
        ray.cancel(call, force=True)
    for call in ended:
        try:
            found[calls[call]] = ray.get(call)
        except ray.exceptions.RayTaskError as error:
            failed[calls[call]] = _last_line(error.cause)
        except ray.exceptions.RayError as error:
            failed[calls[call]] = _last_line(error)
    return found, failed


def _last_line(error: Exception) -> str:
    """What an error says in the end; Ray puts whole tracebacks into messages."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1].strip()}" if lines else type(error).__name__
