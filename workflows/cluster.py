"""Ray itself: join the cluster or start a local one, see what it has, refuse what it can never give."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from rich.console import Console

from trainables.arguments import Precision
from trainables.errors import BadInput, InfrastructureError
from trainables.precision import probe
from trainables.trainable import prepare_process
from workflows.config import ResourcesConfig
from workflows.interrupts import handlers_kept

Result = TypeVar("Result")
# What a process imports before it can train, or run, a model: six seconds of a core. transformers would import its
# parts one by one, when they are first used.
_MODELS = (
    "trainables.group",
    "transformers.modeling_utils",
    "transformers.generation.utils",
    "transformers.tokenization_utils_tokenizers",
)
_BASELINES = ("sklearn.feature_extraction.text", "sklearn.linear_model")
_OBJECT_STORE_BYTES = 100 * 2**20
_RETRIES = 2
# A gain below this is no noise: such hardware has no bf16 of its own.
_EMULATED = 0.5
# Far longer than it takes to measure or export the largest encoder: who needs more hangs, or gets no worker.
_CALL_SECONDS = 1800
_GLANCE_SECONDS = 0.2
# The name of the actor that `warm_up` starts, in the job's own namespace.
_WARM = "fleetune-warm"


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

    address = _address()
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


def _address() -> str | None:
    """Where the cluster is that the user has named."""
    return os.environ.get("RAY_ADDRESS")


def _nodes(listed: list[dict]) -> Iterator[Node]:
    for node in listed:
        if node["Alive"]:
            found = node["Resources"]
            yield Node(node["NodeManagerAddress"], found.get("CPU", 0.0), found.get("GPU", 0.0), node["NodeID"])


def is_able_now(request: Request) -> bool:
    """Whether a node is there now that can run a trial, busy or not. For use inside `connect`."""
    import ray

    return bool(Cluster(tuple(_nodes(ray.nodes()))).able(request))


def import_torch() -> None:
    """Import what `choose_precision` needs, in a thread beside `connect`, which is mostly waiting.

    (Not ray.tune as well: two threads that import parts of one package may meet half of a module.)
    """
    _import(("torch",))


def choose_precision(wanted: bool | None, found: Cluster, request: Request, console: Console) -> Precision:
    """Resolve `training.bf16` for the whole sweep: as asked, else where a probe of the hardware shows a gain.

    The hardware is that of a worker. Where that is this machine's CPU it is probed here, which saves a process. A
    warning says so where bf16 was asked for and is merely emulated. Raises BadInput where the device has none.
    """
    if wanted is False:
        return "fp32"
    is_here = found.is_own and not found.gpus
    hardware = _here(probe, request.cpus) if is_here else _on_worker(probe, request, (), calls=1)
    if wanted is None:
        return "bf16" if hardware.is_bf16_worthwhile else "fp32"
    if not hardware.bf16_supported:
        raise BadInput(f"training.bf16: true, but {hardware.device} has no bf16; set it to false or null")
    if hardware.bf16_gain < _EMULATED:
        slower = f"{1 / hardware.bf16_gain:.0f} times as long as in fp32 on this hardware ({hardware.device})"
        warning = f"  warning: training.bf16: true, but products in bf16 take {slower}; null would choose fp32"
        console.print(warning, highlight=False, markup=False, soft_wrap=True)
    return "bf16"


def _here(function: Callable[[], Result], threads: int) -> Result:
    """Call a function in this process with as many of torch's threads as a worker has."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return function()
    finally:
        torch.set_num_threads(before)


def run_on_worker(
    function: Callable[..., Result], request: Request, *arguments: Any, given_up: Callable[[], bool] = lambda: False
) -> Result:
    """Call a function on a worker with a trial's resources, on the hardware that trials see; its errors come here.

    A process that has answered one call takes the next one too, with all that it has imported. One that `warm_up` has
    started takes the first; should it die, another one makes up for it. Raises InfrastructureError soon after nobody
    waits for the answer any more, as `given_up` says: no call may be under way when Ray is shut down.
    """
    import ray

    try:
        warm = ray.get_actor(_WARM)
    except ValueError:
        # There is none, or it has died.
        return _on_worker(function, request, arguments, calls=0, given_up=given_up)
    try:
        found: Result = _answer(warm.call.remote(function, arguments), given_up)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError:
        ray.kill(warm)
        return _on_worker(function, request, arguments, calls=0, given_up=given_up)
    return found


def _on_worker(
    function: Callable[..., Result],
    request: Request,
    arguments: Sequence[Any],
    calls: int,
    given_up: Callable[[], bool] = lambda: False,
) -> Result:
    """As `run_on_worker`, in a process that ends after so many calls; after 0 it stays, with what it has of a GPU."""
    import ray

    resources = {"num_cpus": request.cpus, "num_gpus": request.gpus}
    # Left to itself, Ray lets a process with a GPU answer one call only.
    task = ray.remote(**resources, max_calls=calls, max_retries=_RETRIES)(function)
    call = task.remote(*arguments)
    try:
        found: Result = _answer(call, given_up)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.GetTimeoutError as error:
        ray.cancel(call, force=True)
        raise InfrastructureError(f"{function.__name__} got no answer from a worker in {_CALL_SECONDS} s") from error
    except ray.exceptions.RayError as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise InfrastructureError(f"a worker was lost while it ran {function.__name__}: {first}") from error
    return found


