"""The section on the check: every finding with its remedy, text of users inert; none where there was no check."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workflows.report import sweeps
from tests.workflows.report.reading import Page
from tests.workflows.report.sweeps import Trial
from trainables.errors import CorruptFile
from trainables.files import read_json, write_json
from workflows.audit.finding import Checked, Finding, TokenFigures
from workflows.report import write_report

FOUND = Checked(
    fingerprint="f" * 64,
    tokenizers=(
        TokenFigures(
            model="MiniLM",
            max_length=64,
            tokenizer_sha256="1",
            texts=200,
            texts_cut=30,
            tokens=4000,
            tokens_cut=400,
            unknown=36,
            texts_unknown=4,
            lengths=(20, 60, 90),
        ),
    ),
    findings=(
        Finding(
            name="overlap",
            grade="warning",
            count=30,
            share=0.015,
            splits=("test", "train"),
            rows=(7, 9),
            twins=(3, 4),
            message="rows of test that stand in train too: 30, <script>alert(1)</script>",
            remedy="check.drop_overlap: true takes such rows out of train",
        ),
    ),
)


def test_findings_stand_in_the_report_with_rows_and_remedy(tmp_path: Path) -> None:
    sweep = sweeps.make(tmp_path / "reviews", trials=[Trial()])
    FOUND.write(sweep.check)
    page = Page(write_report(sweep))
    (row,) = page.rows("Findings: 1 warning")
    assert row["grade"] == "warning" and row["finding"] == "overlap"
    assert (row["count"], row["share"], row["rows"]) == ("30", "1.5 %", "7 (= 3), 9 (= 4)")
    assert row["what to do"] == "check.drop_overlap: true takes such rows out of train"
    assert "<script>alert(1)" in row["what was found"]
    (seen,) = page.rows("Texts in tokens")
    assert [seen[name] for name in ("texts cut", "tokens\ncut", "unknown\ntokens")] == ["15.0 %", "10.0 %", "1.0 %"]


def test_a_sweep_from_before_there_was_a_check_has_no_such_section(tmp_path: Path) -> None:
    page = Page(write_report(sweeps.make(tmp_path / "reviews", trials=[Trial()])))
    assert "Check of the data" not in page.text


def test_a_check_that_has_gone_missing_is_missed(tmp_path: Path) -> None:
    sweep = sweeps.make(tmp_path / "reviews", trials=[Trial()])
    write_json(sweep.manifest, read_json(sweep.manifest) | {"checked": True})
    with pytest.raises(CorruptFile, match=r"check\.json is missing; the same sweep again writes it"):
        write_report(sweep)
