"""Statistics of predictions, against scikit-learn, textbook values and cases whose answer is plain."""

from __future__ import annotations

import numpy as np
import pytest

from trainables.arguments import Metric
from trainables.metrics import METRICS
from workflows.evidence import Exam, corrected


def exam(hits: np.ndarray, classes: int = 2) -> Exam:
    """Runs that are right where `hits` (runs, texts) says so, and else answer the next class."""
    labels = np.arange(hits.shape[1]) % classes
    predicted = np.where(hits, labels, (labels + 1) % classes)
    return Exam(labels, predicted, np.where(hits, 0.2, 1.5), classes)


def shares(*accuracies: float, texts: int = 400, seed: int = 0) -> np.ndarray:
    """Independent runs that are right on a share of the texts."""
    return np.random.default_rng(seed).random((len(accuracies), texts)) < np.array(accuracies)[:, None]


@pytest.mark.parametrize("metric", METRICS)
def test_scores_and_resamples_are_those_of_the_metrics_of_a_trial(metric: Metric) -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 60)
    logits = generator.normal(size=(3, 60, 4))
    logits[:, :, 3] -= 9  # a class that nobody answers
    losses = -np.log(np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True))[:, np.arange(60), labels]
    made = Exam(labels, logits.argmax(axis=2), losses, 4)
    weights = next(made._resamples())[:5]
    expected = [
        [METRICS[metric](run[rows], labels[rows]) for run in logits]
        for rows in (np.repeat(np.arange(60), weight.astype(int)) for weight in weights)
    ]
    assert made.resampled(metric)[:5] == pytest.approx(np.array(expected), abs=1e-5)
    assert made.scores(metric) == pytest.approx([METRICS[metric](run, labels) for run in logits], abs=1e-6)


def test_every_resample_has_the_classes_of_the_split() -> None:
    labels = np.array([0] * 50 + [1] * 9 + [2])
    made = Exam(labels, labels[None], np.zeros((1, 60)), 3)
    weights = next(made._resamples())
    assert {tuple(np.bincount(labels, weight).astype(int)) for weight in weights} == {(50, 9, 1)}
    assert len(np.unique(weights, axis=0)) > 900


def test_accuracy_has_wilsons_interval_and_f1_the_percentiles_of_the_bootstrap() -> None:
    hits = np.zeros((1, 400), bool)
    hits[0, :296] = True
    made = exam(hits)
    assert made.interval(0, "accuracy") == pytest.approx((0.69488, 0.78056), abs=1e-5)
    low, high = made.interval(0, "f1_macro")
    assert np.mean((made.resampled("f1_macro") > low) & (made.resampled("f1_macro") < high)) == pytest.approx(
        0.95, abs=0.003
    )


def test_a_run_without_an_error_has_an_interval_all_the_same() -> None:
    made = exam(np.ones((1, 20), bool))
    assert made.interval(0, "f1_macro") == made.interval(0, "accuracy") == pytest.approx((0.83887, 1), abs=1e-5)


def test_two_runs_are_compared_by_mcnemars_exact_test_on_the_texts_on_which_they_differ() -> None:
    hits = np.zeros((2, 400), bool)
    hits[0, :80] = hits[1, 80:132] = hits[:, 132:300] = True
    found = exam(hits).difference([0], [1], "accuracy")
    assert found.p == pytest.approx(0.0184306, abs=1e-6)
    assert found.value == pytest.approx(0.07)
    # The standard error of a paired difference: sqrt((132 - 28²/400)) / 400.
    assert (found.low, found.high) == pytest.approx((0.07 - 1.96 * 0.02851, 0.07 + 1.96 * 0.02851), abs=0.004)


@pytest.mark.parametrize("metric", ["accuracy", "f1_macro", "loss"])
def test_a_difference_has_no_side_and_none_with_itself(metric: Metric) -> None:
    made = exam(shares(0.9, 0.7))
    one, other = made.difference([0], [1], metric), made.difference([1], [0], metric)
    assert (one.value, one.low, one.high, one.p) == pytest.approx((-other.value, -other.high, -other.low, other.p))
    assert one.p < 0.001
    itself = made.difference([0], [0], metric)
    assert (itself.value, itself.low, itself.high, itself.p) == (0, 0, 0, 1)


def test_pairing_finds_what_two_separate_samples_would_not() -> None:
    """Both are right on about 70 %, but wherever they differ the first is right."""
    first = shares(0.7, texts=2000)[0]
    second = first.copy()
    second[np.flatnonzero(first)[:20]] = False
    found = exam(np.stack([first, second])).difference([0], [1], "f1_macro")
    assert found.value == pytest.approx(0.01, abs=0.002)
    assert found.p < 0.001 and found.low > 0


def test_a_handful_of_texts_proves_nothing_however_they_fall() -> None:
    hits = np.array([[True] * 4, [False] * 4])
    for metric in ("accuracy", "f1_macro"):
        assert exam(hits).difference([0], [1], metric).p == pytest.approx(2 / 2**4)


