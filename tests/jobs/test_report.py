"""`fleetune report`: the page again from a sweep directory alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.workflows.report import sweeps
from tests.workflows.report.sweeps import Trial

ROOT = Path(__file__).parents[2]


def report(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs.report", str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_the_page_is_written_and_its_path_printed(tmp_path: Path) -> None:
    made = sweeps.make(tmp_path / "reviews", trials=[Trial()])
    done = report(made.root)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, str(made.report), "")
    assert "<title>reviews" in made.report.read_text(encoding="utf-8")


def test_a_folder_that_is_no_sweep_directory_is_bad_input(tmp_path: Path) -> None:
    done = report(tmp_path)
    assert done.returncode == 2
    assert "is not a sweep directory" in done.stderr and "Traceback" not in done.stderr
