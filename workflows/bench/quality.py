"""Whether speed has cost quality: the same point by Fleetune and by the plain loop, with several seeds each."""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from trainables.arguments import Frozen
from trainables.errors import BadInput
from workflows.bench.contenders import Bench, run_module, sweep_rows
from workflows.bench.work import Work, trial_name
from workflows.config import SweepConfig


class Quality(Frozen):
    """Test accuracies of one point, by seed. Each side draws its head, its batches and its dropout in its own way."""

    point: str
    texts: dict[str, int]
    seeds: tuple[int, ...]
    ours: tuple[float, ...]
    plain: tuple[float, ...]

    @property
    def difference(self) -> float:
        """Mean of ours less mean of the plain loop's."""
        return statistics.fmean(self.ours) - statistics.fmean(self.plain)

    @property
    def standard_error(self) -> float:
        """Of the difference, from the spread of the seeds (Welch)."""
        return math.sqrt(sum(statistics.variance(found) / len(found) for found in (self.ours, self.plain)))


def compare_quality(config: SweepConfig, tell: Callable[[str], None]) -> list[Quality]:
    """Run every point of a sweep file's grid with all its seeds, both ways. Raises BadInput for less than two seeds.

    The plain loop pads to the longest text of a batch: what is padded changes nothing but its time.
    """
    seeds = tuple(dict.fromkeys(config.search.seeds))
    if len(seeds) < 2:
        raise BadInput(f"search.seeds: {list(seeds)}; a spread needs at least two")
    with tempfile.TemporaryDirectory(prefix="fleetune-quality-") as scratch:
        work = Work.of(config, Path(scratch))
        texts = {split: len(work.texts(split)[0]) for split in ("train", "validation", "test")}
        plain: dict[int, dict[str, float]] = {}
        for seed in seeds:
            bench = Bench(
                config=config,
                work=work.model_copy(update={"seed": seed}),
                sampled_steps=None,
                scratch=Path(scratch),
            )
            run = run_module("workflows.bench.plain_loop", bench, ["longest"])
            plain[seed] = run.tests
            tell(f"plain loop · seed {seed}: {run.seconds:.0f} s")
        seconds, _, rows = sweep_rows(config, Path(scratch))
        tell(f"Fleetune · {len(seeds)} seeds: {seconds:.0f} s")
    found = []
    for trial in work.trials:
        ours = {
            row["seed"]: row["test/accuracy"]
            for row in rows
            if trial_name(row["model"], row["freeze"], row["learning_rate"]) == trial.name
        }
        found.append(
            Quality(
                point=trial.name,
                texts=texts,
                seeds=seeds,
                ours=tuple(ours[seed] for seed in seeds),
                plain=tuple(plain[seed][trial.name] for seed in seeds),
            )
        )
    return found
