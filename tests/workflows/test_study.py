"""Optuna's side of a search: conditional axes, what it is told, and that it learns from it."""

from __future__ import annotations

import math
import statistics

import pytest

from workflows.space import RANGES, Block, Choice, Draw, LogUniform
from workflows.study import Ending, Study

BLOCKS = [
    Block({"model": Choice(("m",)), "learning_rate": LogUniform(1e-6, 1e-4)}),
    Block({"model": Choice(("m", "n")), "lora_r": Choice((4, 8)), "learning_rate": LogUniform(1e-4, 1e-2)}),
]


def states(study: Study) -> list[str]:
    return [trial.state.name for trial in study._study.trials]


def score(draw: Draw) -> float:
    """Best at 1e-3 in the second block."""
    return -abs(math.log10(draw.values["learning_rate"]) + 3) - (draw.block == 0)


def search(seed: int, count: int) -> list[float]:
    study, found = Study(BLOCKS, "accuracy", seed), []
    for _ in range(count):
        trial, draw = study.ask()
        found.append(score(draw))
        study.tell(trial, Ending("COMPLETE", found[-1]))
    return found


@pytest.mark.parametrize("kind", RANGES)
def test_every_kind_of_range_is_drawn_within_its_bounds(kind: str) -> None:
    block = Block({"axis": RANGES[kind](1, 3)})
    study = Study([block], "accuracy", 0)
    drawn = [study.ask()[1] for _ in range(20)]
    assert all(draw.values in block for draw in drawn)
    study.add(drawn[0], Ending("COMPLETE", 0.5))
    study.run(drawn[1])
    assert [trial.params for trial in study._study.trials[-2:]] == [
        {"0.axis": draw.values["axis"]} for draw in drawn[:2]
    ]


def test_axes_of_one_block_never_leak_into_another() -> None:
    study = Study(BLOCKS, "accuracy", 0)
    for _ in range(40):
        trial, draw = study.ask()
        assert draw.values in BLOCKS[draw.block]
        assert {name.partition(".")[0] for name in trial.params} == {"block", str(draw.block)}
        study.tell(trial, Ending("COMPLETE", score(draw)))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_tpe_does_better_than_its_random_start_and_the_seed_decides_it(seed: int) -> None:
    found = search(seed, 60)
    assert statistics.median(found[-20:]) > statistics.median(found[:10]) + 0.2
    assert search(seed, 60) == found


def test_what_is_known_steers_the_first_points() -> None:
    start = Study(BLOCKS, "accuracy", 0)
    draws = [start.ask()[1] for _ in range(30)]
    study = Study(BLOCKS, "accuracy", 0, known=30)
    for draw in draws:
        study.add(draw, Ending("COMPLETE", score(draw)))
    asked = [study.ask()[1] for _ in range(8)]
    assert statistics.fmean(map(score, asked)) > statistics.fmean(map(score, draws)) + 0.5
    assert not set(map(score, asked)) & set(map(score, draws))


def test_a_continued_search_does_not_draw_its_first_points_again() -> None:
    begun, continued = Study(BLOCKS, "accuracy", 0), Study(BLOCKS, "accuracy", 0, known=3)
    first = [begun.ask()[1] for _ in range(3)]
    for draw in first:
        continued.add(draw, Ending("COMPLETE", score(draw)))
    assert all(continued.ask()[1] not in first for _ in range(3))


def test_loss_is_minimised() -> None:
    study = Study(BLOCKS, "loss", 0)
    for _ in range(40):
        trial, draw = study.ask()
        study.tell(trial, Ending("COMPLETE", -score(draw)))
    assert study._study.best_value == min(trial.value for trial in study._study.trials)


def test_failed_and_stopped_points_are_told_as_such() -> None:
    study = Study(BLOCKS, "accuracy", 0)
    draw = study.ask()[1]
    for ending in (Ending("FAIL"), Ending("PRUNED", by_epoch={1: 0.25, 2: 0.5}), Ending("COMPLETE", 0.75)):
        study.add(draw, ending)
        study.tell(study.run(draw), ending)
    assert states(study) == ["RUNNING", *["FAIL"] * 2, *["PRUNED"] * 2, *["COMPLETE"] * 2]
    assert [trial.intermediate_values for trial in study._study.trials[3:5]] == [{1: 0.25, 2: 0.5}] * 2
