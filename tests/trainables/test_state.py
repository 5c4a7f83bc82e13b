"""A trial that was ended at any moment goes on where it stood, and ends in the same bits as one that never was."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.tiny import tiny_model
from tests.tiny_data import trial_spec
from tests.trainables.test_group import heads
from trainables import attempt, checkpoint, state, trial
from trainables.arguments import TrialSpec
from trainables.directory import TrialDirectory
from trainables.group import run_group
from trainables.heads import Heads
from trainables.records import EpochRecord
from trainables.trial import run_trial

ROOT = Path(__file__).parents[2]
EPOCHS = 4
POLICIES = ["full", "embeddings", "top-1", "head", "lora"]


class Ended(SystemExit):
    """How Tune ends a trial: inside its report."""


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model("bert", tmp_path_factory.mktemp("bert"))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The epochs that were trained, in order."""
    found: list[int] = []
    original = trial.train_epoch

    def spy(*arguments: Any, epoch: int, **named: Any) -> Any:
        found.append(epoch)
        return original(*arguments, epoch=epoch, **named)

    monkeypatch.setattr(trial, "train_epoch", spy)
    return found


def directory(spec: TrialSpec) -> TrialDirectory:
    return TrialDirectory(Path(spec.directory))


def bits(spec: TrialSpec) -> dict[str, bytes | list[list[float]]]:
    """All that a trial has learned."""
    left = directory(spec)
    return {
        "weights": (left.checkpoint / checkpoint.WEIGHTS).read_bytes(),
        "logits": np.stack(pq.read_table(left.predictions).to_pandas().logits).tobytes(),
        "losses": [EpochRecord.read(path).steps.loss for path in left.epochs()],
        "rates": [EpochRecord.read(path).steps.learning_rate for path in left.epochs()],
    }


def end_after(epoch: int) -> Callable[[dict[str, Any]], None]:
    """A report that ends the trial once it is told of the metrics of an epoch."""

    def report(values: dict[str, Any]) -> None:
        if "metrics" in values and values["epoch"] == epoch:
            raise Ended

    return report


def undisturbed(bert: Path, folder: Path, **arguments: Any) -> dict[str, Any]:
    spec = trial_spec(bert, folder, num_train_epochs=EPOCHS, **arguments)
    result = run_trial(spec)
    assert result.status == "DONE", result.message
    return {**bits(spec), "metrics": result.metrics, "epoch": result.epoch}


@pytest.mark.parametrize("epoch", [1, 3, EPOCHS])
@pytest.mark.parametrize("policy", POLICIES)
def test_a_trial_that_was_ended_goes_on_after_its_last_epoch_to_the_same_bits(
    bert: Path, tmp_path: Path, trained: list[int], policy: str, epoch: int
) -> None:
    arguments = {"layerwise_lr_decay": 0.8, "lr_scheduler_type": "cosine"} if policy == "full" else {}
    expected = undisturbed(bert, tmp_path / "a", freeze=policy, **arguments)
    spec = trial_spec(bert, tmp_path / "b", freeze=policy, num_train_epochs=EPOCHS, **arguments)
    with pytest.raises(Ended):
        run_trial(spec, end_after(epoch))
    trained.clear()
    result = run_trial(spec)
    assert {**bits(spec), "metrics": result.metrics, "epoch": result.epoch} == expected
    # The epoch after the one that ended it may have begun, and is trained whole.
    assert trained == list(range(epoch + 1, EPOCHS + 1))
    assert (result.train_seconds or 0) > 0


def test_the_state_is_of_two_epochs_while_a_trial_runs_and_gone_when_it_has_ended(bert: Path, tmp_path: Path) -> None:
    spec = trial_spec(bert, tmp_path, num_train_epochs=EPOCHS)
    with pytest.raises(Ended):
        run_trial(spec, end_after(3))
    assert sorted(path.name for path in directory(spec).state.iterdir()) == ["epoch-002", "epoch-003"]
    run_trial(spec)
    assert not directory(spec).state.exists()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [_cut, _flip, Path.unlink])
@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "COMMIT"])
def test_a_damaged_state_costs_one_epoch_and_changes_nothing(
    bert: Path, tmp_path: Path, trained: list[int], name: str, harm: Callable[[Path], None]
) -> None:
    expected = undisturbed(bert, tmp_path / "a")
    spec = trial_spec(bert, tmp_path / "b", num_train_epochs=EPOCHS)
    with pytest.raises(Ended):
        run_trial(spec, end_after(3))
    harm(directory(spec).state / "epoch-003" / name)
    trained.clear()
    result = run_trial(spec)
    assert {**bits(spec), "metrics": result.metrics, "epoch": result.epoch} == expected
    assert trained in ([3, 4], [1, 2, 3, 4])
    assert "epoch-003 is passed over" in directory(spec).log.read_text()


def test_without_a_sound_state_the_trial_begins_anew(bert: Path, tmp_path: Path, trained: list[int]) -> None:
    expected = undisturbed(bert, tmp_path / "a")
    spec = trial_spec(bert, tmp_path / "b", num_train_epochs=EPOCHS)
    with pytest.raises(Ended):
        run_trial(spec, end_after(3))
    for folder in directory(spec).state.iterdir():
        _flip(folder / "tensors.safetensors")
    trained.clear()
    run_trial(spec)
    assert trained == [1, 2, 3, 4]
    assert bits(spec) == {name: expected[name] for name in bits(spec)}


