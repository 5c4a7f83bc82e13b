"""Whoever was given up and comes back late, at whatever moment he was frozen, changes nothing of the trial."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.recorded import begin
from tests.tiny import tiny_model
from tests.tiny_data import trial_spec
from trainables.arguments import TrialSpec
from trainables.directory import TrialDirectory
from trainables.errors import Superseded
from trainables.files import new_directory
from trainables.records import Result
from trainables.trial import run_trial
from workflows import attempts

ROOT = Path(__file__).parents[2]
EPOCHS = 6
_WORKER = """
import sys
from pathlib import Path
from trainables.arguments import TrialSpec
from trainables.trial import run_trial
run_trial(TrialSpec.model_validate_json(Path(sys.argv[1]).read_text()))
"""


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model("bert", tmp_path_factory.mktemp("bert"))


def laid_out(bert: Path, folder: Path, **arguments: Any) -> TrialSpec:
    spec = trial_spec(bert, folder, num_train_epochs=EPOCHS, **arguments)
    Path(spec.directory).mkdir(parents=True)
    return spec


def handed_out(spec: TrialSpec) -> TrialSpec:
    """The trial as the worker of a new attempt is given it."""
    (way,) = attempts.begin([TrialDirectory(Path(spec.directory))])
    assert way.is_symlink()
    return spec.model_copy(update={"directory": str(way)})


def is_there(worker: subprocess.Popen[str], root: Path, moment: str) -> bool:
    """Whether a worker has come so far; in the beginning it has loaded torch, which has threads of its own."""
    if moment == "beginning":
        return psutil.Process(worker.pid).num_threads() > 1
    return (root / moment).exists()


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def result(spec: TrialSpec) -> dict[str, Any]:
    found = Result.read(TrialDirectory(Path(spec.directory)).result).model_dump()
    return {name: found[name] for name in ("status", "epoch", "step", "metrics", "predictions_sha256")}


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["beginning", "state", "epoch-001.json", "epoch-003.json"])
@pytest.mark.quick
def test_a_frozen_worker_that_wakes_when_its_trial_is_done_elsewhere_changes_nothing(
    bert: Path, tmp_path: Path, moment: str
) -> None:
    calm = laid_out(bert, tmp_path / "calm")
    run_trial(calm)
    spec = laid_out(bert, tmp_path / "sweep")
    given = tmp_path / "spec.json"
    given.write_text(handed_out(spec).model_dump_json())
    root = Path(spec.directory)
    frozen = subprocess.Popen([sys.executable, "-c", _WORKER, given], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not is_there(frozen, root, moment):
            assert frozen.poll() is None and time.monotonic() < deadline
            time.sleep(0.001)
        frozen.send_signal(signal.SIGSTOP)
        run_trial(handed_out(spec))
        attempts.end([TrialDirectory(root)])
        left = content(root)
        frozen.send_signal(signal.SIGCONT)
        _, said = frozen.communicate(timeout=120)
    finally:
        frozen.kill()
    assert "Superseded" in said or "No such file" in said, said
    assert frozen.returncode == 1
    assert content(root) == left
    assert result(spec) == result(calm)


def test_an_attempt_that_was_superseded_neither_begins_nor_ends_its_trial(bert: Path, tmp_path: Path) -> None:
    spec = laid_out(bert, tmp_path)
    earlier = handed_out(spec)
    handed_out(spec)
    with pytest.raises(Superseded, match="handed out again"):
        run_trial(earlier)
    assert content(Path(spec.directory)) == {}
    later, left = handed_out(spec), {}

    def supersede(_: dict[str, Any]) -> None:
        handed_out(spec)
        left.update(content(Path(spec.directory)))

    with pytest.raises(Superseded):
        run_trial(later, supersede)
    assert left
    assert content(Path(spec.directory)) == left


def test_what_commits_or_deletes_fails_where_the_attempt_was_superseded_just_before_it(tmp_path: Path) -> None:
    trial = begin(tmp_path / "sweep").trial("aaaaaaaaaaaa")
    (way,) = attempts.begin([trial])
    late = TrialDirectory(way)
    with pytest.raises(FileNotFoundError), new_directory(late.state_at(1)) as scratch:
        (scratch / "tensors").write_text("late")
        attempts.begin([trial])
    assert not trial.state_at(1).exists()
    with pytest.raises(FileNotFoundError):
        late.spec.unlink()
    with pytest.raises(FileNotFoundError):
        late.spec.rename(late.result)
    assert sorted(path.name for path in trial.root.iterdir()) == ["state", "trial.json"]


def test_an_attempt_ends_those_before_it_and_leaves_other_trials_theirs(tmp_path: Path) -> None:
    sweep = begin(tmp_path / "sweep")
    one, other = sweep.trial("aaaaaaaaaaaa"), sweep.trial("bbbbbbbbbbbb")
    together = attempts.begin([one, other])
    assert [TrialDirectory(way).spec.read_bytes() for way in together] == [
        one.spec.read_bytes(),
        other.spec.read_bytes(),
    ]
    (alone,) = attempts.begin([one])
    assert [path.exists() for path in (*together, alone)] == [False, True, True]
    attempts.end([other])
    assert [path.name for path in sweep.attempts.iterdir()] == [alone.parent.name]
    attempts.end_all(sweep)
    assert not sweep.attempts.exists()
    assert one.spec.exists()


def test_where_the_storage_has_no_links_the_trials_folder_itself_is_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "symlink", refuse)
    trial = begin(tmp_path / "sweep").trial("aaaaaaaaaaaa")
    assert attempts.begin([trial]) == [trial.root]
    assert not TrialDirectory(trial.root).is_superseded
