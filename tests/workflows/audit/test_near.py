"""Near duplicates: texts with a word changed are found beside their originals, what is merely alike is not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.workflows.audit.faulty import checked, clean, copied, counts, of
from trainables.errors import BadInput

LONG = " and what the director has to say about it is anything but new, as everybody knows by now"


def test_without_the_library_the_message_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # what an installation without the extra looks like to Python
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(BadInput, match=r"pip install 'fleetune\[near-duplicates\]'"):
        checked(tmp_path, clean(100), near_duplicates="warn")


def test_they_are_not_looked_for_unless_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasketch", None)
    assert checked(tmp_path, clean(100)).findings == ()


def test_a_test_text_with_a_word_changed_is_found_beside_its_original(tmp_path: Path) -> None:
    pytest.importorskip("datasketch")
    frame = clean(200)
    rows = of(frame, "test", 8)
    frame.loc[rows, "text"] = [f"{text} number {LONG}" for text in frame.loc[rows, "text"]]
    changed = frame.loc[rows, "text"].str.replace("number", "Numbers")
    frame = copied(frame, rows, split="train", text=changed)
    found = checked(tmp_path, frame, near_duplicates="warn")
    assert counts(found) == {("near_duplicates", ("test", "train")): 8}
    assert found.findings[0].rows == tuple(rows)
    assert found.findings[0].twins == tuple(range(200, 208))
    assert f"{rows[0]} (≈ 200)" in found.findings[0].where


def test_what_differs_by_case_alone_is_no_near_duplicate(tmp_path: Path) -> None:
    pytest.importorskip("datasketch")
    frame = clean(200)
    rows = of(frame, "test", 5)
    frame = copied(frame, rows, split="train", text=frame.loc[rows, "text"].str.upper())
    assert counts(checked(tmp_path, frame, near_duplicates="warn")) == {("normalised_overlap", ("test", "train")): 5}
