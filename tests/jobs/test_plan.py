"""`fleetune plan` by the command line: what it shows, what it starts, and what the sweep makes of it."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
import yaml

from tests.tiny import tiny_model
from tests.tiny_data import reviews_csv
from tests.workplace import Workplace
from trainables.files import read_json


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    folder = tmp_path_factory.mktemp("plans")
    tiny_model("bert", folder / "bert")
    reviews_csv(folder / "reviews.csv")
    config = {
        "name": "tiny",
        "data": {"path": "reviews.csv"},
        "search": {
            "space": [
                {"model": "./bert", "freeze": ["full", "top-1"], "learning_rate": [1e-3, 3e-3, 3e-3]},
                {"model": "./bert", "freeze": "head", "learning_rate": [1e-3, 3e-3]},
                {"model": "./bert", "freeze": "full", "learning_rate": 1e-3},
            ]
        },
        "training": {"num_train_epochs": 2, "per_device_train_batch_size": 8, "max_length": 32, "bf16": False},
        "tracking": {"checkpoints": "none"},
    }
    (folder / "sweep.yaml").write_text(yaml.safe_dump(config))
    return Workplace(folder)


def left_behind(workplace: Workplace) -> set[str]:
    return {path.name for path in (workplace.folder / "runs").iterdir()}


def test_without_probing_a_plan_is_there_at_once_and_starts_nothing(workplace: Workplace) -> None:
    shown = workplace.fleetune("plan", "sweep.yaml", "--no-probe")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "6 trials to run; 1 repeats in the space are left out" in shown.stdout
    assert "1 set of tokens, 2 frozen prefixes for 4 trials, 2 heads train in 1 group" in shown.stdout
    assert re.search(r"disk +[\d.]+ MB more, [\d.]+ GB free", shown.stdout)
    assert "./bert · top-1 · lr 0.003 · seed 42" in shown.stdout
    assert "starting Ray" not in shown.stdout
    assert left_behind(workplace) == {"cache"}


def test_what_cannot_be_placed_is_named_and_the_exit_says_so(workplace: Workplace) -> None:
    shown = workplace.fleetune("plan", "sweep.yaml", "--no-probe", "--set", "resources.cpus_per_trial=9999")
    assert shown.returncode == 4
    assert "cannot run: resources: every trial asks for 9999 CPUs, and no node has that (this machine:" in shown.stdout
    assert "6 trials to run" in shown.stdout


def test_a_mistake_in_the_sweep_file_is_exit_2(workplace: Workplace) -> None:
    shown = workplace.fleetune("plan", "sweep.yaml", "--set", "search.space.0.freeze=hed")
    assert shown.returncode == 2
    assert "did you mean 'head'?" in shown.stderr


def test_as_json_a_plan_is_one_object_on_stdout(workplace: Workplace) -> None:
    shown = workplace.fleetune("plan", "sweep.yaml", "--no-probe", "--json")
    found = json.loads(shown.stdout)
    assert [trial["seconds"] for trial in found["trials"]] == [None] * 6
    assert (found["groups"], found["repeats"], found["forecast"]) == (5, 1, None)
    assert found["disk"]["needed"] > 0


@pytest.mark.slow
def test_a_plan_is_timed_leaves_a_forecast_and_the_sweep_shows_both(workplace: Workplace) -> None:
    planned = workplace.fleetune("plan", "sweep.yaml", "--json")
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert "timing steps of every model and policy: 3 of 3" in planned.stderr
    found = json.loads(planned.stdout)
    predicted = found["forecast"]
    assert {(row["model"], row["freeze"], row["trials"]) for row in predicted["kinds"]} == {
        ("./bert", "full", 2),
        ("./bert", "top-1", 2),
        ("./bert", "head", 2),
    }
    assert all(row["seconds"] > 0 and row["peak_bytes"] > 1e8 for row in predicted["kinds"])
    assert set(predicted["axes"]) == {"freeze", "learning_rate"}
    for values in predicted["axes"].values():
        assert sum(values.values()) == pytest.approx(sum(predicted["trials"].values()))
    assert predicted["seconds"] == pytest.approx(sum(predicted["phases"].values()))
    assert left_behind(workplace) == {"cache", "tiny"}
    folder = workplace.folder / "runs" / "tiny"
    assert [path.name for path in folder.iterdir()] == ["forecast.json"]

    began = time.monotonic()
    swept = workplace.fleetune("sweep", "sweep.yaml")
    took = time.monotonic() - began
    assert swept.returncode == 0, swept.stdout + swept.stderr
    assert "6 of 6 trials to run" in swept.stdout
    assert re.search(r"Planned .+, took .+ \(\d+\.\d\d×\)\.", swept.stdout)
    phases = read_json(folder / "took.json")["phases"]
    assert list(phases) == list(predicted["phases"])
    # What the process does before and after is no more than imports and the last screen.
    assert 0.5 * took < sum(phases.values()) < took
    assert "Planned and actual time" in (folder / "report.html").read_text()
    again = workplace.fleetune("plan", "sweep.yaml", "--no-probe")
    assert "0 trials to run; 6 have ended" in again.stdout


def test_a_plan_is_no_beginning_of_a_sweep(workplace: Workplace, tmp_path: Path) -> None:
    """Whatever a plan was made for, one for other data may follow, and so may a sweep."""
    for size in (50, 60):
        changes = (f"data.sizes.train={size}", f"storage={tmp_path}")
        shown = workplace.fleetune("plan", "sweep.yaml", "--no-probe", *(f"--set={change}" for change in changes))
        assert shown.returncode == 0, shown.stderr
