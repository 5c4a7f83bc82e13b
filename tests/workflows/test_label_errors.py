"""Flipped labels are found, about as many as were flipped; where none is wrong, hardly any is suspected."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from tests.tiny_data import reviews
from tests.workflows.report import sweeps
from tests.workflows.report.reading import Page
from tests.workflows.report.sweeps import LABELS, Trial
from trainables import predictions
from trainables.directory import SweepDirectory, TrialDirectory
from trainables.predictions import Scored
from trainables.records import Result
from workflows import label_errors
from workflows.report import write_report

SHARE = 0.03


def flipped(labels: np.ndarray, classes: int, share: float = SHARE, seed: int = 0) -> tuple[np.ndarray, set[int]]:
    """Labels of which a share was turned into another class, and which."""
    generator = np.random.default_rng(seed)
    chosen = generator.choice(len(labels), round(share * len(labels)), replace=False)
    turned = labels.copy()
    turned[chosen] = (labels[chosen] + generator.integers(1, classes, len(chosen))) % classes
    return turned, set(chosen.tolist())


def answers(labels: np.ndarray, classes: int, skill: float, seed: int = 0) -> np.ndarray:
    """Probabilities of a classifier of some skill, as it was taught: calibrated, and wrong where that is due."""
    logits = np.random.default_rng(seed).normal(size=(len(labels), classes))
    logits[np.arange(len(labels)), labels] += skill
    chances: np.ndarray = softmax(skill * logits, axis=1)
    return chances


@pytest.mark.parametrize(("classes", "skill"), [(2, 3.0), (4, 4.0), (6, 4.0)])
def test_planted_flips_are_found_and_about_as_many(classes: int, skill: float) -> None:
    truth = np.arange(2_000) % classes
    chances = answers(truth, classes, skill)
    labels, planted = flipped(truth, classes)
    found = label_errors.suspects(chances, labels)
    assert len(planted & set(found)) > 0.9 * len(planted)
    assert 0.8 * len(planted) < len(found) < 1.5 * len(planted)
    assert len(planted & set(found[: len(planted)])) > 0.8 * len(planted), "the planted ones must come first"
    assert len(label_errors.suspects(chances, truth)) < 0.01 * len(truth)


def test_what_is_suspected_is_never_the_label_that_the_models_suggest() -> None:
    truth = np.arange(500) % 3
    chances = answers(truth, 3, 1.0)
    found = label_errors.suspects(chances, truth)
    assert (chances[found].argmax(axis=1) != truth[found]).all()


def test_one_class_alone_and_a_class_without_a_text_are_no_trouble() -> None:
    assert len(label_errors.suspects(np.full((5, 2), 0.5), np.zeros(5, int))) == 0
    truth = np.arange(60) % 2
    assert len(label_errors.suspects(answers(truth, 4, 5.0), truth)) == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(2, 5), st.sampled_from([0.0, 1.0, 30.0]))
def test_no_answers_are_so_odd_that_it_fails(seed: int, texts: int, classes: int, skill: float) -> None:
    labels = np.random.default_rng(seed).integers(0, classes, texts)
    found = label_errors.suspects(answers(labels, classes, skill, seed), labels)
    assert len(set(found.tolist())) == len(found) <= texts


@pytest.mark.parametrize("texts", [["!"] * 12, ["a word"] * 12, [f"word{index} x{index}" for index in range(12)]])
@pytest.mark.parametrize("labels", [[0] * 12, list(range(12)), [0] * 11 + [1], [0, 1] * 6])
def test_no_train_split_is_so_odd_that_it_fails(tmp_path: Path, texts: list[str], labels: list[int]) -> None:
    sweep, trials = sweep_of(tmp_path)
    found = label_errors.find(sweep, trials, prepared(tmp_path / "odd", labels, texts), "a").splits[-1]
    assert (found.split, found.texts) == ("train", 12)


def prepared(folder: Path, labels: list[int], texts: list[str]) -> Path:
    """A train split as the preparation leaves it, with rows that do not begin at 0."""
    folder.mkdir(parents=True, exist_ok=True)
    columns: dict[str, Any] = {"row": range(100, 100 + len(texts)), "text": texts, "label": labels}
    pq.write_table(pa.table(columns | {"text_pair": pa.nulls(len(texts), pa.string())}), folder / "train.parquet")
    return folder / "train.parquet"


def sweep_of(root: Path) -> tuple[SweepDirectory, list[TrialDirectory]]:
    sweep = sweeps.make(root / "reviews", [Trial(skill=6.0)])
    return sweep, [TrialDirectory(path) for path in sweep.trials.iterdir()]


def test_labels_of_train_are_judged_by_models_that_have_not_seen_them(tmp_path: Path) -> None:
    texts, truth = reviews(300)
    labels, planted = flipped(np.array(truth), 2)
    # The only text of its class is like nothing that was learned, and no suspect for that.
    texts, truth, labels = [*texts, "quite another thing"], [*truth, 2], np.append(labels, 2)
    sweep, trials = sweep_of(tmp_path)
    clean = label_errors.find(sweep, trials, prepared(tmp_path / "clean", truth, texts), "a").splits[-1]
    assert (clean.split, clean.texts, clean.suspects) == ("train", 301, ())
    found = label_errors.find(sweep, trials, prepared(tmp_path / "flipped", labels.tolist(), texts), "b").splits[-1]
    suspected = {suspect.row - 100: suspect for suspect in found.suspects}
    assert planted <= suspected.keys()
    assert len(suspected) <= len(planted) + 2
    assert all(suspect.label == labels[index] for index, suspect in suspected.items())
    assert all(suspected[index].suggested == truth[index] for index in planted)


def test_of_a_large_train_split_a_part_is_judged_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, truth = reviews(200)
    sweep, trials = sweep_of(tmp_path)
    monkeypatch.setattr(label_errors, "_MOST_CHARACTERS", sum(map(len, texts)) // 2)
    found = label_errors.find(sweep, trials, prepared(tmp_path / "half", truth, texts), "a").splits[-1]
    assert 80 < found.texts < 120


def test_of_a_large_train_split_only_what_is_judged_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, truth = reviews(200)
    sweep, trials = sweep_of(tmp_path)
    monkeypatch.setattr(label_errors, "_MOST_CHARACTERS", sum(map(len, texts)))
    small, large = prepared(tmp_path / "small", truth, texts), prepared(tmp_path / "large", truth * 300, texts * 300)
    # What is imported on the way is not what is measured.
    label_errors.find(sweep, trials, small, "a")
    tracemalloc.start()
    found = label_errors.find(sweep, trials, large, "b").splits[-1]
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 190 <= found.texts <= 210
    assert most < 300 * sum(map(len, texts)), "all texts at once take more than their characters"


def plant(directory: TrialDirectory, classes: int) -> dict[str, set[int]]:
    """Rewrite a trial's predictions as those of a good model on splits of which labels were flipped: their rows."""
    scored, wrong = {}, {}
    for seed, split in enumerate(("validation", "test")):
        truth = np.arange(400) % classes
        labels, planted = flipped(truth, classes, seed=seed)
        chances = answers(truth, classes, 4.0, seed)
        scored[split] = Scored(np.arange(1000, 1400), labels, np.log(chances).astype(np.float32))
        wrong[split] = {row + 1000 for row in planted}
    written = predictions.write(directory.predictions, scored)
    Result.read(directory.result).model_copy(update={"predictions_sha256": written}).write(directory.result)
    return wrong


