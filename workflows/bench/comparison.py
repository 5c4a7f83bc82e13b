"""All contenders in turn, round after round, and what comes of it: medians, ratios, accuracies, share of the peak."""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from trainables.arguments import Frozen
from trainables.errors import BadInput, nearest
from workflows.bench.contenders import CONTENDERS, Bench, Run
from workflows.bench.hardware import peak_flops, processor
from workflows.bench.work import Work, flops
from workflows.config import SweepConfig
from workflows.manifest import versions


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
    """A whole benchmark. `peak_flops` is of matrix products on all cores of `processor`, by precision."""

    processor: str
    cores: int
    versions: dict[str, str]
    trials: int
    texts: dict[str, int]
    epochs: int
    flops: float
    peak_flops: dict[str, float]
    rows: tuple[Row, ...]

    @property
    def peak(self) -> float:
        """FLOP/s of matrix products in whichever precision is faster here."""
        return max(self.peak_flops.values())

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
    from trainables.training import pick_device

    with tempfile.TemporaryDirectory(prefix="fleetune-bench-") as scratch:
        work = Work.of(config, Path(scratch))
        bench = Bench(config=config, work=work, sampled_steps=sampled_steps, scratch=Path(scratch))
        runs: dict[str, list[Run]] = {name: [] for name in contenders}
        for number in range(1, rounds + 1):
            for name in contenders:
                runs[name].append(CONTENDERS[name](bench))
                tell(f"round {number} of {rounds} · {name}: {runs[name][-1].seconds:.1f} s")
        return Comparison(
            processor=processor(),
            cores=os.cpu_count() or 1,
            versions=versions(),
            trials=len(work.trials),
            texts={split: len(work.texts(split)[0]) for split in ("train", "validation", "test")},
            epochs=work.trials[0].training.num_train_epochs,
            flops=flops(work),
            peak_flops=peak_flops(pick_device()),
            rows=tuple(_row(name, found) for name, found in runs.items()),
        )


def _row(name: str, runs: Sequence[Run]) -> Row:
    return Row(
        contender=name,
        seconds=tuple(run.seconds for run in runs),
        scaled=runs[-1].scaled,
        accuracies=runs[-1].accuracies,
    )
