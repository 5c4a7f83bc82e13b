"""A new store is there whole or not at all, whoever is killed while it is made and however many make it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from workflows.tracking.store import open_client
from workflows.tracking.writer import default_uri

# Says when it begins, so that others can begin at the same moment or interrupt it.
_MAKE = """
import sys
from workflows.tracking.store import import_client, open_client

import_client()
import mlflow.store.tracking.sqlalchemy_store
print("ready", flush=True)
sys.stdin.readline()
open_client(sys.argv[1]).create_experiment(sys.argv[2])
print("made", flush=True)
"""


def maker(uri: str, experiment: str, scratch: Path) -> subprocess.Popen[str]:
    """A process that will make a store and an experiment in it once it is told to."""
    scratch.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-c", _MAKE, uri, experiment],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(scratch)},
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def begin(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def names(uri: str) -> set[str]:
    return {experiment.name for experiment in open_client(uri).search_experiments()}


def test_two_processes_that_make_one_store_at_once_both_have_it(tmp_path: Path) -> None:
    uri = default_uri(tmp_path / "runs")
    both = [maker(uri, name, tmp_path / "scratch") for name in ("one", "other")]
    for process in both:
        begin(process)
    for process in both:
        assert process.communicate(timeout=120)[0] == "made\n"
    assert names(uri) == {"Default", "one", "other"}
    assert os.listdir(tmp_path / "runs") == ["mlflow.db"]
    assert not os.listdir(tmp_path / "scratch")


def test_whoever_is_killed_while_it_makes_a_store_leaves_one_that_can_be_made(tmp_path: Path) -> None:
    begun = time.monotonic()
    open_client(default_uri(tmp_path / "calm"))
    took = time.monotonic() - begun
    for part in (0.3, 0.7):
        storage = tmp_path / str(part)
        process = maker(default_uri(storage), "mine", tmp_path / "scratch")
        begin(process)
        time.sleep(part * took)
        process.kill()
        process.communicate()
        assert {"Default"} <= names(default_uri(storage)) <= {"Default", "mine"}
