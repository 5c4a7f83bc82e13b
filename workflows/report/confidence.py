"""How far the champion's probabilities can be believed, and what is gained by not answering where they are low."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workflows import confidence, figures
from workflows.confidence import Answers, Calibration
from workflows.headline import shown
from workflows.report import numbers
from workflows.report.content import Content, Run
from workflows.report.page import Block, Column, Data, Figures, Plot, Row, Section, Table

if TYPE_CHECKING:
    from workflows.calibration import Coverage, Reliability

_SHARES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
# A curve begins where so many texts are answered (before, one text moves it too far), and has so many points.
_FIRST, _POINTS = 10, 300


@dataclass(frozen=True)
class _Rated:
    """A run with its calibration, and what it comes to on test: without (0) and with (1) the temperature."""

    name: str
    calibration: Calibration
    reliability: tuple[Reliability, Reliability]
    coverage: Coverage
    chosen_by: Coverage
    texts: int

    @classmethod
    def of(cls, name: str, run: Run) -> _Rated:
        from workflows import calibration

        found = confidence.of(run.directory)
        validation, test = (Answers.read(run.directory, split) for split in ("validation", "test"))
        before, after = (calibration.probabilities(test.logits, value) for value in (1.0, found.temperature))
        held_out = calibration.probabilities(validation.logits, found.temperature)
        return cls(
            name=name,
            calibration=found,
            reliability=(calibration.reliability(before, test.labels), calibration.reliability(after, test.labels)),
            coverage=calibration.coverage(after, test.labels),
            chosen_by=calibration.coverage(held_out, validation.labels),
            texts=len(test.labels),
        )


def calibration(content: Content) -> Section | None:
    """Calibration of the champion, TF-IDF's beside it, and accuracy by the share of texts that is answered."""
    if content.champion is None or content.champion.test is None:
        return None
    champion = _Rated.of(content.label(content.champion), content.champion)
    rated = [champion]
    if content.reference:
        rated.append(_Rated.of(shown(content.reference.run_id), content.reference))
    lead = (
        "The probability of the label that is chosen should be how often it is right. Logits are divided by a "
        f"temperature, fitted on the {champion.calibration.texts:,} validation texts; it never changes which label is "
        "chosen. fleetune predict and evaluate use it, unless told --uncalibrated; the exported model has it in "
        "calibration.json."
    )
    plots = [_reliability_plot(champion), _coverage_plot(rated)]
    blocks: list[Block] = [_table(rated), Figures(plots), _abstaining(champion)]
    return Section("calibration", "How far probabilities can be believed", lead, blocks)


def _table(rated: list[_Rated]) -> Table:
    headings = ("temperature", "calibration\nerror", "calibrated", "Brier\nscore", "Brier score,\ncalibrated")
    columns = [Column("which", numeric=False), *map(Column, headings)]
    rows = [
        Row([run.name, f"{run.calibration.temperature:.3g}", *map(numbers.score, run.calibration.metrics.values())])
        for run in rated
    ]
    note = (
        "Expected calibration error: the mean distance of confidence from accuracy, in 15 bins of confidence. Brier "
        "score: the mean squared distance of the probabilities from what was true, from 0 to 2. Less is better."
    )
    return Table("Calibration on test", columns, rows, note=note)


def _reliability_plot(run: _Rated) -> Plot:
    named = dict(zip(("uncalibrated", "calibrated"), run.reliability, strict=True))
    before, after = run.reliability
    rows = [
        (name, *values)
        for name, found in named.items()
        for values in zip(found.low, found.high, found.texts, found.confidence, found.accuracy, strict=True)
    ]
    return Plot(
        name="reliability",
        title="Accuracy by confidence (the area of a point is its share of the texts)",
        alt=f"{run.name}, on {run.texts:,} test texts: confidence is {_off(before)}, a mean {before.error:.4f} from "
        f"accuracy; with the temperature {run.calibration.temperature:.3g} it is {after.error:.4f}.",
        figure=figures.reliability(
            {
                name: (found.confidence.tolist(), found.accuracy.tolist(), found.texts.tolist())
                for name, found in named.items()
            }
        ),
        data=Data(("probabilities", "low", "high", "texts", "mean_confidence", "accuracy"), rows),
    )


def _off(found: Reliability) -> str:
    """Whether probabilities are too high or too low on the whole."""
    gap = float(((found.confidence - found.accuracy) * found.texts).sum() / found.texts.sum())
    return "too high" if gap > 0 else "too low" if gap < 0 else "right on the whole"


def _coverage_plot(rated: list[_Rated]) -> Plot:
    thinned = {run.name: _thinned(run.coverage, run.texts) for run in rated}
    run = rated[0]
    share, accuracy = run.coverage.at(run.chosen_by.threshold_for(0.8))
    told = (
        "" if accuracy is None else f" On the {100 * share:.0f} % of which it is surest its accuracy is {accuracy:.4f}."
    )
    return Plot(
        name="coverage",
        title="Accuracy by the share of texts that is answered",
        alt=f"{run.name} answers all test texts with accuracy {run.coverage.accuracy[-1]:.4f}.{told}",
        figure=figures.coverage({name: (x, y) for name, (_, x, y) in thinned.items()}),
        data=Data(
            ("name", "threshold", "coverage", "accuracy"),
            [(name, *values) for name, found in thinned.items() for values in zip(*found, strict=True)],
        ),
    )


def _thinned(found: Coverage, texts: int) -> tuple[list[float], list[float], list[float]]:
    """Thresholds, shares and accuracies of a curve, evenly thinned."""
    import numpy as np

    last = len(found.coverage) - 1
    first = min(int(np.searchsorted(found.coverage, _FIRST / texts)), last)
    kept = np.unique(np.linspace(first, last, _POINTS).astype(int))
    return found.threshold[kept].tolist(), found.coverage[kept].tolist(), found.accuracy[kept].tolist()


def _abstaining(run: _Rated) -> Table:
    columns = [Column("answered of\nvalidation"), Column("where the\nprobability is at least")]
    columns += [Column("answered\nof test"), Column("texts"), Column("accuracy\nof these")]
    rows: list[Row] = []
    for share in _SHARES:
        threshold = run.chosen_by.threshold_for(share)
        answered, accuracy = run.coverage.at(threshold if share < 1 else 0.0)
        least = f"{threshold:.4f}" if share < 1 else numbers.NONE
        cells = [f"{100 * share:.0f} %", least, numbers.percent(answered), numbers.whole(round(answered * run.texts))]
        rows.append(Row([*cells, numbers.score(accuracy)]))
    note = "Thresholds are of calibrated probabilities and were chosen on validation; test had no part in it."
    return Table("What answering less gains", columns, rows, note=note)
