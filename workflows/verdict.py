"""What a sweep's predictions prove: an interval for every test score, who cannot be told from the champion, and what
choosing has flattered.

Ties are decided by predictions on validation, which chose the champion; test only reports. Neither changes the
champion. A point is compared as a whole, with all its seeds; one that lost seeds and therefore ranks after the others
(`workflows.points`) is not. Sentences are in `workflows.headline`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from trainables.arguments import Frozen, Metric
from trainables.directory import SweepDirectory, TrialDirectory
from trainables.errors import CorruptFile
from workflows.points import set_back
from workflows.soundness import read_predictions

if TYPE_CHECKING:
    import numpy as np

    from workflows.evidence import Exam

Row = dict[str, Any]
Judged = Literal["validation", "test"]

SIGNIFICANT = 0.05
INTERVALS = tuple(f"test/{metric}_{end}" for metric in ("accuracy", "f1_macro") for end in ("low", "high"))
# What `judge` adds to each row of the leaderboard; null where there is nothing to judge by.
COLUMNS = ("tied", *INTERVALS)
_READ = ["row", "label", "predicted", "loss"]
# Latencies of one graph differ by up to a fifth from measurement to measurement (workflows/inference.py).
_CHEAPER = 0.8
# Always guessing one class is a yardstick, nothing that one would ship.
_NEVER_SHIPPED = "majority"


class Compared(Frozen):
    """`one` minus `other`, each a point's id or a baseline's name, in a metric, as the mean over their `seeds`.

    `low` and `high` are the 95 % interval of this difference alone; `corrected` is the p-value after Holm's correction
    for everything in its family: all others on validation; on test the baselines and freezing, or the other trials.
    """

    one: str
    other: str
    seeds: tuple[int, int]
    difference: float
    low: float
    high: float
    p: float
    corrected: float

    @property
    def is_real(self) -> bool:
        """Whether chance alone would show as much in fewer than one of twenty sweeps."""
        return self.corrected < SIGNIFICANT


class Choice(Frozen):
    """The winner's validation score, and what to `expect` of a winner chosen like it on texts that did not choose."""

    score: float
    expect: float
    points: int
    trials: int


class Verdict(Frozen):
    """What can be said of the champion's point against all others.

    `validation` is in `metric`, which ranks, and decides ties, by so many `texts`; `test` and `freezing` (the best
    frozen point minus the best full one of a model) are in `reported`. `alternative` is the trial or baseline that
    predicts the cheapest of those not to be told from the champion; None where the champion itself does. `unusable`
    has, by trial or baseline, why it could not be compared.
    """

    metric: Metric
    reported: Metric
    texts: int = 0
    validation: tuple[Compared, ...] = ()
    test: tuple[Compared, ...] = ()
    freezing: Compared | None = None
    alternative: str | None = None
    choice: Choice | None = None
    unusable: dict[str, str] = Field(default_factory=dict)


@dataclass
class _Split:
    """The answers of runs to the texts of one split, as they are read."""

    rows: np.ndarray
    labels: np.ndarray
    runs: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Answers:
    """An exam, and which of its runs make each point or baseline that is compared, best point first."""

    exam: Exam
    runs: dict[str, int]
    points: dict[str, list[int]]


def stored(value: Any) -> Verdict | None:
    """A verdict as leaderboard.json has it; None where there is none, or one that another version has written."""
    with contextlib.suppress(ValidationError):
        return Verdict.model_validate(value)
    return None


def judge(
    sweep: SweepDirectory, rows: Sequence[Row], champion: str | None, metric: Metric, classes: int
) -> tuple[Verdict, dict[str, Row]]:
    """The verdict on ranked rows, and the COLUMNS of those that have predictions, by trial id or baseline name.

    Predictions that are missing, damaged or of other texts cost their run its interval and its comparisons; nothing is
    raised for them.
    """
    done = [row for row in rows if row["status"] == "DONE"]
    done.sort(key=lambda row: row["trial_id"] != champion)
    splits, unusable = _read(sweep, [(row["trial_id"], row["kind"]) for row in done], classes)
    done.sort(key=lambda row: row["rank"])
    behind = set_back(rows)
    compared = [row for row in done if row["point_id"] not in behind]
    known = {split: _answers(found, compared, classes) for split, found in splits.items()}
    added: dict[str, Row] = (
        {name: _intervals(known["test"], run) for name, run in known["test"].runs.items()} if known else {}
    )
    reported: Metric = "accuracy" if metric == "loss" else metric
    best = next((row for row in done if row["trial_id"] == champion), None)
    if best is None or champion in unusable:
        return Verdict(metric=metric, reported=reported, unusable=unusable), added
    validation, test = known["validation"], known["test"]
    point = best["point_id"]
    others = [name for name in validation.points if name != point]
    decided = _compared(validation, metric, [(point, name) for name in others], len(others) + 1)
    same = {found.other for found in decided if not found.is_real} | {point}
    for row in compared:
        if row["trial_id"] in added:
            added[row["trial_id"]]["tied"] = row["point_id"] in same
    kinds = {row["point_id"]: row["kind"] for row in compared}
    # What the sentences claim of test is one family, however many points were tried; those are another.
    pair = _frozen_and_full(compared, best, validation.points)
    baselines = [(point, name) for name in others if kinds[name] == "baseline"]
    claims = _compared(test, reported, [*baselines, *([pair] if pair else [])])
    runners_up = _compared(test, reported, [(point, name) for name in others if kinds[name] == "trial"])
    candidates = [runs for name, runs in validation.points.items() if kinds[name] == "trial"]
    verdict = Verdict(
        metric=metric,
        reported=reported,
        texts=len(validation.exam.labels),
        validation=decided,
        test=claims[: len(baselines)] + runners_up,
        freezing=claims[-1] if pair else None,
        alternative=_cheapest(compared, best, same),
        choice=_choice(validation.exam, candidates, metric),
        unusable=unusable,
    )
    return verdict, added


