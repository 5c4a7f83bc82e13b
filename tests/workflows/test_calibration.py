"""A temperature is that by which labels were drawn; errors, scores and curves are those that one counts by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import brier_score_loss, log_loss

from workflows import calibration


def drawn(texts: int, classes: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from their softmax at a temperature."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(scale=3.0, size=(texts, classes))
    chances = softmax(logits / temperature, axis=1)
    labels = (chances.cumsum(axis=1) > generator.random((texts, 1))).argmax(axis=1)
    return logits, labels


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("classes", [2, 7])
def test_the_temperature_by_which_labels_were_drawn_is_found_again(temperature: float, classes: int) -> None:
    logits, labels = drawn(20_000, classes, temperature)
    assert calibration.fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_no_other_temperature_explains_validation_better(seed: int) -> None:
    logits, labels = drawn(400, 3, 2.0, seed)
    found = calibration.fit_temperature(logits, labels)

    def loss(temperature: float) -> float:
        return float(log_loss(labels, softmax(logits / temperature, axis=1), labels=range(3)))

    assert all(loss(found) <= loss(found * factor) for factor in (0.5, 0.9, 1.1, 2.0))


def test_log_probabilities_have_the_temperature_of_their_logits() -> None:
    logits, labels = drawn(500, 4, 1.7)
    as_logits = calibration.fit_temperature(logits, labels)
    assert calibration.fit_temperature(np.log(softmax(logits, axis=1)), labels) == pytest.approx(as_logits, rel=1e-6)


def test_a_few_texts_without_a_wrong_answer_do_not_prove_that_there_is_none() -> None:
    labels = np.arange(20) % 2
    logits = np.where(np.eye(2)[labels] == 1, 2.0, -2.0)
    found = calibration.fit_temperature(logits, labels)
    sure = calibration.probabilities(logits, found).max()
    assert 0.95 < sure < 0.99


def test_logits_that_say_nothing_keep_the_temperature_1() -> None:
    assert calibration.fit_temperature(np.zeros((10, 3)), np.zeros(10, int)) == 1.0


@given(st.integers(0, 10_000), st.floats(0.05, 20.0))
def test_a_temperature_never_changes_the_label(seed: int, temperature: float) -> None:
    logits = np.random.default_rng(seed).normal(scale=4.0, size=(20, 4)).astype(np.float32)
    found = calibration.probabilities(logits, temperature)
    np.testing.assert_array_equal(found.argmax(axis=1), logits.argmax(axis=1))
    np.testing.assert_allclose(found.sum(axis=1), 1.0)


def test_the_calibration_error_is_the_one_counted_by_hand() -> None:
    first = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    found = calibration.reliability(np.stack([first, 1 - first], axis=1), np.array([0, 0, 0, 1, 0, 1]))
    assert found.texts.tolist() == [2, 4]
    assert found.accuracy.tolist() == [0.5, 0.75]
    assert found.confidence == pytest.approx([0.55, 0.95])
    assert all(found.low < found.confidence) and all(found.confidence <= found.high)
    assert found.error == pytest.approx((2 * 0.05 + 4 * 0.20) / 6)


def test_certainty_has_a_bin() -> None:
    found = calibration.reliability(np.eye(3), np.array([0, 1, 0]))
    assert (found.texts.tolist(), found.high.tolist()) == ([3], [1.0])
    assert found.error == pytest.approx(1 / 3)


def test_labels_drawn_from_the_probabilities_leave_little_error_and_a_temperature_mends_the_rest() -> None:
    logits, labels = drawn(20_000, 3, 3.0)
    before = calibration.reliability(calibration.probabilities(logits), labels).error
    after = calibration.reliability(calibration.probabilities(logits, 3.0), labels).error
    assert before > 0.2
    assert after < 0.02


@pytest.mark.parametrize("classes", [2, 5])
def test_the_brier_score_is_sklearns(classes: int) -> None:
    logits, labels = drawn(200, classes, 1.0)
    found = calibration.probabilities(logits)
    expected = brier_score_loss(labels, found, labels=list(range(classes)), scale_by_half=False)
    assert calibration.brier(found, labels) == pytest.approx(expected)


def test_coverage_answers_the_surest_first_and_equals_together() -> None:
    first = np.array([0.9, 0.6, 0.7, 0.7, 0.8])
    found = calibration.coverage(np.stack([first, 1 - first], axis=1), np.array([0, 1, 0, 1, 0]))
    assert found.threshold.tolist() == [0.9, 0.8, 0.7, 0.6]
    assert found.coverage.tolist() == [0.2, 0.4, 0.8, 1.0]
    assert found.accuracy == pytest.approx([1.0, 1.0, 0.75, 0.6])
    assert found.at(0.75) == (0.4, 1.0)
    assert found.at(0.95) == (0.0, None)
    assert found.threshold_for(0.5) == 0.7
    assert found.threshold_for(1.0) == 0.6


def test_abstaining_pays_where_confidence_means_something_and_not_where_it_does_not() -> None:
    logits, labels = drawn(5_000, 3, 1.0)
    found = calibration.coverage(calibration.probabilities(logits), labels)
    assert found.at(found.threshold_for(0.5))[1] > found.accuracy[-1] + 0.05
    shuffled = np.random.default_rng(1).permutation(labels)
    nothing = calibration.coverage(calibration.probabilities(logits), shuffled)
    assert nothing.at(nothing.threshold_for(0.5))[1] == pytest.approx(1 / 3, abs=0.05)
