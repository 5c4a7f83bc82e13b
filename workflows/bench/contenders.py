"""Every way to do the work, each as a process of its own that is timed from its start to its end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

from trainables.arguments import Frozen
from trainables.directory import SweepDirectory
from trainables.errors import InfrastructureError
from trainables.files import read_json
from workflows.bench.work import Work, trial_name
from workflows.config import SweepConfig


class Run(Frozen):
    """One run of a contender: seconds of the whole command, best validation accuracy of each trial.

    `scaled` is true where only some of the steps were timed; then there are no accuracies.
    """

    seconds: float
    accuracies: dict[str, float]
    scaled: bool = False


class Bench(Frozen):
    """What is given to every contender. `sampled_steps` of each trial are timed for the plain loop; None: all."""

    config: SweepConfig
    work: Work
    sampled_steps: int | None
    scratch: Path


def plain_loop(bench: Bench) -> Run:
    """The loop of the tutorials."""
    extra = [] if bench.sampled_steps is None else [str(bench.sampled_steps)]
    return _module("workflows.bench.plain_loop", bench, extra)


def hf_trainer(bench: Bench) -> Run:
    """HF Trainer + Ray Tune."""
    return _module("workflows.bench.hf_trainer", bench, [])


def hf_trainer_tuned(bench: Bench) -> Run:
    """The same with bf16 and batches of similar length."""
    return _module("workflows.bench.hf_trainer", bench, ["tuned"])


def fleetune_cold(bench: Bench) -> Run:
    """A sweep with nothing cached: the whole command, records, checkpoints, MLflow and report included."""
    shutil.rmtree(bench.scratch / "node", ignore_errors=True)
    return _sweep(bench)


def fleetune_warm(bench: Bench) -> Run:
    """The same sweep again under another name, with the frozen layers of the one before."""
    return _sweep(bench)


# In the order in which they take turns.
CONTENDERS: Mapping[str, Callable[[Bench], Run]] = {
    "plain loop": plain_loop,
    "HF Trainer + Ray Tune": hf_trainer,
    "the same, tuned": hf_trainer_tuned,
    "Fleetune, cold": fleetune_cold,
    "Fleetune, warm": fleetune_warm,
}


def _module(name: str, bench: Bench, extra: list[str]) -> Run:
    given, left = bench.scratch / "work.json", bench.scratch / "outcome.json"
    given.write_text(bench.work.model_dump_json(), encoding="utf-8")
    left.unlink(missing_ok=True)
    began = time.perf_counter()
    _call([sys.executable, "-m", name, str(given), str(left), *extra], {})
    seconds = time.perf_counter() - began
    run = Run.model_validate_json(left.read_text(encoding="utf-8"))
    # What was sampled says itself how long the whole would take.
    return run if run.scaled else run.model_copy(update={"seconds": seconds})


def _sweep(bench: Bench) -> Run:
    with tempfile.TemporaryDirectory(dir=bench.scratch) as storage:
        file = Path(storage) / "bench.yaml"
        values = bench.config.model_dump(mode="json", exclude_unset=True) | {"storage": storage, "baselines": []}
        file.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        began = time.perf_counter()
        _call([sys.executable, "-m", "jobs.sweep", str(file)], {"FLEETUNE_CACHE": str(bench.scratch / "node")})
        seconds = time.perf_counter() - began
        rows = read_json(SweepDirectory(Path(storage) / bench.config.name).leaderboard_json)["rows"]
    return Run(
        seconds=seconds,
        accuracies={
            trial_name(row["model"], row["freeze"], row["learning_rate"]): row["validation/accuracy"] for row in rows
        },
    )


def _call(command: list[str], environment: dict[str, str]) -> None:
    # Offline, and with progress bars off, for all alike.
    quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    found = subprocess.run(command, capture_output=True, text=True, env=os.environ | quiet | environment, check=False)  # noqa: S603
    if found.returncode:
        raise InfrastructureError(f"{' '.join(command[2:])} ended with {found.returncode}:\n{found.stderr[-2000:]}")
