"""Baselines on real parquet splits: every line of the table obeys the same contract."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainables.directory import TrialDirectory
from trainables.records import Result
from workflows.baselines import BASELINES, run_baseline

LABELS = ("bad", "fine", "good")
WORDS = {0: "awful boring mess", 1: "watchable average film", 2: "wonderful moving triumph"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for split, size in {"train": 120, "validation": 30, "test": 30}.items():
        labels = np.r_[np.zeros(size // 2, int), generator.integers(0, 3, size - size // 2)]
        texts = [f"{WORDS[label]} number {generator.integers(50)}" for label in labels]
        table = pa.table({"row": range(size), "text": texts, "text_pair": pa.nulls(size, pa.string()), "label": labels})
        pq.write_table(table, folder / f"{split}.parquet")
    return folder


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_leaves_a_result_and_predictions_that_agree(name: str, data: Path, tmp_path: Path) -> None:
    directory = TrialDirectory(tmp_path / name)
    result = run_baseline(name, data, LABELS, "accuracy", directory)
    assert Result.read(directory.result) == result
    assert (result.kind, result.status, result.trial_id) == ("baseline", "DONE", name)
    table = pq.read_table(directory.predictions).to_pandas()
    assert table.groupby("split").size().to_dict() == {"test": 30, "validation": 30}
    for split, rows in table.groupby("split"):
        assert (rows.label == rows.predicted).mean() == pytest.approx(result.metrics[f"{split}/accuracy"])
        assert np.stack(rows.probabilities).sum(axis=1) == pytest.approx(1, abs=1e-5)
        assert rows.loss.mean() == pytest.approx(result.metrics[f"{split}/loss"], rel=1e-5)


def test_majority_scores_the_share_of_the_largest_class(data: Path, tmp_path: Path) -> None:
    result = run_baseline("majority", data, LABELS, "accuracy", TrialDirectory(tmp_path))
    labels = pq.read_table(data / "test.parquet")["label"].to_numpy()
    assert result.metrics["test/accuracy"] == pytest.approx((labels == 0).mean())


@pytest.mark.parametrize("metric", ["accuracy", "f1_macro", "loss"])
def test_tfidf_learns_words_that_tell_the_classes_apart(metric: str, data: Path, tmp_path: Path) -> None:
    result = run_baseline("tfidf", data, LABELS, metric, TrialDirectory(tmp_path))  # type: ignore[arg-type]
    assert result.metrics["test/accuracy"] == 1.0
