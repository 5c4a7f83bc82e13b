"""A whole trial without Ray: it learns, it leaves its records, it ends in exactly one state."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tests.tiny import tiny_model
from tests.tiny_data import trial_spec
from trainables import checkpoint, forward
from trainables.directory import TrialDirectory
from trainables.files import is_committed
from trainables.records import EpochRecord, Result
from trainables.tokens import TokenSplit, tokenize
from trainables.training import predict_logits
from trainables.trial import run_trial


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model("bert", tmp_path_factory.mktemp("bert"))


def directory(spec: Any) -> TrialDirectory:
    return TrialDirectory(Path(spec.directory))


def test_a_trial_learns_and_leaves_records_that_agree(bert: Path, tmp_path: Path) -> None:
    spec = trial_spec(bert, tmp_path, num_train_epochs=4)
    told: list[dict[str, Any]] = []
    result = run_trial(spec, told.append)
    assert result.status == "DONE"
    assert result.metrics["test/accuracy"] >= 0.9
    left = directory(spec)
    assert Result.read(left.result) == result
    records = [EpochRecord.read(path) for path in left.epochs()]
    assert [record.epoch for record in records] == [1, 2, 3, 4]
    assert [record.step for record in records] == [8, 16, 24, 32]
    best = records[result.epoch - 1]
    assert result.metrics["validation/accuracy"] == best.metrics["validation/accuracy"]
    assert best.metrics["validation/accuracy"] == max(record.metrics["validation/accuracy"] for record in records)
    assert [report["epoch"] for report in told if "metrics" in report] == [1, 2, 3, 4]
    assert records[-1].metrics["train/loss"] < records[0].metrics["train/loss"]


def test_predictions_confusion_matrix_and_metrics_tell_the_same(bert: Path, tmp_path: Path) -> None:
    spec = trial_spec(bert, tmp_path)
    result = run_trial(spec)
    table = pq.read_table(directory(spec).predictions).to_pandas()
    for split in ("validation", "test"):
        rows = table[table.split == split]
        assert (rows.label == rows.predicted).mean() == pytest.approx(result.metrics[f"{split}/accuracy"])
        matrix = np.array(result.evaluations[split].confusion_matrix)  # type: ignore[index]
        assert matrix.sum() == len(rows) == 24
        assert matrix[1, 0] == ((rows.label == 1) & (rows.predicted == 0)).sum()


def test_the_checkpoint_is_the_best_epoch_and_not_the_last(bert: Path, tmp_path: Path) -> None:
    spec = trial_spec(bert, tmp_path, metric_for_best_model="loss", num_train_epochs=6)
    # Validation with its labels turned round: the better a model learns train, the worse it does here.
    table = pq.read_table(Path(spec.data) / "validation.parquet").to_pandas()
    table["label"] = 1 - table["label"]
    table.to_parquet(Path(spec.data) / "validation.parquet")
    result = run_trial(spec)
    losses = [EpochRecord.read(path).metrics["validation/loss"] for path in directory(spec).epochs()]
    assert losses[-1] > min(losses) + 0.1, "this test needs a trial that gets worse"
    assert result.epoch == losses.index(min(losses)) + 1
    model, _, info = checkpoint.load(directory(spec).checkpoint, merge=False)
    assert info.epoch == result.epoch
    logits = predict_logits(model, tokenize(spec)["validation"], 64, "fp32")
    table = pq.read_table(directory(spec).predictions, filters=[("split", "==", "validation")]).to_pandas()
    assert np.abs(logits - np.stack(table.logits)).max() < 1e-5


@pytest.mark.parametrize("policy", ["full", "embeddings", "top-1", "head", "lora"])
def test_every_policy_gives_a_finished_trial_whose_checkpoint_scores_the_same(
    policy: str, bert: Path, tmp_path: Path
) -> None:
    spec = trial_spec(bert, tmp_path, freeze=policy)
    result = run_trial(spec)
    assert result.status == "DONE", result.message
    assert 0 < (result.trainable_parameters or 0) <= (result.total_parameters or 0)
    model, _, _ = checkpoint.load(directory(spec).checkpoint)
    logits = predict_logits(model, tokenize(spec)["test"], 64, "fp32")
    table = pq.read_table(directory(spec).predictions, filters=[("split", "==", "test")]).to_pandas()
    assert np.abs(logits - np.stack(table.logits)).max() < 1e-5


def test_the_order_of_trials_in_one_process_changes_no_bit_of_any(bert: Path, tmp_path: Path) -> None:
    def run(folder: Path, policies: list[str]) -> dict[str, list[bytes]]:
        left = {}
        for policy in policies:
            spec = trial_spec(bert, folder, freeze=policy)
            assert run_trial(spec).status == "DONE"
            weights = (directory(spec).checkpoint / checkpoint.WEIGHTS).read_bytes()
            logits = np.stack(pq.read_table(directory(spec).predictions).to_pandas().logits).tobytes()
            losses = [np.array(EpochRecord.read(path).steps.loss).tobytes() for path in directory(spec).epochs()]
            left[policy] = [weights, logits, *losses]
        return left

    policies = ["full", "lora", "head", "top-1", "embeddings"]
    first = run(tmp_path / "a", policies)
    assert run(tmp_path / "b", policies[::-1]) == first
    # The same again in the process of all these, with what they have cached.
    assert run(tmp_path / "c", policies) == first


def test_trials_of_one_seed_see_equal_batches_whatever_their_rate_and_policy(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[list[int]]] = []
    original = forward.passes

    def spy(model: torch.nn.Module, split: TokenSplit, indices: np.ndarray) -> Iterator[np.ndarray]:
        if torch.is_grad_enabled():
            seen[-1].append(sorted(indices.tolist()))
        return original(model, split, indices)

    monkeypatch.setattr(forward, "passes", spy)
    for arguments in ({"learning_rate": 1e-4}, {"learning_rate": 1e-2}, {"freeze": "head"}, {"seed": 2}):
        seen.append([])
        run_trial(trial_spec(bert, tmp_path, **arguments))
    assert seen[0] == seen[1] == seen[2]
    assert seen[0] != seen[3]


def test_moments_that_fade_away_are_zero_while_a_trial_runs_and_small_numbers_come_back_after_it(
    bert: Path, tmp_path: Path
) -> None:
    def faded() -> float:
        return float(torch.full((1,), 1e-38) * 0.01)

    found: list[float] = []
    before = faded()
    run_trial(trial_spec(bert, tmp_path), lambda _: found.append(faded()))
    assert before > 0 and faded() == before
    assert found and not any(found)


def test_a_diverging_trial_is_recorded_as_nan(bert: Path, tmp_path: Path) -> None:
    spec = trial_spec(bert, tmp_path, learning_rate=0.99, max_grad_norm=1e9, warmup_steps=0, num_train_epochs=8)
    spoiled = spec.model_copy(update={"training": spec.training.model_copy(update={"learning_rate": 1e30})})
    result = run_trial(spoiled)
    assert (result.status, result.reason) == ("FAILED", "nan")
    assert "step 2 (learning rate" in (result.message or "")
    assert not result.metrics


def test_what_goes_wrong_is_recorded_with_one_line_and_a_traceback_in_the_log(bert: Path, tmp_path: Path) -> None:
    spec = trial_spec(bert, tmp_path)
    (Path(spec.data) / "train.parquet").unlink()
    result = run_trial(spec)
    assert (result.status, result.reason) == ("FAILED", "infra")
    assert "train.parquet" in (result.message or "")
    assert "\n" not in (result.message or "")
    assert "Traceback" in directory(spec).log.read_text()
    assert Result.read(directory(spec).result) == result


def test_a_trial_that_runs_again_leaves_nothing_of_the_first_attempt(bert: Path, tmp_path: Path) -> None:
    spec = trial_spec(bert, tmp_path, num_train_epochs=2)
    first = run_trial(spec)
    directory(spec).epoch(3).write_text("left over")
    tempfile.mkdtemp(dir=directory(spec).root, prefix=".checkpoint.")
    again = run_trial(spec)
    assert len(directory(spec).epochs()) == 2
    assert again.metrics == first.metrics
    assert not list(directory(spec).root.glob(".*"))
    assert is_committed(directory(spec).checkpoint)


def test_the_loss_can_pick_the_best_epoch(bert: Path, tmp_path: Path) -> None:
    spec = trial_spec(bert, tmp_path, metric_for_best_model="loss", num_train_epochs=3)
    result = run_trial(spec)
    losses = [EpochRecord.read(path).metrics["validation/loss"] for path in directory(spec).epochs()]
    assert result.metrics["validation/loss"] == min(losses)


def test_an_export_can_be_exported_again_and_scores_the_same(bert: Path, tmp_path: Path) -> None:
    spec = trial_spec(bert, tmp_path, freeze="lora")
    run_trial(spec)
    checkpoint.export(directory(spec).checkpoint, tmp_path / "first")
    checkpoint.export(tmp_path / "first", tmp_path / "second")
    splits = tokenize(spec)
    logits = [
        predict_logits(checkpoint.load_exported(tmp_path / name)[0], splits["test"], 64, "fp32")
        for name in ("first", "second")
    ]
    assert np.array_equal(*logits)
