"""The headline of a sweep: the champion, what it scores on test, and what it gains over each baseline at which cost.

A pure function of leaderboard rows, so that the terminal, the report and MLflow say the same. Differences are plain
differences: nothing here claims that one is real.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workflows.plan import number

Row = dict[str, Any]

NO_CHAMPION = "No trial has a test score, so there is no champion."
_SHOWN = {"tfidf": "TF-IDF", "majority": "majority class"}


@dataclass(frozen=True)
class Versus:
    """The champion against one baseline: differences of test scores, and ratios of time (champion ÷ baseline).

    A value is None where either side has none.
    """

    baseline: str
    accuracy: float | None
    f1_macro: float | None
    train_time: float | None
    latency: float | None
    ranks_above: bool

    @property
    def sentence(self) -> str:
        """As in `Against TF-IDF: accuracy +0.0775, macro-F1 +0.0801; 42× the training time, 12× the time per text.`"""
        gains = [
            f"{name} {signed(value)}"
            for name, value in (("accuracy", self.accuracy), ("macro-F1", self.f1_macro))
            if value is not None
        ]
        costs = [
            f"{times(ratio)} the {name}"
            for name, ratio in (("training time", self.train_time), ("time per text", self.latency))
            if ratio is not None
        ]
        text = "; ".join(filter(None, (", ".join(gains), ", ".join(costs)))) or "not comparable"
        above = " On validation the baseline ranks above the champion." if self.ranks_above else ""
        article = "the " if self.baseline == "majority" else ""
        return f"Against {article}{shown(self.baseline)}: {text}.{above}"


@dataclass(frozen=True)
class Headline:
    """The best trial by validation. `margin` is the half width of a rough 95 % interval of its test accuracy."""

    trial_id: str
    champion: str
    metric: str
    accuracy: float | None
    f1_macro: float | None
    test_texts: int | None
    margin: float | None
    versus: tuple[Versus, ...]

    @property
    def result(self) -> str:
        """The first sentence: who won, and what it scores on test."""
        scores = []
        if self.accuracy is not None:
            rough = f" (± {self.margin:.4f})" if self.margin is not None else ""
            scores.append(f"accuracy {self.accuracy:.4f}{rough}")
        if self.f1_macro is not None:
            scores.append(f"macro-F1 {self.f1_macro:.4f}")
        on = f" on {self.test_texts:,} test texts" if self.test_texts else " on test"
        return f"Champion: {self.champion}" + (f": {', '.join(scores)}{on}." if scores else ".")

    @property
    def caveat(self) -> str:
        """How the champion was chosen, and what ± means."""
        name = metric_name(self.metric)
        text = f"Chosen by {name} on validation alone; test was scored once per trial and only reports."
        if self.margin is None:
            return text
        return f"{text} ± is the sampling error of one accuracy (1.96 standard errors); no difference is tested here."

    @property
    def sentences(self) -> list[str]:
        """The whole headline, one finding a line."""
        return [self.result, *(versus.sentence for versus in self.versus), self.caveat]


def find(rows: Sequence[Row], champion: str | None, metric: str, test_texts: int | None = None) -> Headline | None:
    """The headline of leaderboard rows; None without a champion. `test_texts` is the size of the test split.

    Columns that a row lacks count as unknown.
    """
    best = next((row for row in rows if champion and row.get("trial_id") == champion), None)
    if best is None:
        return None
    accuracy = best.get("test/accuracy")
    return Headline(
        trial_id=str(champion),
        champion=point_name(best),
        metric=metric,
        accuracy=accuracy,
        f1_macro=best.get("test/f1_macro"),
        test_texts=test_texts,
        margin=margin(accuracy, test_texts),
        versus=tuple(_versus(best, row) for row in _baselines(rows)),
    )


def margin(accuracy: float | None, texts: int | None) -> float | None:
    """1.96·sqrt(p(1 − p)/n), the half width of the normal approximation's 95 % interval; None where unknown.

    Too narrow for an accuracy near 0 or 1 on few texts (Brown, Cai and DasGupta 2001); at exactly 0 or 1 it is 0.
    """
    if accuracy is None or not texts:
        return None
    return 1.96 * math.sqrt(accuracy * (1 - accuracy) / texts)


def point_name(row: Row) -> str:
    """Model, policy, rate and every other axis in use, as in `MiniLM · lora · lr 0.0003 · lora_r 8`."""
    rate = row.get("learning_rate")
    rest = [f"{axis} {number(value)}" for axis, value in other_axes(row).items()]
    parts = [row.get("model"), row.get("freeze"), None if rate is None else f"lr {number(rate)}", *rest]
    return " · ".join(str(part) for part in parts if part)


def other_axes(row: Row) -> dict[str, Any]:
    """Axes in use beside model, freeze and learning rate: they stand between `seed` and `status` in a row."""
    keys = list(row)
    if "seed" not in row or "status" not in row:
        return {}
    names = keys[keys.index("seed") + 1 : keys.index("status")]
    return {name: row[name] for name in names if row[name] is not None}


def shown(baseline: str) -> str:
    """A baseline as it is called in a sentence."""
    return _SHOWN.get(baseline, baseline)


def signed(difference: float) -> str:
    """A difference of scores with its sign, a real minus sign where it is below 0."""
    return f"{difference:+.4f}".replace("-", "−")


def metric_name(metric: str) -> str:
    """A metric as it is called in a sentence.

    >>> metric_name("f1_macro")
    'macro-F1'
    """
    return {"f1_macro": "macro-F1"}.get(metric, metric)


def times(ratio: float) -> str:
    """A ratio as people say it.

    >>> times(41.8), times(2.34), times(0.05)
    ('42×', '2.3×', '0.05×')
    """
    if ratio >= 10:
        return f"{ratio:,.0f}×"
    return f"{ratio:.1f}×" if ratio >= 1 else f"{ratio:.2g}×"


def _baselines(rows: Sequence[Row]) -> list[Row]:
    """The finished baselines, the strongest by rank first."""
    found = [row for row in rows if row.get("kind") == "baseline" and row.get("status") == "DONE"]
    return sorted(found, key=lambda row: row.get("rank") or len(rows) + 1)


def _versus(best: Row, baseline: Row) -> Versus:
    """Times are compared only with a baseline that learns: what always guesses one class takes no time at all."""
    times_of = baseline if baseline.get("trainable_parameters") else {}
    rank, other = best.get("rank"), baseline.get("rank")
    return Versus(
        baseline=baseline["trial_id"],
        accuracy=_difference(best.get("test/accuracy"), baseline.get("test/accuracy")),
        f1_macro=_difference(best.get("test/f1_macro"), baseline.get("test/f1_macro")),
        train_time=_ratio(best.get("train_seconds"), times_of.get("train_seconds")),
        latency=_ratio(best.get("latency_p50_ms"), times_of.get("latency_p50_ms")),
        ranks_above=bool(rank and other and other < rank),
    )


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _ratio(one: float | None, other: float | None) -> float | None:
    """None also where the other is too short to be measured."""
    return None if not one or not other else one / other
