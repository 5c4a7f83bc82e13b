"""What Tune is given, what it loses, and how a scheduler judges. Whole runs of Tune are in tests/jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.recorded import begin, epoch, result
from tests.workflows.test_plan import config, spec
from tests.workflows.test_plan import trials as planned_by
from trainables.directory import SweepDirectory
from trainables.errors import InfrastructureError
from trainables.files import read_json, write_json
from trainables.records import Result
from trainables.trainable import SCORE
from workflows import dispatch as module
from workflows.cluster import Request
from workflows.dispatch import Halving, dispatch
from workflows.endings import Loss
from workflows.handed import Group, Handed
from workflows.prepare import Prepared
from workflows.search import Listed
from workflows.silence import Silence
from workflows.trials import _halving

NAMES = ("a", "b", "c", "d")
STARVED = Loss(for_memory=True)


class Runs:
    """Stands in for Tune: each of its runs does what `script` says with the groups that it takes.

    A step of the script is how many groups are taken, how many of these end, and how Tune gives up on the others
    (None: it does not, and takes all there are).
    """

    def __init__(self, sweep: SweepDirectory, *script: tuple[int, int, Loss | None]) -> None:
        self.sweep, self.script = sweep, list(script)
        self.given: list[list[str]] = []
        self.slots: list[int] = []

    def __call__(self, handed: Handed, request: Request, slots: int, *_: Any) -> Loss:
        take, end, loss = self.script.pop(0)
        groups: list[Group] = [group for group in (handed.next() for _ in range(take)) if group]
        self.given.append([trial.root.name for group in groups for trial in group])
        self.slots.append(slots)
        for group in groups[:end]:
            for trial in group:
                result(self.sweep, trial.root.name)
            handed.ended(group)
        return loss or Loss()


def run(sweep: SweepDirectory, runs: Runs, monkeypatch: pytest.MonkeyPatch, *groups: str) -> list[str]:
    """Dispatch groups of trials, named by letters; returns what was reported."""
    monkeypatch.setattr(module, "_fit", runs)
    source = Listed([[sweep.trial(name) for name in group] for group in groups or NAMES])
    reported: list[str] = []

    def on_report(report: dict[str, Any]) -> None:
        reported.append(f"{report['trial']} {report['status']} {report['message'].split(':')[0]}")

    dispatch(source, Request(cpus=1, gpus=0), 2, trial_timeout=60, on_report=on_report, log=sweep.driver_log)
    return reported


def ends(sweep: SweepDirectory) -> dict[str, str]:
    results = {name: Result.read(sweep.trial(name).result) for name in NAMES}
    return {name: f"{found.status} {found.reason}" for name, found in results.items()}


def test_what_tune_lost_is_handed_out_again_before_anything_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = begin(tmp_path / "sweep", trials=NAMES)
    runs = Runs(sweep, (3, 1, Loss()), (9, 9, None))
    run(sweep, runs, monkeypatch)
    assert runs.given == [["a", "b", "c"], ["b", "c", "d"]]
    assert runs.slots == [2, 2]


def test_what_was_lost_when_memory_ran_out_runs_alone_before_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = begin(tmp_path / "sweep", trials=NAMES)
    runs = Runs(sweep, (3, 1, STARVED), (9, 9, None), (9, 9, None))
    run(sweep, runs, monkeypatch)
    assert runs.given == [["a", "b", "c"], ["b", "c"], ["d"]]
    assert runs.slots == [2, 1, 2]
    assert set(ends(sweep).values()) == {"DONE None"}


def test_a_trial_that_is_lost_for_the_third_time_has_failed_for_want_of_memory_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = begin(tmp_path / "sweep", trials=NAMES)
    runs = Runs(sweep, (2, 0, STARVED), (1, 0, STARVED), (2, 1, STARVED), (9, 9, None))
    reported = run(sweep, runs, monkeypatch)
    assert runs.given == [["a", "b"], ["a"], ["b", "a"], ["c", "d"]]
    assert ends(sweep) == {"a": "FAILED host-oom", "b": "DONE None", "c": "DONE None", "d": "DONE None"}
    assert reported == ["a FAILED host-oom"]


def test_trials_that_take_too_much_together_are_tried_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = begin(tmp_path / "sweep", trials=NAMES)
    runs = Runs(sweep, (2, 0, STARVED), (2, 1, STARVED), (9, 9, None))
    run(sweep, runs, monkeypatch, "d", "abc")
    assert runs.given == [["d", "a", "b", "c"], ["d", "a", "b", "c"], ["a", "b", "c"]]
    assert runs.slots == [2, 1, 1]


def test_a_worker_that_is_lost_again_and_again_without_a_word_is_no_want_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = begin(tmp_path / "sweep", trials=NAMES)
    runs = Runs(sweep, *[(1, 0, Loss())] * 3, (9, 9, None))
    assert run(sweep, runs, monkeypatch) == ["a FAILED infra"]
    assert ends(sweep) == {"a": "FAILED infra", "b": "DONE None", "c": "DONE None", "d": "DONE None"}


def test_what_ran_on_other_nodes_than_the_one_without_memory_is_not_suspected(tmp_path: Path) -> None:
    handed, (_, b) = taken(tmp_path)
    handed.addresses |= {"a": "10.0.0.1", "b": "10.0.0.2"}
    handed.take_back(Loss(for_memory=True, address="10.0.0.2"))
    assert handed.more()
    assert (handed.is_alone, handed.next(), handed.next()) == (True, b, None)


def test_while_a_suspect_waits_what_runs_only_ends(tmp_path: Path) -> None:
    handed, (a, _) = taken(tmp_path)
    assert handed.may_have_more()
    handed.lost(a, STARVED)
    assert (handed.next(), handed.may_have_more()) == (None, False)


def test_while_trials_run_one_of_them_may_come_back(tmp_path: Path) -> None:
    handed, (_, b) = taken(tmp_path)
    for name in "cd":
        assert [trial.root.name for trial in handed.next() or []] == [name]
    assert (handed.next(), handed.may_have_more()) == (None, True)
    handed.lost(b, Loss())
    assert handed.next() == b


def test_a_result_that_the_folder_lists_counts_where_looking_its_name_up_does_not_find_it(tmp_path: Path) -> None:
    """As on NFS, where a name that was looked up in vain stays unknown for a while; here it is a link to nowhere."""
    handed, (a, b) = taken(tmp_path)
    for group in (a, b):
        group[0].result.symlink_to("elsewhere.json")
        assert not group[0].result.exists()
    handed.ended(a)
    handed.lost(b, Loss())
    assert handed.open == []
    assert [trial.root.name for trial in handed.next() or []] == ["c"]


def taken(tmp_path: Path) -> tuple[Handed, Sequence[Group]]:
    """The first two of four groups are handed out."""
    sweep = begin(tmp_path / "sweep", trials=NAMES)
    handed = Handed(Listed([[sweep.trial(name)] for name in NAMES]), on_report=print)
    return handed, [handed.next() or [], handed.next() or []]


def test_a_run_of_tune_in_which_nothing_ran_is_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = begin(tmp_path / "sweep", trials=NAMES)
    with pytest.raises(InfrastructureError, match=r"driver\.log"):
        run(sweep, Runs(sweep, (0, 0, None)), monkeypatch)


def test_nothing_is_started_where_there_is_no_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(begin(tmp_path / "sweep"))
    monkeypatch.setattr(module, "_fit", runs)
    log = tmp_path / "driver.log"
    dispatch(Listed([]), Request(cpus=1, gpus=0), 2, trial_timeout=60, on_report=print, log=log)
    assert runs.given == []


@pytest.mark.slow
@pytest.mark.parametrize(("metric", "good", "bad"), [("accuracy", 0.75, 0.65), ("loss", 0.65, 0.75)])
def test_rungs_know_what_earlier_runs_have_trained(tmp_path: Path, metric: Any, good: float, bad: float) -> None:
    sweep = begin(tmp_path / "sweep", trials=NAMES)
    for name, accuracy in (("a", 0.6), ("b", 0.8)):
        told(sweep, name, num_train_epochs=8, metric_for_best_model=metric)
        for number in (1, 2, 3):
            epoch(sweep, name, number, accuracy=accuracy)
    tried = [sweep.trial(name) for name in "ab"]
    for earlier in ((tried, ()), ((), tried), (tried[:1], tried)):
        decide = asha(metric, *earlier)
        assert decide("c", good) == "CONTINUE"
        assert asha(metric, *earlier)("c", bad) == "STOP"
    assert asha(metric, (), ())("c", bad) == "CONTINUE"


@pytest.mark.slow
def test_a_trial_that_was_lost_is_on_the_rungs_once(tmp_path: Path) -> None:
    decide = asha("accuracy", (), ())
    for name, score in (("a", 0.5), ("a", 0.5), ("b", 0.9)):
        assert decide(name, score) == "CONTINUE"
    # Below the middle of 0.5 and 0.9, above that of 0.5, 0.5 and 0.9.
    assert decide("c", 0.65) == "STOP"


@pytest.mark.slow
def test_the_last_epoch_of_a_trial_is_on_no_rung_as_it_was_not_while_it_ran(tmp_path: Path) -> None:
    sweep = begin(tmp_path / "sweep", trials=NAMES)
    told(sweep, "a", num_train_epochs=2)
    told(sweep, "b", num_train_epochs=4)
    for name, accuracy in (("a", 0.9), ("b", 0.6)):
        for number in (1, 2):
            epoch(sweep, name, number, accuracy=accuracy)
    decide = asha("accuracy", [sweep.trial(name) for name in "ab"], ())
    assert decide("c", 0.65) == "CONTINUE"


@pytest.mark.slow
def test_a_trial_that_was_interrupted_is_on_the_rungs_before_it_goes_on_and_is_not_judged_there_by_a_later_epoch(
    tmp_path: Path,
) -> None:
    sweep = begin(tmp_path / "sweep", trials=NAMES)
    for name, accuracy in (("a", 0.9), ("b", 0.6)):
        told(sweep, name, num_train_epochs=8)
        for number in (1, 2):
            epoch(sweep, name, number, accuracy=accuracy)
    # Of a driver before this one, and of a worker that was lost before it could report.
    for tried in ([sweep.trial(name) for name in "ab"], [sweep.trial("a")]):
        decide = asha("accuracy", tried, ())
        assert decide("b", 0.1, 3, sweep) == "CONTINUE"
        # Below the middle of 0.9 and 0.6; with 0.1 it would be above.
        assert decide("c", 0.7) == "STOP"


@pytest.mark.slow
def test_what_is_planned_counts_on_the_rungs_whether_it_has_ended_or_not(tmp_path: Path) -> None:
    sweep = SweepDirectory(tmp_path / "sweep")
    search = {"scheduler": "asha", "grace_period": 1, "reduction_factor": 2}
    found = config(tmp_path, [{"model": "m", "learning_rate": [1e-5, 2e-5]}], search=search)
    ended, interrupted = planned = planned_by(found)
    for trial, accuracy in ((ended, 0.9), (interrupted, 0.6)):
        write_json(sweep.trial(trial.trial_id).spec, {"spec": spec(trial).model_dump(mode="json")})
        epoch(sweep, trial.trial_id, 1, accuracy=accuracy)
    result(sweep, ended.trial_id)
    halving = _halving(cast(Prepared, SimpleNamespace(config=found, sweep=sweep)), planned)
    for score, said in ((0.8, "CONTINUE"), (0.7, "STOP")):
        assert scheduler(halving)("another", score, 1) == said


def told(sweep: SweepDirectory, name: str, **training: Any) -> None:
    """Change what a laid-out trial is told of its training."""
    path = sweep.trial(name).spec
    stored = read_json(path)
    stored["spec"]["training"] |= training
    write_json(path, stored)


def asha(metric: Any, tried: Any, seen: Any) -> Callable[..., str]:
    return scheduler(Halving(metric, 1, 2, 8, tried), seen)


def scheduler(halving: Halving, seen: Any = ()) -> Callable[..., str]:
    """What a scheduler says to a trial after its second epoch, or another; recorded epochs have a loss of 0.7."""
    found = module._scheduler(halving, seen)

    def decide(name: str, score: float, number: int = 2, sweep: SweepDirectory | None = None) -> str:
        folder = sweep.trial(name).root if sweep else f"trials/{name}"
        trial = SimpleNamespace(trial_id=object(), config={"trials": [str(folder)]})
        found.on_trial_add(None, trial)
        return str(found.on_trial_result(None, trial, {"epoch": number, SCORE: score}))

    return decide


def test_a_slot_that_has_nothing_left_to_run_is_told_of_once_and_only_while_others_run(tmp_path: Path) -> None:
    handed, _ = taken(tmp_path)
    idle: list[str] = []
    groups = module._searcher(handed, lambda: idle.append("idle"))
    assert [groups.suggest("1")["trials"], groups.suggest("2")["trials"]] == [
        [str(tmp_path / "sweep" / "trials" / name)] for name in "cd"
    ]
    assert idle == []
    assert (groups.suggest("3"), groups.suggest("4"), idle) == (None, None, ["idle"])


def test_where_nothing_runs_any_more_no_slot_is_idle(tmp_path: Path) -> None:
    groups = module._searcher(Handed(Listed([]), lambda _: None), lambda: pytest.fail("idle"))
    assert groups.suggest("1") == groups.FINISHED


def test_tune_keeps_no_means_of_a_trial_that_has_ended(tmp_path: Path) -> None:
    from ray.tune.experiment.trial import Trial

    handed = Handed(Listed([[SweepDirectory(tmp_path).trial("a")]]), lambda _: None)
    (directory,) = handed.next() or []
    result(SweepDirectory(tmp_path), "a")
    trial = Trial("train", stub=True, config={"trials": [str(directory.root)]})
    trial.update_last_result({"training_iteration": 1, "time_total_s": 1.0, "epoch": 1})
    assert trial.metric_analysis
    assert trial.metric_n_steps
    module._listener(handed, lambda _: None, Silence(60)).on_trial_complete(1, [trial], trial=trial)
    assert not trial.metric_analysis
    assert not trial.metric_n_steps
    assert not handed.open
