"""How far probabilities can be believed, and the one number that mends them: a temperature.

Numbers in, numbers out. Logits may be log-probabilities: softmax(log p / T) is softmax(z / T), so what a baseline
leaves is calibrated like what an encoder leaves. A temperature never changes which label is the most probable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

BINS = 15
_LEAST, _MOST = 0.05, 20.0


@dataclass(frozen=True)
class Reliability:
    """Texts by how sure the classifier is of them, in `BINS` bins of equal width; empty bins are left out.

    Of each bin: its lower and upper end, how many texts it has, their mean confidence, and the share that is right.
    """

    low: np.ndarray
    high: np.ndarray
    texts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error: the mean distance of confidence from accuracy, by the texts of each bin.

        Naeini, Cooper and Hauskrecht 2015, over the most probable class as in Guo et al. 2017.
        """
        return float(np.average(np.abs(self.accuracy - self.confidence), weights=self.texts))


@dataclass(frozen=True)
class Coverage:
    """What abstaining gains: answer where the confidence is at least `threshold` (falling), and not elsewhere.

    `coverage` is the share of texts that is answered then, `accuracy` the share of these that is right (El-Yaniv and
    Wiener 2010; Geifman and El-Yaniv 2017 for networks). Texts of one confidence are answered together, or not at all.
    """

    threshold: np.ndarray
    coverage: np.ndarray
    accuracy: np.ndarray

    @property
    def mean_accuracy(self) -> float:
        """The mean accuracy over all shares of texts that could be answered: one minus the area under the risk."""
        return float(np.average(self.accuracy, weights=np.diff(self.coverage, prepend=0.0)))

    def at(self, threshold: float) -> tuple[float, float | None]:
        """Coverage and accuracy at any threshold; no accuracy where nothing is answered."""
        answered = int((self.threshold >= threshold).sum())
        if not answered:
            return 0.0, None
        return float(self.coverage[answered - 1]), float(self.accuracy[answered - 1])

    def threshold_for(self, share: float) -> float:
        """The highest threshold at which at least such a share of the texts is answered."""
        return float(self.threshold[int(np.searchsorted(self.coverage, share - 1e-12))])


def probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities, float64, shape (texts, classes), of logits of that shape."""
    found: np.ndarray = softmax(np.asarray(logits, np.float64) / temperature, axis=1)
    return found


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature by which logits (texts, classes) explain labels (texts,) best: Guo et al. 2017.

    It minimises the mean cross-entropy, of which there is one minimum. One more text is taken to be there, whose label
    is any class alike (as Platt 1999 smooths labels), since a few texts with no wrong answer would otherwise prove
    that nothing can ever be wrong. Between 0.05 and 20; 1 where the logits say the same at any temperature.
    """
    given, texts = np.asarray(logits, np.float64), np.arange(len(labels))

    def cost(exponent: float) -> float:
        losses = -log_softmax(given / math.exp(exponent), axis=1)
        return float((losses[texts, labels].sum() + losses.mean()) / (len(labels) + 1))

    found = minimize_scalar(cost, bounds=(math.log(_LEAST), math.log(_MOST)), method="bounded")
    # A hair's breadth is what rounding gains where nothing can be gained.
    return math.exp(float(found.x)) if cost(0.0) - found.fun > 1e-9 else 1.0


def brier(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Brier score of probabilities (texts, classes): the mean squared distance from what was true, from 0 to 2."""
    wanted = np.zeros_like(probabilities)
    wanted[np.arange(len(labels)), labels] = 1.0
    return float(((probabilities - wanted) ** 2).sum(axis=1).mean())


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> Reliability:
    """Confidence and accuracy, bin by bin, of probabilities (texts, classes) for labels (texts,)."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    # A confidence on an edge belongs below it, so that 1 has a bin.
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    texts = np.bincount(bins, minlength=BINS)
    used = np.flatnonzero(texts)
    sums = (np.bincount(bins, weights=values, minlength=BINS)[used] for values in (confidence, right))
    mean_confidence, accuracy = (total / texts[used] for total in sums)
    return Reliability(used / BINS, (used + 1) / BINS, texts[used], mean_confidence, accuracy)


def coverage(probabilities: np.ndarray, labels: np.ndarray) -> Coverage:
    """Share answered and accuracy at every confidence that occurs, the highest first."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    order = np.argsort(-confidence, kind="stable")
    last = np.flatnonzero(np.diff(confidence[order], append=-1.0))
    answered = last + 1
    return Coverage(confidence[order][last], answered / len(labels), right[order].cumsum()[last] / answered)
