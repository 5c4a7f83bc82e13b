"""What a sweep is going to be, without timing it: what is left of it, what is drawn later, what cannot be placed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from tests.recorded import result
from tests.tiny import tiny_model
from tests.tiny_data import reviews_csv
from tests.workflows.test_forecast import TIMING
from trainables.errors import BadInput
from workflows import manifest, outlook, trials
from workflows.kinds import Kind
from workflows.outlook import Outlook
from workflows.prepare import prepare
from workflows.sweep_file import load


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workplace")
    tiny_model("bert", folder / "bert")
    reviews_csv(folder / "reviews.csv")
    return folder


def sweep_file(workplace: Path, storage: Path, search: dict[str, Any], **sections: Any) -> Path:
    config = {
        "name": "sweep",
        "data": {"path": str(workplace / "reviews.csv")},
        "search": {"space": [{"model": str(workplace / "bert"), "learning_rate": [1e-3, 2e-3]}], **search},
        "training": {"max_length": 32},
        "storage": str(storage),
        **sections,
    }
    path = storage / "sweep.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def ahead(path: Path, *overrides: str) -> Outlook:
    return outlook.look_ahead(path, overrides, Console(quiet=True), probe=False)


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_random_points_are_those_of_the_sweep_and_seeds_multiply_them(workplace: Path, tmp_path: Path) -> None:
    space = [{"model": str(workplace / "bert"), "learning_rate": {"loguniform": [1e-5, 1e-3]}}]
    search = {"algorithm": "random", "num_trials": 5, "space": space, "seeds": [1, 2]}
    path = sweep_file(workplace, tmp_path, search)
    found = ahead(path)
    planned = prepare(load(path, []), Console(quiet=True)).plan("fp32")
    assert {trial.trial_id for trial in found.left.trials} == {trial.trial_id for trial in planned}
    assert (len(found.left.trials), found.left.drawn_later) == (10, 0)


def test_for_what_optuna_draws_later_random_points_stand(workplace: Path, tmp_path: Path) -> None:
    space = [{"model": str(workplace / "bert"), "freeze": ["full", "head"], "learning_rate": {"uniform": [1e-5, 1e-3]}}]
    found = ahead(sweep_file(workplace, tmp_path, {"algorithm": "optuna", "num_trials": 7, "space": space}))
    assert (len(found.left.trials), found.left.drawn_later) == (7, 7)
    assert len({trial.point_id for trial in found.left.trials}) == 7
    assert "7 trials are drawn while the sweep runs" in found.notes[0]


def test_a_space_that_holds_fewer_points_than_optuna_may_draw_is_no_more(workplace: Path, tmp_path: Path) -> None:
    found = ahead(sweep_file(workplace, tmp_path, {"algorithm": "optuna", "num_trials": 7}))
    assert (len(found.left.trials), found.left.drawn_later) == (2, 2)


def test_asha_is_said_to_take_less(workplace: Path, tmp_path: Path) -> None:
    found = ahead(sweep_file(workplace, tmp_path, {"scheduler": "asha"}))
    assert "asha stops trials early" in found.notes[0]


def begun(path: Path) -> list[str]:
    """A sweep that has begun, as its manifest says; returns the ids of its trials."""
    prepared = prepare(load(path, []), Console(quiet=True))
    planned = prepared.plan("fp32")
    names = [trial.trial_id for trial in planned]
    manifest.write(prepared.sweep, prepared.config, prepared.data, "fp32", [[name] for name in names], planned, None)
    for trial in planned:
        trials.lay_out(prepared, trial, "fp32")
    result(prepared.sweep, names[0])
    return names


def test_of_a_sweep_that_has_begun_what_is_left_is_planned(workplace: Path, tmp_path: Path) -> None:
    path = sweep_file(workplace, tmp_path, {})
    names = begun(path)
    found = ahead(path)
    assert found.left.finished == 1
    assert [trial.trial_id for trial in found.left.trials] == names[1:]


def test_what_the_sweep_would_refuse_the_plan_refuses(workplace: Path, tmp_path: Path) -> None:
    path = sweep_file(workplace, tmp_path, {})
    begun(path)
    with pytest.raises(BadInput, match=r"training\.num_train_epochs"):
        ahead(path, "training.num_train_epochs=7")


def test_a_gpu_where_there_is_none_cannot_be_placed(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlook, "_GPUS", tmp_path / "none")
    found = ahead(sweep_file(workplace, tmp_path, {}, resources={"gpus_per_trial": 1}))
    assert found.exit_code == 4
    assert "no node has that (this machine" in found.problems[0]
    (tmp_path / "gpus" / "0000:01:00.0").mkdir(parents=True)
    monkeypatch.setattr(outlook, "_GPUS", tmp_path / "gpus")
    found = ahead(sweep_file(workplace, tmp_path, {}, resources={"gpus_per_trial": 0.5}))
    assert (found.exit_code, found.slots) == (0, 2 if (outlook.os.cpu_count() or 1) >= 2 else 1)


def test_a_disk_that_is_too_small_is_named(workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr(outlook.shutil, "disk_usage", lambda _: Usage)
    found = ahead(sweep_file(workplace, tmp_path, {}))
    assert found.exit_code == 4
    assert "1 kB are free" in found.problems[0]


def test_a_forecast_made_on_a_busy_machine_says_so() -> None:
    cpus = outlook.os.cpu_count() or 1
    assert outlook._busy(0.1 * cpus) == []
    (said,) = outlook._busy(4.0 * cpus)
    assert f"load {4.0 * cpus:.1f} on {cpus} CPUs" in said


def test_what_does_not_fit_the_memory_together_and_steps_that_look_like_hanging_are_named(
    workplace: Path, tmp_path: Path
) -> None:
    path = sweep_file(workplace, tmp_path, {}, resources={"trial_timeout": "10s"})
    prepared, left = prepare(load(path, []), Console(quiet=True)), ahead(path).left
    kind = Kind.of(left.groups[0])
    small = TIMING.model_copy(update={"peak_bytes": 10**9, "device_bytes": 16 * 10**9, "longest_step": 9.0})
    large = small.model_copy(update={"peak_bytes": 9 * 10**9, "longest_step": 11.0})
    machine = outlook._this_machine()
    assert outlook._too_large(machine, left, {kind: small}, slots=2) == []
    assert outlook._too_slow(prepared, {kind: small}) == []
    (memory,) = outlook._too_large(machine, left, {kind: large}, slots=2)
    assert "2 trials at once may take 18 GB, and a machine has 16 GB" in memory
    assert outlook._too_large(machine, left, {kind: large}, slots=1) == []
    (hanging,) = outlook._too_slow(prepared, {kind: large})
    assert "a step takes 11 s, and resources.trial_timeout ends a trial after 10 s without one" in hanging
