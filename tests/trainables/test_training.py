"""Batches, steps, rates and modes: what a trial's seed decides, and what it does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny import tiny_model, tiny_spec
from tests.tiny_data import token_split
from trainables import freeze, models
from trainables.arguments import TrainingArguments
from trainables.errors import TrialFailure
from trainables.metrics import example_losses
from trainables.optimization import Optimization, warmup_steps
from trainables.tokens import TokenSplit
from trainables.training import batch_order, predict_logits, train_epoch


def split(texts: int = 21, classes: int = 2) -> TokenSplit:
    return token_split(texts, 12, classes=classes, pad_token_id=0)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model("bert", tmp_path_factory.mktemp("bert"))


def build(
    folder: Path, policy: str = "full", seed: int = 1, **arguments: object
) -> tuple[torch.nn.Module, TrainingArguments]:
    training = TrainingArguments.model_validate({"per_device_train_batch_size": 4, "lora_dropout": 0.0, **arguments})
    return freeze.apply(models.load_model(tiny_spec(folder), ("a", "b"), seed), policy, training, seed), training


def train(folder: Path, policy: str = "full", epochs: int = 1, **arguments: object):
    model, training = build(folder, policy, **arguments)
    data = split()
    optimization = Optimization.of(model, training, epochs * training.optimizer_steps(len(data)))
    series = [
        train_epoch(model, data, optimization, seed=1, epoch=epoch, precision="fp32", on_step=lambda _: None)
        for epoch in range(1, epochs + 1)
    ]
    return model, series


def test_each_epoch_sees_every_text_once_in_an_order_of_its_own() -> None:
    epochs = [np.concatenate(batch_order(7, epoch, 21, 4)) for epoch in (1, 2)]
    for order in epochs:
        assert sorted(order) == list(range(21))
    assert list(epochs[0]) != list(epochs[1])
    assert [len(batch) for batch in batch_order(7, 1, 21, 4)] == [4, 4, 4, 4, 4, 1]


def test_the_order_depends_on_the_seed_alone() -> None:
    torch.manual_seed(0)
    first = np.concatenate(batch_order(7, 1, 21, 4))
    torch.manual_seed(1)
    torch.rand(5)
    assert list(first) == list(np.concatenate(batch_order(7, 1, 21, 4)))
    assert list(first) != list(np.concatenate(batch_order(8, 1, 21, 4)))


def test_drawing_a_batch_order_leaves_the_dropout_stream_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    batch_order(7, 1, 21, 4)
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize(("accumulation", "steps"), [(1, 6), (2, 3), (4, 2)])
def test_an_epoch_takes_the_steps_that_batch_and_accumulation_mean(bert: Path, accumulation: int, steps: int) -> None:
    _, (series,) = train(bert, gradient_accumulation_steps=accumulation)
    assert series.step == list(range(1, steps + 1))
    assert len(series.loss) == len(series.learning_rate) == len(series.timestamp) == steps


def test_accumulated_micro_batches_give_the_gradient_of_the_whole_batch(bert: Path) -> None:
    finals = []
    for batch, accumulation in ((8, 1), (2, 4)):
        model, training = build(
            bert, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation, learning_rate=1e-3
        )
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        data = split()
        optimization = Optimization.of(model, training, 9)
        train_epoch(model, data, optimization, seed=1, epoch=1, precision="fp32", on_step=lambda _: None)
        finals.append(predict_logits(model, data, 8, "fp32"))
    assert np.abs(finals[0] - finals[1]).max() < 1e-4


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_loss_of_a_step_is_the_mean_over_the_texts_of_its_batches(bert: Path, accumulation: int) -> None:
    model, training = build(bert, learning_rate=1e-12, gradient_accumulation_steps=accumulation)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    data = split()
    series = train_epoch(
        model,
        data,
        Optimization.of(model, training, 9),
        seed=1,
        epoch=1,
        precision="fp32",
        on_step=lambda _: None,
    )
    each = example_losses(predict_logits(model, data, 8, "fp32"), data.labels)
    order = np.concatenate(batch_order(1, 1, len(data), 4))
    width = 4 * accumulation
    expected = [each[order[start : start + width]].mean() for start in range(0, len(data), width)]
    assert series.loss == pytest.approx(expected, abs=1e-5)


def test_the_rate_rises_over_the_warm_up_and_falls_to_nothing(bert: Path) -> None:
    _, series = train(bert, epochs=3, learning_rate=1e-3, warmup_steps=6)
    rates = [rate for epoch in series for rate in epoch.learning_rate]
    assert len(rates) == 18
    assert rates[:7] == pytest.approx([1e-3 * step / 6 for step in range(7)])
    assert rates[7:] == pytest.approx([1e-3 * (12 - step) / 12 for step in range(1, 12)])


@pytest.mark.parametrize(
    ("schedule", "shape"),
    [("linear", lambda left: left), ("cosine", lambda left: (1 - np.cos(np.pi * left)) / 2)],
)
def test_after_warm_up_the_rate_follows_the_schedule(bert: Path, schedule: str, shape: Callable) -> None:
    _, series = train(bert, epochs=3, learning_rate=1e-3, warmup_steps=6, lr_scheduler_type=schedule)
    rates = [rate for epoch in series for rate in epoch.learning_rate][6:]
    assert rates == pytest.approx([1e-3 * shape((12 - step) / 12) for step in range(12)])


def test_a_constant_rate_stays_after_its_warm_up(bert: Path) -> None:
    _, (series,) = train(bert, learning_rate=1e-3, warmup_steps=2, lr_scheduler_type="constant_with_warmup")
    assert series.learning_rate == pytest.approx([0, 5e-4, 1e-3, 1e-3, 1e-3, 1e-3])


@pytest.mark.parametrize("policy", ["full", "embeddings", "top-2", "head", "lora"])
def test_layerwise_decay_gives_each_block_its_share_of_the_rate_above(bert: Path, policy: str) -> None:
    model, training = build(bert, policy, learning_rate=1e-3, layerwise_lr_decay=0.5, warmup_steps=0)
    depth = {"head": 0, "layer-2": 1, "layer-1": 2, "layer-0": 3, "embeddings": 4}
    blocks = {
        id(parameter): name
        for name, modules in models.parts(model).blocks().items()
        for module in modules
        for parameter in module.parameters()
    }
    optimization = Optimization.of(model, training, 9)
    held = [(p, group["lr"]) for group in optimization.optimizer.param_groups for p in group["params"]]
    assert {id(p) for p, _ in held} == {id(p) for p in model.parameters() if p.requires_grad}
    for parameter, rate in held:
        assert rate == pytest.approx(1e-3 * 0.5 ** depth[blocks[id(parameter)]])
    series = train_epoch(model, split(), optimization, seed=1, epoch=1, precision="fp32", on_step=lambda _: None)
    trained = {blocks[id(p)] for p in model.parameters() if p.requires_grad}
    # Where the head alone trains there is one rate, and nothing to tell apart.
    assert set(series.block_learning_rates) == (trained if len(trained) > 1 else set())
    for block, rates in series.block_learning_rates.items():
        assert rates == pytest.approx([rate * 0.5 ** depth[block] for rate in series.learning_rate])


@pytest.mark.parametrize(("wanted", "steps"), [(0.0, 0), (0.1, 10), (0.101, 11), (1, 1), (25, 25)])
def test_warm_up_below_one_is_a_share_and_from_one_a_number(wanted: float, steps: int) -> None:
    assert warmup_steps(TrainingArguments(warmup_steps=wanted), 100) == steps


def test_equal_seeds_give_bit_equal_training_whatever_was_drawn_before(bert: Path) -> None:
    torch.manual_seed(11)
    first, series = train(bert)
    torch.manual_seed(12)
    torch.rand(100)
    second, again = train(bert)
    assert series[0].loss == again[0].loss
    for (name, a), (_, b) in zip(first.state_dict().items(), second.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("policy", ["head", "top-1", "embeddings", "full", "lora"])
def test_the_optimizer_holds_the_trainable_parameters_and_no_others(bert: Path, policy: str) -> None:
    model, training = build(bert, policy)
    held = {id(p) for group in Optimization.of(model, training, 5).optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters() if p.requires_grad}


def test_weight_decay_spares_biases_and_norms(bert: Path) -> None:
    model, training = build(bert, weight_decay=0.1)
    decayed = {
        id(p)
        for group in Optimization.of(model, training, 5).optimizer.param_groups
        if group["weight_decay"]
        for p in group["params"]
    }
    spared = {name for name, p in model.named_parameters() if id(p) not in decayed}
    assert spared == {name for name, _ in model.named_parameters() if name.endswith("bias") or "LayerNorm" in name}


def test_predictions_come_back_in_the_order_of_the_texts_whatever_the_batch_size(bert: Path) -> None:
    model, _ = build(bert)
    data = split()
    one_by_one = np.concatenate([predict_logits(model, _only(data, index), 1, "fp32") for index in range(len(data))])
    assert np.abs(predict_logits(model, data, 8, "fp32") - one_by_one).max() < 1e-5


def _only(data: TokenSplit, index: int) -> TokenSplit:
    start, end = data.offsets[index], data.offsets[index + 1]
    ids = data.input_ids[start:end]
    one = [index]
    offsets = np.array([0, end - start])
    return TokenSplit(ids, offsets, None, data.labels[one], data.rows[one], data.tokens_cut[one], 0)


def test_a_loss_that_is_not_finite_fails_the_trial_with_step_and_rate(bert: Path) -> None:
    model, training = build(bert, learning_rate=1e-3)
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if "classifier" in name).fill_(float("nan"))
    optimization = Optimization.of(model, training, 6)
    with pytest.raises(TrialFailure, match=r"nan at step 1 \(learning rate 0\)") as failure:
        train_epoch(model, split(), optimization, seed=1, epoch=1, precision="fp32", on_step=lambda _: None)
    assert failure.value.reason == "nan"


def test_bf16_stays_close_to_fp32_and_keeps_fp32_weights(bert: Path) -> None:
    model, _ = build(bert)
    difference = np.abs(predict_logits(model, split(), 8, "bf16") - predict_logits(model, split(), 8, "fp32")).max()
    assert 0 < difference < 0.05
    assert {p.dtype for p in model.parameters()} == {torch.float32}
