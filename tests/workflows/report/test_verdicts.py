"""What is real: the section's table against the verdict, and what it says of choosing and of what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workflows.report import sweeps
from tests.workflows.report.reading import Page
from tests.workflows.report.sweeps import Trial
from trainables.directory import SweepDirectory
from trainables.records import Result
from workflows.report import content, verdicts, write_report
from workflows.report.page import Paragraph
from workflows.verdict import Choice

CAPTION = "The champion's point minus each other one"


def test_every_other_point_is_held_against_the_champions(sweep: SweepDirectory) -> None:
    read = content.read(sweep)
    rows = Page(sweep.report).rows(CAPTION)
    assert read.champion is not None
    assert len(rows) == len(read.done) - 1 + len(read.baselines)
    best = read.champion.result
    assert best is not None
    others = {run.name: run for run in read.done} | {"TF-IDF (baseline)": read.baselines[0]}
    for row in rows:
        if (run := others.get(row["champion's point against"])) and run.result:
            for split in ("validation", "test"):
                gap = best.metrics[f"{split}/accuracy"] - run.result.metrics[f"{split}/accuracy"]
                assert float(row[f"{split}\naccuracy"].replace("−", "-")) == pytest.approx(gap, abs=6e-5)
        p = row["validation,\ncorrected p"]
        assert (row["tied"] == "≈") == (not p.startswith("<") and float(p) >= 0.05)


def test_the_headline_is_the_verdict(sweep: SweepDirectory) -> None:
    headline = content.read(sweep).headline
    assert headline is not None and headline.verdict[0].startswith(
        f"Ship {headline.champion}. On the 90 validation texts"
    )
    text = Page(sweep.report).text
    assert all(sentence in text for sentence in headline.sentences)


def test_the_flattery_of_the_choice_is_told_in_numbers(sweep: SweepDirectory) -> None:
    told = Page(sweep.report).text
    assert "best of 6 trials (6 points) by the same 90 texts" in told
    found = Choice(score=0.756, expect=0.7442, points=8, trials=8)
    assert "winners come to 0.7442: about 0.0118 of it is flattery." in verdicts.flattery(found, "accuracy", 250)
    lucky = Choice(score=0.3, expect=0.34, points=8, trials=8)
    assert "about 0.0400 of it is flattery" in verdicts.flattery(lucky, "loss", 250)
    assert verdicts.flattery(lucky, "accuracy", 250).endswith("no flattery shows.")


def test_one_trial_alone_was_not_chosen(tmp_path: Path) -> None:
    page = Page(write_report(sweeps.make(tmp_path / "reviews", trials=[Trial()])))
    assert CAPTION in page.tables and "flattery" not in page.text


def test_a_trial_with_damaged_predictions_is_named(tmp_path: Path) -> None:
    made = sweeps.make(tmp_path / "reviews", trials=[Trial(skill=4), Trial("head", skill=2, own_id="headless")])
    made.trial("headless").predictions.write_bytes(b"nothing")
    section = verdicts.comparisons(content.read(made))
    assert section is not None
    (told,) = [
        block.text for block in section.blocks if isinstance(block, Paragraph) and block.heading == "Not compared"
    ]
    assert told == "headless: its predictions are missing or damaged. The same sweep again makes them anew."


def test_without_a_finished_trial_there_is_nothing_to_tell_apart(tmp_path: Path) -> None:
    made = sweeps.make(tmp_path / "reviews", trials=[Trial(status="FAILED")])
    assert "verdict" not in Page(write_report(made)).anchors()
    assert Result.read(made.baseline("tfidf").result).status == "DONE"
