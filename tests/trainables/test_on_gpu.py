"""What only a GPU can show: its kernels, CUDA graphs, memory that runs out; `make test-gpu`, without Ray."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny import tiny_model, tiny_spec
from tests.tiny_data import token_split, trial_spec
from trainables import forward, freeze, models, trained_rows
from trainables.arguments import Precision, TrainingArguments
from trainables.directory import TrialDirectory
from trainables.graphed import GraphedSteps, Work
from trainables.group import run_group
from trainables.optimization import Optimization
from trainables.room import Room
from trainables.tokens import HiddenStates, TokenSplit
from trainables.training import predict_logits, train_epoch
from trainables.trial import run_trial

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that this PyTorch can use"),
]

FREE = sorted(name for name, family in models.FAMILIES.items() if family.padding_free)
CAPTURED = [name for name in FREE if name != "modernbert"]
# Of the largest value: fp32 products are exact to their rounding, bf16 ones to 2^-8 each.
CLOSE: dict[Precision, float] = {"fp32": 1e-3, "bf16": 6e-2}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: tiny_model(name, root / name, hidden=64) for name in sorted(models.FAMILIES)}


def split(texts: int, longest: int = 60, *, types: bool = False) -> TokenSplit:
    return token_split(texts, longest, types=types)


def build(folder: Path, policy: str = "full", dropout: float = 0.0, **arguments: object):
    given = {"per_device_train_batch_size": 4, "learning_rate": 1e-3, "lora_dropout": dropout, **arguments}
    training = TrainingArguments.model_validate(given)
    model = freeze.apply(models.load_model(tiny_spec(folder), ("a", "b"), 1), policy, training, 1)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
        if hasattr(module, "dropout_prob"):
            module.dropout_prob = dropout
    return model.to("cuda"), training


def near(found: torch.Tensor, expected: torch.Tensor, precision: Precision) -> bool:
    scale = max(1.0, float(expected.abs().max()))
    return bool((found.float() - expected.float()).abs().max() < CLOSE[precision] * scale)


@pytest.mark.parametrize(
    ("name", "precision"), [*((name, "fp32") for name in sorted(models.FAMILIES)), *((name, "bf16") for name in FREE)]
)
def test_logits_and_gradients_are_those_of_padded_texts(
    folders: dict[str, Path], name: str, precision: Precision
) -> None:
    model, _ = build(folders[name])
    data = split(12, 200)
    every = np.arange(len(data))
    found: list[tuple[torch.Tensor, dict[str, torch.Tensor]]] = []
    for run in (forward.padded_logits, forward.logits):
        model.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
            logits = run(model, data, every)
        torch.nn.functional.cross_entropy(logits.float(), torch.arange(12, device="cuda") % 2).backward()
        gradients = {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}
        found.append((logits.detach(), gradients))
    (expected, reference), (logits, gradients) = found
    assert near(logits, expected, precision)
    assert gradients.keys() == reference.keys()
    wrong = [key for key in gradients if not near(gradients[key], reference[key], precision)]
    assert not wrong


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", FREE)
def test_attention_drops_as_much_as_it_is_told(folders: dict[str, Path], name: str, precision: Precision) -> None:
    model, _ = build(folders[name], dropout=0.5)
    model.train()
    data = split(64)
    with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"), torch.no_grad():
        drawn = torch.stack([forward.logits(model, data, np.arange(64)).float() for _ in range(3)])
    assert drawn.isfinite().all()
    assert drawn.std(dim=0).mean() > 1e-3


def train(folder: Path, data: TokenSplit, policy: str, graphed: bool, precision: Precision, epochs: int = 3):
    model, training = build(folder, policy)
    trained_rows.replace(model, data)
    optimization = Optimization.of(model, training, epochs * training.optimizer_steps(len(data)))
    steps = GraphedSteps.of(Work(model, data, optimization, precision)) if graphed else None
    assert bool(steps) == graphed
    series = [
        train_epoch(
            model, data, optimization, seed=1, epoch=epoch, precision=precision, on_step=lambda _: None, graphed=steps
        )
        for epoch in range(1, epochs + 1)
    ]
    return predict_logits(model, data, 8, precision), np.concatenate([epoch.loss for epoch in series])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("policy", ["full", "lora", "embeddings"])
@pytest.mark.parametrize("name", CAPTURED)
def test_graphs_train_as_single_kernels_do(
    folders: dict[str, Path], name: str, policy: str, precision: Precision
) -> None:
    data = split(42, types=name in ("bert", "albert", "electra"))
    expected, reference = train(folders[name], data, policy, False, precision)
    found, losses = train(folders[name], data, policy, True, precision)
    assert np.abs(losses - reference).max() < CLOSE[precision]
    assert np.abs(found - expected).max() < 2 * CLOSE[precision] * max(1, np.abs(expected).max())


def test_graphs_take_states_of_a_frozen_prefix(folders: dict[str, Path]) -> None:
    data = split(42)
    model, _ = build(folders["bert"], "top-1")
    boundary = len(models.layers(model)) - 1
    with torch.inference_mode():
        kept = forward.hidden_states(model.eval(), data, np.arange(len(data)), boundary, first_only=False)
    data = replace(data, hidden=HiddenStates(boundary, False, torch.cat(kept).cpu().numpy()))
    expected, reference = train(folders["bert"], data, "top-1", False, "fp32")
    found, losses = train(folders["bert"], data, "top-1", True, "fp32")
    assert np.abs(losses - reference).max() < CLOSE["fp32"]
    assert np.abs(found - expected).max() < CLOSE["fp32"]


@pytest.mark.parametrize("name", FREE)
def test_scores_do_not_depend_on_the_batch_size(folders: dict[str, Path], name: str) -> None:
    model, _ = build(folders[name])
    data = split(300, 200)
    assert np.abs(predict_logits(model, data, 4, "fp32") - predict_logits(model, data, 256, "fp32")).max() < 1e-4


def graphs(folder: Path, data: TokenSplit, precision: Precision = "fp32", **arguments: object):
    model, training = build(folder, dropout=0.3, **arguments)
    freeze.set_train_mode(model)
    optimization = Optimization.of(model, training, 1000)
    return optimization, GraphedSteps(Work(model, data, optimization, precision))


def test_a_graph_draws_dropout_as_the_step_that_it_is_a_graph_of(folders: dict[str, Path]) -> None:
    data, batch = split(4), np.arange(4)
    found = []
    for captured in (False, True):
        optimization, steps = graphs(folders["bert"], data, learning_rate=1e-12)
        torch.manual_seed(3)
        losses = []
        for _ in range(5):
            if not captured:
                for step in steps._steps.values():
                    step.is_new = True
            losses.append(float(steps.run(batch)))
            optimization.advance()
        found.append(losses)
    assert len(set(found[1])) == 5
    assert np.abs(np.array(found[0]) - np.array(found[1])).max() < 1e-4


@pytest.mark.parametrize(("name", "hidden"), [("bert", 52), ("modernbert", 64)])
def test_attention_that_goes_text_by_text_is_never_captured(tmp_path: Path, name: str, hidden: int) -> None:
    folder = tiny_model(name, tmp_path / "model", hidden=hidden, classifier_pooling="cls")
    data = split(8)
    model, training = build(folder)
    work = Work(model, data, Optimization.of(model, training, 1000), "fp32")
    assert work.is_alike
    assert GraphedSteps.of(work) is None
    steps = GraphedSteps(work)
    steps.run(np.arange(4))
    with pytest.raises(RuntimeError, match="cannot be captured"):
        steps.run(np.arange(4))


def test_no_replay_waits_for_the_device(folders: dict[str, Path]) -> None:
    data, batch = split(4), np.arange(4)
    optimization, steps = graphs(folders["bert"], data, "bf16")
    for _ in range(3):
        steps.run(batch)
        optimization.advance()
    torch.cuda.set_sync_debug_mode("error")
    try:
        steps.run(batch)
        optimization.advance()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(steps.run(batch))


@pytest.mark.parametrize("graphed", [True, False])
def test_a_full_device_makes_passes_smaller_and_leaves_the_result(tmp_path: Path, graphed: bool) -> None:
    folder = tiny_model("bert", tmp_path / "model", hidden=512, num_hidden_layers=6)
    data = split(128, 400)

    def run(allowed: float | None) -> tuple[np.ndarray, int | None]:
        model, training = build(folder, per_device_train_batch_size=64, learning_rate=1e-4)
        optimization, room = Optimization.of(model, training, 4), Room(torch.device("cuda"))
        steps = GraphedSteps.of(Work(model, data, optimization, "fp32")) if graphed else None
        torch.cuda.empty_cache()
        if allowed:
            total = torch.cuda.get_device_properties(0).total_memory
            torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + allowed) / total)
        try:
            for epoch in (1, 2):
                train_epoch(
                    model,
                    data,
                    optimization,
                    seed=1,
                    epoch=epoch,
                    precision="fp32",
                    on_step=lambda _: None,
                    room=room,
                    graphed=steps,
                )
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        return predict_logits(model, data, 8, "fp32"), room.texts_at_once

    expected, whole = run(None)
    found, cut = run(1.5e9)
    assert whole is None
    assert cut is not None
    assert cut < 64
    assert np.abs(found - expected).max() < 1e-2


@pytest.mark.parametrize("policy", ["full", "top-1", "head", "lora"])
def test_a_trial_ends_with_its_figures_from_the_device(folders: dict[str, Path], tmp_path: Path, policy: str) -> None:
    spec = trial_spec(folders["bert"], tmp_path, freeze=policy)
    result = run_trial(spec)
    assert result.status == "DONE", result
    assert result.device == "cuda"
    assert result.peak_memory_bytes
    assert result.metrics["test/accuracy"] >= 0.5
    assert list(TrialDirectory(Path(spec.directory)).checkpoint.glob("*.safetensors"))


def test_heads_of_a_group_learn_what_they_learn_alone(folders: dict[str, Path], tmp_path: Path) -> None:
    def specs(folder: Path) -> list:
        rates = (1e-2, 3e-3, 1e-3)
        made = [trial_spec(folders["bert"], folder, freeze="head", learning_rate=rate) for rate in rates]
        return [
            spec.model_copy(update={"trial_id": f"t{n}", "directory": str(folder / f"t{n}")})
            for n, spec in enumerate(made)
        ]

    together = list(run_group(specs(tmp_path / "group"), [lambda _: None] * 3))
    alone = [run_trial(spec) for spec in specs(tmp_path / "alone")]
    for one, other in zip(together, alone, strict=True):
        assert one.metrics["validation/loss"] == pytest.approx(other.metrics["validation/loss"], abs=1e-3)
