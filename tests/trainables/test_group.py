"""Trials of one group: each as if it were alone, whatever becomes of its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tests.tiny import tiny_model
from tests.tiny_data import trial_spec
from trainables import attempt, checkpoint, prefix
from trainables.arguments import TrialSpec
from trainables.directory import TrialDirectory
from trainables.group import run_group
from trainables.heads import Heads
from trainables.records import EpochRecord, Result
from trainables.trial import Setting, run_trial

RATES = (1e-3, 3e-3, 1e-2)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model("bert", tmp_path_factory.mktemp("bert"))


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many heads have begun to train at once, each time."""
    found: list[int] = []
    original = Heads.__init__

    def spy(self: Heads, model: Any, trainings: Sequence[Any], total_steps: int) -> None:
        found.append(len(trainings))
        original(self, model, trainings, total_steps)

    monkeypatch.setattr(Heads, "__init__", spy)
    return found


def heads(model: Path, folder: Path, rates: Sequence[float] = RATES, **arguments: Any) -> list[TrialSpec]:
    """Trials of one group, told apart by the folder's name and their rate."""
    found = []
    for rate in rates:
        spec = trial_spec(model, folder, freeze="head", **{"learning_rate": rate, **arguments})
        name = f"rate-{rate:g}"
        directory = str(Path(spec.directory).with_name(name))
        found.append(spec.model_copy(update={"trial_id": name, "directory": directory}))
    return found


def run(specs: Sequence[TrialSpec]) -> list[Result]:
    told: dict[str, list[dict[str, Any]]] = {spec.trial_id: [] for spec in specs}
    ends = {result.trial_id: result for result in run_group(specs, [told[spec.trial_id].append for spec in specs])}
    for spec in specs:
        if ends[spec.trial_id].status == "DONE":
            epochs = [values["epoch"] for values in told[spec.trial_id] if "metrics" in values]
            assert epochs == list(range(1, spec.training.num_train_epochs + 1))
    return [ends[spec.trial_id] for spec in specs]


def records(spec: TrialSpec) -> list[EpochRecord]:
    return [EpochRecord.read(path) for path in TrialDirectory(Path(spec.directory)).epochs()]


def logits(spec: TrialSpec) -> np.ndarray:
    return np.stack(pq.read_table(TrialDirectory(Path(spec.directory)).predictions).to_pandas().logits)


@pytest.mark.parametrize(
    "family", ["bert", "distilbert", "roberta", "albert", "electra", "modernbert", "mpnet", "deberta-v2"]
)
def test_each_trial_of_a_group_is_what_it_is_alone(family: str, tmp_path: Path, together: list[int]) -> None:
    model = tiny_model(family, tmp_path / "model")
    grouped, alone = heads(model, tmp_path / "a"), heads(model, tmp_path / "b")
    for found, spec, other in zip(run(grouped), grouped, alone, strict=True):
        expected = run_trial(other)
        assert (found.status, found.epoch, found.step) == ("DONE", expected.epoch, expected.step), found.message
        assert found.metrics == pytest.approx(expected.metrics, abs=1e-5)
        assert np.abs(logits(spec) - logits(other)).max() < 1e-5
        for mine, theirs in zip(records(spec), records(other), strict=True):
            assert mine.steps.loss == pytest.approx(theirs.steps.loss, abs=1e-5)
            assert mine.steps.learning_rate == theirs.steps.learning_rate
        assert found.trainable_parameters == expected.trainable_parameters
    assert together == [3]


def test_a_group_in_bf16_with_accumulation_and_decay_is_what_its_trials_are_alone(bert: Path, tmp_path: Path) -> None:
    arguments = {"gradient_accumulation_steps": 3, "layerwise_lr_decay": 0.5, "weight_decay": 0.1}
    grouped, alone = (
        [spec.model_copy(update={"precision": "bf16"}) for spec in heads(bert, tmp_path / name, **arguments)]
        for name in "ab"
    )
    for found, spec, other in zip(run(grouped), grouped, alone, strict=True):
        assert found.metrics == pytest.approx(run_trial(other).metrics, abs=2e-2)
        assert np.abs(logits(spec) - logits(other)).max() < 2e-2


def test_trials_of_a_group_may_differ_in_all_that_the_optimizer_reads(bert: Path, tmp_path: Path) -> None:
    plain = heads(bert, tmp_path / "a", rates=[1e-2])[0]
    others: dict[str, dict[str, Any]] = {
        "decay": {"weight_decay": 0.5},
        "cosine": {"lr_scheduler_type": "cosine", "warmup_steps": 0},
        "clipped": {"max_grad_norm": 1e-3},
        "momentum": {"adam_beta1": 0.5, "adam_beta2": 0.9, "adam_epsilon": 1e-4},
    }

    def specs(folder: str) -> list[TrialSpec]:
        return [
            plain.model_copy(
                update={
                    "trial_id": name,
                    "training": plain.training.model_copy(update=changes),
                    "directory": str(tmp_path / folder / name),
                }
            )
            for name, changes in others.items()
        ]

    grouped, alone = specs("grouped"), specs("alone")
    run(grouped)
    for spec, other in zip(grouped, alone, strict=True):
        run_trial(other)
        assert np.abs(logits(spec) - logits(other)).max() < 1e-5
    assert len({logits(spec).tobytes() for spec in grouped}) == len(others)


