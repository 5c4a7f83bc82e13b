"""Confusion, scores per class and errors: every number recomputed from predictions.parquet."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from tests.workflows.report.reading import Page, figure_rows
from tests.workflows.report.sweeps import LABELS, TEXTS
from trainables.directory import SweepDirectory, TrialDirectory
from workflows.report import content


def predictions(directory: TrialDirectory) -> pd.DataFrame:
    table = pd.read_parquet(directory.predictions)
    return table[table["split"] == "test"].reset_index(drop=True)


@pytest.fixture
def champion(sweep: SweepDirectory) -> pd.DataFrame:
    best = content.read(sweep).champion
    assert best is not None
    return predictions(best.directory)


@pytest.mark.parametrize("kind", ["counts", "rows"])
@pytest.mark.parametrize("role", ["champion", "baseline"])
def test_confusion_matrices_are_those_of_the_predictions(
    role: str, kind: str, sweep: SweepDirectory, champion: pd.DataFrame
) -> None:
    found = champion if role == "champion" else predictions(sweep.baseline("tfidf"))
    expected = confusion_matrix(found["label"], found["predicted"], labels=range(len(LABELS)))
    rows = figure_rows(sweep, f"confusion-{role}-{kind}")
    counts = np.array([int(row["count"]) for row in rows]).reshape(expected.shape)
    shares = np.array([float(row["share_of_true"]) for row in rows]).reshape(expected.shape)
    np.testing.assert_array_equal(counts, expected)
    np.testing.assert_allclose(shares, expected / expected.sum(axis=1, keepdims=True))
    assert [row["predicted"] for row in rows[: len(LABELS)]] == list(LABELS)


def test_scores_per_class_are_those_of_the_predictions(sweep: SweepDirectory, champion: pd.DataFrame) -> None:
    baseline = predictions(sweep.baseline("tfidf"))
    rows = {row["class"]: row for row in figure_rows(sweep, "f1-per-class")}
    for role, found in (("champion", champion), ("reference", baseline)):
        columns = precision_recall_fscore_support(found["label"], found["predicted"], labels=range(len(LABELS)))
        for key, values in zip(("precision", "recall", "f1"), columns, strict=False):
            assert [float(rows[label][f"{role}_{key}"]) for label in LABELS] == pytest.approx(list(values))
    assert [float(row["champion_f1"]) for row in rows.values()] == sorted(
        float(row["champion_f1"]) for row in rows.values()
    )
    table = {row["class"]: row for row in Page(sweep.report).rows("Scores of each class on test")}
    assert {label: row["f1"] for label, row in table.items()} == {
        label: f"{float(row['champion_f1']):.4f}" for label, row in rows.items()
    }


def test_the_worst_texts_are_those_with_the_highest_loss(sweep: SweepDirectory, champion: pd.DataFrame) -> None:
    worst = champion.sort_values("loss", ascending=False).head(20)
    rows = Page(sweep.report).rows("Test texts with the highest loss")
    assert [int(row["row"]) for row in rows] == worst["row"].tolist()
    assert [row["true"] for row in rows] == [LABELS[label] for label in worst["label"]]
    assert [row["text"] for row in rows] == [f"a fine film number {row - 1000}" for row in worst["row"]]
    assert [row["cut\noff"] for row in rows] == [str(cut) for cut in worst["tokens_cut"]]


def test_the_worst_texts_of_every_other_trial_and_of_tfidf_are_there_too(sweep: SweepDirectory) -> None:
    found = content.read(sweep)
    others = {found.label(run): run.directory for run in found.done if run is not found.champion}
    assert len(others) > 1
    for name, directory in ({"TF-IDF": sweep.baseline("tfidf")} | others).items():
        worst = predictions(directory).sort_values(["loss", "row"], ascending=[False, True]).head(20)
        rows = Page(sweep.report).rows(name)
        assert [int(row["row"]) for row in rows] == worst["row"].tolist()
        assert [row["text"] for row in rows] == [f"a fine film number {row - 1000}" for row in worst["row"]]


def test_accuracy_by_length_is_that_of_the_texts_of_each_bin(sweep: SweepDirectory, champion: pd.DataFrame) -> None:
    lengths = champion["tokens"] + champion["tokens_cut"]
    sides = {"champion": champion, "TF-IDF": predictions(sweep.baseline("tfidf"))}
    rows = figure_rows(sweep, "accuracy-by-length")
    assert len(rows) == 10
    for row in rows:
        inside = (lengths >= float(row["low"])) & (lengths <= float(row["high"]))
        found = sides[row["side"]][inside]
        assert int(row["texts"]) == len(found)
        assert float(row["accuracy"]) == pytest.approx(accuracy_score(found["label"], found["predicted"]))
    assert sum(int(row["texts"]) for row in rows if row["side"] == "champion") == TEXTS


def test_accuracy_by_share_cut_sets_whole_texts_apart(sweep: SweepDirectory, champion: pd.DataFrame) -> None:
    share = champion["tokens_cut"] / (champion["tokens"] + champion["tokens_cut"])
    whole, *cut = [row for row in figure_rows(sweep, "accuracy-by-share-cut") if row["side"] == "champion"]
    found = champion[share == 0]
    assert (int(whole["texts"]), float(whole["high"])) == (len(found), 0)
    assert float(whole["accuracy"]) == pytest.approx(accuracy_score(found["label"], found["predicted"]))
    assert sum(int(row["texts"]) for row in cut) == (share > 0).sum()


def test_the_words_beside_a_matrix_count_its_diagonal(sweep: SweepDirectory, champion: pd.DataFrame) -> None:
    right = int((champion["label"] == champion["predicted"]).sum())
    page = Page(sweep.report)
    assert f"{right} of {TEXTS} test texts are on the diagonal" in page.text
    assert f"is wrong on {TEXTS - right} of {TEXTS} test texts" in page.text
