"""Every way to do the work, each as a process of its own that is timed from its start to its end."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
from pydantic import Field

from trainables.arguments import Frozen
from trainables.directory import SweepDirectory
from trainables.errors import InfrastructureError
from trainables.files import read_json
from workflows import yaml_file
from workflows.bench.work import Work, trial_name
from workflows.config import SweepConfig

_SAMPLED_SECONDS = 1.0


class Run(Frozen):
    """One run of a contender: seconds of the whole command, best validation accuracy of each trial.

    `tests` has the test accuracy of the same weights, where a contender scores them. `scaled` is true where only some
    of the steps were timed; then there are no accuracies. `peak_bytes` is the most that any one of its processes held
    in memory at once, files that it maps included.
    """

    seconds: float
    accuracies: dict[str, float]
    tests: dict[str, float] = Field(default_factory=dict)
    scaled: bool = False
    peak_bytes: int = 0


class Bench(Frozen):
    """What is given to every contender. `sampled_steps` of each trial are timed for the plain loop; None: all."""

    config: SweepConfig
    work: Work
    sampled_steps: int | None
    scratch: Path


def plain_loop(bench: Bench) -> Run:
    """The loop of the tutorials."""
    extra = [] if bench.sampled_steps is None else [str(bench.sampled_steps)]
    return run_module("workflows.bench.plain_loop", bench, extra)


def hf_trainer(bench: Bench) -> Run:
    """HF Trainer + Ray Tune."""
    return run_module("workflows.bench.hf_trainer", bench, [])


def hf_trainer_tuned(bench: Bench) -> Run:
    """The same with batches of similar length, and bf16 where the hardware gains by it."""
    return run_module("workflows.bench.hf_trainer", bench, ["tuned"])


def fleetune_cold(bench: Bench) -> Run:
    """A sweep with nothing cached: the whole command, records, checkpoints, MLflow and report included."""
    shutil.rmtree(bench.scratch / "node", ignore_errors=True)
    return run_sweep(bench.config, bench.scratch)


def fleetune_warm(bench: Bench) -> Run:
    """The same sweep again under another name, with the frozen layers of the one before."""
    return run_sweep(bench.config, bench.scratch)


# In the order in which they take turns.
CONTENDERS: Mapping[str, Callable[[Bench], Run]] = {
    "plain loop": plain_loop,
    "HF Trainer + Ray Tune": hf_trainer,
    "the same, tuned": hf_trainer_tuned,
    "Fleetune, cold": fleetune_cold,
    "Fleetune, warm": fleetune_warm,
}


def run_sweep(config: SweepConfig, scratch: Path) -> Run:
    """Run `fleetune sweep` without baselines in a storage of its own, with the node's cache in `scratch`."""
    seconds, peak_bytes, rows = sweep_rows(config, scratch)
    accuracies = {
        trial_name(row["model"], row["freeze"], row["learning_rate"]): row["validation/accuracy"] for row in rows
    }
    return Run(seconds=seconds, accuracies=accuracies, peak_bytes=peak_bytes)


def sweep_rows(config: SweepConfig, scratch: Path) -> tuple[float, int, list[dict[str, Any]]]:
    """The same; returns its seconds, the peak memory of its largest process, and the rows of its leaderboard."""
    with tempfile.TemporaryDirectory(dir=scratch) as storage:
        file = Path(storage) / "bench.yaml"
        values = config.model_dump(mode="json", exclude_unset=True) | {"storage": storage, "baselines": []}
        file.write_text(yaml_file.dump(values), encoding="utf-8")
        command = [sys.executable, "-m", "jobs.sweep", str(file)]
        seconds, peak_bytes = _call(command, {"FLEETUNE_CACHE": str(scratch / "node")})
        rows = read_json(SweepDirectory(Path(storage) / config.name).leaderboard_json)["rows"]
    return seconds, peak_bytes, rows


def run_module(name: str, bench: Bench, extra: list[str]) -> Run:
    """Run one of the other contenders, a module of this folder, in a process of its own."""
    given, left = bench.scratch / "work.json", bench.scratch / "outcome.json"
    given.write_text(bench.work.model_dump_json(), encoding="utf-8")
    left.unlink(missing_ok=True)
    seconds, peak_bytes = _call([sys.executable, "-m", name, str(given), str(left), *extra], {})
    run = Run.model_validate_json(left.read_text(encoding="utf-8")).model_copy(update={"peak_bytes": peak_bytes})
    # What was sampled says itself how long the whole would take.
    return run if run.scaled else run.model_copy(update={"seconds": seconds})


def _call(command: list[str], environment: dict[str, str]) -> tuple[float, int]:
    """Run a command to its end; returns its seconds and the peak memory of its largest process."""
    # Offline, and with progress bars off, for all alike.
    quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    began, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(  # noqa: S603
            command, stdout=subprocess.DEVNULL, stderr=told, env=os.environ | quiet | environment
        )
        while process.poll() is None:
            peak = max(peak, _largest(process.pid))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_SAMPLED_SECONDS)
        seconds = time.perf_counter() - began
        if process.returncode:
            told.seek(0)
            raise InfrastructureError(
                f"{' '.join(command[2:])} ended with {process.returncode}:\n{told.read()[-2000:]}"
            )
    return seconds, peak


def _largest(pid: int) -> int:
    """Resident bytes of the largest process below `pid`, itself included."""
    found = [0]
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                found.append(process.memory_info().rss)
    return max(found)
