"""The verdict on a sweep directory: intervals, ties by validation, what test reports, and damaged predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.workflows.report import sweeps
from tests.workflows.report.sweeps import Trial
from trainables import predictions
from trainables.directory import SweepDirectory, TrialDirectory
from trainables.files import read_json, write_json
from trainables.predictions import Scored
from trainables.records import Result, Split
from workflows.evidence import corrected
from workflows.report import content
from workflows.report.content import Content
from workflows.verdict import INTERVALS, Compared, Verdict, judge

TEXTS = 400
ROWS = np.arange(TEXTS)
LABELS = ROWS % 2


def answered(directory: TrialDirectory, right: Mapping[Split, int | np.ndarray], first: int = 0) -> None:
    """Replace predictions: right on the first so many texts of a split, or where an array says so."""
    scored: dict[Split, Scored] = {}
    for split, hits in right.items():
        hits = hits > ROWS if isinstance(hits, int) else hits
        logits = np.eye(2)[np.where(hits, LABELS, 1 - LABELS)]
        scored[split] = Scored(ROWS + first, LABELS, logits.astype(np.float32))
    written = predictions.write(directory.predictions, scored)
    result = Result.read(directory.result)
    metrics = {
        f"{split}/{name}": value
        for split, one in scored.items()
        for name, value in (("accuracy", float((one.logits.argmax(axis=1) == LABELS).mean())), ("loss", 0.5))
    }
    metrics |= {f"{split}/f1_macro": metrics[f"{split}/accuracy"] for split in scored}
    result.model_copy(update={"predictions_sha256": written, "metrics": metrics}).write(directory.result)


class Made:
    """A sweep of trials by name, each right on so many of 400 validation and test texts; two baselines beside them."""

    def __init__(
        self, root: Path, trials: Mapping[str, tuple[int, int]], baselines: tuple[int, int] = (220, 220)
    ) -> None:
        planned = [Trial(self.policy(name), own_id=name, model=name.split("-")[0], seed=1) for name in trials]
        self.sweep: SweepDirectory = sweeps.make(root / "reviews", planned, labels=("no", "yes"))
        for name, (validation, test) in trials.items():
            answered(self.sweep.trial(name), {"validation": validation, "test": test})
        for name, right in zip(("majority", "tfidf"), (200, baselines), strict=True):
            both = (right, right) if isinstance(right, int) else right
            answered(self.sweep.baseline(name), {"validation": both[0], "test": both[1]})

    @staticmethod
    def policy(name: str) -> str:
        return name.split("-")[1] if "-" in name else "full"

    def read(self) -> Content:
        return content.read(self.sweep)

    @property
    def verdict(self) -> Verdict:
        found = self.read().verdict
        assert found is not None
        return found

    def tied(self) -> set[str]:
        return {row["trial_id"] for row in self.read().rows if row["tied"]}


def by_other(compared: tuple[Compared, ...]) -> dict[str, Compared]:
    return {one.other: one for one in compared}


def test_every_finished_row_has_intervals_around_its_test_scores_and_no_other_has(tmp_path: Path) -> None:
    rows = content.read(sweeps.make(tmp_path / "reviews")).rows
    for row in rows:
        ends = [row[name] for name in INTERVALS]
        if row["status"] != "DONE":
            assert ends == [None] * 4
            continue
        for metric in ("accuracy", "f1_macro"):
            assert row[f"test/{metric}_low"] < row[f"test/{metric}"] < row[f"test/{metric}_high"]
    assert [row["status"] for row in rows].count("DONE") == 8


def test_ties_are_decided_on_validation_and_test_only_reports(tmp_path: Path) -> None:
    made = Made(tmp_path, {"a": (320, 320), "b": (318, 200), "c": (260, 320)})
    assert made.tied() == {"a", "b"}
    verdict = made.verdict
    validation, test = by_other(verdict.validation), by_other(verdict.test)
    assert (validation["b"].is_real, validation["c"].is_real, validation["tfidf"].is_real) == (False, True, True)
    assert (test["b"].is_real, test["c"].is_real) == (True, False)
    assert (test["b"].difference, validation["c"].difference) == pytest.approx((0.3, 0.15))


def test_p_values_on_validation_are_corrected_for_the_choice_and_on_test_by_question(tmp_path: Path) -> None:
    made = Made(
        tmp_path, {"m": (320, 320), "m-head": (300, 305), "o": (290, 310), "p": (310, 300)}, baselines=(295, 307)
    )
    verdict = made.verdict
    assert [one.corrected for one in verdict.validation] == corrected([one.p for one in verdict.validation], 6)
    assert verdict.freezing is not None and len(verdict.validation) == 5
    test = by_other(verdict.test)
    claims = [test["tfidf"], test["majority"], verdict.freezing]
    assert [one.corrected for one in claims] == corrected([one.p for one in claims])
    runners_up = [test[name] for name in ("m-head", "o", "p")]
    assert [one.corrected for one in runners_up] == corrected([one.p for one in runners_up])


def test_no_verdict_changes_the_champion(tmp_path: Path) -> None:
    made = Made(tmp_path, {"a": (320, 200), "b": (319, 399)}, baselines=(399, 399))
    read = made.read()
    assert read.champion is not None and read.champion.run_id == "a"
    assert [row["rank"] for row in read.rows] == [1, 2, 3, 4]
    assert (
        by_other(made.verdict.validation)["tfidf"].difference < 0 and by_other(made.verdict.validation)["tfidf"].is_real
    )


def test_the_alternative_is_the_cheapest_of_those_that_validation_does_not_tell_from_the_champion(
    tmp_path: Path,
) -> None:
    made = Made(tmp_path, {"a": (320, 320), "b": (318, 318), "c": (317, 317), "d": (250, 320)})
    rows = made.read().rows
    for row in rows:
        row["latency_p50_ms"] = {"a": 10.0, "b": 9.0, "c": 4.0, "d": 1.0}.get(row["trial_id"], 0.1)
    assert judge(made.sweep, rows, "a", "accuracy", 2)[0].alternative == "c"
    # A tenth less is what one measurement differs from the next by.
    dear = [row | {"latency_p50_ms": 9.5} if row["trial_id"] == "c" else row for row in rows]
    assert judge(made.sweep, dear, "a", "accuracy", 2)[0].alternative is None


def test_tfidf_may_be_the_alternative_and_the_majority_class_never(tmp_path: Path) -> None:
    assert Made(tmp_path / "one", {"a": (230, 230)}, baselines=(228, 228)).verdict.alternative == "tfidf"
    hopeless = Made(tmp_path / "two", {"a": (202, 202)}, baselines=(150, 150))
    assert "majority" in hopeless.tied() and hopeless.verdict.alternative is None


def test_freezing_is_judged_by_the_best_points_of_one_model_on_test(tmp_path: Path) -> None:
    trials = {"m": (300, 300), "n": (310, 310), "m-head": (290, 240), "m-top-2": (280, 300), "o-head": (320, 320)}
    freezing = Made(tmp_path, trials).verdict.freezing
    assert freezing is not None and (freezing.one, freezing.other) == ("m-head", "m")
    assert freezing.difference == pytest.approx(-0.15) and freezing.is_real
    assert Made(tmp_path / "full", {"m": (300, 300)}).verdict.freezing is None


def seeded(root: Path, ends: Mapping[str, int | str]) -> SweepDirectory:
    """Points by their policies with a seed each, as in `full1`: on how many texts it is right, or how else it ended."""
    trials = [
        Trial(name[:-1], seed=int(name[-1]), own_id=name, status=end if isinstance(end, str) else "DONE")
        for name, end in ends.items()
    ]
    made = sweeps.make(root / "reviews", trials, labels=("no", "yes"))
    for name, right in ends.items():
        path = made.trial(name).spec
        stored = read_json(path)
        stored["spec"]["point_id"] = name[:-1]
        write_json(path, stored)
        if isinstance(right, int):
            answered(made.trial(name), {"validation": right, "test": right})
    for name in ("majority", "tfidf"):
        answered(made.baseline(name), {"validation": 200, "test": 200})
    return made


@pytest.mark.parametrize("lost", ["FAILED", "STOPPED"])
def test_a_point_that_lost_seeds_is_not_compared_and_it_is_said_where_it_would_have_won(
    tmp_path: Path, lost: str
) -> None:
    sweep = seeded(tmp_path, {"full1": 300, "full2": 304, "head1": 380, "head2": lost, "top-21": 250, "top-22": 250})
    read = content.read(sweep)
    assert read.champion is not None and read.champion.run_id == "full2"
    verdict = read.verdict
    assert verdict is not None and set(by_other(verdict.validation)) == {"top-2", "tfidf", "majority"}
    assert {row["trial_id"] for row in read.rows if row["tied"]} == {"full1", "full2"}
    assert verdict.choice is not None
    assert (verdict.choice.score, verdict.choice.points) == (pytest.approx(304 / 400), 2)
    assert read.headline is not None and read.headline.verdict[0].startswith("Ship MiniLM · full")
    (said,) = (warning for warning in read.warnings if "seeds" in warning)
    assert said == (
        "MiniLM · head · lr 5e-05 has a better accuracy on validation than the champion's point (0.9500 against "
        "0.7550), but as the mean of 1 of its 2 seeds; the others failed or were stopped, so it ranks after the points "
        "that finished theirs."
    )
    row = next(row for row in read.rows if row["trial_id"] == "head1")
    assert row["test/accuracy_low"] < 0.95 < row["test/accuracy_high"]


def test_lost_seeds_that_decided_nothing_are_not_mentioned(tmp_path: Path) -> None:
    read = content.read(seeded(tmp_path, {"full1": 300, "full2": 304, "head1": 280, "head2": "FAILED"}))
    assert not any("seeds" in warning for warning in read.warnings)


def test_a_champion_whose_own_point_lost_seeds_is_said_to_be(tmp_path: Path) -> None:
    read = content.read(seeded(tmp_path, {"full1": 300, "full2": "STOPPED", "head1": 280, "head2": "FAILED"}))
    assert read.champion is not None and read.champion.run_id == "full1"
    assert read.verdict is not None and "head" in by_other(read.verdict.validation)
    assert (
        "No point finished all its seeds. MiniLM · full · lr 5e-05 ranks first by the mean of 1 of its 2 seeds; the "
        "others failed or were stopped."
    ) in read.warnings


def test_a_point_is_compared_with_all_its_seeds(tmp_path: Path) -> None:
    ends = {"full1": 330, "full2": 320, "full3": 310, "head1": 200, "head2": 300}
    made = seeded(tmp_path, ends)
    verdict = content.read(made).verdict
    assert verdict is not None
    found = by_other(verdict.validation)["head"]
    assert (found.one, found.seeds) == ("full", (3, 2))
    assert found.difference == pytest.approx(320 / 400 - 250 / 400)
    # One of two seeds is as good as the champion: what the seeds do takes away what 400 texts would prove.
    assert not found.is_real and by_other(verdict.validation)["tfidf"].is_real
    assert {row["trial_id"] for row in content.read(made).rows if row["tied"]} == set(ends)
    assert verdict.choice is not None and (verdict.choice.points, verdict.choice.trials) == (2, 5)


def test_the_metric_that_ranks_decides_and_loss_is_better_downward(tmp_path: Path) -> None:
    made = Made(tmp_path, {"a": (320, 320), "b": (260, 260)})
    rows = made.read().rows
    f1, _ = judge(made.sweep, rows, "a", "f1_macro", 2)
    assert (f1.metric, f1.reported) == ("f1_macro", "f1_macro") and by_other(f1.validation)["b"].is_real
    loss, _ = judge(made.sweep, rows, "a", "loss", 2)
    assert (loss.metric, loss.reported) == ("loss", "accuracy")
    assert by_other(loss.validation)["b"].difference < 0 and by_other(loss.validation)["b"].is_real


def _damage(made: Made, name: str, how: str) -> None:
    path = made.sweep.trial(name).predictions
    if how == "missing":
        path.unlink()
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif how == "bit":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    else:
        answered(made.sweep.trial(name), {"validation": 318, "test": 318}, first=1)


@pytest.mark.parametrize("how", ["missing", "cut", "bit", "other texts"])
def test_damaged_predictions_cost_their_trial_its_interval_and_nothing_else(how: str, tmp_path: Path) -> None:
    made = Made(tmp_path, {"a": (320, 320), "b": (318, 318), "c": (260, 260)})
    whole = made.read()
    _damage(made, "b", how)
    read = made.read()
    assert [(row["trial_id"], row["rank"]) for row in read.rows] == [
        (row["trial_id"], row["rank"]) for row in whole.rows
    ]
    assert read.verdict is not None and list(read.verdict.unusable) == ["b"]
    row = next(row for row in read.rows if row["trial_id"] == "b")
    assert [row[name] for name in ("tied", *INTERVALS)] == [None] * 5
    assert [compared.other for compared in read.verdict.validation] == ["c", "tfidf", "majority"]
    assert read.headline is not None and any(
        "Not compared" in told and "(b)" in told for told in read.headline.sentences
    )


def test_without_the_champions_predictions_nothing_is_tested_and_the_champion_stays(tmp_path: Path) -> None:
    made = Made(tmp_path, {"a": (320, 320), "b": (318, 318)})
    _damage(made, "a", "cut")
    read = made.read()
    assert read.champion is not None and read.champion.run_id == "a"
    assert read.verdict is not None and not read.verdict.validation and made.tied() == set()
    assert [row["test/accuracy_low"] is None for row in read.rows] == [True, False, False, False]
    assert read.headline is not None
    assert read.headline.verdict[0] == "Nothing is tested, since there are no sound predictions of the champion."


def test_the_verdict_is_stored_with_the_leaderboard_and_read_back(tmp_path: Path) -> None:
    made = Made(tmp_path, {"a": (320, 320), "b": (318, 318)})
    read = made.read()
    stored: dict[str, Any] = {"metric": "accuracy", "champion": "a", "rows": read.rows}
    assert read.verdict is not None
    write_json(made.sweep.leaderboard_json, stored | {"verdict": read.verdict.model_dump(mode="json")})
    made.sweep.trial("b").predictions.unlink()
    assert made.read().verdict == read.verdict
    # One from before there were verdicts, or from a version with others, is judged.
    for old in (stored, stored | {"verdict": {"says": "ship it"}}):
        write_json(made.sweep.leaderboard_json, old)
        assert list(made.verdict.unusable) == ["b"]
    assert json.loads(made.sweep.leaderboard_json.read_text())["champion"] == "a"
