"""A hanging trial is recorded with the stack where it stood, and its process ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from trainables.directory import TrialDirectory
from trainables.records import Result

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys, time
from pathlib import Path
from trainables.directory import TrialDirectory
from trainables.watchdog import Watchdog

def hang_here():
    time.sleep(60)

with Watchdog([TrialDirectory(Path(sys.argv[1]))], 0.6) as watchdog:
    for _ in range(6):
        time.sleep(0.2)
        watchdog.beat()
    print("alive after twice the limit", flush=True)
    if sys.argv[2] == "wait":
        with watchdog.paused():
            time.sleep(1.5)
    if sys.argv[2] == "hang":
        hang_here()
time.sleep(1.5)
print("left in peace", flush=True)
"""


def run(folder: Path, how: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT, str(folder), how]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50)


def test_a_trial_without_a_step_is_recorded_and_its_process_ends(tmp_path: Path) -> None:
    ended = run(tmp_path, "hang")
    assert ended.returncode == 1
    assert ended.stdout == "alive after twice the limit\n"
    result = Result.read(TrialDirectory(tmp_path).result)
    assert (result.status, result.reason) == ("FAILED", "timeout")
    assert "0.6 seconds" in (result.message or "")
    assert "hang_here" in TrialDirectory(tmp_path).log.read_text()


def test_a_trial_that_waits_for_the_driver_is_not_taken_for_a_hanging_one(tmp_path: Path) -> None:
    assert run(tmp_path, "wait").returncode == 0
    assert not TrialDirectory(tmp_path).result.exists()


def test_a_trial_that_moves_and_ends_is_left_in_peace(tmp_path: Path) -> None:
    ended = run(tmp_path, "end")
    assert ended.returncode == 0
    assert ended.stdout.endswith("left in peace\n")
    assert not TrialDirectory(tmp_path).result.exists()
