"""`fleetune init` as a user runs it: what it says, what it leaves, and that a sweep runs on it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jobs.init import init
from jobs.run import application
from tests.tiny import tiny_model
from tests.tiny_data import reviews_csv
from trainables.files import read_json

ROOT = Path(__file__).parents[2]


def fleetune(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    return subprocess.run(
        [sys.executable, "-m", "jobs.cli", *arguments],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=280,
    )


def run(*arguments: str) -> Any:
    return CliRunner().invoke(application(init=init), [*arguments], catch_exceptions=False)


def test_the_screen_says_what_was_found_and_what_comes_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    reviews_csv(tmp_path / "reviews.csv", film=["x"] * 160)
    found = run("reviews.csv", "--output", "my sweep.yaml")
    assert found.exit_code == 0
    assert "text: 'text' (by its name)" in found.stdout
    assert "label: 'label' (by its name)" in found.stdout
    assert "not used: film" in found.stdout
    assert "115 train, 13 validation, 32 test; 2 classes" in found.stdout
    assert found.stdout.rstrip().endswith("next: fleetune sweep 'my sweep.yaml'")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my sweep.yaml", "reviews.csv"]


def test_what_a_table_says_cannot_style_or_move_the_screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = "[bold]\x1b[2Jname"
    reviews_csv(tmp_path / "reviews.csv", **{name: ["x"] * 160})
    found = run("reviews.csv")
    assert "[bold] [2Jname" in found.stdout
    assert "\x1b" not in found.stdout
    assert "\x1b" not in (tmp_path / "sweep.yaml").read_text()


def test_bad_input_ends_with_exit_2_and_one_message(tmp_path: Path) -> None:
    (tmp_path / "numbers.csv").write_text("a,b\n1,2\n3,4\n")
    ended = fleetune(tmp_path, "init", "numbers.csv")
    assert ended.returncode == 2
    assert "--text-column" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["numbers.csv"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_written_file_trains(tmp_path: Path) -> None:
    tiny_model("bert", tmp_path / "bert")
    reviews_csv(tmp_path / "reviews.csv")
    drafted = fleetune(tmp_path, "init", "reviews.csv", "--model", "./bert")
    assert drafted.returncode == 0, drafted.stdout + drafted.stderr
    tiny = ("training.num_train_epochs=1", "training.bf16=false", "search.space.*.learning_rate=3e-3")
    swept = fleetune(tmp_path, "sweep", "sweep.yaml", *(part for value in tiny for part in ("--set", value)))
    assert swept.returncode == 0, swept.stdout + swept.stderr
    rows = read_json(tmp_path / "runs" / "reviews" / "leaderboard.json")["rows"]
    assert sorted(str(row["freeze"]) for row in rows if row["kind"] == "trial") == ["full", "head", "lora", "top-2"]
    assert {row["status"] for row in rows} == {"DONE"}
    labelled = fleetune(tmp_path, "predict", "runs/reviews/baselines/tfidf", "great love the movie")
    assert labelled.returncode == 0, labelled.stderr
    assert "positive" in labelled.stdout
