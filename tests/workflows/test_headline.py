"""The headline: the champion, its scores and what it gains, all of them from leaderboard rows."""

from __future__ import annotations

from typing import Any

import pytest

from workflows.headline import find, in_numbers, other_axes, p_value, point_name
from workflows.verdict import Compared, Verdict


def row(kind: str = "trial", **values: Any) -> dict[str, Any]:
    base = {"rank": 1, "kind": kind, "trial_id": "t1", "model": "MiniLM", "freeze": "full", "learning_rate": 5e-5}
    scores = {"test/accuracy": 0.75, "test/f1_macro": 0.7, "train_seconds": 40.0, "latency_p50_ms": 6.0}
    return base | {"seed": 1, "lora_r": None, "warmup_steps": None, "status": "DONE"} | scores | values


def tfidf(**values: Any) -> dict[str, Any]:
    named = {"trial_id": "tfidf", "model": "tfidf", "freeze": None, "learning_rate": None, "seed": None, "rank": 2}
    costs = {"train_seconds": 0.5, "latency_p50_ms": 0.5, "trainable_parameters": 2_000}
    return row("baseline", **(named | {"test/accuracy": 0.7, "test/f1_macro": 0.72} | costs | values))


def test_differences_and_ratios_are_those_of_the_rows() -> None:
    ends = {"test/accuracy_low": 0.7053, "test/accuracy_high": 0.7899}
    headline = find([row(**ends), tfidf()], "t1", "accuracy", 400)
    assert headline is not None
    (versus,) = headline.versus
    assert (versus.accuracy, versus.f1_macro) == (pytest.approx(0.05), pytest.approx(-0.02))
    assert (versus.train_time, versus.latency, versus.ranks_above) == (80, 12, False)
    assert versus.sentence == (
        "Against TF-IDF: accuracy +0.0500, macro-F1 −0.0200; 80× the training time, 12× the time per text."
    )
    assert headline.result == (
        "Champion: MiniLM · full · lr 5e-05: accuracy 0.7500 (0.7053 to 0.7899), macro-F1 0.7000 on 400 test texts."
    )


def test_times_are_not_compared_with_a_baseline_that_learns_nothing() -> None:
    headline = find([row(), tfidf(trial_id="majority", trainable_parameters=None)], "t1", "accuracy", 400)
    assert headline is not None
    assert (headline.versus[0].train_time, headline.versus[0].latency) == (None, None)
    assert headline.versus[0].sentence.startswith("Against the majority class: accuracy +0.0500")


def test_nothing_is_made_up_where_a_column_is_missing() -> None:
    best = {"rank": 1, "kind": "trial", "trial_id": "t1", "model": "MiniLM"}
    headline = find([best, {"kind": "baseline", "status": "DONE", "trial_id": "majority"}], "t1", "accuracy")
    assert headline is not None
    assert headline.sentences[:2] == ["Champion: MiniLM.", "Against the majority class: not comparable."]


def test_the_reader_is_told_when_a_baseline_ranks_above() -> None:
    headline = find([tfidf(rank=1), row(rank=2)], "t1", "accuracy", 400)
    assert headline is not None
    assert headline.versus[0].sentence.endswith("On validation the baseline ranks above the champion.")


def test_without_a_champion_there_is_no_headline() -> None:
    assert find([tfidf()], None, "accuracy", 400) is None


def test_unfinished_baselines_are_not_compared() -> None:
    headline = find([row(), tfidf(status="PENDING", rank=None)], "t1", "accuracy", 400)
    assert headline is not None and headline.versus == ()


def compared(other: str, difference: float, p: float, **values: Any) -> Compared:
    ends = {"low": difference - 0.02, "high": difference + 0.02}
    return Compared.model_validate(
        {"one": "p1", "other": other, "seeds": (1, 1), "difference": difference, "p": p, "corrected": p} | ends | values
    )


def sentences(*validation: Compared, **values: Any) -> list[str]:
    rows = [
        row(point_id="p1"),
        row(trial_id="t2", point_id="p2", freeze="top-2", rank=2, latency_p50_ms=3.0),
        row(trial_id="t3", point_id="p3", freeze="head", rank=3),
        row(trial_id="t4", point_id="p4", model="tiny", rank=4),
        tfidf(rank=5, point_id="tfidf"),
    ]
    verdict = Verdict(metric="accuracy", reported="accuracy", texts=250, validation=validation, **values)
    found = find(rows, "t1", "accuracy", 400, verdict)
    assert found is not None and found.sentences[1 : 1 + len(found.verdict)] == [*found.verdict]
    return list(found.verdict)


