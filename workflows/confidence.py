"""How sure a finished trial or baseline may be: its temperature, kept as calibration.json beside its result.

Fitted on validation and rated on test from the predictions that are there, so what an earlier version left without
one gets it too. It goes along with what is exported, where nothing is left to fit it on.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import Field, ValidationError

from trainables.directory import CALIBRATION, TrialDirectory
from trainables.errors import CorruptFile
from trainables.files import sha256_file
from trainables.records import Record, Result, Split
from workflows.soundness import read_predictions

if TYPE_CHECKING:
    import numpy as np

# What the leaderboard has of each finished trial and baseline; without and with the temperature.
COLUMNS = ("temperature", "test/ece", "test/ece_calibrated", "test/brier", "test/brier_calibrated")
_WITHOUT = "--uncalibrated does without the temperature"


class Calibration(Record):
    """The temperature of one set of weights; its probabilities are softmax(logits / temperature).

    `metrics` has COLUMNS without the temperature; `texts` is how many validation texts it was fitted on, and
    `predictions_sha256` the hash of the table that held them.
    """

    temperature: float = Field(gt=0, allow_inf_nan=False)
    texts: int
    metrics: dict[str, float]
    predictions_sha256: str
    about: str = "Divide logits by the temperature before softmax: the probabilities are then calibrated."

    def columns(self) -> dict[str, float]:
        """The leaderboard's COLUMNS."""
        return {"temperature": self.temperature} | self.metrics


@dataclass(frozen=True)
class Answers:
    """Logits (texts, classes) and labels (texts,) of one split, with the texts' rows in the source (texts,)."""

    logits: np.ndarray
    labels: np.ndarray
    rows: np.ndarray

    @classmethod
    def read(cls, directory: TrialDirectory, split: Split) -> Self:
        """Raises CorruptFile where there are none that can be used."""
        import numpy as np

        table = read_predictions(directory, split, ["row", "label", "logits"])
        if len(table):
            logits = np.stack(table["logits"].to_numpy(zero_copy_only=False)).astype(np.float64)
            labels = table["label"].to_numpy()
            if np.isfinite(logits).all() and labels.min() >= 0 and labels.max() < logits.shape[1]:
                return cls(logits, labels, table["row"].to_numpy())
        raise CorruptFile(f"{directory.predictions} holds no answers to {split}")


def of(directory: TrialDirectory) -> Calibration:
    """The calibration of a finished trial or baseline: the one beside it if it is of its predictions, else a new one.

    Raises CorruptFile where there is none and its predictions are missing or damaged.
    """
    stored = _stored(directory.calibration)
    return stored if stored and stored.predictions_sha256 == _hash(directory) else fit(directory)


def fit(directory: TrialDirectory) -> Calibration:
    """Fit a temperature on the validation predictions of a trial or baseline, and rate it on test."""
    from workflows import calibration

    validation, test = Answers.read(directory, "validation"), Answers.read(directory, "test")
    temperature = calibration.fit_temperature(validation.logits, validation.labels)
    metrics = {}
    for ending, value in (("", 1.0), ("_calibrated", temperature)):
        found = calibration.probabilities(test.logits, value)
        metrics[f"test/ece{ending}"] = calibration.reliability(found, test.labels).error
        metrics[f"test/brier{ending}"] = calibration.brier(found, test.labels)
    return Calibration(
        temperature=temperature,
        texts=len(validation.labels),
        metrics={name: metrics[name] for name in COLUMNS[1:]},
        predictions_sha256=_hash(directory),
    )


def keep(directory: TrialDirectory) -> dict[str, float]:
    """Write the calibration of a finished trial or baseline beside its result, unless it is there; return its COLUMNS.

    Where predictions are missing or damaged there is none; the sweep makes them again when it is continued.
    """
    with contextlib.suppress(CorruptFile):
        stored = _stored(directory.calibration)
        if stored and stored.predictions_sha256 == _hash(directory):
            return stored.columns()
        found = fit(directory)
        found.write(directory.calibration)
        return found.columns()
    return {}


def columns(directory: TrialDirectory) -> dict[str, float]:
    """The leaderboard's COLUMNS of a finished trial or baseline; nothing where its predictions cannot be read."""
    with contextlib.suppress(CorruptFile):
        return of(directory).columns()
    return {}


def temperature(folder: Path) -> float:
    """The temperature of a checkpoint in a trial's folder, of a baseline's folder or of an exported model.

    1 where there is none: a trial without a test score, or a model from elsewhere. Raises CorruptFile where there
    should be one.
    """
    found = _along_with(folder)
    return 1.0 if found is None else found.temperature


def export(source: Path, destination: Path) -> None:
    """Put the calibration of what `source` holds into the folder of its exported model, if it has one.

    Raises CorruptFile where there should be one.
    """
    found = _along_with(source)
    if found is not None:
        found.write(destination / CALIBRATION)


def _along_with(folder: Path) -> Calibration | None:
    """The calibration of the weights in a folder: of the trial or baseline whose folder it is in, or beside them."""
    try:
        directory = _finished(folder.resolve())
        if directory is not None:
            return of(directory)
        return Calibration.read(folder / CALIBRATION) if (folder / CALIBRATION).exists() else None
    except ValidationError:
        raise CorruptFile(f"{folder / CALIBRATION} does not hold a temperature; {_WITHOUT}") from None
    except CorruptFile as error:
        raise CorruptFile(f"{error}; {_WITHOUT}") from None


def _finished(folder: Path) -> TrialDirectory | None:
    """The trial whose checkpoint a folder is, or the baseline that it is; None where it has no test score."""
    trial, baseline = TrialDirectory(folder.parent), TrialDirectory(folder)
    directory = trial if folder == trial.checkpoint else baseline
    if directory.result.exists() and Result.read(directory.result).status == "DONE":
        return directory
    return None


def _stored(file: Path) -> Calibration | None:
    """What a file holds; None where it is not there, damaged or another version's: then it is made anew."""
    with contextlib.suppress(FileNotFoundError, CorruptFile, ValidationError):
        return Calibration.read(file)
    return None


def _hash(directory: TrialDirectory) -> str:
    """The hash of the predictions that a result was made of; where an earlier version kept none, of those there are."""
    known = Result.read(directory.result).predictions_sha256
    if known is None and not directory.predictions.exists():
        raise CorruptFile(f"{directory.predictions} is missing")
    return known or sha256_file(directory.predictions)
