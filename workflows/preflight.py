"""Before anything is dispatched: whether every node can do its part, and whether the storage is large enough.

A sweep that would fail on one of several nodes hours later is refused here, with one line for each thing that is
wrong: the node, what was asked, what was found, and what to do about it.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from trainables.errors import InfrastructureError
from trainables.model_folder import tokenizer_files, weight_files
from workflows import cluster, footprint, node_check
from workflows.cluster import Cluster, Node, Request
from workflows.footprint import Footprint
from workflows.node_check import Asked, Device, Seen
from workflows.prepare import Prepared
from workflows.report import numbers

# A worker process starts in seconds; more is for nodes that must fetch the job's code or read a cold disk first.
_NODE_SECONDS = 60.0

Problems = list[str]


def check(prepared: Prepared, found: Cluster, request: Request) -> None:
    """Refuse a sweep that a node or the storage cannot carry. Starts nothing and leaves nothing behind.

    Nodes that join later are not asked. Raises InfrastructureError with one line for each problem.
    """
    problems = find(prepared, found, request)
    if problems:
        raise InfrastructureError("\n  ".join(["not started, because it could not be finished:", *problems]))


def find(prepared: Prepared, found: Cluster, request: Request) -> Problems:
    """What of nodes and storage could not carry a sweep."""
    nodes = found.able(request)
    # The one node of a Ray that this process has started is this machine, in this environment: what the driver has
    # just read and written, `look` would only read and write again, for the price of one more process.
    problems = [] if found.is_own else _ask_nodes(prepared, nodes)
    if request.gpus and not problems:
        problems += _ask_devices(nodes, request)
    slots = found.slots(request, prepared.config.resources.max_concurrent_trials)
    storage = prepared.sweep.root.parent
    return problems + disk(storage, footprint.estimate(prepared, slots), shutil.disk_usage(storage).free)


def compare(address: str, models: Mapping[str, Mapping[Path, int]], asked: Asked, seen: Seen) -> Problems:
    """What of a node's findings makes trials fail there; `models` are the files of each model with their bytes."""
    problems = []
    storage = asked.probe.parent
    if seen.read_error:
        problems.append(
            f"{address}: storage {storage}: a file that the driver has just written there cannot be read on this node "
            f"({seen.read_error}); storage must be one folder, mounted at the same path on every node"
        )
    if seen.write_error:
        problems.append(f"{address}: storage {storage}: cannot be written to on this node ({seen.write_error})")
    for name, files in models.items():
        wrong = [path for path, size in files.items() if seen.files[path] != size]
        if wrong:
            problems.append(f"{address}: model {name}: {_file(wrong[0], files[wrong[0]], seen)}")
    if not seen.data_committed and not seen.read_error:
        problems.append(f"{address}: data: {asked.data} is not there, or not complete, on this node")
    differing = [
        f"{name} {'is not installed' if there is None else there} (the driver has {here})"
        for name, here in node_check.versions().items()
        if (there := seen.versions.get(name)) != here
    ]
    if differing:
        problems.append(
            f"{address}: {', '.join(differing)}; install the same versions on every node "
            "(pip install -c constraints.txt .)"
        )
    return problems


def compare_device(address: str, found: Device) -> Problems:
    """What keeps torch from using a node's GPU."""
    if found.available:
        return []
    built = f"built for CUDA {found.cuda}" if found.cuda else "built without CUDA"
    return [
        f"{address}: its GPU cannot be used: torch.cuda.is_available() is False there (torch {found.torch}, {built}; "
        f"{found.driver}); mend that, or train on CPUs (--set resources.gpus_per_trial=0)"
    ]


def disk(storage: Path, needed: Footprint, free: int) -> Problems:
    """Whether the storage has room for what the sweep is going to leave there."""
    if free >= needed.needed:
        return []
    parts = {
        "checkpoints": needed.checkpoints,
        "states of the trials that run at once": needed.states,
        "models for MLflow once they have ended": needed.published,
    }
    listed = ", ".join(f"{what} {numbers.size(size)}" for what, size in parts.items() if size)
    return [
        f"storage {storage}: about {numbers.size(needed.needed)} more are needed, and {numbers.size(free)} are free "
        f"({listed}); free some, name another folder (--set storage=…), or run fewer trials at once "
        "(--set resources.max_concurrent_trials=1)"
    ]


