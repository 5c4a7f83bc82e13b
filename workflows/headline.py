"""The headline of a sweep: the champion, what to ship, and what it gains over each baseline at which cost.

A pure function of leaderboard rows and the verdict on them, so that the terminal, the report and MLflow say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainables.arguments import Metric, better
from workflows import points
from workflows.plan import number
from workflows.verdict import Compared, Verdict

Row = dict[str, Any]

NO_CHAMPION = "No trial has a test score, so there is no champion."
_SHOWN = {"tfidf": "TF-IDF", "majority": "majority class"}
_TFIDF = "tfidf"
# So many points that cannot be told from the champion are named; more are counted.
_NAMED = 2


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
    """The best trial by validation, with 95 % intervals (from, to) of its test scores, and the verdict's sentences."""

    trial_id: str
    champion: str
    metric: str
    accuracy: float | None
    f1_macro: float | None
    test_texts: int | None
    accuracy_interval: tuple[float, float] | None
    f1_macro_interval: tuple[float, float] | None
    verdict: tuple[str, ...]
    versus: tuple[Versus, ...]

    @property
    def result(self) -> str:
        """The first sentence: who won, and what it scores on test."""
        known = (
            ("accuracy", self.accuracy, self.accuracy_interval),
            ("macro-F1", self.f1_macro, self.f1_macro_interval),
        )
        scores = [
            f"{name} {value:.4f}" + (f" ({interval(ends)})" if ends else "")
            for name, value, ends in known
            if value is not None
        ]
        on = f" on {self.test_texts:,} test texts" if self.test_texts else " on test"
        return f"Champion: {self.champion}" + (f": {', '.join(scores)}{on}." if scores else ".")

    @property
    def caveat(self) -> str:
        """How the champion was chosen, and what ranges and p-values mean."""
        name = metric_name(self.metric)
        text = f"Chosen by {name} on validation alone; test was scored once per trial and only reports."
        if self.accuracy_interval is None:
            return text
        return (
            f"{text} In brackets: 95 % intervals; p-values are of paired tests on the same texts, corrected for how "
            "many were compared (Holm)."
        )

    @property
    def sentences(self) -> list[str]:
        """The whole headline, one finding a line."""
        return [self.result, *self.verdict, *(versus.sentence for versus in self.versus), self.caveat]


