"""Without padding or with it, whole or in passes: the same logits and the same gradient, in every family."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny import tiny_model, tiny_spec
from trainables import forward, freeze, models
from trainables.arguments import TrainingArguments
from trainables.tokens import HiddenStates, TokenSplit

FAMILIES = sorted(models.FAMILIES)
VARIANTS = {name: (name, {}) for name in FAMILIES} | {"modernbert-mean": ("modernbert", {"classifier_pooling": "mean"})}
# From one word to far more than ModernBERT's window (16 tokens) and, together, than any model's positions (512).
LENGTHS = [3, 40, 9, 9, 25, 60, 9, 12, 25, 33, 200, 150]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: tiny_model(family, root / name, **changes) for name, (family, changes) in VARIANTS.items()}


def split(lengths: list[int], *, types: bool = False) -> TokenSplit:
    generator = np.random.default_rng(0)
    offsets = np.r_[0, np.cumsum(lengths)].astype(np.int64)
    return TokenSplit(
        input_ids=generator.integers(5, 60, offsets[-1]).astype(np.int32),
        offsets=offsets,
        token_type_ids=generator.integers(0, 2, offsets[-1]).astype(np.int8) if types else None,
        labels=generator.integers(0, 2, len(lengths)),
        rows=np.arange(len(lengths)),
        tokens_cut=np.zeros(len(lengths), np.int64),
        pad_token_id=1,
    )


def load(folder: Path, policy: str = "full", layers: int | None = None) -> torch.nn.Module:
    model = models.load_model(tiny_spec(folder, layers), ("a", "b"), seed=1)
    return freeze.apply(model, policy, TrainingArguments(lora_dropout=0.0), seed=1)


def gradient(model: torch.nn.Module, logits: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    torch.nn.functional.cross_entropy(logits, torch.arange(len(logits)) % 2, reduction="sum").backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same_gradients(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for key, slope in found.items():
        assert (slope - expected[key]).abs().max() < 1e-4 * max(1.0, float(expected[key].abs().max())), key


@pytest.mark.parametrize("policy", ["full", "lora"])
@pytest.mark.parametrize("name", VARIANTS)
def test_logits_and_gradients_are_those_of_padded_texts(folders: dict[str, Path], name: str, policy: str) -> None:
    model = load(folders[name], policy)
    data = split(LENGTHS, types=VARIANTS[name][0] in ("bert", "albert", "electra"))
    every = np.arange(len(data))
    expected = forward.padded_logits(model, data, every)
    reference = gradient(model, expected)
    found = forward.logits(model, data, every)
    assert (found - expected).abs().max() < 1e-5
    assert_same_gradients(gradient(model, found), reference)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_padding_token_within_a_text_is_read_as_in_padded_texts(folders: dict[str, Path], name: str) -> None:
    """Who writes of tokenizers writes `<pad>`; RoBERTa counts no position for it."""
    model = load(folders[name])
    data = split(LENGTHS)
    expected = forward.logits(model, data, np.arange(len(data)))
    data.input_ids[data.offsets[:-1] + 1] = data.pad_token_id
    data.input_ids[data.offsets[4]] = data.pad_token_id
    found = forward.logits(model, data, np.arange(len(data)))
    assert (found - expected).abs().max() > 1e-4
    assert (found - forward.padded_logits(model, data, np.arange(len(data)))).abs().max() < 1e-5


@pytest.mark.parametrize("name", VARIANTS)
def test_the_gradient_of_a_batch_does_not_depend_on_its_passes(
    folders: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(folders[name])
    data = split(LENGTHS)
    whole = gradient(model, forward.padded_logits(model, data, np.arange(len(data)))[np.argsort(data.labels)])
    monkeypatch.setattr(forward, "_TOKENS_ON_CPU", 100)
    cut = list(forward.passes(model, data, np.arange(len(data))))
    assert len(cut) > 3
    logits = torch.cat([forward.logits(model, data, indices) for indices in cut])
    back = logits[np.argsort(np.concatenate(cut))][np.argsort(data.labels)]
    assert_same_gradients(gradient(model, back), whole)


@pytest.mark.parametrize("name", [name for name in VARIANTS if models.FAMILIES[VARIANTS[name][0]].padding_free])
def test_a_text_does_not_see_its_neighbours(folders: dict[str, Path], name: str) -> None:
    model = load(folders[name])
    data, other = split(LENGTHS), split(LENGTHS)
    other.input_ids[: other.offsets[4]] = 7
    with torch.inference_mode():
        left, right = (forward.logits(model, tokens, np.arange(len(data))) for tokens in (data, other))
    assert (left[4:] - right[4:]).abs().max() < 1e-6
    assert (left[:4] - right[:4]).abs().max() > 1e-4


@pytest.mark.parametrize("name", VARIANTS)
def test_every_text_is_in_one_pass_and_passes_rise_in_length(folders: dict[str, Path], name: str) -> None:
    model = load(folders[name], layers=1)
    generator = np.random.default_rng(3)
    data = split(generator.integers(3, 300, 60).tolist())
    chosen = generator.permutation(60)[:50]
    cut = list(forward.passes(model, data, chosen))
    assert sorted(np.concatenate(cut)) == sorted(chosen)
    lengths = [data.lengths[indices] for indices in cut]
    assert (np.diff(np.concatenate(lengths)) >= 0).all()
    assert all(each.sum() <= forward._TOKENS_ON_CPU for each in lengths)
    assert len(cut) > 1


def test_a_text_longer_than_a_pass_is_a_pass_of_its_own(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "_TOKENS_ON_CPU", 20)
    data = split([30, 5, 40])
    for name in ("bert", "mpnet"):
        cut = [indices.tolist() for indices in forward.passes(load(folders[name], layers=1), data, np.arange(3))]
        assert cut == [[1], [0], [2]]


def test_padded_passes_cost_as_little_as_any_cut_could() -> None:
    lengths = np.sort(np.random.default_rng(1).integers(3, 300, 9))

    def cost(cuts: tuple[int, ...]) -> float:
        bounds = list(itertools.pairwise([0, *cuts, len(lengths)]))
        if any((end - start) * lengths[end - 1] > 700 and end - start > 1 for start, end in bounds):
            return float("inf")
        return sum(int((end - start) * lengths[end - 1]) + forward._TOKENS_PER_PASS["cpu"] for start, end in bounds)

    every = (cuts for count in range(9) for cuts in itertools.combinations(range(1, 9), count))
    assert cost(tuple(forward._cheapest_cuts(lengths, 700, forward._TOKENS_PER_PASS["cpu"]))) == min(map(cost, every))


def resumed(model: torch.nn.Module, data: TokenSplit, boundary: int, *, first_only: bool) -> TokenSplit:
    """A split that holds the hidden states of all its texts."""
    with torch.inference_mode():
        kept = forward.hidden_states(model, data, np.arange(len(data)), boundary, first_only=first_only)
    return replace(data, hidden=HiddenStates(boundary, first_only, torch.cat(kept).numpy()))


@pytest.mark.parametrize(("policy", "boundary"), [("head", 3), ("top-2", 1), ("embeddings", 0)])
@pytest.mark.parametrize("name", VARIANTS)
def test_from_kept_states_on_all_is_as_from_the_tokens(
    folders: dict[str, Path], name: str, policy: str, boundary: int
) -> None:
    if VARIANTS[name][0] == "albert":
        if policy == "top-2":
            pytest.skip("ALBERT's layers share their weights: there is no top-N")
        boundary = min(boundary, 1)
    model = load(folders[name], policy)
    assert freeze.frozen_layers(policy, len(models.parts(model).layers)) == boundary
    data = split(LENGTHS)
    some = np.array([10, 2, 0, 5, 1])
    expected = forward.logits(model, data, some)
    reference = gradient(model, expected)
    for first_only in {False, policy == "head" and name != "modernbert-mean"}:
        cached = resumed(model, data, boundary, first_only=first_only)
        assert len(cached.hidden.states) == (len(data) if first_only else data.offsets[-1])
        found = forward.logits(model, cached, some)
        assert (found - expected).abs().max() < 1e-5
        assert_same_gradients(gradient(model, found), reference)


def test_a_model_is_as_before_once_kept_states_have_gone_through_it(folders: dict[str, Path]) -> None:
    model = load(folders["bert"], "top-1")
    data = split(LENGTHS)
    before = forward.logits(model, data, np.arange(3))
    forward.logits(model, resumed(model, data, 2, first_only=False), np.arange(3))
    assert torch.equal(forward.logits(model, data, np.arange(3)), before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