def test_the_verdict_ships_the_champion_and_names_the_cheapest_that_cannot_be_told_from_it() -> None:
    told = sentences(compared("p2", 0.01, 0.4), compared("p3", 0.2, 0.001), alternative="t2")
    assert told == [
        "Ship MiniLM · full · lr 5e-05. On the 250 validation texts MiniLM · top-2 · lr 5e-05 cannot be told from it; "
        "the cheapest alternative is MiniLM · top-2 · lr 5e-05, at 0.5× the time per text."
    ]
    (many,) = sentences(*(compared(name, 0.01, 0.4) for name in ("p2", "p3", "p4")))
    assert "texts 3 others cannot be told from it; none of them is clearly cheaper to run." in many


def test_the_verdict_says_where_the_champion_is_better_than_all_and_where_it_is_not_to_be_shipped() -> None:
    (clear,) = sentences(compared("p2", 0.1, 0.01), compared("p3", 0.2, 0.001))
    assert clear.endswith("lr 5e-05: on validation it is better than each of the 2 others, and not by chance.")
    (worse,) = sentences(compared("tfidf", -0.1, 0.01), compared("p2", 0.0, 1.0))
    assert worse == "Do not ship it: on validation TF-IDF is better than it, and not by chance."
    (alone,) = sentences()
    assert alone == "Ship MiniLM · full · lr 5e-05: there is nothing finished to compare it with."


@pytest.mark.parametrize(
    ("difference", "p", "told"),
    [
        (
            0.07,
            0.0184,
            "It is better than TF-IDF, and not by chance: accuracy +0.0700 (+0.0500 to +0.0900, p = 0.018).",
        ),
        (0.01, 0.31, "It cannot be told from TF-IDF on test: accuracy +0.0100 (−0.0100 to +0.0300, p = 0.31)."),
        (
            -0.07,
            1e-9,
            "It is worse than TF-IDF, and not by chance: accuracy −0.0700 (−0.0900 to −0.0500, p < 0.001).",
        ),
    ],
)
def test_the_verdict_says_whether_the_gain_over_tfidf_is_real(difference: float, p: float, told: str) -> None:
    assert sentences(test=(compared("tfidf", difference, p),))[1] == told


@pytest.mark.parametrize(
    ("difference", "p", "claim"),
    [
        (-0.05, 0.01, "Freezing lost accuracy: "),
        (0.05, 0.01, "Freezing gained accuracy: "),
        (-0.05, 0.2, "No effect of"),
    ],
)
def test_the_verdict_says_whether_freezing_lost_anything(difference: float, p: float, claim: str) -> None:
    found = compared("p1", difference, p, one="p2")
    told = sentences(freezing=found)[1]
    assert told.startswith(claim) and in_numbers(found, "accuracy") in told
    assert "MiniLM · top-2 · lr 5e-05 against MiniLM · full · lr 5e-05 on test" in told


def test_what_could_not_be_compared_is_named() -> None:
    told = sentences(compared("p2", 0.1, 0.01), unusable={"t3": "its predictions are missing or damaged"})
    assert told[-1].endswith("MiniLM · head · lr 5e-05 (t3).")
    assert sentences(unusable={"t1": "gone"})[0] == (
        "Nothing is tested, since there are no sound predictions of the champion."
    )


def test_a_loss_is_better_where_it_is_lower() -> None:
    found = find(
        [row(point_id="p1"), tfidf(point_id="tfidf")],
        "t1",
        "loss",
        400,
        Verdict(metric="loss", reported="accuracy", validation=(compared("tfidf", -0.1, 0.01),)),
    )
    assert found is not None and "better than the only other one" in found.verdict[0]


def test_a_comparison_says_of_how_many_seeds_it_is_the_mean() -> None:
    assert in_numbers(compared("p2", 0.1, 0.01, seeds=(3, 1)), "f1_macro").endswith("p = 0.01; mean of 3 and 1 seeds)")
    assert [p_value(p) for p in (0.0009, 0.0499, 0.0184, 1.0)] == ["p < 0.001", "p = 0.0499", "p = 0.018", "p = 1"]


def test_a_point_is_named_with_every_axis_in_use() -> None:
    assert point_name(row(freeze="lora", lora_r=8)) == "MiniLM · lora · lr 5e-05 · lora_r 8"
    assert other_axes(row(warmup_steps=0.5)) == {"warmup_steps": 0.5}