def _answer(call: Any, given_up: Callable[[], bool]) -> Any:
    """What a call comes to. Raises GetTimeoutError after `_CALL_SECONDS`, InfrastructureError once it is given up."""
    import ray

    deadline = time.monotonic() + _CALL_SECONDS
    while not given_up():
        if ray.wait([call], timeout=_GLANCE_SECONDS)[0]:
            return ray.get(call)
        if time.monotonic() > deadline:
            raise ray.exceptions.GetTimeoutError
    raise InfrastructureError("nobody waits for the worker's answer any more")


def warm_up(request: Request) -> None:
    """Have a process started that imports what `run_on_worker` is going to need. Returns at once.

    For when trials leave a CPU idle. It takes no resources, so that it never keeps a trial waiting. That is right on
    the CPUs of a Ray that `connect` has started; for a GPU, or among other people's jobs, nothing is started.
    """
    import ray

    if not request.gpus and not _address():
        names = (*_MODELS, *_BASELINES)
        # Detached: it would go with the last handle. It goes with this Ray.
        options = {"name": _WARM, "get_if_exists": True, "lifetime": "detached"}
        ray.remote(num_cpus=0)(_Warm).options(**options).remote(names)


def wait_until_warm(request: Request) -> None:
    """Wait until the process that `run_on_worker` will use next has imported what it is going to need.

    Raises InfrastructureError where there is no such process.
    """
    run_on_worker(_import, request, (*_MODELS, *_BASELINES))


def _import(names: Sequence[str]) -> None:
    for name in names:
        # One that is not there is left for whoever needs it, who can say why.
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


class _Warm:
    """A process that has imported some modules and takes any call."""

    def __init__(self, names: Sequence[str]) -> None:
        _import(names)

    def call(self, function: Callable[..., Result], arguments: Sequence[Any]) -> Result:
        return function(*arguments)


class Slots:
    """Processes that have the resources of trials, one for each slot, and take call after call as those do.

    Use as a context manager: at its end they are gone. Whatever waits for them raises InfrastructureError where none
    of them gives an answer for half an hour.
    """

    def __init__(self, request: Request, count: int) -> None:
        self._request, self._count = request, count
        self._actors: list[Any] = []

    def __enter__(self) -> Self:
        self._actors = [self._start() for _ in range(self._count)]
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        for actor in self._actors:
            ray.kill(actor)

    def everywhere(self, function: Callable[..., object], *arguments: Any) -> list[float]:
        """Call a function on all at once; seconds until each has answered, its own start included where it is new.

        One that fails is left out: whatever is wrong is met again by what runs there.
        """
        import ray

        began, seconds = time.perf_counter(), []
        waiting = [actor.call.remote(function, arguments) for actor in self._actors]
        while waiting:
            done, waiting = _first_ended(waiting, function)
            with contextlib.suppress(ray.exceptions.RayError):
                ray.get(done)
                seconds.append(time.perf_counter() - began)
        return seconds

    def run(
        self, function: Callable[..., Result], calls: Sequence[Sequence[Any]]
    ) -> Iterator[tuple[int, Result | Exception]]:
        """Call a function with each of some arguments, as many at once as there are slots.

        Yields the number of each call with what came back, or with what went wrong, as they end. A process that dies
        is replaced.
        """
        import ray

        left, free, running = list(enumerate(calls)), list(self._actors), dict[Any, tuple[int, Any]]()
        while left or running:
            while left and free:
                (number, arguments), actor = left.pop(0), free.pop()
                running[actor.call.remote(function, tuple(arguments))] = number, actor
            done, _ = _first_ended(list(running), function)
            number, actor = running.pop(done)
            found: Result | Exception
            try:
                found = ray.get(done)
            except ray.exceptions.RayTaskError as error:
                found = error.cause
            except ray.exceptions.RayError as error:
                found = InfrastructureError(_last_line(error))
                self._actors.remove(actor)
                actor = self._start()
                self._actors.append(actor)
            free.append(actor)
            yield number, found

    def _start(self) -> Any:
        import ray

        resources = {"num_cpus": self._request.cpus, "num_gpus": self._request.gpus}
        return ray.remote(**resources)(_Slot).remote(self._request.gpus)


def _first_ended(calls: list[Any], function: Callable[..., object]) -> tuple[Any, list[Any]]:
    """The first of some calls of a function to end, and the others."""
    import ray

    done, rest = ray.wait(calls, timeout=_CALL_SECONDS)
    if not done:
        raise InfrastructureError(f"{function.__name__} got no answer from a worker in {_CALL_SECONDS} s")
    return done[0], rest


class _Slot:
    """A process as a trial has it, which takes any call."""

    def __init__(self, gpus: float) -> None:
        prepare_process(gpus)

    def call(self, function: Callable[..., Result], arguments: Sequence[Any]) -> Result:
        return function(*arguments)


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
