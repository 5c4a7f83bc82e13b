"""`fleetune check` as it is typed: what it prints, its exit code, and that it starts nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.tiny import tiny_model
from tests.workflows.audit.faulty import clean, copied, of
from tests.workplace import ROOT

# Runs the command, and says at the end whether Ray was so much as imported.
_COMMAND = """
import sys
from jobs.cli import main
try:
    main()
finally:
    print(f"ray: {'ray' in sys.modules}, mlflow: {'mlflow' in sys.modules}", file=sys.stderr)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("check")
    tiny_model("bert", folder / "bert")
    frame = clean(300)
    frame.loc[of(frame, "train", 3), "label"] = "[red]C#[/] \x1b[31m"
    copied(frame, of(frame, "test", 30), split="train").to_parquet(folder / "data.parquet")
    space = [{"model": "./bert", "learning_rate": [1e-3, 2e-3]}]
    config = {"name": "mine", "data": {"path": "data.parquet"}, "search": {"space": space}}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(config))
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _COMMAND, "check", "sweep.yaml", *arguments]
    return subprocess.run(
        command, cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=250
    )


def test_the_command_prints_findings_with_rows_and_remedies_exits_with_2_and_starts_no_ray(folder: Path) -> None:
    found = run(folder)
    assert found.returncode == 2, found.stderr
    assert "ray: False, mlflow: False" in found.stderr
    assert "error   overlap: rows of test that stand in train too: 30 (50.0 %)" in found.stdout
    assert "rows 0 (= 300), 1 (= 301)" in found.stdout
    assert "→ check.drop_overlap: true takes such rows out of train" in found.stdout
    assert "./bert, max_length 256" in found.stdout
    assert "[red]C#[/]" in found.stdout and "\x1b" not in found.stdout
    assert sorted(path.name for path in (folder / "runs").iterdir()) == ["cache"]


def test_json_is_one_document_and_nothing_else(folder: Path) -> None:
    found = run(folder, "--json", "--set", "check.drop_overlap=true")
    assert found.returncode == 0, found.stderr
    document = json.loads(found.stdout)
    assert document["errors"] == 0
    assert {finding["name"] for finding in document["findings"]} == {"rare_classes", "missing_classes"}
    assert any("30 of 240 rows of train were dropped" in note for note in document["data"]["notes"])