def test_labels_of_validation_and_test_are_judged_by_the_trials(tmp_path: Path) -> None:
    sweep, trials = sweep_of(tmp_path)
    planted = plant(trials[0], len(LABELS))
    found = label_errors.find(sweep, trials, None, "a")
    assert [judged.split for judged in found.splits] == ["validation", "test"]
    for judged in found.splits:
        rows = {suspect.row for suspect in judged.suspects}
        assert len(rows & planted[judged.split]) >= 0.75 * len(planted[judged.split])
        assert len(rows) <= 1.6 * len(planted[judged.split])


def test_what_was_found_is_kept_until_predictions_are_others_or_it_is_damaged(tmp_path: Path) -> None:
    sweep, trials = sweep_of(tmp_path)
    first = label_errors.find(sweep, trials, None, "a")
    before = sweep.label_errors.stat().st_mtime_ns
    assert label_errors.find(sweep, trials, None, "a") == first
    assert sweep.label_errors.stat().st_mtime_ns == before
    sweep.label_errors.write_text("{}")
    assert label_errors.find(sweep, trials, None, "a") == first
    plant(trials[0], len(LABELS))
    assert label_errors.find(sweep, trials, None, "a") != first


def test_models_that_are_wrong_more_often_than_labels_ever_are_accuse_none(tmp_path: Path) -> None:
    sweep = sweeps.make(tmp_path / "reviews", [Trial(skill=0.5)])
    read = Page(write_report(sweep))
    found = {judged.split: judged for judged in label_errors.LabelErrors.read(sweep.label_errors).splits}
    assert found["test"].share > 0.1 and not found["test"].is_telling
    counts = {row["split"]: row["suspected"] for row in read.rows("Suspected labels, by split")}
    assert counts["test"] == "–"
    assert "Suspected labels in test" not in read.tables
    assert "the task is hard for them" in read.text


@pytest.mark.parametrize("include", ["preview", "none"])
def test_the_report_counts_and_names_them_with_text_only_where_that_is_allowed(tmp_path: Path, include: str) -> None:
    config = {"errors": {"count": 20, "include_text": include}}
    sweep = sweeps.make(tmp_path / "reviews", [Trial(skill=1.9)], config=config)
    read = Page(write_report(sweep))
    found = label_errors.LabelErrors.read(sweep.label_errors)
    counts = {row["split"]: row for row in read.rows("Suspected labels, by split")}
    assert {split: row["suspected"] for split, row in counts.items()} == {
        judged.split: str(len(judged.suspects)) for judged in found.splits
    }
    (test,) = (judged for judged in found.splits if judged.split == "test")
    rows = read.rows("Suspected labels in test")
    assert test.suspects and [int(row["row"]) for row in rows] == [suspect.row for suspect in test.suspects]
    assert [row["suggested"] for row in rows] == [LABELS[suspect.suggested] for suspect in test.suspects]
    if include == "none":
        assert "text" not in rows[0] and "a fine film" not in read.text
    else:
        assert [row["text"] for row in rows] == [
            f"a fine film number {suspect.row - 1000}" for suspect in test.suspects
        ]


def test_without_the_extra_the_report_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_errors, "_LIBRARY", "cleanlab_that_is_not_there")
    sweep = sweeps.make(tmp_path / "reviews", [Trial()])
    assert "extra label-errors is not installed" in Page(write_report(sweep)).text
    assert not sweep.label_errors.exists()
