"""Steps on rows of a few shapes, which a GPU replays as graphs: the same training as with rows as they come.

Here they run on the CPU, where nothing is captured; `test_on_gpu` has the same with graphs.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny import tiny_model, tiny_spec
from tests.tiny_data import token_split
from trainables import forward, freeze, graphed, models, trained_rows
from trainables.arguments import Precision, TrainingArguments
from trainables.graphed import GraphedSteps, Work
from trainables.optimization import Optimization
from trainables.tokens import HiddenStates, TokenSplit
from trainables.training import predict_logits, train_epoch

CAPTURED = sorted(name for name, family in models.FAMILIES.items() if family.padding_free and name != "modernbert")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: tiny_model(name, root / name) for name in [*CAPTURED, "modernbert", "mpnet"]}


def split(texts: int = 42, *, types: bool = False) -> TokenSplit:
    return token_split(texts, 60, types=types)


def build(folder: Path, policy: str = "full", **arguments: object) -> tuple[torch.nn.Module, TrainingArguments]:
    """A model without dropout."""
    given = {"per_device_train_batch_size": 4, "learning_rate": 1e-3, "lora_dropout": 0.0, **arguments}
    training = TrainingArguments.model_validate(given)
    model = freeze.apply(models.load_model(tiny_spec(folder), ("a", "b"), 1), policy, training, 1)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model, training


def train(
    folder: Path,
    data: TokenSplit,
    policy: str,
    steps_of_shapes: bool,
    precision: Precision = "fp32",
    **arguments: object,
):
    model, training = build(folder, policy, **arguments)
    trained_rows.replace(model, data)
    optimization = Optimization.of(model, training, 2 * training.optimizer_steps(len(data)))
    work = Work(model, data, optimization, precision)
    steps = GraphedSteps(work) if steps_of_shapes else None
    series = [
        train_epoch(
            model, data, optimization, seed=1, epoch=epoch, precision=precision, on_step=lambda _: None, graphed=steps
        )
        for epoch in (1, 2)
    ]
    return model, series


@pytest.mark.parametrize("policy", ["full", "lora", "embeddings"])
@pytest.mark.parametrize("name", CAPTURED)
def test_filled_rows_train_as_rows_that_are_not_filled(folders: dict[str, Path], name: str, policy: str) -> None:
    data = split(types=name in ("bert", "albert", "electra"))
    expected, reference = train(folders[name], data, policy, steps_of_shapes=False)
    model, found = train(folders[name], data, policy, steps_of_shapes=True)
    for epoch, before in zip(found, reference, strict=True):
        assert epoch.step == before.step
        assert epoch.learning_rate == before.learning_rate
        assert np.abs(np.array(epoch.loss) - np.array(before.loss)).max() < 1e-4
    assert np.abs(predict_logits(model, data, 8, "fp32") - predict_logits(expected, data, 8, "fp32")).max() < 1e-3


@pytest.mark.parametrize("policy", ["full", "lora"])
def test_bf16_steps_train_as_under_autocast(folders: dict[str, Path], policy: str) -> None:
    data = split()
    expected, reference = train(folders["bert"], data, policy, steps_of_shapes=False, precision="bf16")
    model, found = train(folders["bert"], data, policy, steps_of_shapes=True, precision="bf16")
    for epoch, before in zip(found, reference, strict=True):
        assert np.abs(np.array(epoch.loss) - np.array(before.loss)).max() < 1e-2
    assert np.abs(predict_logits(model, data, 8, "fp32") - predict_logits(expected, data, 8, "fp32")).max() < 3e-2


def test_states_of_a_frozen_prefix_are_filled_too(folders: dict[str, Path]) -> None:
    data = split()
    model, _ = build(folders["bert"], "top-1")
    with torch.inference_mode():
        states = forward.hidden_states(model.eval(), data, np.arange(len(data)), 1, first_only=False)
    data = replace(data, hidden=HiddenStates(1, False, torch.cat(states).numpy()))
    expected, _ = train(folders["bert"], data, "top-1", steps_of_shapes=False)
    found, _ = train(folders["bert"], data, "top-1", steps_of_shapes=True)
    assert np.abs(predict_logits(found, data, 8, "fp32") - predict_logits(expected, data, 8, "fp32")).max() < 1e-3


def test_a_row_that_is_full_already_is_a_row_too(folders: dict[str, Path]) -> None:
    data = split(4)
    data = replace(data, input_ids=np.full(64, 7, np.int32), offsets=np.array([0, 20, 30, 50, 64]))
    assert graphed.filled(64) == 64
    _, reference = train(folders["bert"], data, "full", steps_of_shapes=False)
    _, found = train(folders["bert"], data, "full", steps_of_shapes=True)
    assert found[-1].loss == pytest.approx(reference[-1].loss, abs=1e-4)


def test_the_last_smaller_batch_is_not_filled(folders: dict[str, Path]) -> None:
    model, training = build(folders["bert"])
    data = split(6)
    optimization = Optimization.of(model, training, 2)
    steps = GraphedSteps(Work(model, data, optimization, "fp32"))
    assert steps.takes(np.arange(4))
    assert not steps.takes(np.arange(2))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("mpnet", {}), ("bert", {"gradient_accumulation_steps": 2})],
)
def test_what_takes_several_passes_a_step_is_not_captured(
    folders: dict[str, Path], name: str, arguments: dict[str, int]
) -> None:
    model, training = build(folders[name], **arguments)
    work = Work(model, split(), Optimization.of(model, training, 9), "fp32")
    assert not work.is_alike


@pytest.mark.parametrize(
    ("name", "size", "precision", "capability", "expected"),
    [
        ("bert", 32, "fp32", (7, 0), True),
        ("bert", 32, "bf16", (8, 0), True),
        ("bert", 32, "bf16", (7, 5), False),
        # TinyBERT_General_4L_312D and rubert-tiny
        ("bert", 26, "fp32", (9, 0), False),
        ("distilbert", 26, "bf16", (9, 0), False),
        ("bert", 264, "bf16", (9, 0), False),
        ("modernbert", 32, "fp32", (9, 0), False),
        ("modernbert", 32, "bf16", (9, 0), True),
    ],
)
def test_only_attention_that_reads_its_boundaries_from_the_device_is_captured(
    tmp_path: Path, name: str, size: int, precision: Precision, capability: tuple[int, int], expected: bool
) -> None:
    folder = tiny_model(name, tmp_path / "model", hidden=2 * size, num_hidden_layers=2, classifier_pooling="cls")
    model, training = build(folder)
    work = Work(model, split(), Optimization.of(model, training, 9), precision)
    assert work.is_alike
    assert work.attends_at_once(capability) == expected


def test_rows_are_filled_up_to_few_lengths_and_little() -> None:
    tokens = np.arange(1, 9000)
    rows = np.array([graphed.filled(int(each)) for each in tokens])
    assert (rows >= tokens).all()
    assert (rows[tokens > 512] < 1.13 * tokens[tokens > 512]).all()
    assert len(set(rows[(tokens >= 2048) & (tokens <= 4096)])) <= 9
    assert (rows % 64 == 0).all()
