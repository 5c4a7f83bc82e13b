"""Random, Optuna and ASHA sweeps by the command line: a real Ray, tiny models and texts."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.tiny import tiny_model
from tests.tiny_data import reviews_csv
from tests.workplace import Workplace
from trainables.files import read_json
from trainables.records import Result

pytestmark = pytest.mark.slow

RANGES = [
    {"model": "./bert", "freeze": ["full", "head"], "learning_rate": {"loguniform": [1e-4, 1e-2]}},
    {"model": "./bert", "freeze": "lora", "lora_r": {"randint": [1, 5]}, "learning_rate": {"loguniform": [1e-3, 3e-2]}},
]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    folder = tmp_path_factory.mktemp("searches")
    tiny_model("bert", folder / "bert")
    reviews_csv(folder / "reviews.csv")
    config = {
        "name": "tiny",
        "data": {"path": "reviews.csv"},
        "search": {"space": RANGES},
        "training": {"num_train_epochs": 2, "per_device_train_batch_size": 8, "max_length": 16, "bf16": False},
        "baselines": ["majority"],
        "tracking": {"checkpoints": "none"},
    }
    (folder / "sweep.yaml").write_text(yaml.safe_dump(config))
    return Workplace(folder)


def sweep(workplace: Workplace, name: str, *overrides: str) -> str:
    """Run a sweep that must end well; returns what it printed."""
    sets = [part for override in (f"name={name}", *overrides) for part in ("--set", override)]
    ended = workplace.fleetune("sweep", "sweep.yaml", *sets)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def trials(workplace: Workplace, name: str) -> dict[str, dict[str, Any]]:
    """The leaderboard's rows of trials by id, best first."""
    return {row["trial_id"]: row for row in workplace.leaderboard(name)["rows"] if row["kind"] == "trial"}


def ends(workplace: Workplace, name: str) -> dict[str, int]:
    """When each trial ended, by its folder."""
    folder = workplace.folder / "runs" / name / "trials"
    return {path.parent.name: Result.read(path).ended for path in folder.glob("*/result.json")}


def test_a_random_sweep_goes_on_where_it_stood_until_its_space_is_exhausted(workplace: Workplace) -> None:
    blocks = "[{model: ./bert, freeze: head}, {model: ./bert, freeze: lora, lora_r: {randint: [1, 5]}}]"
    command = ("random", "search.algorithm=random", f"search.space={blocks}")
    sweep(workplace, *command, "search.num_trials=3")
    before = ends(workplace, "random")
    assert len(before) == 3
    printed = sweep(workplace, *command, "search.num_trials=9")
    assert "2 of 5 trials to run" in printed
    assert "the space holds 5 points; search.num_trials asks for 9" in printed
    after = ends(workplace, "random")
    assert before.items() <= after.items()
    assert after.keys() == trials(workplace, "random").keys()
    rows = trials(workplace, "random").values()
    assert {(row["freeze"], row["lora_r"]) for row in rows} == {("head", None), *(("lora", r) for r in (1, 2, 3, 4))}


def test_an_optuna_sweep_knows_what_it_has_tried_and_ends(workplace: Workplace) -> None:
    command = ("optuna", "search.algorithm=optuna", "search.seeds=[1, 2]")
    printed = sweep(workplace, *command, "search.num_trials=2")
    assert "4 of 4 trials to run" in printed
    assert "4/4 finished" in printed
    before = ends(workplace, "optuna")
    assert "4 of 8 trials to run" in sweep(workplace, *command, "search.num_trials=4")
    after = ends(workplace, "optuna")
    assert before.items() <= after.items()
    assert len(after) == 8
    manifest = read_json(workplace.folder / "runs/optuna/manifest.json")
    assert set(manifest["trials"]) == after.keys() == trials(workplace, "optuna").keys()
    points = [row["point_id"] for row in trials(workplace, "optuna").values()]
    assert sorted(map(points.count, set(points))) == [2] * 4
    again = sweep(workplace, *command, "search.num_trials=4")
    assert "Nothing left to do" in again
    assert "starting Ray" not in again
    assert ends(workplace, "optuna") == after


@pytest.mark.quick
def test_asha_stops_hopeless_trials_for_good(workplace: Workplace) -> None:
    command = ("asha", "search.scheduler=asha", "search.grace_period=4", "training.num_train_epochs=6")
    # One at a time: the third trial runs in the process of the second, which is stopped.
    rates = [3e-3, 1e-9, 2e-3, 2e-9]
    one = "resources.max_concurrent_trials=1"
    printed = sweep(workplace, *command, one, f"search.space=[{{model: ./bert, learning_rate: {rates}}}]")
    assert printed.count("STOPPED in") == 2
    rows = list(trials(workplace, "asha").values())
    assert [row["status"] for row in rows] == ["DONE", "DONE", "STOPPED", "STOPPED"]
    assert {row["learning_rate"] for row in rows[2:]} == {1e-9, 2e-9}
    assert rows[3]["rank"] == 5
    folder = workplace.folder / "runs/asha/trials"
    for row in rows:
        stopped = row["status"] == "STOPPED"
        assert (row["test/accuracy"] is None) == stopped
        assert row["validation/accuracy"] is not None
        assert len(list((folder / row["trial_id"]).glob("epoch-*.json"))) == (4 if stopped else 6)
    states = {run.data.tags.get("fleetune.status"): run.info.status for run in workplace.runs("asha")}
    assert states == {None: "FINISHED", "DONE": "FINISHED", "STOPPED": "KILLED"}
    again = sweep(workplace, *command, one, f"search.space=[{{model: ./bert, learning_rate: {rates}}}]")
    assert "Nothing left to do" in again
    more = sweep(workplace, *command, one, f"search.space=[{{model: ./bert, learning_rate: {[*rates, 3e-9]}}}]")
    assert "1 of 5 trials to run" in more
    assert more.count("STOPPED in") == 1
