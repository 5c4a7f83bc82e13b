"""Baselines on real parquet splits: every line of the table obeys the same contract."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from trainables.directory import TrialDirectory
from trainables.errors import BadInput, CorruptFile, InfrastructureError
from trainables.files import read_json, write_json
from trainables.records import Result
from workflows.baselines import BASELINES, Texts, Tfidf, load_baseline, run_baseline

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


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_read_from_its_file_scores_as_it_was_scored(name: str, data: Path, tmp_path: Path) -> None:
    directory = TrialDirectory(tmp_path / name)
    run_baseline(name, data, LABELS, "accuracy", directory)
    again = load_baseline(directory)
    table = pq.read_table(directory.predictions, filters=[("split", "==", "test")])
    logits = again.logits(pq.read_table(data / "test.parquet")["text"].to_pylist())
    assert again.labels == LABELS
    assert np.array_equal(logits.astype("float32"), np.stack(table["logits"].to_numpy(zero_copy_only=False)))


@pytest.mark.parametrize("present", [(0, 2), (0, 1, 2)])
def test_tfidf_gives_the_probabilities_of_the_sklearn_pipeline_it_was_fitted_with(present: tuple[int, ...]) -> None:
    """Also where train lacks a class, and for words that train lacks."""
    labels = np.array([present[index % len(present)] for index in range(60)])
    train = Texts([f"{WORDS[label]} Number {index}, résumé" for index, label in enumerate(labels)], labels, labels)
    fitted = Tfidf.fit(train, train, LABELS, "loss")
    again = Tfidf.model_validate_json(fitted.model_dump_json())
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    known = vectorizer.fit_transform(train.texts)
    # on its own training data the weakest regularisation has the lowest loss
    model = LogisticRegression(C=30.0, max_iter=1_000).fit(known, labels)
    texts = ["awful awful film", "a wonderful RÉSUMÉ", "", "unseen words only", *train.texts[:5]]
    assert again.probabilities(texts)[:, present] == pytest.approx(
        model.predict_proba(vectorizer.transform(texts)), abs=1e-12
    )
    assert again.probabilities(texts).sum(axis=1) == pytest.approx(1)
    assert again == fitted


@pytest.mark.parametrize(
    ("texts", "terms"),
    [
        (("M K T A Y", "P Q R"), {"m", "m k", "p"}),
        (("😀 😀", "👎"), {"😀", "😀 😀", "👎"}),
        (("", ""), {""}),
    ],
)
def test_texts_without_a_word_of_two_characters_have_a_baseline_too(
    texts: tuple[str, str], terms: set[str], tmp_path: Path
) -> None:
    """Protein sequences, emoji, and texts that are all blank."""
    rows = 40
    columns = {"text": list(texts) * (rows // 2), "text_pair": pa.nulls(rows, pa.string()), "label": [0, 2] * 20}
    for split in ("train", "validation", "test"):
        pq.write_table(pa.table({"row": range(rows), **columns}), tmp_path / f"{split}.parquet")
    directory = TrialDirectory(tmp_path / "tfidf")
    result = run_baseline("tfidf", tmp_path, LABELS, "accuracy", directory)
    assert result.metrics["test/accuracy"] == (1.0 if any(texts) else 0.5)
    again = load_baseline(directory)
    assert isinstance(again, Tfidf)
    assert terms <= set(again.terms)
    logits = pq.read_table(directory.predictions, filters=[("split", "==", "test")])["logits"]
    told = np.stack(logits.to_numpy(zero_copy_only=False))
    assert np.array_equal(again.logits(columns["text"]).astype("float32"), told)


def test_the_two_sentences_of_a_pair_are_read_as_in_training(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    folder.mkdir()
    for split in ("train", "validation", "test"):
        table = pq.read_table(data / f"{split}.parquet")
        pair = pa.array([f"and {text} again" for text in table["text"].to_pylist()])
        pq.write_table(table.set_column(2, "text_pair", pair), folder / f"{split}.parquet")
    directory = TrialDirectory(tmp_path / "tfidf")
    run_baseline("tfidf", folder, LABELS, "accuracy", directory)
    test = pq.read_table(folder / "test.parquet")
    logits = load_baseline(directory).logits(test["text"].to_pylist(), test["text_pair"].to_pylist())
    recorded = pq.read_table(directory.predictions, filters=[("split", "==", "test")])["logits"]
    assert np.array_equal(logits.astype("float32"), np.stack(recorded.to_numpy(zero_copy_only=False)))


def test_the_file_of_a_baseline_has_a_line_per_field_not_per_number(data: Path, tmp_path: Path) -> None:
    directory = TrialDirectory(tmp_path)
    result = run_baseline("tfidf", data, LABELS, "accuracy", directory)
    lines = directory.model.read_text().splitlines()
    assert len(lines) < 20 < (result.total_parameters or 0)


DAMAGES: dict[str, tuple[type[Exception], Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "not a baseline's name": (BadInput, lambda content: content | {"baseline": "bayes"}),
    "no name at all": (BadInput, lambda content: {"weights": [1, 2]}),
    "a term too few": (BadInput, lambda content: content | {"terms": content["terms"][1:]}),
    "a term twice": (BadInput, lambda content: content | {"terms": content["terms"][:1] * len(content["terms"])}),
    "coefficients of one class": (BadInput, lambda content: content | {"coefficients": content["coefficients"][:1]}),
    "an id without a label": (BadInput, lambda content: content | {"labels": content["labels"][:2]}),
    "a pattern that is none": (BadInput, lambda content: content | {"token_pattern": "("}),
    "text for a number": (BadInput, lambda content: content | {"intercepts": ["a", "b", "c"]}),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_sealed_file_that_is_no_fitted_baseline_is_refused(case: str, data: Path, tmp_path: Path) -> None:
    directory = TrialDirectory(tmp_path)
    run_baseline("tfidf", data, LABELS, "accuracy", directory)
    error, damage = DAMAGES[case]
    write_json(directory.model, damage(read_json(directory.model)))
    with pytest.raises(error, match=r"model\.json"):
        load_baseline(directory)


def test_a_number_changed_in_the_file_is_found_out(data: Path, tmp_path: Path) -> None:
    directory = TrialDirectory(tmp_path)
    run_baseline("majority", data, LABELS, "accuracy", directory)
    text = directory.model.read_text()
    directory.model.write_text(text.replace("0.", "0.1", 1))
    with pytest.raises(CorruptFile, match=r"model\.json"):
        load_baseline(directory)


def test_a_baseline_that_is_given_up_leaves_nothing(data: Path, tmp_path: Path) -> None:
    directory = TrialDirectory(tmp_path / "majority")
    with pytest.raises(InfrastructureError, match="nobody waits for the baseline majority"):
        run_baseline("majority", data, LABELS, "accuracy", directory, lambda: True)
    assert not directory.root.exists()
