"""Data and leaderboard: what the tables say is what the directory holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workflows.report import sweeps
from tests.workflows.report.reading import Page
from tests.workflows.report.sweeps import Trial
from trainables.directory import SweepDirectory
from trainables.records import Result
from workflows.report import write_report


def test_classes_have_their_counts_and_shares(sweep: SweepDirectory) -> None:
    rows = Page(sweep.report).rows("Texts of each class")
    assert [row["class"] for row in rows] == list(sweeps.LABELS)
    assert (rows[0]["test"], rows[0]["share"]) == ("30", "33.3 %")


def test_the_leaderboard_shows_the_scores_of_the_results(sweep: SweepDirectory) -> None:
    rows = Page(sweep.report).rows("Trials and baselines by rank")
    for row in rows:
        name = row["trial"]
        folder = sweep.baseline(name) if name in ("majority", "tfidf") else sweep.trial(name)
        result = Result.read(folder.result)
        expected = "" if result.status != "DONE" else f"{result.metrics['test/accuracy']:.4f}"
        assert row["test\naccuracy"] == expected
        assert row["status"].startswith(result.status)
    assert [row["rank"] for row in rows] == [*map(str, range(1, 10)), ""]


def test_champion_and_baselines_are_marked(sweep: SweepDirectory) -> None:
    page = Page(sweep.report)
    marks = [attributes.get("class") for attributes in page.of("tr")]
    assert (marks.count("champion"), marks.count("baseline")) == (1, 2)
    first = page.rows("Trials and baselines by rank")[0]
    assert f"Champion: {first['model']} · {first['freeze']}" in page.text


def test_several_seeds_have_a_mean_and_a_spread(tmp_path: Path) -> None:
    made = sweeps.make(tmp_path / "reviews", trials=[Trial(seed=1), Trial(seed=2), Trial("head", seed=1)])
    rows = Page(write_report(made)).rows("Trials and baselines by rank")
    scores = [float(row["validation\naccuracy"]) for row in rows if row["freeze"] == "full"]
    mean, _, spread = next(row["mean ± std\nover seeds"] for row in rows if row["freeze"] == "full").split()
    assert float(mean) == pytest.approx(sum(scores) / 2, abs=1e-4)
    assert float(spread) == pytest.approx(abs(scores[0] - scores[1]) / 2**0.5, abs=1e-4)


def test_the_group_that_cannot_be_told_from_the_champion_is_marked(tmp_path: Path) -> None:
    trials = [Trial(skill=4), Trial("top-2", skill=3.9), Trial("head", skill=0.5)]
    rows = Page(write_report(sweeps.make(tmp_path / "reviews", trials=trials))).rows("Trials and baselines by rank")
    assert {row["freeze"]: row["tied"] for row in rows if row["freeze"]} == {"full": "≈", "top-2": "≈", "head": ""}


def test_every_test_score_stands_in_its_interval(sweep: SweepDirectory) -> None:
    rows = Page(sweep.report).rows("Trials and baselines by rank")
    shown = 0
    for row in rows:
        for score, ends in (("test\naccuracy", "accuracy,\n95 %"), ("test\nmacro-F1", "macro-F1,\n95 %")):
            if row[score]:
                low, high = map(float, row[ends].split("–"))
                assert low <= float(row[score]) <= high
                shown += 1
            else:
                assert row[ends] == ""
    assert shown == 16
