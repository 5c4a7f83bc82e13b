"""What is frozen stays, what trains moves, and a trial says of both what really happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny import tiny_model, tiny_spec
from tests.tiny_data import trial_spec
from trainables import freeze, models
from trainables.arguments import TrainingArguments
from trainables.group import run_group
from trainables.movement import Start, frozen_hash
from trainables.records import Result
from trainables.trial import run_trial


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model("bert", tmp_path_factory.mktemp("bert"), num_hidden_layers=2)


def model_of(folder: Path, policy: str = "top-1") -> Any:
    return freeze.apply(models.load_model(tiny_spec(folder), ("a", "b"), 1), policy, TrainingArguments(), 1)


@pytest.mark.parametrize("policy", ["full", "embeddings", "top-1", "head", "lora"])
def test_a_trial_keeps_what_is_frozen_and_moves_what_trains(bert: Path, tmp_path: Path, policy: str) -> None:
    result = run_trial(trial_spec(bert, tmp_path, freeze=policy, num_train_epochs=1))
    assert result.status == "DONE"
    assert result.moved is not None and 1e-3 < result.moved < 1
    if policy == "full":
        assert result.frozen_hashes is None
    else:
        assert result.frozen_hashes is not None
        before, after = result.frozen_hashes
        assert before == after


def test_the_hash_notices_one_frozen_weight(bert: Path) -> None:
    model = model_of(bert)
    start = Start.of(model)
    assert start.frozen == frozen_hash(model)
    with torch.no_grad():
        next(iter(models.layers(model)[0].parameters())).view(-1)[-1] += 1e-3
    assert start.frozen != frozen_hash(model)
    assert frozen_hash(model_of(bert, "full")) is None


@pytest.mark.parametrize("share", [0.0, 0.01, 2.0])
def test_the_distance_is_relative_to_where_the_weights_began(bert: Path, share: float) -> None:
    model = model_of(bert)
    start = Start.of(model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.mul_(1 + share)
    assert start.distance(model) == pytest.approx(share, rel=1e-4)


def test_a_large_tensor_counts_by_its_size_though_a_sample_is_kept() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(1000, 500, bias=False), torch.nn.Linear(500, 1, bias=False))
    with torch.no_grad():
        for layer in model:
            layer.weight.fill_(1.0)
    start = Start.of(model)
    assert max(map(len, start.trainable.values())) <= 16_384
    with torch.no_grad():
        model[1].weight.fill_(2.0)
    assert start.distance(model) == pytest.approx((500 / 500_500) ** 0.5)
    with torch.no_grad():
        model[1].weight.fill_(float("nan"))
    assert start.distance(model) is None


def test_a_rate_that_warm_up_never_lets_rise_moves_nothing(bert: Path, tmp_path: Path) -> None:
    spec = trial_spec(bert, tmp_path, num_train_epochs=1, per_device_train_batch_size=64, warmup_steps=1)
    result = run_trial(spec)
    assert (result.status, result.moved) == ("DONE", 0.0)


def test_a_trial_that_is_taken_up_again_is_held_against_its_true_beginning(bert: Path, tmp_path: Path) -> None:
    spec = trial_spec(bert, tmp_path, freeze="top-1")
    whole = run_trial(spec.model_copy(update={"directory": str(tmp_path / "whole")}))

    def end_after_one(values: dict[str, Any]) -> None:
        if values.get("metrics") and values["epoch"] == 1:
            raise SystemExit

    with pytest.raises(SystemExit):
        run_trial(spec, end_after_one)
    again = run_trial(spec)
    assert (again.moved, again.frozen_hashes) == (whole.moved, whole.frozen_hashes)


def test_heads_that_train_together_share_the_hashes_and_move_each_for_itself(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = []
    original = freeze.frozen_hash
    monkeypatch.setattr(freeze, "frozen_hash", lambda model: hashed.append(1) or original(model))
    specs = [
        trial_spec(bert, tmp_path, freeze="head", learning_rate=rate).model_copy(
            update={"trial_id": f"rate-{rate}", "directory": str(tmp_path / f"rate-{rate}")}
        )
        for rate in (1e-4, 1e-2)
    ]
    slow, fast = run_group(specs, [lambda _: None] * 2)
    assert len(hashed) == 2
    assert slow.frozen_hashes == fast.frozen_hashes
    assert slow.moved is not None and fast.moved is not None and 0 < slow.moved < fast.moved / 10


def test_records_of_earlier_versions_have_neither(tmp_path: Path) -> None:
    Result(kind="trial", trial_id="a", status="DONE", started=0, ended=1).write(tmp_path / "result.json")
    found = Result.read(tmp_path / "result.json")
    assert (found.frozen_hashes, found.moved) == (None, None)


def test_results_of_earlier_versions_keep_their_hashes() -> None:
    earlier = {
        "kind": "trial",
        "trial_id": "a",
        "status": "DONE",
        "started": 1,
        "ended": 2,
        "frozen_sha256": ["a", "b"],
    }
    assert Result.model_validate(earlier).frozen_hashes == ("a", "b")
    again = Result.model_validate_json(Result.model_validate(earlier).model_dump_json())
    assert again.frozen_hashes == ("a", "b")
