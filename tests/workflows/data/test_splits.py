"""The splitter as a function of arrays: what it promises for any data, and what it refuses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.errors import BadInput
from workflows.data.splits import MANY_GROUPS, allocate, cut, normalised, subsample, units_of

NAMES = ("a", "b", "c", "d")
FRACTIONS = st.sampled_from([0.05, 0.1, 0.15, 0.2, 0.33, 0.5, 0.9])
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def texts_of_classes(draw):
    """Rows of 2 – 4 classes, each class with at least two distinct texts, some texts many times."""
    sizes = draw(st.lists(st.integers(2, 40), min_size=2, max_size=4))
    rows = [(label, f"{label} {index}") for label, size in enumerate(sizes) for index in range(size)]
    extra = draw(st.lists(st.sampled_from(rows), max_size=20))
    shuffled = draw(st.permutations(rows + extra)) if len(rows) < 60 else rows + extra
    return np.array([label for label, _ in shuffled]), [text for _, text in shuffled]


@settings(max_examples=80, deadline=None)
@given(texts_of_classes(), FRACTIONS, SEEDS)
def test_a_cut_keeps_texts_whole_classes_on_both_sides_and_the_fraction_near(data, fraction, seed):
    classes, texts = data
    units = units_of(texts)
    chosen = cut(units, classes, fraction, seed, NAMES, grouped=False, what="the test")
    assert not set(units[chosen]) & set(units[~chosen])
    assert set(classes[chosen]) == set(classes[~chosen]) == set(classes)
    distinct, present = len(set(texts)), len(set(classes))
    expected = np.clip(round(fraction * distinct), present, distinct - present)
    assert len(set(units[chosen])) == expected
    for label in set(classes):
        share = len(set(units[chosen & (classes == label)]))
        whole = len(set(units[classes == label]))
        assert abs(share - expected * whole / distinct) <= max(1, present - 1)
    again = cut(units, classes, fraction, seed, NAMES, grouped=False, what="the test")
    assert np.array_equal(chosen, again)


@st.composite
def texts_in_groups(draw):
    """100 – 300 rows of two classes in 40 – 80 groups, where some texts stand in several groups."""
    generator = np.random.default_rng(draw(st.integers(0, 10_000)))
    rows, groups = draw(st.integers(100, 300)), draw(st.integers(40, 80))
    texts = [f"t{index}" for index in generator.integers(0, rows * 20, rows)]
    return generator.integers(0, 2, rows), texts, pd.Series(generator.integers(0, groups, rows).astype(str))


@settings(max_examples=15, deadline=None)
@given(texts_in_groups(), st.sampled_from([0.1, 0.2, 0.3]), SEEDS)
def test_a_grouped_cut_parts_neither_groups_nor_texts_and_keeps_the_fraction_near(data, fraction, seed):
    classes, texts, groups = data
    chosen = cut(units_of(texts, groups), classes, fraction, seed, NAMES, grouped=True, what="the test")
    assert not set(groups[chosen]) & set(groups[~chosen])
    assert not set(np.array(texts)[chosen]) & set(np.array(texts)[~chosen])
    assert abs(chosen.mean() - fraction) < 0.1
    again = cut(units_of(texts, groups), classes, fraction, seed, NAMES, grouped=True, what="the test")
    assert np.array_equal(chosen, again)


def test_very_many_groups_are_cut_by_the_same_promises():
    generator = np.random.default_rng(0)
    rows = 4 * MANY_GROUPS
    groups = pd.Series(generator.integers(0, 2 * MANY_GROUPS, rows))
    classes = (generator.random(rows) < 0.2).astype(int)
    texts = [str(index) for index in range(rows)]
    chosen = cut(units_of(texts, groups), classes, 0.1, 1, NAMES, grouped=True, what="the test")
    assert not set(groups[chosen]) & set(groups[~chosen])
    assert abs(chosen.mean() - 0.1) < 0.005
    assert abs(classes[chosen].mean() - classes.mean()) < 0.01


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=4, max_size=200), st.integers(1, 200), SEEDS)
def test_a_cap_is_exact_and_leaves_every_class_a_row(labels, size, seed):
    classes = np.array(labels)
    present = len(set(labels))
    if size < min(present, len(labels)):
        with pytest.raises(BadInput, match=rf"data\.sizes\.train: {size} rows cannot hold {present} classes"):
            subsample(classes, size, seed, "data.sizes.train")
        return
    chosen = subsample(classes, size, seed, "data.sizes.train")
    assert chosen.sum() == min(size, len(labels))
    assert set(classes[chosen]) == set(labels)


def test_largest_remainders_are_proportional_with_at_least_one():
    assert allocate(np.array([500, 300, 200]), 10, 0).tolist() == [5, 3, 2]
    assert allocate(np.array([990, 5, 5]), 10, 1).tolist() == [8, 1, 1]
    assert allocate(np.array([2, 2]), 2, 1).tolist() == [1, 1]


def test_another_seed_gives_another_cut():
    classes = np.arange(200) % 2
    cuts = [cut(np.arange(200), classes, 0.2, seed, NAMES, False, "the test").tolist() for seed in range(3)]
    assert cuts[0] != cuts[1] != cuts[2]


def test_the_cut_of_a_seed_is_the_same_on_every_machine_and_library_version():
    chosen = cut(np.arange(20), np.arange(20) % 2, 0.2, 42, NAMES, False, "the test")
    assert np.flatnonzero(chosen).tolist() == [0, 8, 15, 17]


def test_texts_are_equal_under_case_white_space_and_compatibility_forms():
    assert normalised(pd.Series(["Ａ\u00a0 Fine\tFILM ", "a fine film", "STRASSE", "straße"])) == [
        "a fine film",
        "a fine film",
        "strasse",
        "strasse",
    ]


def test_a_pair_is_equal_only_if_both_sentences_are():
    units = units_of(normalised(pd.Series(["a b", "a", "A b"]), pd.Series(["c", "b c", "C"])))
    assert units[0] == units[2] != units[1]


def test_groups_linked_by_a_text_are_one_unit_and_a_missing_group_binds_nothing():
    groups = pd.Series(["g", "g", "h", "h", None, None], dtype="str")
    units = units_of(["1", "2", "2", "3", "4", "5"], groups)
    assert len(set(units[:4])) == 1
    assert len(set(units)) == 3


REFUSED = {
    "one text of a class": ([0, 0, 0, 1, 1], ["1", "2", "3", "4", "4"], None, ["'b'", "1 distinct text", "the test"]),
    "few groups": ([0, 1] * 8, list("abcdefghijklmnop"), list("ggggggggffffffff"), ["2 groups", "needs 5", "the test"]),
    "rare classes": ([0, 1, 2, 3, 0, 1], list("abcdef"), list("uvwxyz"), ["every class has fewer than 5"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_cut_that_cannot_be_made_is_refused_by_name(case):
    classes, texts, groups, parts = REFUSED[case]
    units = units_of(texts, None if groups is None else pd.Series(groups))
    with pytest.raises(BadInput) as caught:
        cut(units, np.array(classes), 0.2, 42, NAMES, groups is not None, "the test")
    for part in parts:
        assert part in str(caught.value)
