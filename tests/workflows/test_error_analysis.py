"""Where a classifier is wrong, checked against counting by hand."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.tiny import tiny_model
from tests.tiny_data import trial_spec
from trainables.directory import TrialDirectory
from trainables.records import Result
from trainables.trial import run_trial
from workflows.error_analysis import (
    accuracy_by_length,
    accuracy_by_share_cut,
    confused_pairs,
    read_test,
    text_lengths,
    worst_texts,
)

LABELS = ("no", "yes")


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrialDirectory, Path, Result]:
    """A real trial that is wrong now and then, and whose longer texts are cut."""
    folder = tmp_path_factory.mktemp("errors")
    spec = trial_spec(tiny_model("bert", folder / "bert"), folder, learning_rate=3e-4, num_train_epochs=1, max_length=8)
    result = run_trial(spec)
    assert 0 < result.metrics["test/accuracy"] < 1, "this test needs right and wrong answers"
    return TrialDirectory(Path(spec.directory)), Path(spec.data), result


def test_the_worst_texts_are_those_with_the_highest_loss_and_carry_their_own_text(
    trial: tuple[TrialDirectory, Path, Result],
) -> None:
    directory, data, _ = trial
    found = worst_texts(read_test(directory), data, LABELS, 5, "full")
    table = (
        pd.read_parquet(directory.predictions)
        .query("split == 'test'")
        .sort_values("loss", ascending=False, kind="stable")
    )
    assert [item.row for item in found] == table["row"].head(5).tolist()
    texts = pd.read_parquet(data / "test.parquet").set_index("row")
    for item, (_, row) in zip(found, table.iterrows(), strict=False):
        assert item.text == texts.loc[item.row, "text"]
        assert LABELS.index(item.label) == texts.loc[item.row, "label"]
        assert item.loss == pytest.approx(-np.log(item.probability_of_label), abs=1e-5)
        assert item.probability == pytest.approx(max(row["probabilities"]))
        assert (item.tokens, item.tokens_cut) == (row["tokens"], row["tokens_cut"])


@pytest.mark.parametrize(("include", "shown"), [("full", 500), ("preview", 201), ("none", None)])
def test_text_is_shown_as_far_as_it_was_agreed(
    include: str, shown: int | None, trial: tuple[TrialDirectory, Path, Result], tmp_path: Path
) -> None:
    directory, data, _ = trial
    table = pd.read_parquet(data / "test.parquet").assign(text="x" * 500)
    table.to_parquet(tmp_path / "test.parquet")
    found = worst_texts(read_test(directory), tmp_path, LABELS, 3, include)  # type: ignore[arg-type]
    assert {item.text and len(item.text) for item in found} == {shown}


def test_worst_texts_are_found_where_the_prepared_data_is_gone(
    trial: tuple[TrialDirectory, Path, Result], tmp_path: Path
) -> None:
    found = worst_texts(read_test(trial[0]), tmp_path, LABELS, 3, "full")
    assert [item.text for item in found] == [None] * 3


def test_pairs_are_the_wrong_cells_of_the_matrix_most_frequent_first() -> None:
    matrix = [[5, 2, 0], [1, 9, 0], [0, 4, 4]]
    found = [(p.label, p.predicted, p.count, p.share) for p in confused_pairs(matrix, "abc")]
    assert found == [("c", "b", 4, 0.5), ("a", "b", 2, 2 / 7), ("b", "a", 1, 0.1)]
    assert confused_pairs([[3, 0], [0, 3]], "ab") == []
    assert len(confused_pairs(matrix, "abc", count=1)) == 1


def test_bins_hold_every_text_once_and_their_accuracies_average_to_the_whole(
    trial: tuple[TrialDirectory, Path, Result],
) -> None:
    directory, _, result = trial
    predicted = read_test(directory)
    lengths, shares = text_lengths(predicted)  # type: ignore[misc]
    assert (lengths == predicted["tokens"] + predicted["tokens_cut"]).all()
    assert 0 < (shares > 0).sum() < len(shares), "this test needs whole texts and cut ones"
    for bins in (accuracy_by_length(predicted, lengths), accuracy_by_share_cut(predicted, shares)):
        assert sum(item.texts for item in bins) == len(predicted)
        right = sum(item.texts * item.accuracy for item in bins)
        assert right / len(predicted) == pytest.approx(result.metrics["test/accuracy"])
        assert all(one.high < other.low for one, other in itertools.pairwise(bins))
    whole = accuracy_by_share_cut(predicted, shares)[0]
    assert (whole.low, whole.high, whole.texts) == (0, 0, int((shares == 0).sum()))


def test_equal_lengths_fall_into_one_bin(trial: tuple[TrialDirectory, Path, Result]) -> None:
    predicted = read_test(trial[0])
    (only,) = accuracy_by_length(predicted, np.full(len(predicted), 7))
    assert (only.low, only.high, only.texts) == (7, 7, len(predicted))


def test_a_baseline_has_no_tokens(trial: tuple[TrialDirectory, Path, Result]) -> None:
    predicted = read_test(trial[0]).assign(tokens=None)
    assert text_lengths(predicted) is None