def _ask_nodes(prepared: Prepared, nodes: Sequence[Node]) -> Problems:
    models = {spec.name: _files(Path(spec.path)) for spec in prepared.models.values()}
    every = {path: size for files in models.values() for path, size in files.items()}
    with _probe(prepared.sweep.root.parent) as (probe, token):
        asked = Asked(probe, token, every, prepared.data.directory)
        seen, failed = cluster.on_every_node(node_check.look, nodes, asked, timeout=_NODE_SECONDS)
        answers = [node for node in seen if not (seen[node].read_error or seen[node].write_error)]
        unseen = _unseen(asked, {node: seen[node].answer for node in answers})
        if unseen:
            cluster.on_every_node(node_check.forget, unseen, probe, timeout=_NODE_SECONDS)
    problems = _failures(failed) + [
        f"{node.address}: did not answer within {_NODE_SECONDS:g} s; see to that node, or take it out of the cluster"
        for node in nodes
        if node not in seen and node not in failed
    ]
    for node, found in seen.items():
        problems += compare(node.address, models, asked, found)
    return problems + [
        f"{node.address}: storage {probe.parent}: what this node writes there does not appear on the driver within "
        f"{node_check.PATIENCE_SECONDS:g} s; storage must be one folder, mounted at the same path on every node"
        for node in unseen
    ]


def _unseen(asked: Asked, answers: Mapping[Node, str]) -> list[Node]:
    """The nodes whose answers do not appear on the driver."""
    missing = dict(answers)

    def all_there() -> bool:
        for node, name in list(missing.items()):
            if node_check.holds(asked.probe / name, asked.token):
                del missing[node]
        return not missing

    node_check.patiently(all_there)
    return list(missing)


def _ask_devices(nodes: Sequence[Node], request: Request) -> Problems:
    """Ask for as much of a GPU as a trial does, so that Ray shows each process the GPU that a trial would see.

    A node that does not answer here has answered before, so its GPUs are all in use: its trials wait too.
    """
    seen, failed = cluster.on_every_node(node_check.device, nodes, gpus=request.gpus, timeout=_NODE_SECONDS)
    return _failures(failed) + [
        problem for node, found in seen.items() for problem in compare_device(node.address, found)
    ]


def _failures(failed: Mapping[Node, str]) -> Problems:
    return [
        f"{node.address}: cannot be asked ({why}); Fleetune and its dependencies must be installed on every node "
        "(pip install -c constraints.txt .)"
        for node, why in failed.items()
    ]


@contextlib.contextmanager
def _probe(storage: Path) -> Iterator[tuple[Path, str]]:
    """A new folder in the storage, made as those of trials are, with a token in the driver's file; gone at the end."""
    token = secrets.token_hex(16)
    probe = storage / f".preflight.{token[:8]}"
    try:
        probe.mkdir()
        (probe / node_check.DRIVERS).write_text(token)
        yield probe, token
    except OSError as error:
        raise InfrastructureError(f"storage {storage}: cannot be written to: {error.strerror}") from error
    finally:
        shutil.rmtree(probe, ignore_errors=True)


def _files(folder: Path) -> dict[Path, int]:
    """The files that a worker loads of a model, with their bytes."""
    files = [folder / "config.json", *weight_files(folder), *tokenizer_files(folder)]
    return {path: path.stat().st_size for path in files}


def _file(path: Path, size: int, seen: Seen) -> str:
    found = seen.files[path]
    what = f"cannot be read on this node ({found})" if isinstance(found, str) else f"has {found:,} bytes on this node"
    return (
        f"{path} has {size:,} bytes on the driver and {what}; models must be where every node reaches them "
        "(for Hub models, set HF_HOME to such a folder)"
    )
