"""What a sweep is going to be, before it runs: its trials, what they share, what they need, and how long it takes.

Nothing of a sweep is begun. What is left behind are the prepared data and tokens, which the sweep would make anyway,
and `forecast.json`, which it holds itself against at its end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from trainables.arguments import Precision
from trainables.directory import SweepDirectory
from trainables.errors import InfrastructureError
from trainables.timing import Timing
from workflows import check, cluster, footprint, forecast, phases, preflight, probing
from workflows.cluster import Cluster, Node, Request
from workflows.config import seconds
from workflows.footprint import Footprint
from workflows.forecast import Forecast
from workflows.interrupts import interruptible
from workflows.kinds import Kind
from workflows.prepare import Prepared, prepare
from workflows.probing import Timed
from workflows.quiet import off_screen
from workflows.remaining import Left, Sharing, what_is_left
from workflows.report import numbers
from workflows.search import ALGORITHMS
from workflows.spinner import phase
from workflows.sweep_file import load

_GPUS = Path("/proc/driver/nvidia/gpus")
# Processes that wait for each CPU, in the mean of the last minute, from which on a machine counts as busy.
_BUSY = 1.0
# The share of a machine's memory beyond which Ray kills workers.
_MEMORY_SHARE = 0.95


@dataclass(frozen=True)
class Outlook:
    """All that is known of a sweep before it runs.

    `problems` keep it from starting, or trials from ending. `forecast` is None where nothing was timed.
    """

    sweep: SweepDirectory
    left: Left
    sharing: Sharing
    slots: int
    asks: Request
    disk: Footprint
    free: int
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    forecast: Forecast | None

    @property
    def exit_code(self) -> int:
        """0, or 4 where the sweep could not run as it is."""
        return 4 if self.problems else 0


def look_ahead(path: Path, overrides: Sequence[str], console: Console, *, probe: bool = True) -> Outlook:
    """What the sweep of a file would be; with `probe` its trials are timed on the hardware that they would have.

    Raises BadInput for what the sweep would refuse, InfrastructureError where the cluster is out of reach.
    """
    began = time.perf_counter()
    prepared = check.announce(prepare(load(path, overrides), console), console).with_earlier()
    if not probe:
        return _unprobed(prepared)
    with interruptible():
        return _probed(prepared, time.perf_counter() - began, console)


def _unprobed(prepared: Prepared) -> Outlook:
    """Without Ray: this machine stands for the cluster."""
    resources, here = prepared.config.resources, _this_machine()
    problems: list[str] = []
    request = Request(resources.cpus_per_trial, resources.gpus_per_trial or 0.0)
    try:
        request = here.request(resources)
    except InfrastructureError as error:
        problems.append(str(error))
    # Nothing of a new sweep is finished, so its precision, which is part of a trial's id, does not matter yet.
    left = what_is_left(prepared, prepared.kept_precision or "fp32")
    notes = _notes(prepared, left)
    if os.environ.get("RAY_ADDRESS"):
        problems = []
        notes.append("slots are those of this machine; without --no-probe the cluster itself is asked")
    slots = here.slots(request, resources.max_concurrent_trials)
    outlook = _outlook(prepared, left, request, slots, problems, notes, None)
    disk = preflight.disk(prepared.sweep.root.parent, outlook.disk, outlook.free)
    return dataclasses.replace(outlook, problems=(*outlook.problems, *disk))


def _probed(prepared: Prepared, reading: float, console: Console) -> Outlook:
    began, load_before = time.perf_counter(), os.getloadavg()[0]
    config = prepared.config
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(_scratch(prepared)))
        background = stack.enter_context(ThreadPoolExecutor(1))
        baselines = background.submit(probing.fit_baselines, prepared, scratch)
        background.submit(cluster.import_torch)
        tokens = background.submit(check.with_tokens_if_possible, check.continued(prepared))
        with phase(console, "starting Ray"):
            found = stack.enter_context(cluster.connect())
            stack.enter_context(off_screen(scratch / "ray.log"))
            try:
                request = found.request(config.resources)
            except InfrastructureError as error:
                return _without_place(prepared, found, error)
            problems = preflight.find(prepared, found, request)
            before, (prepared, unread) = prepared, tokens.result()
            check.announce_tokens(before, prepared, unread, console)
            wanted = config.training.bf16
            precision = prepared.kept_precision or cluster.choose_precision(wanted, found, request, console)
            more = baselines.result()
        starting = time.perf_counter() - began + more
        slots = found.slots(request, config.resources.max_concurrent_trials)
        left = what_is_left(prepared, precision)
        # Of this machine only the disk may be too small, which keeps nobody from timing.
        if not left.groups or (problems and not found.is_own):
            return _outlook(prepared, left, request, slots, problems, [], None)
        timed = probing.time_kinds(prepared, left.groups, precision, request, slots, scratch, console)
    predicted = None
    if timed.timings:
        predicted = _forecast(prepared, left, timed, precision, request, slots, {"read": reading, "start": starting})
        predicted.write(prepared.sweep.forecast)
    problems += [*timed.failures, *_too_slow(prepared, timed.timings), *_too_large(found, left, timed.timings, slots)]
    notes = [*_notes(prepared, left), *(_busy(load_before) if found.is_own else ())]
    return _outlook(prepared, left, request, slots, problems, notes, predicted)


def _busy(load_before: float) -> list[str]:
    """Whether others had the CPUs of this machine while trials were timed."""
    cpus = os.cpu_count() or 1
    if load_before < _BUSY * cpus:
        return []
    return [
        f"this machine was busy when its trials were timed (load {load_before:.1f} on {cpus} CPUs); the sweep takes as "
        "long only while it stays so"
    ]


def _scratch(prepared: Prepared) -> contextlib.AbstractContextManager[str]:
    """A folder in the storage, on the disk that trials write to; gone at the end."""
    return tempfile.TemporaryDirectory(dir=prepared.sweep.root.parent, prefix=".probe.")


def _without_place(prepared: Prepared, found: Cluster, error: InfrastructureError) -> Outlook:
    """The plan all the same, where no node can run a trial."""
    resources = prepared.config.resources
    request = Request(resources.cpus_per_trial, resources.gpus_per_trial or 0.0)
    slots = found.slots(request, resources.max_concurrent_trials)
    left = what_is_left(prepared, prepared.kept_precision or "fp32")
    return _outlook(prepared, left, request, slots, [str(error)], [], None)


def _outlook(
    prepared: Prepared,
    left: Left,
    request: Request,
    slots: int,
    problems: Sequence[str],
    notes: Sequence[str],
    predicted: Forecast | None,
) -> Outlook:
    storage = prepared.sweep.root.parent
    return Outlook(
        sweep=prepared.sweep,
        left=left,
        sharing=Sharing.of(left.groups),
        slots=slots,
        asks=request,
        disk=footprint.estimate(prepared, slots),
        free=shutil.disk_usage(storage).free,
        problems=tuple(problems),
        notes=tuple(notes),
        forecast=predicted,
    )


def _forecast(
    prepared: Prepared,
    left: Left,
    timed: Timed,
    precision: Precision,
    request: Request,
    slots: int,
    measured: Mapping[str, float],
) -> Forecast:
    config, rows, timings = prepared.config, prepared.data.rows, timed.timings
    works = forecast.works(left.groups, timings, rows["train"])
    spent = forecast.trial_seconds(left.groups, works)
    # Where nothing idles before the end, nobody has started the process that measures inference.
    late = timed.startup if min(slots, len(left.groups)) == 1 or request.gpus else 0.0
    count = len(left.trials) + left.finished
    return Forecast(
        key=forecast.key(prepared, [] if ALGORITHMS[config.search.algorithm].draws else left.trials, slots),
        created=int(time.time() * 1000),
        slots=slots,
        asks=str(request),
        precision=precision,
        device=next(iter(timings.values())).device,
        phases={
            phases.READING: measured["read"],
            phases.STARTING: measured["start"],
            phases.TRIALS: phases.of_trials(works, slots, timed.startup),
            phases.INFERENCE: phases.of_inference(left.groups, timings, len(config.baselines), rows["test"], late),
            phases.REPORT: phases.of_report(count),
            phases.MLFLOW: phases.of_mlflow(count),
        },
        kinds=forecast.by_kind(left.groups, timings, spent),
        trials=spent,
        drawn_later=left.drawn_later,
        axes=forecast.by_axis(left.trials, spent),
        probed_seconds=timed.seconds,
    )


def _notes(prepared: Prepared, left: Left) -> list[str]:
    notes = []
    if left.drawn_later:
        notes.append(
            f"{left.drawn_later} trials are drawn while the sweep runs; random ones of the same space stand for them"
        )
    if prepared.config.search.scheduler == "asha":
        notes.append("asha stops trials early, so the sweep will take less than this, which counts every epoch")
    return notes


def _too_slow(prepared: Prepared, timings: Mapping[Kind, Timing]) -> list[str]:
    """Kinds of which a single step takes so long that its trials would be taken for hanging."""
    limit = seconds(prepared.config.resources.trial_timeout)
    return [
        f"{kind.model.name} · {kind.freeze}: a step takes {numbers.duration(timing.longest_step)}, and "
        f"resources.trial_timeout ends a trial after {numbers.duration(limit)} without one; raise it"
        for kind, timing in timings.items()
        if timing.longest_step > limit
    ]


def _too_large(found: Cluster, left: Left, timings: Mapping[Kind, Timing], slots: int) -> list[str]:
    """Whether what runs at once has more memory together than a machine has: the largest as many times as can be."""
    on_cpu = [timing for timing in timings.values() if timing.device == "cpu" and timing.peak_bytes]
    if not on_cpu:
        return []
    largest = max(on_cpu, key=lambda timing: timing.peak_bytes or 0)
    at_once = min(len(left.groups), -(-slots // max(1, len(found.nodes))))
    wanted = at_once * (largest.peak_bytes or 0)
    if wanted <= _MEMORY_SHARE * largest.device_bytes:
        return []
    return [
        f"memory: {at_once} trials at once may take {numbers.size(wanted)}, and a machine has "
        f"{numbers.size(largest.device_bytes)}; run fewer at once (--set resources.max_concurrent_trials=…)"
    ]


def _this_machine() -> Cluster:
    """What a Ray that is started here would have, without starting it."""
    gpus = len(list(_GPUS.iterdir())) if _GPUS.is_dir() else 0
    return Cluster((Node("this machine", float(os.cpu_count() or 1), float(gpus), ""),), is_own=True)
