"""Every path of a sweep directory and of the cache beside it, in one place.

<storage>/<name>/manifest.json …   SweepDirectory
<storage>/<name>/trials/<id>/ …    TrialDirectory
<storage>/cache/<kind>/<sha256>/   CacheDirectory: prepared data and tokens, shared by all sweeps of a storage
$FLEETUNE_CACHE/prefixes/<sha256>/ NodeCache: what frozen layers gave, on the disk of each node
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_EPOCH = re.compile(r"epoch-(\d+)\.json")
_STATE = re.compile(r"epoch-(\d+)(?:-step-(\d+))?")
ATTEMPTS = ".attempts"
# The weights that trained, in the folder of a checkpoint.
WEIGHTS = "trainable.safetensors"
# The temperature of some weights: beside the result of a trial or baseline, and in the folder of an exported model.
CALIBRATION = "calibration.json"


class StateFolder(NamedTuple):
    """A folder with the state of a trial: at the end of an epoch, or within it after a `step` of the trial."""

    path: Path
    epoch: int
    step: int | None

    @property
    def finished(self) -> int:
        """How many epochs were finished there."""
        return self.epoch if self.step is None else self.epoch - 1


@dataclass(frozen=True)
class TrialDirectory:
    """The files of one trial, or of one baseline (which has no epochs, state or checkpoint)."""

    root: Path

    @property
    def is_superseded(self) -> bool:
        """Whether this was an attempt's way to its trial, which was handed out again since, or has ended."""
        return self.root.parent.parent.name == ATTEMPTS and not self.root.is_symlink()

    @property
    def spec(self) -> Path:
        return self.root / "trial.json"

    @property
    def result(self) -> Path:
        return self.root / "result.json"

    @property
    def predictions(self) -> Path:
        return self.root / "predictions.parquet"

    @property
    def calibration(self) -> Path:
        return self.root / CALIBRATION

    @property
    def checkpoint(self) -> Path:
        return self.root / "checkpoint"

    @property
    def state(self) -> Path:
        """Where the trial stands, to resume; gone when it has ended."""
        return self.root / "state"

    def state_at(self, epoch: int, step: int | None = None) -> Path:
        """Where the state at the end of an epoch lies, or within it after a `step` of the trial."""
        return self.state / (f"epoch-{epoch:03d}" if step is None else f"epoch-{epoch:03d}-step-{step:06d}")

    def states(self) -> list[StateFolder]:
        """The states that exist, sound or not, newest first."""
        names = ((path, _STATE.fullmatch(path.name)) for path in self.state.glob("epoch-*"))
        found = [StateFolder(path, int(name[1]), int(name[2]) if name[2] else None) for path, name in names if name]
        return sorted(found, key=lambda at: (at.epoch, at.step is None, at.step or 0), reverse=True)

    @property
    def model(self) -> Path:
        """A fitted baseline as JSON (trials have a checkpoint)."""
        return self.root / "model.json"

    @property
    def log(self) -> Path:
        return self.root / "log.txt"

    def epoch(self, number: int) -> Path:
        return self.root / f"epoch-{number:03d}.json"

    def epochs(self) -> list[Path]:
        """The epoch files that exist, in order of their number."""
        found = [
            (int(match[1]), path) for path in self.root.glob("epoch-*.json") if (match := _EPOCH.fullmatch(path.name))
        ]
        return [path for _, path in sorted(found)]


@dataclass(frozen=True)
class CacheDirectory:
    """Content-addressed folders under `<storage>/cache`."""

    root: Path

    def data(self, fingerprint: str) -> Path:
        """Prepared splits: train.parquet, validation.parquet, test.parquet."""
        return self.root / "data" / fingerprint

    def tokens(self, key: str) -> Path:
        """Ragged token ids of each split for one (data, tokenizer, max_length)."""
        return self.root / "tokens" / key


@dataclass(frozen=True)
class NodeCache:
    """Folders on this machine's own disk that any sweep may use again; FLEETUNE_CACHE says where."""

    root: Path

    @classmethod
    def here(cls) -> NodeCache:
        """In FLEETUNE_CACHE, else in the user's cache folder."""
        from platformdirs import user_cache_path

        return cls(Path(os.environ.get("FLEETUNE_CACHE") or user_cache_path("fleetune")))

    @property
    def prefixes(self) -> Path:
        return self.root / "prefixes"

    def prefix(self, key: str) -> Path:
        """What frozen blocks gave for one split."""
        return self.prefixes / key


@dataclass(frozen=True)
class SweepDirectory:
    """`<storage>/<name>`: everything a sweep leaves behind."""

    root: Path

    @property
    def manifest(self) -> Path:
        return self.root / "manifest.json"

    @property
    def lease(self) -> Path:
        """Who drives the sweep now."""
        return self.root / "lease.json"

    @property
    def trials(self) -> Path:
        return self.root / "trials"

    @property
    def attempts(self) -> Path:
        """The ways by which running attempts reach their trials: <a name of its own>/<trial id>, each a link."""
        return self.root / ATTEMPTS

    @property
    def baselines(self) -> Path:
        return self.root / "baselines"

    @property
    def leaderboard_json(self) -> Path:
        return self.root / "leaderboard.json"

    @property
    def leaderboard_csv(self) -> Path:
        return self.root / "leaderboard.csv"

    @property
    def tracking(self) -> Path:
        """What the MLflow writer has delivered so far."""
        return self.root / "tracking.json"

    @property
    def check(self) -> Path:
        """What the check of the data has found."""
        return self.root / "check.json"

    @property
    def driver_log(self) -> Path:
        """What Ray and Tune would have printed."""
        return self.root / "driver.log"

    @property
    def inference(self) -> Path:
        """What predicting costs: one file per distinct inference graph."""
        return self.root / "inference"

    @property
    def figures(self) -> Path:
        """The figures of the report, each with its data as CSV beside it."""
        return self.root / "figures"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def label_errors(self) -> Path:
        """Labels that may well be wrong."""
        return self.root / "label_errors.json"

    @property
    def cache(self) -> CacheDirectory:
        return CacheDirectory(self.root.parent / "cache")

    @property
    def forecast(self) -> Path:
        """What `fleetune plan` has predicted."""
        return self.root / "forecast.json"

    @property
    def took(self) -> Path:
        """What the last run of the sweep took."""
        return self.root / "took.json"

    def inference_cost(self, graph_id: str) -> Path:
        return self.inference / f"{graph_id}.json"

    def trial(self, trial_id: str) -> TrialDirectory:
        return TrialDirectory(self.trials / trial_id)

    def baseline(self, name: str) -> TrialDirectory:
        return TrialDirectory(self.baselines / name)

    def run(self, name: str, kind: str) -> TrialDirectory:
        """The directory of a trial, or of a baseline, by its `kind`."""
        return self.trial(name) if kind == "trial" else self.baseline(name)
