"""Real text classification sets with the real encoder: a config each, no code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.real_data import minilm, real_set
from trainables.files import read_json

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "classes", "test_rows"),
    [("imdb_2k_2k", 2, 100), ("ag_news_8k_2k", 4, 100), ("trec6", 6, 100)],
)
def test_a_real_set_runs_with_a_config_alone(name: str, classes: int, test_rows: int, tmp_path: Path) -> None:
    config = {
        "name": name,
        "data": {
            "path": real_set(f"{name}.parquet"),
            "sizes": {"train": 200, "validation": 60, "test": test_rows},
        },
        "search": {"space": [{"model": minilm(), "freeze": ["head", "top-1"], "learning_rate": 1e-3}]},
        "training": {"num_train_epochs": 1, "max_length": 48},
    }
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(config))
    ended = subprocess.run(
        [sys.executable, "-m", "jobs.sweep", "sweep.yaml"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    sweep = tmp_path / "runs" / name
    rows = read_json(sweep / "leaderboard.json")["rows"]
    assert [row["status"] for row in rows] == ["DONE"] * 4
    manifest = read_json(sweep / "manifest.json")
    assert len(manifest["labels"]) == classes
    assert manifest["data"]["rows"]["test"] == test_rows
    assert any("validation was cut from train" in note for note in manifest["data"]["notes"])
    assert not any("test was cut" in note for note in manifest["data"]["notes"]), "the split column was not honoured"
