"""Where groups come from: what Optuna has drawn is in the sweep directory, and is taken up again from there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.recorded import epoch
from tests.workflows.test_plan import config, planner, spec
from trainables.directory import SweepDirectory
from trainables.files import write_json
from trainables.records import Result
from workflows.plan import PlannedTrial, Planner
from workflows.search import ALGORITHMS, Drawn, Listed, point_ending, tried

SPACE = [
    {"model": "m", "freeze": ["full", "head"], "learning_rate": {"loguniform": [1e-6, 1e-4]}},
    {"model": "m", "freeze": "lora", "lora_r": {"randint": [2, 9]}, "learning_rate": {"loguniform": [1e-4, 1e-2]}},
]


class Sweep:
    """A sweep directory and a search over it, with results written as workers do."""

    def __init__(self, folder: Path, num_trials: int, space: list[dict[str, Any]] = SPACE, **search: Any) -> None:
        self.directory = SweepDirectory(folder / "sweep")
        found = config(folder, space, search={"algorithm": "optuna", "num_trials": num_trials, **search})
        self.planner: Planner = planner(found)
        self.drawn: list[PlannedTrial] = []
        self.search = Drawn(self.planner, self.directory, self.lay_out)

    def lay_out(self, trials: list[PlannedTrial]) -> None:
        """As `workflows.trials` does: a result that is worth another try is cleared."""
        self.drawn += trials
        for trial in trials:
            result = self.directory.trial(trial.trial_id).result
            if result.exists() and not Result.read(result).is_final:
                result.unlink()
            stored = {"spec": spec(trial).model_dump(mode="json"), "drawn": trial.drawn}
            write_json(self.directory.trial(trial.trial_id).spec, stored)

    def end(self, trial_id: str, accuracy: float = 0.5, status: str = "DONE", reason: str | None = None) -> None:
        metrics = {"validation/accuracy": accuracy} if status != "FAILED" else {}
        values = {"kind": "trial", "trial_id": trial_id, "status": status, "reason": reason, "metrics": metrics}
        result = Result.model_validate(values | {"started": 0, "ended": 1})
        result.write(self.directory.trial(trial_id).result)

    def run(self, limit: int = 1000) -> list[str]:
        """Run all there is, at most `limit` trials; returns their ids."""
        ids: list[str] = []
        while len(ids) < limit and (group := self.search.next()):
            ids.append(group[0].root.name)
            self.end(ids[-1], accuracy=len(ids) / 1000)
            self.search.ended(group)
        return ids

    def states(self) -> list[str]:
        return [trial.state.name for trial in self.search.study._study.trials]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_tries_the_points_of_a_small_space_with_each_seed(tmp_path: Path, algorithm: str) -> None:
    small = [{"model": "m", "freeze": ["full", "head"]}, {"model": "m", "freeze": "lora", "lora_r": [2, 4]}]
    count = {} if algorithm == "grid" else {"num_trials": 4}
    found = planner(config(tmp_path, small, search={"algorithm": algorithm, "seeds": [1, 2], **count}))
    sweep = SweepDirectory(tmp_path / "sweep")
    planned = ALGORITHMS[algorithm].planned(found, sweep)
    drawing = Drawn(found, sweep, planned.extend) if ALGORITHMS[algorithm].draws else None
    while drawing and drawing.next():
        pass
    assert {(trial.freeze, trial.axes.get("lora_r"), trial.seed) for trial in planned} == {
        (freeze, rank, seed)
        for freeze, rank in (("full", None), ("head", None), ("lora", 2), ("lora", 4))
        for seed in (1, 2)
    }
    assert len(planned) == 8


def test_a_list_is_handed_out_in_its_order(tmp_path: Path) -> None:
    groups = [[SweepDirectory(tmp_path).trial(name)] for name in "abc"]
    listed = Listed(groups)
    assert [listed.next() for _ in range(4)] == [*groups, None]


def test_a_search_draws_as_many_points_as_were_asked_for_and_numbers_them(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, 4)
    assert sweep.run() == [trial.trial_id for trial in sweep.drawn]
    assert [trial.drawn for trial in sweep.drawn] == [1, 2, 3, 4]
    assert sweep.states() == ["COMPLETE"] * 4
    assert sweep.search.is_complete()


def test_a_continued_search_knows_its_points_and_draws_others_only(tmp_path: Path) -> None:
    first = Sweep(tmp_path, 4)
    before = first.run()
    again = Sweep(tmp_path, 4)
    assert again.search.is_complete()
    assert again.run() == []
    more = Sweep(tmp_path, 6)
    assert more.states() == ["COMPLETE"] * 4
    assert [trial.value for trial in more.search.study._study.trials] == [0.001, 0.002, 0.003, 0.004]
    assert not more.search.is_complete()
    after = Sweep(tmp_path, 6)
    added = after.run()
    assert len(added) == 2
    assert not set(added) & set(before)
    assert [trials[0].trial_id for _, trials in tried(after.planner, after.directory)] == before + added


def test_what_was_drawn_and_not_finished_runs_first(tmp_path: Path) -> None:
    cut = Sweep(tmp_path, 4)
    done = cut.run(2)
    open_group = cut.search.next()
    assert open_group is not None
    again = Sweep(tmp_path, 4)
    assert again.states() == ["COMPLETE", "COMPLETE", "RUNNING"]
    ran = again.run()
    assert ran[0] == open_group[0].root.name
    assert len(ran) == 2
    assert not set(ran) & set(done)
    assert again.states() == ["COMPLETE"] * 4


def test_a_point_is_told_once_all_its_seeds_have_ended_with_their_mean(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, 2, seeds=[1, 2, 3])
    groups = [sweep.search.next() for _ in range(3)]
    for group, accuracy in zip(groups, (0.25, 0.5, 0.75), strict=True):
        assert group is not None
        assert sweep.states() == ["RUNNING"]
        sweep.end(group[0].root.name, accuracy)
        sweep.search.ended(group)
    assert sweep.states() == ["COMPLETE"]
    assert sweep.search.study._study.trials[0].value == 0.5
    assert len(sweep.run()) == 3


def test_a_seed_that_is_added_runs_for_the_points_that_are_known(tmp_path: Path) -> None:
    before = Sweep(tmp_path, 3, seeds=[1]).run()
    more = Sweep(tmp_path, 3, seeds=[1, 2])
    added = more.run()
    assert len(added) == 3
    assert not set(added) & set(before)
    assert more.drawn == []


def test_points_outside_the_present_space_are_kept_but_not_known(tmp_path: Path) -> None:
    before = Sweep(tmp_path, 6).run()
    narrow = Sweep(tmp_path, 6, space=[SPACE[1]])
    known = [trials[0] for _, trials in tried(narrow.planner, narrow.directory)]
    assert 0 < len(known) < 6
    assert {trial.freeze for trial in known} == {"lora"}
    assert len(narrow.run()) == 6 - len(known)
    assert all(narrow.directory.trial(trial_id).result.exists() for trial_id in before)


def test_what_a_grid_has_finished_is_known_and_what_it_has_not_begun_is_not(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, 3)
    grid = sweep.planner.trials(next(iter(_grid_values(sweep))))
    sweep.lay_out(grid)
    assert tried(sweep.planner, sweep.directory) == []
    sweep.end(grid[0].trial_id)
    assert [trials[0].trial_id for _, trials in tried(sweep.planner, sweep.directory)] == [grid[0].trial_id]
    assert len(Sweep(tmp_path, 3).run()) == 2


@pytest.mark.parametrize("reason", ["infra", "host-oom", "timeout"])
def test_what_a_grid_would_try_again_is_not_taken_over_but_may_be_drawn(tmp_path: Path, reason: str) -> None:
    """Its result is cleared before that, and what Optuna never drew would then be planned and never run."""
    sweep = Sweep(tmp_path, 3)
    grid = sweep.planner.trials(next(iter(_grid_values(sweep))))
    sweep.lay_out(grid)
    sweep.end(grid[0].trial_id, status="FAILED", reason=reason)
    small = [{"model": "m", "freeze": "full", "learning_rate": 1e-5}]
    for space, count in ((SPACE, 3), (small, 1)):
        again = Sweep(tmp_path, count, space=space)
        planned = ALGORITHMS["optuna"].planned(again.planner, again.directory)
        again.lay_out(planned)
        after = Sweep(tmp_path, count, space=space)
        assert len(after.run()) == count
        assert all(after.directory.trial(trial.trial_id).result.exists() for trial in planned + after.drawn)


def _grid_values(sweep: Sweep) -> list[dict[str, Any]]:
    model = next(iter(sweep.planner.models))
    return [{"model": model, "freeze": "full", "learning_rate": 1e-5}]


def test_a_space_of_few_points_is_exhausted_and_the_search_ends(tmp_path: Path) -> None:
    small = [{"model": "m", "freeze": ["full", "head"]}, {"model": "m", "freeze": "lora", "lora_r": [2, 4, 8]}]
    sweep = Sweep(tmp_path, 50, space=small)
    assert len(sweep.run()) == len(set(sweep.run() + [trial.trial_id for trial in sweep.drawn])) == 5
    assert sweep.search.is_complete()
    assert Sweep(tmp_path, 50, space=small).search.is_complete()


def test_stopped_and_failed_seeds_decide_how_a_point_has_ended(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, 1, seeds=[1, 2])
    sweep.search.next()
    one, two = (sweep.directory.trial(trial.trial_id) for trial in sweep.drawn)
    names = [trial.trial_id for trial in sweep.drawn]
    sweep.end(names[0], 0.75)
    assert point_ending([one, two], "accuracy") is None
    for status in ("DONE", "STOPPED", "FAILED"):
        sweep.end(names[0], 0.75, status=status, reason="nan" if status == "FAILED" else None)
        sweep.end(names[1], status="FAILED", reason="oom")
        found = point_ending([one, two], "accuracy")
        assert found is not None
        assert found.state == "FAIL"
    sweep.end(names[0], 0.75)
    sweep.end(names[1], 0.25)
    found = point_ending([one, two], "accuracy")
    assert found is not None
    assert (found.state, found.value) == ("COMPLETE", 0.5)
    for name, accuracies in ((names[0], (0.25, 0.5)), (names[1], (0.75,))):
        for number, accuracy in enumerate(accuracies, start=1):
            epoch(sweep.directory, name, number, accuracy=accuracy)
    sweep.end(names[1], status="STOPPED")
    found = point_ending([one, two], "accuracy")
    assert found is not None
    assert (found.state, found.by_epoch) == ("PRUNED", {1: 0.5, 2: 0.5})


@pytest.mark.parametrize("reason", ["oom", "nan"])
def test_a_failed_point_counts_as_tried(tmp_path: Path, reason: str) -> None:
    sweep = Sweep(tmp_path, 2)
    group = sweep.search.next()
    assert group is not None
    sweep.end(group[0].root.name, status="FAILED", reason=reason)
    sweep.search.ended(group)
    assert sweep.states() == ["FAIL"]
    again = Sweep(tmp_path, 2)
    assert again.states() == ["FAIL"]
    assert len(again.run()) == 1
