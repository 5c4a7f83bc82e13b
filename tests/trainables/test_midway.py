"""A trial that was ended in the middle of an epoch goes on there, and ends in the same bits as one that never was."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.tiny import tiny_model
from tests.tiny_data import trial_spec
from tests.trainables.test_group import heads
from tests.trainables.test_state import Ended, bits, directory, end_after
from trainables import attempt, checkpoint
from trainables.arguments import TrialSpec
from trainables.group import run_group
from trainables.heads import Heads
from trainables.optimization import Optimization
from trainables.records import EpochRecord, Result
from trainables.state import StateInfo
from trainables.trial import run_trial

EPOCHS = 3
# Of 64 texts in batches of 8.
STEPS = 8


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model("bert", tmp_path_factory.mktemp("bert"))


@pytest.fixture(autouse=True)
def _every_step_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "_PROGRESS_SECONDS", 0.0)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """As many items as optimizer steps were made."""
    found: list[None] = []
    original = Optimization.advance

    def spy(self: Optimization) -> dict[str, float]:
        found.append(None)
        return original(self)

    monkeypatch.setattr(Optimization, "advance", spy)
    return found


def all_of(spec: TrialSpec, result: Result) -> dict[str, Any]:
    assert result.status == "DONE", result.message
    return {**bits(spec), "metrics": result.metrics, "epoch": result.epoch}


def undisturbed(bert: Path, folder: Path, **arguments: Any) -> dict[str, Any]:
    spec = trial_spec(bert, folder, num_train_epochs=EPOCHS, **arguments)
    return all_of(spec, run_trial(spec))


def end_at(step: int) -> Callable[[dict[str, Any]], None]:
    """A report that ends the trial once it is told of a step."""

    def report(values: dict[str, Any]) -> None:
        if "metrics" not in values and values["step"] == step:
            raise Ended

    return report


def cut_off(spec: TrialSpec, report: Callable[[dict[str, Any]], None]) -> list[str]:
    """Run a trial until its report ends it; returns the states that it has left."""
    with ended():
        run_trial(spec, report)
    return states(spec)


@contextlib.contextmanager
def ended() -> Iterator[None]:
    """The block is ended by a report, and what was being written then is written to its end."""
    with pytest.raises(Ended):
        yield
    for thread in threading.enumerate():
        if thread.name.startswith("fleetune-background"):
            thread.join()


def states(spec: TrialSpec) -> list[str]:
    return [known.path.name for known in directory(spec).states()]


POLICIES: dict[str, dict[str, Any]] = {
    "full": {"layerwise_lr_decay": 0.8, "lr_scheduler_type": "cosine"},
    "embeddings": {},
    "top-2": {},
    "head": {},
    "lora": {"lora_dropout": 0.2},
}


@pytest.mark.parametrize(("accumulated", "ended", "saved"), [(1, 5, 3), (1, 14, 12), (2, 7, 6)])
@pytest.mark.parametrize("policy", POLICIES)
def test_a_trial_that_was_ended_within_an_epoch_goes_on_there_to_the_same_bits(
    bert: Path, tmp_path: Path, steps: list[None], policy: str, accumulated: int, ended: int, saved: int
) -> None:
    arguments = {"freeze": policy, "gradient_accumulation_steps": accumulated, **POLICIES[policy]}
    expected = undisturbed(bert, tmp_path / "a", **arguments)
    spec = trial_spec(bert, tmp_path / "b", num_train_epochs=EPOCHS, save_steps=3, **arguments)
    epoch = (ended - 1) // (STEPS // accumulated) + 1
    assert cut_off(spec, end_at(ended))[0] == f"epoch-{epoch:03d}-step-{saved:06d}"
    left = StateInfo.read(directory(spec).states()[0].path / "state.json").midway
    assert left is not None
    steps.clear()
    assert all_of(spec, run_trial(spec)) == expected
    assert len(steps) == EPOCHS * STEPS // accumulated - saved
    record = EpochRecord.read(directory(spec).epoch(epoch))
    assert record.steps.timestamp[: len(left.steps.step)] == left.steps.timestamp
    assert (record.train_seconds or 0) > left.train_seconds > 0
    assert not directory(spec).state.exists()


def test_a_trial_may_be_ended_again_and_again(bert: Path, tmp_path: Path, steps: list[None]) -> None:
    expected = undisturbed(bert, tmp_path / "a")
    spec = trial_spec(bert, tmp_path / "b", num_train_epochs=EPOCHS, save_steps=1)
    for step in (2, 4, 7, 9, 10, 16, 17, 23):
        cut_off(spec, end_at(step))
    steps.clear()
    assert all_of(spec, run_trial(spec)) == expected
    assert len(steps) == 2


@pytest.mark.parametrize(
    ("save_steps", "left"),
    [
        (5, ["epoch-002-step-000015", "epoch-002-step-000010"]),
        (12, ["epoch-002-step-000012", "epoch-001"]),
        (STEPS, ["epoch-001"]),
        (100, ["epoch-001"]),
        (None, ["epoch-001"]),
    ],
)
def test_steps_are_counted_over_the_trial_and_the_last_two_states_are_kept(
    bert: Path, tmp_path: Path, save_steps: int | None, left: list[str]
) -> None:
    spec = trial_spec(bert, tmp_path, num_train_epochs=EPOCHS, save_steps=save_steps)
    assert cut_off(spec, end_at(2 * STEPS)) == left


@pytest.mark.parametrize("save_steps", [None, 1, 5, STEPS, 100])
def test_save_steps_may_change_before_a_trial_goes_on(
    bert: Path, tmp_path: Path, steps: list[None], save_steps: int | None
) -> None:
    expected = undisturbed(bert, tmp_path / "a")
    spec = trial_spec(bert, tmp_path / "b", num_train_epochs=EPOCHS, save_steps=3)
    cut_off(spec, end_at(14))
    training = spec.training.model_copy(update={"save_steps": save_steps})
    spec = spec.model_copy(update={"training": training})
    steps.clear()
    assert all_of(spec, run_trial(spec)) == expected
    assert len(steps) == EPOCHS * STEPS - 12


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [_flip, Path.unlink])
@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "COMMIT"])
def test_a_damaged_state_costs_the_steps_since_the_one_before(
    bert: Path, tmp_path: Path, steps: list[None], name: str, harm: Callable[[Path], None]
) -> None:
    expected = undisturbed(bert, tmp_path / "a")
    spec = trial_spec(bert, tmp_path / "b", num_train_epochs=EPOCHS, save_steps=3)
    newest, before = cut_off(spec, end_at(16))
    assert (newest, before) == ("epoch-002-step-000015", "epoch-002-step-000012")
    harm(directory(spec).state / newest / name)
    steps.clear()
    assert all_of(spec, run_trial(spec)) == expected
    assert len(steps) == EPOCHS * STEPS - 12
    assert f"{newest} is passed over" in directory(spec).log.read_text()


def test_damaged_states_do_not_crowd_out_those_that_are_written_after_them(bert: Path, tmp_path: Path) -> None:
    spec = trial_spec(bert, tmp_path, num_train_epochs=EPOCHS, save_steps=1)
    newest, _ = cut_off(spec, end_at(16))
    _flip(directory(spec).state / newest / "tensors.safetensors")
    spec = spec.model_copy(update={"training": spec.training.model_copy(update={"save_steps": None})})
    assert newest not in cut_off(spec, end_at(15))


# With so small a rate each epoch has a smaller loss than the one before.
EACH_BETTER: dict[str, Any] = {"learning_rate": 3e-4, "metric_for_best_model": "loss"}


def spoil_the_best_epoch(spec: TrialSpec) -> None:
    """Cut a trial off after its second epoch, the best so far, and damage the state of that epoch."""
    assert cut_off(spec, end_after(2)) == ["epoch-002", "epoch-002-step-000015"]
    assert checkpoint.read_info(directory(spec).checkpoint).epoch == 2
    _flip(directory(spec).state / "epoch-002" / "tensors.safetensors")


def test_a_damaged_state_of_the_best_epoch_costs_the_steps_since_the_one_before(
    bert: Path, tmp_path: Path, steps: list[None]
) -> None:
    expected = undisturbed(bert, tmp_path / "a", **EACH_BETTER)
    spec = trial_spec(bert, tmp_path / "b", num_train_epochs=EPOCHS, save_steps=3, **EACH_BETTER)
    spoil_the_best_epoch(spec)
    steps.clear()
    assert all_of(spec, run_trial(spec)) == expected
    assert len(steps) == EPOCHS * STEPS - 15


def test_the_best_epoch_is_one_whose_weights_are_there(bert: Path, tmp_path: Path) -> None:
    """Where the epoch is not as good a second time as it was, which a GPU may do, the one before it is lost."""
    spec = trial_spec(bert, tmp_path, num_train_epochs=EPOCHS, save_steps=3, **EACH_BETTER)
    spoil_the_best_epoch(spec)
    validation = Path(spec.data) / "validation.parquet"
    table = pq.read_table(validation).to_pandas()
    table.assign(label=1 - table["label"]).to_parquet(validation)
    shutil.rmtree(spec.cache)
    result = run_trial(spec)
    assert result.status == "DONE"
    assert result.epoch == checkpoint.read_info(directory(spec).checkpoint).epoch


def test_a_loss_that_is_not_finite_ends_a_trial_alike(bert: Path, tmp_path: Path) -> None:
    def run(save_steps: int | None) -> Result:
        spec = trial_spec(bert, tmp_path / str(save_steps), max_grad_norm=1e9, warmup_steps=0, save_steps=save_steps)
        return run_trial(spec.model_copy(update={"training": spec.training.model_copy(update={"learning_rate": 1e30})}))

    ends = [run(save_steps) for save_steps in (None, 1)]
    assert [result.reason for result in ends] == ["nan", "nan"]
    assert ends[0].message == ends[1].message


def together(specs: list[TrialSpec], *reports: Callable[[dict[str, Any]], None]) -> list[Result]:
    return list(run_group(specs, reports or [lambda _: None] * len(specs)))


def test_heads_that_train_together_commit_after_epochs(bert: Path, tmp_path: Path) -> None:
    specs = heads(bert, tmp_path, num_train_epochs=EPOCHS, save_steps=1)
    with ended():
        together(specs, lambda _: None, lambda _: None, end_after(2))
    assert [states(spec) for spec in specs] == [["epoch-002", "epoch-001"]] * 3


def test_a_head_that_was_ended_within_an_epoch_was_alone_and_goes_on_alone(
    bert: Path, tmp_path: Path, steps: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = heads(bert, tmp_path / "a", num_train_epochs=EPOCHS)
    expected = [all_of(spec, run_trial(spec)) for spec in alone]
    specs = heads(bert, tmp_path / "b", num_train_epochs=EPOCHS, save_steps=3)
    original = Heads.train_epoch

    def out_of_memory(*_: Any, **__: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(Heads, "train_epoch", out_of_memory)
    with ended():
        together(specs, end_at(14), lambda _: None, lambda _: None)
    assert states(specs[0])
    monkeypatch.setattr(Heads, "train_epoch", original)
    steps.clear()
    ends = together(specs)
    assert [all_of(spec, result) for spec, result in zip(specs, ends, strict=True)] == expected
    assert len(steps) == 3 * EPOCHS * STEPS - 12
