"""All contenders in turn, round after round, and what comes of it: medians, ratios, accuracies, share of the peak."""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trainables.arguments import Frozen
from trainables.errors import BadInput, nearest
from workflows.bench.contenders import CONTENDERS, Bench, Run
from workflows.bench.work import Work, flops
from workflows.config import SweepConfig
from workflows.manifest import versions

_SIZE = 2048
_PRODUCTS = 5


class Row(Frozen):
    """One contender over all rounds. `best_accuracy` is on validation, of its best trial, and its trial's name."""

    contender: str
    seconds: tuple[float, ...]
    scaled: bool
    accuracies: dict[str, float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def best(self) -> tuple[str, float] | None:
        """The best trial and its validation accuracy; None where the contender was only sampled."""
        return max(self.accuracies.items(), key=lambda item: item[1]) if self.accuracies else None


class Comparison(Frozen):
    """A whole benchmark. `peak_flops` is of fp32 and bf16 matrix products on all cores of `processor`."""

    processor: str
    cores: int
    versions: dict[str, str]
    trials: int
    texts: dict[str, int]
    epochs: int
    flops: float
    peak_flops: dict[str, float]
    rows: tuple[Row, ...]

    def ratio(self, row: Row) -> float:
        """How many times as long a contender takes as Fleetune with nothing cached (or whoever stands last)."""
        ours = [other for other in self.rows if other.contender == "Fleetune, cold"] or list(self.rows[-1:])
        return row.median / ours[0].median


def compare(
    config: SweepConfig, contenders: Sequence[str], rounds: int, sampled_steps: int | None, tell: Callable[[str], None]
) -> Comparison:
    """Run every contender `rounds` times, in turn. Raises BadInput for an unknown contender or no grid."""
    for name in contenders:
        if name not in CONTENDERS:
            raise BadInput(f"contender {name!r} is unknown; {nearest(name, CONTENDERS)}")
    with tempfile.TemporaryDirectory(prefix="fleetune-bench-") as scratch:
        work = Work.of(config, Path(scratch))
        bench = Bench(config=config, work=work, sampled_steps=sampled_steps, scratch=Path(scratch))
        runs: dict[str, list[Run]] = {name: [] for name in contenders}
        for number in range(1, rounds + 1):
            for name in contenders:
                runs[name].append(CONTENDERS[name](bench))
                tell(f"round {number} of {rounds} · {name}: {runs[name][-1].seconds:.1f} s")
        return Comparison(
            processor=_processor(),
            cores=os.cpu_count() or 1,
            versions=versions(),
            trials=len(work.trials),
            texts={split: len(work.texts(split)[0]) for split in ("train", "validation", "test")},
            epochs=work.trials[0].training.num_train_epochs,
            flops=flops(work),
            peak_flops=_peak(),
            rows=tuple(_row(name, found) for name, found in runs.items()),
        )


def _row(name: str, runs: Sequence[Run]) -> Row:
    return Row(
        contender=name,
        seconds=tuple(run.seconds for run in runs),
        scaled=runs[-1].scaled,
        accuracies=runs[-1].accuracies,
    )


def _peak() -> dict[str, float]:
    """FLOP/s of a square matrix product on all cores, the best of several."""
    import torch

    found: dict[str, float] = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        matrix: Any = torch.randn(_SIZE, _SIZE).to(dtype)
        matrix @ matrix
        seconds = []
        for _ in range(_PRODUCTS):
            began = time.perf_counter()
            matrix @ matrix
            seconds.append(time.perf_counter() - began)
        found[name] = 2 * _SIZE**3 / min(seconds)
    return found


def _processor() -> str:
    """The processor's own name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
