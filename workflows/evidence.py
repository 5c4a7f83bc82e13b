"""What predictions on the same texts allow to be said: intervals, paired tests, and how much choosing flatters.

Numbers in, numbers out: nothing here knows of a sweep. Runs are rated on resamples of the texts, drawn with replacement
within each class (so every resample has the classes of the split), and always the same resamples for all runs, so that
differences are paired. statsmodels has the tests; scores of resamples are products of count matrices, because a loop
over runs and resamples would take minutes where these take a second.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trainables.arguments import Metric

LEVEL = 0.95
# Of the resamples: the ends of a percentile interval are then known to a few hundredths of its width.
COUNT = 1000
_SEED = 20_260_101
# Resamples are drawn in parts of so many texts, so that a test split of a million texts fits in memory too.
_PART = 4_000_000
_LEAST_OF_A_CLASS = 5
# Below this, resamples within a class show too little of how it might have fallen (simulated: with 5 texts of a third
# class, two equally good runs would differ "really" in 10 of 100 splits).
_FEW_OF_A_CLASS = 10


@dataclass(frozen=True)
class Difference:
    """One minus the other, with a 95 % interval and the p-value of no difference, not corrected for anything."""

    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Inflation:
    """The score of a winner on the texts that chose it, and what to expect of a winner on texts that did not."""

    score: float
    expected: float


@dataclass(frozen=True)
class Exam:
    """Answers of several runs to the same texts.

    `labels` (texts,) and `predicted` (runs, texts) are class ids below `classes`; `losses` (runs, texts) are nats.
    """

    labels: np.ndarray
    predicted: np.ndarray
    losses: np.ndarray
    classes: int

    @cached_property
    def hits(self) -> np.ndarray:
        """Which answers are right, (runs, texts)."""
        found: np.ndarray = self.predicted == self.labels
        return found

    def scores(self, metric: Metric) -> np.ndarray:
        """The metric of every run, (runs,)."""
        if ("scores", metric) not in self._known:
            self._known["scores", metric] = self._weighted(np.ones((1, len(self.labels)), np.float32), metric)[0]
        return self._known["scores", metric]

    def resampled(self, metric: Metric) -> np.ndarray:
        """The metric of every run on each resample, (COUNT, runs)."""
        if ("resampled", metric) not in self._known:
            parts = [self._weighted(weights, metric) for weights in self._resamples()]
            self._known["resampled", metric] = np.concatenate(parts)
        return self._known["resampled", metric]

    def interval(self, run: int, metric: Metric) -> tuple[float, float]:
        """A 95 % interval of the metric on texts like these.

        Accuracy: Wilson's score interval, which also holds near 0 and 1 (Brown, Cai and DasGupta 2001). Else the
        percentiles of the stratified bootstrap, which are too close where a class has a handful of texts. Where no
        answer is wrong, or none right, all resamples are alike, and Wilson's interval stands in for macro-F1 too.
        """
        if metric == "accuracy" or (metric == "f1_macro" and self.hits[run].all() == self.hits[run].any()):
            from statsmodels.stats.proportion import proportion_confint

            right, texts = int(self.hits[run].sum()), len(self.labels)
            low, high = proportion_confint(right, texts, alpha=1 - LEVEL, method="wilson")
        else:
            low, high = np.quantile(self.resampled(metric)[:, run], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return float(low), float(high)

    def difference(self, one: Sequence[int], other: Sequence[int], metric: Metric) -> Difference:
        """How much one set of runs scores above another on average: each set has the seeds of one way to train.

        Two single runs are compared by accuracy with McNemar's exact test. Else the statistic is the difference over
        its standard error, whose square is the sum of what the texts contribute (paired bootstrap, Efron and Tibshirani
        1993; Dietterich 1998 on why it must be paired) and, where a set has several seeds, what the seeds do (the
        variance between them over their number), as Bouthillier et al. 2021 ask for. Seeds are few: it is held against
        Student's t with the degrees of freedom of Welch and Satterthwaite. The percentiles of a bootstrap would not
        do, since a correction for many comparisons asks for smaller p-values than any number of resamples resolves.

        In macro-F1 a class of fewer than ten texts weighs as much as any other, but resamples hardly show how it might
        have fallen: a class's only text is in all of them. Such a class adds the square of the difference in its F1,
        divided by its texts, to the variance of the texts: then that is taken about 0, as McNemar's chi-square does
        it, and not about their mean. By its own class alone n texts never are more than √n standard errors from 0.
        """
        from scipy.stats import t

        replicates, scores = self.resampled(metric), self.scores(metric)
        value = float(scores[one].mean() - scores[other].mean())
        texts = (replicates[:, one].mean(axis=1) - replicates[:, other].mean(axis=1)).var(ddof=1)
        if metric == "f1_macro":
            texts += self._missing_variance(one, other)
        seeds = [(scores[runs].var(ddof=1) / len(runs), len(runs) - 1) for runs in (one, other) if len(runs) > 1]
        variance = float(texts + sum(part for part, _ in seeds))
        doubtful = sum(part**2 / freedom for part, freedom in seeds)
        freedom = variance**2 / doubtful if doubtful else math.inf
        reach = float(t.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(variance)
        if metric == "accuracy" and len(one) == len(other) == 1:
            p = self._mcnemar(one[0], other[0])
        else:
            p = 2 * float(t.sf(abs(value) / math.sqrt(variance), freedom)) if variance else float(value == 0)
            # No paired test is surer than if each text on which they differ were a coin that fell the same way.
            p = min(1.0, max(p, 2.0 ** (1 - self._discordant(one, other, metric))))
        return Difference(value, value - reach, value + reach, p)

    def inflation(self, points: Sequence[Sequence[int]], metric: Metric) -> Inflation | None:
        """How much choosing the best point by these texts, and its best run, flatters the winner.

        Bootstrap bias correction (Tsamardinos, Greasidou and Borboudakis 2018): the choice is made anew on each
        resample and rated on the texts that it left out. Their mean is what to expect of a winner on other texts; it
        is a little pessimistic, since a resample holds 63 of 100 texts to choose by. None for macro-F1 with so few
        texts of a class that those left out often have none of it.
        """
        if metric == "f1_macro" and np.bincount(self.labels, minlength=self.classes).min() < _LEAST_OF_A_CLASS:
            return None
        sign = -1 if metric == "loss" else 1
        expected: list[float] = []
        for weights in self._resamples():
            winners = _winners(sign * self._weighted(weights, metric), points)
            for weight, winner in zip(weights, winners, strict=True):
                if (weight == 0).any():
                    expected.append(self._score(winner, weight == 0, metric))
        scores = self.scores(metric)
        score = float(scores[_winners(sign * scores[None], points)[0]])
        return Inflation(score, float(np.mean(expected)) if expected else score)

    @cached_property
    def _known(self) -> dict[tuple[str, Metric], np.ndarray]:
        return {}

    def _score(self, run: int, texts: np.ndarray, metric: Metric) -> float:
        """The metric of one run on some of the texts."""
        if metric != "f1_macro":
            return float((self.hits if metric == "accuracy" else self.losses)[run, texts].mean())
        labels, predicted = self.labels[texts], self.predicted[run, texts]
        true, guessed, right = (
            np.bincount(values, minlength=self.classes) for values in (labels, predicted, labels[labels == predicted])
        )
        return float((2 * right / np.maximum(1, true + guessed)).mean())

    def _missing_variance(self, one: Sequence[int], other: Sequence[int]) -> float:
        """What resamples do not show of the variance of a difference in macro-F1, where classes have few texts."""
        texts, every = np.bincount(self.labels, minlength=self.classes), np.ones((1, len(self.labels)), np.float32)
        found = 0.0
        for label in np.flatnonzero((texts > 0) & (texts < _FEW_OF_A_CLASS)):
            f1 = self._f1_of(int(label), every)[0].astype(np.float64)
            found += (f1[one].mean() - f1[other].mean()) ** 2 / texts[label]
        return float(found) / self.classes**2

    def _mcnemar(self, one: int, other: int) -> float:
        from statsmodels.stats.contingency_tables import mcnemar

        first, second = self.hits[one], self.hits[other]
        table = [[(first & second).sum(), (first & ~second).sum()], [(~first & second).sum(), (~first & ~second).sum()]]
        return float(mcnemar(table, exact=True).pvalue)

    def _discordant(self, one: Sequence[int], other: Sequence[int], metric: Metric) -> int:
        """On how many texts two sets of runs differ."""
        values = self.losses if metric == "loss" else self.hits if metric == "accuracy" else self.predicted
        return int((values[one].mean(axis=0) != values[other].mean(axis=0)).sum())

    def _resamples(self) -> Iterator[np.ndarray]:
        """How often each text is in each resample, (some, texts), until there are COUNT; always the same ones."""
        generator = np.random.default_rng(_SEED)
        texts = len(self.labels)
        step = max(1, min(COUNT, _PART // max(1, texts)))
        strata = [np.flatnonzero(self.labels == label) for label in np.unique(self.labels)]
        for start in range(0, COUNT, step):
            size = min(step, COUNT - start)
            weights = np.zeros((size, texts), np.float32)
            for rows in strata:
                drawn = generator.integers(0, len(rows), (size, len(rows))) + len(rows) * np.arange(size)[:, None]
                counts = np.bincount(drawn.ravel(), minlength=size * len(rows))
                weights[:, rows] = counts.reshape(size, len(rows))
            yield weights

    def _weighted(self, weights: np.ndarray, metric: Metric) -> np.ndarray:
        """The metric of every run where texts count as often as `weights` (some, texts) says: (some, runs)."""
        if metric == "f1_macro":
            return self._weighted_f1(weights)
        values = self.hits if metric == "accuracy" else self.losses
        found: np.ndarray = (weights @ values.T.astype(np.float32)).astype(np.float64)
        return found / weights.sum(axis=1, keepdims=True, dtype=np.float64)

    def _weighted_f1(self, weights: np.ndarray) -> np.ndarray:
        """As `trainables.metrics.f1_macro`: 2·hits / (predicted + true) of each class, 0 where it is in neither."""
        total = np.zeros((len(weights), len(self.predicted)))
        for label in range(self.classes):
            total += self._f1_of(label, weights)
        return total / self.classes

    def _f1_of(self, label: int, weights: np.ndarray) -> np.ndarray:
        """The F1 of one class, (some, runs)."""
        own, guessed = self.labels == label, self.predicted == label
        true = weights[:, own].sum(axis=1, keepdims=True)
        right = weights[:, own] @ guessed[:, own].T.astype(np.float32)
        size = true + weights @ guessed.T.astype(np.float32)
        found: np.ndarray = np.divide(2 * right, size, out=np.zeros_like(size), where=size > 0)
        return found


def corrected(p_values: Sequence[float], candidates: int | None = None) -> list[float]:
    """Holm's correction: the chance that any of the comparisons is found real by accident stays below 5 %.

    That holds where what all others are compared with was fixed beforehand. Where it is the best of `candidates` by
    the same texts, each candidate could have been it, and best against worst is the widest of all pairs. Every p-value
    is therefore taken times candidates / 2 first: over all pairs the first false claim then has, by Holm's argument
    and the union bound, a chance of at most Σ over candidates of 5 % / candidates.
    """
    if not p_values:
        return []
    from statsmodels.stats.multitest import multipletests

    factor = 1.0 if candidates is None else max(1.0, candidates / 2)
    return [float(p) for p in multipletests(np.minimum(1.0, np.multiply(p_values, factor)), method="holm")[1]]


def _winners(scores: np.ndarray, points: Sequence[Sequence[int]]) -> list[int]:
    """The best run of the point with the best mean, by each row of scores (some, runs)."""
    means = np.stack([scores[:, runs].mean(axis=1) for runs in points], axis=1)
    chosen = [points[best] for best in means.argmax(axis=1)]
    return [runs[int(row[runs].argmax())] for row, runs in zip(scores, chosen, strict=True)]
