"""How far probabilities can be believed: every number of the section recomputed from predictions.parquet."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from tests.workflows.report.reading import Page, figure_rows
from trainables.directory import SweepDirectory, TrialDirectory
from workflows import calibration, confidence
from workflows.report import content


def chances(directory: TrialDirectory, split: str, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    table = pd.read_parquet(directory.predictions)
    table = table[table["split"] == split]
    return softmax(np.stack(table["logits"].tolist()).astype(float) / temperature, axis=1), table["label"].to_numpy()


@pytest.fixture
def champion(sweep: SweepDirectory) -> TrialDirectory:
    best = content.read(sweep).champion
    assert best is not None
    return best.directory


def test_the_table_has_the_champion_and_tfidf_before_and_after(sweep: SweepDirectory, champion: TrialDirectory) -> None:
    rows = Page(sweep.report).rows("Calibration on test")
    assert [row["which"] for row in rows][1] == "TF-IDF"
    for row, directory in zip(rows, (champion, sweep.baseline("tfidf")), strict=True):
        found = confidence.of(directory)
        assert row["temperature"] == f"{found.temperature:.3g}"
        for heading, value in (("calibration\nerror", 1.0), ("calibrated", found.temperature)):
            error = calibration.reliability(*chances(directory, "test", value)).error
            assert row[heading] == f"{error:.4f}"


def test_the_reliability_figure_counts_every_test_text_once(sweep: SweepDirectory, champion: TrialDirectory) -> None:
    rows = figure_rows(sweep, "reliability")
    for name, value in (("uncalibrated", 1.0), ("calibrated", confidence.of(champion).temperature)):
        own = [row for row in rows if row["probabilities"] == name]
        probabilities, labels = chances(champion, "test", value)
        sure = probabilities.max(axis=1)
        for row in own:
            inside = (sure > float(row["low"])) & (sure <= float(row["high"]))
            assert int(row["texts"]) == inside.sum()
            right = probabilities[inside].argmax(axis=1) == labels[inside]
            assert float(row["accuracy"]) == pytest.approx(right.mean())
        assert sum(int(row["texts"]) for row in own) == len(labels)


def test_thresholds_are_chosen_on_validation_and_what_they_come_to_is_of_test(
    sweep: SweepDirectory, champion: TrialDirectory
) -> None:
    value = confidence.of(champion).temperature
    held_out, (probabilities, labels) = chances(champion, "validation", value)[0], chances(champion, "test", value)
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    rows = Page(sweep.report).rows("What answering less gains")
    assert rows[0]["accuracy\nof these"] == f"{right.mean():.4f}"
    assert rows[0]["texts"] == str(len(labels))
    for row in rows[1:]:
        threshold = float(row["where the\nprobability is at least"])
        share = float(row["answered of\nvalidation"].rstrip(" %")) / 100
        assert (held_out.max(axis=1) >= threshold - 1e-4).mean() >= share
        answered = sure >= threshold - 5e-5
        assert abs(int(row["texts"]) - answered.sum()) <= 1
        assert float(row["accuracy\nof these"]) == pytest.approx(right[answered].mean(), abs=0.02)