@pytest.mark.parametrize("left", ["state", "state and checkpoint"])
def test_what_follows_a_state_is_made_again_from_it(
    bert: Path, tmp_path: Path, trained: list[int], left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = undisturbed(bert, tmp_path / "a", metric_for_best_model="loss")
    spec = trial_spec(bert, tmp_path / "b", num_train_epochs=EPOCHS, metric_for_best_model="loss")
    original = attempt._write_checkpoint

    def ends(reached: Any, *arguments: Any) -> None:
        if left != "state" or reached.epoch < 2:
            original(reached, *arguments)
        if reached.epoch == 2:
            raise Ended

    monkeypatch.setattr(attempt, "_write_checkpoint", ends)
    with pytest.raises(Ended):
        run_trial(spec)
    assert expected["epoch"] >= 2, "this test needs a second epoch that is better than the first"
    assert [path.name for path in directory(spec).epochs()] == ["epoch-001.json"]
    monkeypatch.setattr(attempt, "_write_checkpoint", original)
    trained.clear()
    result = run_trial(spec)
    assert trained == [3, 4]
    assert {**bits(spec), "metrics": result.metrics, "epoch": result.epoch} == expected


def test_a_checkpoint_that_is_gone_and_not_in_the_state_means_to_begin_anew(
    bert: Path, tmp_path: Path, trained: list[int]
) -> None:
    # The first epoch is the best: validation is turned round, and read by its loss.
    spec = trial_spec(bert, tmp_path, num_train_epochs=EPOCHS, metric_for_best_model="loss")
    table = pq.read_table(Path(spec.data) / "validation.parquet").to_pandas()
    table["label"] = 1 - table["label"]
    table.to_parquet(Path(spec.data) / "validation.parquet")
    with pytest.raises(Ended):
        run_trial(spec, end_after(3))
    found = state.latest(directory(spec), lambda _: True)
    assert found is not None
    assert found.info.best.epoch == 1
    shutil.rmtree(directory(spec).checkpoint)
    trained.clear()
    result = run_trial(spec)
    assert trained == [1, 2, 3, 4]
    assert result.status == "DONE"


@pytest.mark.parametrize("stood", [(2, 2, 2), (2, 1, 2), (2, 0, 1)])
def test_a_group_goes_on_at_the_last_epoch_that_all_its_trials_have(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stood: tuple[int, ...]
) -> None:
    alone = heads(bert, tmp_path / "a", num_train_epochs=EPOCHS)
    list(run_group(alone, [lambda _: None] * 3))
    specs = heads(bert, tmp_path / "b", num_train_epochs=EPOCHS)
    with pytest.raises(Ended):
        list(run_group(specs, [lambda _: None, lambda _: None, end_after(2)]))
    for spec, epoch in zip(specs, stood, strict=True):
        for later in range(epoch + 1, EPOCHS + 1):
            shutil.rmtree(directory(spec).state / f"epoch-{later:03d}", ignore_errors=True)
        if not epoch:
            shutil.rmtree(directory(spec).state)
    begun: list[int] = []
    original = Heads.train_epoch

    def spy(self: Heads, split: Any, *, epoch: int, **named: Any) -> Any:
        begun.append(epoch)
        return original(self, split, epoch=epoch, **named)

    monkeypatch.setattr(Heads, "train_epoch", spy)
    ends = list(run_group(specs, [lambda _: None] * 3))
    assert [result.status for result in ends] == ["DONE"] * 3
    assert begun == list(range(min(stood) + 1, EPOCHS + 1))
    for spec, other in zip(specs, alone, strict=True):
        assert bits(spec) == bits(other)


@pytest.mark.parametrize(("reason", "kept"), [("infra", True), ("nan", False)])
def test_a_state_stays_where_another_try_may_do_better(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str, kept: bool
) -> None:
    spec = trial_spec(bert, tmp_path, num_train_epochs=EPOCHS)

    def report(values: dict[str, Any]) -> None:
        if values.get("metrics") and values["epoch"] == 2:
            raise OSError("gone") if reason == "infra" else trial.TrialFailure("nan", "not finite")

    result = run_trial(spec, report)
    assert (result.status, result.reason) == ("FAILED", reason)
    assert directory(spec).state.exists() == kept


_RUN = """
import sys
from pathlib import Path
from trainables.arguments import TrialSpec
from trainables.trial import run_trial

spec = TrialSpec.model_validate_json(Path(sys.argv[1]).read_text())
print("begun", flush=True)
print(run_trial(spec).status, flush=True)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("policy", "save_steps"), [("full", None), ("head", None), ("full", 3)])
@pytest.mark.quick
def test_kills_at_random_moments_lose_no_committed_epoch_and_change_no_bit(
    bert: Path, tmp_path: Path, policy: str, save_steps: int | None
) -> None:
    arguments = {"freeze": policy, "num_train_epochs": 40}
    spec = trial_spec(bert, tmp_path / "a", **arguments)
    run_trial(spec)
    expected = bits(spec)
    disturbed = trial_spec(bert, tmp_path / "b", save_steps=save_steps, **arguments)
    (tmp_path / "spec.json").write_text(json.dumps(disturbed.model_dump(mode="json")))
    chance, kills, committed = np.random.default_rng(5), 0, 0
    while not directory(disturbed).result.exists():
        process = subprocess.Popen(
            [sys.executable, "-c", _RUN, str(tmp_path / "spec.json")], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        if kills < 6:
            deadline = time.monotonic() + 60
            while len(directory(disturbed).epochs()) <= committed and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 0.5))
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate(timeout=120)
        assert len(directory(disturbed).epochs()) >= committed
        committed = len(directory(disturbed).epochs())
    assert kills >= 2
    assert bits(disturbed) == expected
    assert not list(directory(disturbed).root.glob(".*"))