def _read(
    sweep: SweepDirectory, runs: Iterable[tuple[str, str]], classes: int
) -> tuple[dict[Judged, _Split], dict[str, str]]:
    """Answers by split, and what is wrong with those that cannot be used. The first usable run sets the texts."""
    splits: dict[Judged, _Split] = {}
    unusable = {}
    for name, kind in runs:
        directory = sweep.run(name, kind)
        try:
            found = _answers_of(directory, classes)
        except CorruptFile:
            unusable[name] = "its predictions are missing or damaged"
            continue
        if not splits:
            splits = {split: _Split(values["row"], values["label"]) for split, values in found.items()}
        if any(not _same_texts(splits[split], values) for split, values in found.items()):
            unusable[name] = "its predictions are of other texts"
            continue
        for split, values in found.items():
            splits[split].runs[name] = (values["predicted"], values["loss"])
    return splits, unusable


def _answers_of(directory: TrialDirectory, classes: int) -> dict[Judged, dict[str, np.ndarray]]:
    """Columns of the predictions on validation and test. Raises CorruptFile where they are none."""
    import numpy as np

    table = read_predictions(directory, columns=["split", *_READ])
    names = np.asarray(table["split"].to_pylist())
    columns = {name: table[name].to_numpy() for name in _READ}
    found: dict[Judged, dict[str, np.ndarray]] = {}
    splits: tuple[Judged, ...] = ("validation", "test")
    for split in splits:
        values = {name: column[names == split] for name, column in columns.items()}
        ids = np.concatenate([values["label"], values["predicted"]])
        if not len(ids) or ids.min() < 0 or ids.max() >= classes or not np.isfinite(values["loss"]).all():
            raise CorruptFile(f"{directory.predictions} holds no answers to {split}")
        found[split] = values
    return found


def _same_texts(split: _Split, values: Mapping[str, np.ndarray]) -> bool:
    import numpy as np

    return np.array_equal(split.rows, values["row"]) and np.array_equal(split.labels, values["label"])


def _answers(split: _Split, done: Sequence[Row], classes: int) -> _Answers:
    import numpy as np

    from workflows.evidence import Exam

    runs = {name: number for number, name in enumerate(split.runs)}
    points: dict[str, list[int]] = {}
    for row in done:
        if row["trial_id"] in runs:
            points.setdefault(row["point_id"], []).append(runs[row["trial_id"]])
    predicted, losses = (np.stack([values[index] for values in split.runs.values()]) for index in (0, 1))
    return _Answers(Exam(split.labels, predicted, losses, classes), runs, points)


def _intervals(answers: _Answers, run: int) -> Row:
    ends = [*answers.exam.interval(run, "accuracy"), *answers.exam.interval(run, "f1_macro")]
    return {"tied": None} | dict(zip(INTERVALS, ends, strict=True))


def _compared(
    answers: _Answers, metric: Metric, pairs: Sequence[tuple[str, str]], candidates: int | None = None
) -> tuple[Compared, ...]:
    """One family of comparisons. `candidates` says among how many the first of each pair was chosen by these texts."""
    from workflows.evidence import corrected

    found = [answers.exam.difference(answers.points[one], answers.points[other], metric) for one, other in pairs]
    return tuple(
        Compared(
            one=one,
            other=other,
            seeds=(len(answers.points[one]), len(answers.points[other])),
            difference=difference.value,
            low=difference.low,
            high=difference.high,
            p=difference.p,
            corrected=p,
        )
        for (one, other), difference, p in zip(
            pairs, found, corrected([difference.p for difference in found], candidates), strict=True
        )
    )


def _frozen_and_full(done: Sequence[Row], best: Row, points: Mapping[str, object]) -> tuple[str, str] | None:
    """The best frozen and the best full point of the champion's model, else of the best model that has both."""
    trials = [row for row in done if row["kind"] == "trial" and row["point_id"] in points]
    for model in dict.fromkeys([best["model"], *(row["model"] for row in trials)]):
        own = [row for row in trials if row["model"] == model]
        full = next((row["point_id"] for row in own if row["freeze"] == "full"), None)
        frozen = next((row["point_id"] for row in own if row["freeze"] != "full"), None)
        if full and frozen:
            return frozen, full
    return None


def _cheapest(done: Sequence[Row], best: Row, same: set[str]) -> str | None:
    """The tied trial or baseline with the lowest time per text, the best by rank of those; only if clearly lower."""
    own = best.get("latency_p50_ms")
    known = [row for row in done if row["point_id"] in same and row.get("latency_p50_ms") is not None]
    known = [row for row in known if row["trial_id"] != _NEVER_SHIPPED]
    if own is None or not known:
        return None
    cheapest = min(known, key=lambda row: row["latency_p50_ms"])
    return str(cheapest["trial_id"]) if cheapest["latency_p50_ms"] < _CHEAPER * own else None


def _choice(exam: Exam, points: Sequence[Sequence[int]], metric: Metric) -> Choice | None:
    found = exam.inflation(points, metric) if sum(map(len, points)) > 1 else None
    if found is None:
        return None
    return Choice(score=found.score, expect=found.expected, points=len(points), trials=sum(map(len, points)))