def test_one_that_diverges_fails_and_the_others_end_as_without_it(
    bert: Path, tmp_path: Path, together: list[int]
) -> None:
    def with_training(spec: TrialSpec, **changes: Any) -> TrialSpec:
        return spec.model_copy(update={"training": spec.training.model_copy(update=changes)})

    wild = {"learning_rate": 1e30, "max_grad_norm": 1e9, "warmup_steps": 0}
    grouped = heads(bert, tmp_path / "a")
    grouped[1] = with_training(grouped[1], **wild)
    ends = run(grouped)
    assert together == [3]
    assert (ends[1].status, ends[1].reason) == ("FAILED", "nan")
    assert "(learning rate 8.75e+29)" in (ends[1].message or "")
    assert "Traceback" in TrialDirectory(Path(grouped[1].directory)).log.read_text()
    for index in (0, 2):
        other = heads(bert, tmp_path / "b")[index]
        assert ends[index].status == "DONE"
        assert ends[index].metrics == pytest.approx(run_trial(other).metrics, abs=1e-5)
        assert not TrialDirectory(Path(grouped[index].directory)).log.exists()


def test_a_group_whose_frozen_layers_cannot_be_kept_runs_one_by_one(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: list[int]
) -> None:
    monkeypatch.setenv("FLEETUNE_CACHE", str(tmp_path / "node"))
    monkeypatch.setenv("FLEETUNE_CACHE_BYTES", "1")
    grouped = heads(bert, tmp_path / "a")
    ends = run(grouped)
    assert together == []
    assert [result.metrics for result in ends] == [run_trial(spec).metrics for spec in heads(bert, tmp_path / "b")]


def test_what_goes_wrong_with_the_group_leaves_each_trial_its_own_end(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    original = Heads.train_epoch

    def fails_in_the_second_epoch(self: Heads, *arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise torch.OutOfMemoryError("no room for all of them")
        return original(self, *arguments, **named)

    monkeypatch.setattr(Heads, "train_epoch", fails_in_the_second_epoch)
    grouped = heads(bert, tmp_path / "a")
    for found, other in zip(run_group(grouped, [lambda _: None] * 3), heads(bert, tmp_path / "b"), strict=True):
        assert found.status == "DONE"
        assert found.metrics == pytest.approx(run_trial(other).metrics, abs=1e-5)
    assert "no room for all of them" in TrialDirectory(Path(grouped[0].directory)).log.read_text()


def test_one_whose_epochs_cannot_be_written_fails_and_the_others_end_as_without_it(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = attempt._commit

    def full(reached: Any, record: Any, config: Any, spec: TrialSpec, folder: TrialDirectory) -> None:
        if spec.trial_id == "rate-0.003":
            raise OSError(28, "No space left on device")
        original(reached, record, config, spec, folder)

    monkeypatch.setattr(attempt, "_commit", full)
    ends = {result.trial_id: result for result in run_group(heads(bert, tmp_path / "a"), [lambda _: None] * 3)}
    lost = ends.pop("rate-0.003")
    assert (lost.status, lost.reason) == ("FAILED", "infra")
    assert "No space left" in (lost.message or "")
    for other in heads(bert, tmp_path / "b"):
        if other.trial_id in ends:
            assert ends[other.trial_id].metrics == pytest.approx(run_trial(other).metrics, abs=1e-5)


def test_the_checkpoint_of_each_is_its_own_best_epoch(bert: Path, tmp_path: Path) -> None:
    grouped = heads(bert, tmp_path, num_train_epochs=4, metric_for_best_model="loss")
    for result, spec in zip(run(grouped), grouped, strict=True):
        losses = [record.metrics["validation/loss"] for record in records(spec)]
        assert result.epoch == 1 + losses.index(min(losses))
        folder = TrialDirectory(Path(spec.directory)).checkpoint
        assert checkpoint.read_info(folder).epoch == result.epoch
        assert checkpoint.read_info(folder).training == spec.training


def test_a_group_computes_what_the_frozen_layers_give_once(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    original = prefix.attach

    def spy(spec: TrialSpec, model: Any, split: Any, name: Any, *more: Any) -> Any:
        asked.append(name)
        return original(spec, model, split, name, *more)

    monkeypatch.setattr(prefix, "attach", spy)
    run(heads(bert, tmp_path))
    assert asked == ["train", "validation", "test"]


def test_a_group_of_one_is_a_trial(bert: Path, tmp_path: Path, together: list[int]) -> None:
    (spec,), (other,) = heads(bert, tmp_path / "a", [1e-3]), heads(bert, tmp_path / "b", [1e-3])
    assert [result.metrics for result in run([spec])] == [run_trial(other).metrics]
    assert together == []


def test_heads_begin_as_the_models_own_and_part(bert: Path, tmp_path: Path) -> None:
    spec = heads(bert, tmp_path)[0]
    setting = Setting.of(spec)
    setting.attach(spec, "train", lambda: None)
    before = {name: value.clone() for name, value in setting.model.named_parameters()}
    trainings = [spec.training.model_copy(update={"learning_rate": rate, "warmup_steps": 0}) for rate in (1e-9, 1e-2)]
    many = Heads(setting.model, trainings, setting.total_steps)
    many.put(1)
    assert all(torch.equal(value, before[name]) for name, value in setting.model.named_parameters())
    many.train_epoch(setting.splits["train"], seed=1, epoch=1, precision="fp32", on_step=lambda _: None)
    assert all(torch.equal(value, before[name]) for name, value in setting.model.named_parameters())
    for index, moved in enumerate((1e-6, 1e-3)):
        many.put(index)
        for name, value in setting.model.named_parameters():
            if not value.requires_grad:
                assert torch.equal(value, before[name]), name
            elif name.endswith("weight"):
                distance = (value - before[name]).abs().max().item()
                assert (distance > moved) == (index == 1), name