def rare(texts: int, *accuracies: float, seed: int) -> Exam:
    """Independent runs on 60 texts each of two classes and a few of a third, which is told from them as the others are.

    What is wrong is taken for one of the two large classes.
    """
    labels = np.repeat([0, 1, 2], [60, 60, texts])
    right = shares(*accuracies, texts=len(labels), seed=seed)
    return Exam(labels, np.where(right, labels, (labels == 0).astype(int)), np.zeros(right.shape), 3)


@pytest.mark.parametrize("texts", [1, 2, 5])
def test_no_difference_is_real_because_of_a_class_of_few_texts(texts: int) -> None:
    found = [rare(texts, 0.8, 0.8, seed=seed).difference([0], [1], "f1_macro") for seed in range(60)]
    assert sum(each.p < 0.05 for each in found) <= 3
    assert sum(each.low > 0 or each.high < 0 for each in found) <= 3


def test_beside_a_class_of_few_texts_a_real_difference_is_found_all_the_same() -> None:
    found = [rare(1, 0.97, 0.7, seed=seed) for seed in range(30)]
    agreed = [each for each in found if each.hits[0, -1] == each.hits[1, -1]]
    assert len(agreed) > 15
    assert all(each.difference([0], [1], "f1_macro").p < 0.01 for each in agreed)


def test_classes_of_enough_texts_are_judged_by_their_resamples_alone() -> None:
    made = rare(10, 0.9, 0.8, seed=0)
    found, resampled = made.difference([0], [1], "f1_macro"), made.resampled("f1_macro")
    assert (found.high - found.low) / 2 == pytest.approx(1.959964 * (resampled[:, 0] - resampled[:, 1]).std(ddof=1))


def test_seeds_that_scatter_take_from_a_difference_what_the_texts_alone_would_give_it() -> None:
    steady = exam(shares(0.8, 0.8, 0.8, 0.7, 0.7, 0.7, texts=1000))
    scattered = exam(shares(0.95, 0.8, 0.65, 0.85, 0.7, 0.55, texts=1000))
    one, other = [0, 1, 2], [3, 4, 5]
    assert steady.difference(one, other, "accuracy").p < 0.001
    found = scattered.difference(one, other, "accuracy")
    assert found.p > 0.1
    # Between 0.95, 0.8 and 0.65 lies a variance of 0.0225; the mean of three has a third of it, on both sides, and
    # variances of two equal sets of three are known with about 4 degrees of freedom (t = 2.78).
    assert (found.high - found.low) / 2 == pytest.approx(2.78 * (2 * 0.0225 / 3) ** 0.5, rel=0.2)
    assert scattered.difference([1], [4], "accuracy").p < 0.001


def test_several_seeds_are_surer_than_one() -> None:
    made = exam(shares(*[0.8] * 5, *[0.76] * 5, texts=600))
    singly = [made.difference([one], [other], "accuracy").p for one in range(5) for other in range(5, 10)]
    assert made.difference(range(5), range(5, 10), "accuracy").p < 0.5 * np.median(singly)


def test_holm_multiplies_by_what_is_left_and_the_choice_of_the_best_by_half_the_candidates() -> None:
    assert corrected([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert corrected([0.001, 0.004, 0.003], candidates=4) == pytest.approx([0.006, 0.012, 0.012])
    assert corrected([0.01], candidates=2) == corrected([0.01]) == [0.01]
    assert corrected([]) == []


def test_a_clear_winner_is_not_flattered_and_the_luckiest_of_many_equals_is() -> None:
    clear = exam(shares(0.9, 0.5, 0.5)).inflation([[0], [1], [2]], "accuracy")
    assert clear is not None and clear.expected == pytest.approx(clear.score, abs=0.003)
    equal = exam(shares(*[0.8] * 30)).inflation([[run] for run in range(30)], "accuracy")
    assert equal is not None and 0.02 < equal.score - equal.expected < 0.05
    worst = exam(shares(*[0.8] * 30)).inflation([[run] for run in range(30)], "loss")
    assert worst is not None and worst.expected > worst.score


def test_the_winner_is_the_best_seed_of_the_best_point() -> None:
    made = exam(shares(0.95, 0.5, 0.8, 0.82))
    found = made.inflation([[0, 1], [2, 3]], "accuracy")
    assert found is not None and found.score == pytest.approx(made.scores("accuracy")[2:].max())


def test_f1_is_not_extrapolated_from_a_class_of_a_few_texts() -> None:
    labels = np.array([0] * 50 + [1] * 50 + [2] * 4)
    made = Exam(labels, np.stack([labels, labels]), np.zeros((2, 104)), 3)
    assert made.inflation([[0], [1]], "f1_macro") is None
    assert made.inflation([[0], [1]], "accuracy") is not None
