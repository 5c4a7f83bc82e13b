"""Training some rows of the token embeddings is training all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.tiny import tiny_model, tiny_spec, vocabulary
from trainables import freeze, models, trained_rows
from trainables.arguments import TrainingArguments
from trainables.optimization import Optimization
from trainables.tokens import TokenSplit
from trainables.training import predict_logits, train_epoch

TEXTS, EPOCHS = 12, 3
SEEN = np.arange(5, 40, 3)


def split(seen: np.ndarray = SEEN) -> TokenSplit:
    generator = np.random.default_rng(0)
    offsets = np.r_[0, np.cumsum(generator.integers(3, 12, TEXTS))]
    return TokenSplit(
        input_ids=generator.choice(seen, offsets[-1]).astype(np.int32),
        offsets=offsets,
        token_type_ids=None,
        labels=generator.integers(0, 2, TEXTS),
        rows=np.arange(TEXTS),
        tokens_cut=np.zeros(TEXTS, np.int64),
        pad_token_id=1,
    )


def build(folder: Path, policy: str = "full", **arguments: object) -> tuple[nn.Module, TrainingArguments]:
    given = {"per_device_train_batch_size": 4, "learning_rate": 1e-3, "weight_decay": 0.1, **arguments}
    training = TrainingArguments.model_validate(given)
    model = freeze.apply(models.load_model(tiny_spec(folder), ("a", "b"), 1), policy, training, 1)
    return model, training


def train(model: nn.Module, training: TrainingArguments) -> Optimization:
    data = split()
    optimization = Optimization.of(model, training, EPOCHS * training.optimizer_steps(TEXTS))
    for epoch in range(1, EPOCHS + 1):
        train_epoch(model, data, optimization, seed=1, epoch=epoch, precision="fp32", on_step=lambda _: None)
    return optimization


def table(model: nn.Module) -> torch.Tensor:
    return models.unwrapped(model).get_input_embeddings().weight.detach()


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "albert", "electra", "deberta-v2", "modernbert"])
@pytest.mark.parametrize("layerwise_lr_decay", [1.0, 0.8])
def test_a_model_is_trained_as_with_the_whole_table(family: str, layerwise_lr_decay: float, tmp_path: Path) -> None:
    folder = tiny_model(family, tmp_path)
    whole, training = build(folder, layerwise_lr_decay=layerwise_lr_decay)
    some, _ = build(folder, layerwise_lr_decay=layerwise_lr_decay)
    trained_rows.replace(some, split())
    before = table(whole).clone()
    train(whole, training)
    train(some, training)
    assert trained_rows.of(some) and not trained_rows.of(whole)
    for (name, expected), (same, found) in zip(whole.named_parameters(), some.named_parameters(), strict=True):
        assert name == same
        # What has trained has moved by about a hundredth.
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4, msg=name)
    unseen = np.setdiff1d(np.arange(len(vocabulary())), SEEN)
    assert (table(some)[unseen] != before[unseen]).any(), "weight decay has passed the other rows by"
    assert (table(some)[SEEN] - before[SEEN]).abs().max() > 1e-3
    logits = [predict_logits(model, split(unseen), 8, "fp32") for model in (whole, some)]
    assert np.abs(logits[0] - logits[1]).max() < 1e-3


def test_an_optimizer_holds_no_more_than_the_rows_that_occur(tmp_path: Path) -> None:
    model, training = build(tiny_model("bert", tmp_path))
    trained_rows.replace(model, split())
    optimization = train(model, training)
    shapes = [tuple(value.shape) for value in optimization.moments().values()]
    assert (len(SEEN) + 1, table(model).shape[1]) in shapes, "the tokens of the split, and the padding"
    assert tuple(table(model).shape) not in shapes


def test_a_model_names_and_counts_the_parameters_that_it_did(tmp_path: Path) -> None:
    model, _ = build(tiny_model("bert", tmp_path))
    names, counted = list(model.state_dict()), freeze.count_parameters(model)
    trained_rows.replace(model, split())
    assert list(model.state_dict()) == names and freeze.count_parameters(model) == counted


def test_a_token_whose_row_does_not_train_is_refused_in_train_mode_alone(tmp_path: Path) -> None:
    model, _ = build(tiny_model("bert", tmp_path))
    trained_rows.replace(model, split())
    (found,) = trained_rows.of(model)
    stranger = torch.tensor([[int(SEEN[0]) + 1]])
    with pytest.raises(IndexError):
        found.train()(stranger)
    assert torch.equal(found.eval()(stranger)[0, 0], found.weight[stranger[0, 0]])


@pytest.mark.parametrize("policy", ["embeddings", "top-1", "head", "lora"])
def test_a_frozen_table_is_left_alone(policy: str, tmp_path: Path) -> None:
    model, _ = build(tiny_model("bert", tmp_path), policy)
    trained_rows.replace(model, split())
    assert not trained_rows.of(model)