def find(
    rows: Sequence[Row],
    champion: str | None,
    metric: str,
    test_texts: int | None = None,
    verdict: Verdict | None = None,
) -> Headline | None:
    """The headline of leaderboard rows; None without a champion. `test_texts` is the size of the test split.

    Columns that a row lacks count as unknown; without a verdict nothing is said about what is real.
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
        accuracy_interval=interval_of(best, "test/accuracy"),
        f1_macro_interval=interval_of(best, "test/f1_macro"),
        verdict=tuple(_verdict(rows, best, verdict)) if verdict else (),
        versus=tuple(_versus(best, row) for row in _baselines(rows)),
    )


def on_lost_seeds(rows: Sequence[Row], champion: str | None, metric: Metric) -> list[str]:
    """A sentence where lost seeds decided which trial is the champion, or where its own point has lost some.

    `rows` are those of the whole leaderboard, best first.
    """
    best = next((row for row in rows if champion and row["trial_id"] == champion), None)
    if best is None:
        return []
    if best["point_id"] in points.with_losses(rows):
        return [
            f"No point finished all its seeds. {point_name(best)} ranks first by the mean of {_survivors(rows, best)}; "
            "the others failed or were stopped."
        ]
    behind = points.set_back(rows)
    first = next((row for row in rows if row["status"] == "DONE" and row["point_id"] in behind), None)
    if first is None or not better(metric, first["point_mean"], than=best["point_mean"]):
        return []
    return [
        f"{point_name(first)} has a better {metric_name(metric)} on validation than the champion's point "
        f"({first['point_mean']:.4f} against {best['point_mean']:.4f}), but as the mean of {_survivors(rows, first)}; "
        "the others failed or were stopped, so it ranks after the points that finished theirs."
    ]


def interval(ends: tuple[float, float]) -> str:
    """A 95 % interval of a score: `0.6949 to 0.7806`."""
    return f"{ends[0]:.4f} to {ends[1]:.4f}"


def interval_of(row: Row, column: str) -> tuple[float, float] | None:
    """The 95 % interval that a row has of a score; None where it has none."""
    low, high = row.get(f"{column}_low"), row.get(f"{column}_high")
    return None if low is None or high is None else (low, high)


def in_numbers(compared: Compared, metric: str) -> str:
    """A comparison in numbers, as in `accuracy +0.0700 (+0.0131 to +0.1269, p = 0.037)`."""
    seeds = " and ".join(str(count) for count in dict.fromkeys(compared.seeds))
    several = f"; mean of {seeds} seeds" if max(compared.seeds) > 1 else ""
    ends = f"{signed(compared.low)} to {signed(compared.high)}"
    return f"{metric_name(metric)} {signed(compared.difference)} ({ends}, {p_value(compared.corrected)}{several})"


def p_value(p: float) -> str:
    """A p-value as it is read.

    >>> p_value(0.0372), p_value(0.0000041), p_value(1.0)
    ('p = 0.037', 'p < 0.001', 'p = 1')
    """
    if p < 0.001:
        return "p < 0.001"
    # What lies on one side of the threshold must not be rounded onto it.
    return f"p = {p:.3g}" if 0.045 <= p < 0.055 else f"p = {p:.2g}"


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


def _verdict(rows: Sequence[Row], best: Row, verdict: Verdict) -> list[str]:
    """What to ship, whether it beats TF-IDF, whether freezing lost anything, and what could not be compared."""
    names = {row["trial_id"]: row for row in reversed(rows)} | {row["point_id"]: row for row in reversed(rows)}
    found = []
    if best["trial_id"] in verdict.unusable:
        found.append("Nothing is tested, since there are no sound predictions of the champion.")
    else:
        found.append(_ship(names, best, verdict))
    name = metric_name(verdict.reported)
    for compared in verdict.test:
        if compared.other == _TFIDF:
            claim = (
                "It cannot be told from TF-IDF on test"
                if not compared.is_real
                else f"It is {'better' if compared.difference > 0 else 'worse'} than TF-IDF, and not by chance"
            )
            found.append(f"{claim}: {in_numbers(compared, verdict.reported)}.")
    if verdict.freezing is not None:
        frozen, full = names[verdict.freezing.one], names[verdict.freezing.other]
        claim = "No effect of freezing shows"
        if verdict.freezing.is_real:
            claim = f"Freezing {'gained' if verdict.freezing.difference > 0 else 'lost'} {name}"
        told = in_numbers(verdict.freezing, verdict.reported)
        found.append(f"{claim}: {_called(frozen)} against {_called(full)} on test, {told}.")
    if verdict.unusable:
        which = ", ".join(_called(names[name]) + f" ({name})" for name in verdict.unusable)
        found.append(f"Not compared, since predictions are missing, damaged or of other texts: {which}.")
    return found


def _ship(names: dict[str, Row], best: Row, verdict: Verdict) -> str:
    """The champion or what is better, who cannot be told from it on validation, and the cheapest of those."""
    loss = verdict.metric == "loss"
    better = [found.other for found in verdict.validation if found.is_real and (found.difference > 0) == loss]
    tied = [found.other for found in verdict.validation if not found.is_real]
    if better:
        verb = "is" if len(better) == 1 else "are"
        return f"Do not ship it: on validation {_several(names, better)} {verb} better than it, and not by chance."
    ship = f"Ship {point_name(best)}"
    if not verdict.validation:
        return f"{ship}: there is nothing finished to compare it with."
    if not tied:
        others = len(verdict.validation)
        whom = f"each of the {others} others" if others > 1 else "the only other one"
        return f"{ship}: on validation it is better than {whom}, and not by chance."
    text = f"{ship}. On the {verdict.texts:,} validation texts {_several(names, tied)} cannot be told from it"
    if verdict.alternative is None:
        none = "none of them is" if len(tied) > 1 else "it is not"
        return f"{text}; {none} clearly cheaper to run."
    cheapest = names[verdict.alternative]
    ratio = _ratio(cheapest.get("latency_p50_ms"), best.get("latency_p50_ms"))
    price = f", at {times(ratio)} the time per text" if ratio is not None else ""
    # What test says of TF-IDF has a sentence of its own.
    test = [found for found in verdict.test if found.other == cheapest["point_id"] and found.other != _TFIDF]
    told = f" (champion minus it on test: {in_numbers(test[0], verdict.reported)})" if test else ""
    return f"{text}; the cheapest alternative is {_called(cheapest)}{price}{told}."


def _survivors(rows: Sequence[Row], row: Row) -> str:
    seeds = [other["status"] for other in rows if other["point_id"] == row["point_id"]]
    return f"{seeds.count('DONE')} of its {len(seeds)} seeds"


def _several(names: dict[str, Row], points: Sequence[str]) -> str:
    """Some points: named where they are few."""
    if len(points) > _NAMED:
        return f"{len(points)} others"
    return " and ".join(_called(names[point]) for point in points)


def _called(row: Row) -> str:
    if row["kind"] != "baseline":
        return point_name(row)
    return ("the " if row["trial_id"] == "majority" else "") + shown(row["trial_id"])


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
