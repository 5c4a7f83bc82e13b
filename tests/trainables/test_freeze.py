"""Under every policy, in every family: what is frozen does not move, what trains does, and dropout follows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.tiny import tiny_model, tiny_spec, vocabulary
from trainables import freeze, models
from trainables.arguments import TrainingArguments
from trainables.errors import BadInput

FAMILIES = sorted(models.FAMILIES)
NAMES = [name.replace("top-N", "top-2") for name in freeze.POLICIES]
TRAINING = TrainingArguments(lora_r=4)
LAYERS = ["layer-0", "layer-1", "layer-2"]
TRAINED_BLOCKS = {
    "full": ["embeddings", *LAYERS, "head"],
    "embeddings": [*LAYERS, "head"],
    "top-2": ["layer-1", "layer-2", "head"],
    "head": ["head"],
    "lora": [*LAYERS, "head"],
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: tiny_model(name, root / name) for name in FAMILIES}


def frozen_model(folder: Path, policy: str, seed: int = 1) -> nn.Module:
    return freeze.apply(models.load_model(tiny_spec(folder), ("a", "b"), seed), policy, TRAINING, seed)


def cases() -> Iterator[tuple[str, str]]:
    """Every family with every policy of the table, but for top-N where layers are shared."""
    for family in FAMILIES:
        for name in NAMES:
            if not (name.startswith("top-") and models.FAMILIES[family].shared_layers):
                yield family, name


def trained_blocks(model: nn.Module, policy: str) -> dict[str, bool]:
    """What should train, by the table above; shared layers are one block."""
    return {block: block in TRAINED_BLOCKS[policy] for block in models.parts(model).blocks()}


def train(model: nn.Module, steps: int = 3) -> None:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, len(vocabulary()), (8, 12), generator=generator)
    labels = torch.arange(8) % 2
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0)
    freeze.set_train_mode(model)
    for _ in range(steps):
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()
        optimizer.zero_grad()


def parameters(modules: list[nn.Module]) -> dict[str, torch.Tensor]:
    return {
        f"{index}.{name}": parameter.detach().clone()
        for index, module in enumerate(modules)
        for name, parameter in module.named_parameters()
    }


@pytest.mark.parametrize(("family", "policy"), list(cases()))
def test_frozen_blocks_stay_bit_equal_and_trained_blocks_move(
    folders: dict[str, Path], family: str, policy: str
) -> None:
    model = frozen_model(folders[family], policy)
    blocks = models.parts(model).blocks()
    before = {block: parameters(modules) for block, modules in blocks.items()}
    frozen = freeze.frozen_hash(model)
    train(model)
    assert freeze.frozen_hash(model) == frozen
    for block, trains in trained_blocks(model, policy).items():
        after = parameters(blocks[block])
        moved = {name for name in after if not torch.equal(after[name], before[block][name])}
        assert bool(moved) == trains, block
        if policy == "lora" and block != "head":
            assert all("lora_" in name for name in moved)
            assert {name for name in after if "lora_B" in name} <= moved


@pytest.mark.parametrize(("family", "policy"), list(cases()))
def test_every_weight_of_the_head_trains_under_every_policy(folders: dict[str, Path], family: str, policy: str) -> None:
    model = frozen_model(folders[family], policy)
    head = [parameter for module in models.parts(models.unwrapped(model)).head for parameter in module.parameters()]
    plain = frozen_model(folders[family], "head")
    wanted = sum(p.numel() for module in models.parts(plain).head for p in module.parameters())
    assert sum(parameter.numel() for parameter in head if parameter.requires_grad) == wanted


@pytest.mark.parametrize("policy", ["head", "lora"])
@pytest.mark.parametrize("family", ["bert", "albert", "deberta-v2"])
def test_the_pooler_moves(folders: dict[str, Path], family: str, policy: str) -> None:
    model = frozen_model(folders[family], policy)
    before = {name: p.detach().clone() for name, p in model.named_parameters() if "pooler" in name and p.requires_grad}
    train(model)
    after = dict(model.named_parameters())
    assert len(before) == 2
    assert all(not torch.equal(after[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize(("family", "policy"), list(cases()))
def test_counts_are_the_sums_of_the_blocks(folders: dict[str, Path], family: str, policy: str) -> None:
    plain = frozen_model(folders[family], "full")
    sizes = {
        block: sum(p.numel() for module in modules for p in module.parameters())
        for block, modules in models.parts(plain).blocks().items()
    }
    model = frozen_model(folders[family], policy)
    adapters = sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)
    trained = ["head"] if policy == "lora" else [b for b, trains in trained_blocks(model, policy).items() if trains]
    expected = sum(sizes[block] for block in trained) + adapters
    assert (adapters > 0) == (policy == "lora")
    assert freeze.count_parameters(model) == (expected, sum(sizes.values()) + adapters)


@pytest.mark.parametrize(("family", "policy"), list(cases()))
def test_a_block_is_in_train_mode_only_if_it_trains(folders: dict[str, Path], family: str, policy: str) -> None:
    model = frozen_model(folders[family], policy)
    for mode in (True, False):
        model.train(mode)
        freeze.set_train_mode(model)
        for block, trains in trained_blocks(model, policy).items():
            modules = [inner for module in models.parts(model).blocks()[block] for inner in module.modules()]
            assert {module.training for module in modules} == {trains}, block


def test_frozen_layers_give_the_same_states_each_time_and_trained_ones_do_not(folders: dict[str, Path]) -> None:
    ids = torch.arange(5, 25).reshape(2, 10)
    for policy, varies in (("head", False), ("top-2", True)):
        model = frozen_model(folders["bert"], policy)
        freeze.set_train_mode(model)
        first, again = (model(input_ids=ids, output_hidden_states=True).hidden_states for _ in range(2))
        assert torch.equal(first[1], again[1])
        assert torch.equal(first[-1], again[-1]) != varies


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_depend_on_the_seed_and_on_nothing_else(folders: dict[str, Path], family: str) -> None:
    first = dict(frozen_model(folders[family], "lora", seed=1).named_parameters())
    torch.rand(11)
    before = torch.get_rng_state()
    again = dict(frozen_model(folders[family], "lora", seed=1).named_parameters())
    assert torch.equal(torch.get_rng_state(), before)
    other = dict(frozen_model(folders[family], "lora", seed=2).named_parameters())
    adapters = [name for name in first if "lora_A" in name]
    assert adapters
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert all(not torch.equal(first[name], other[name]) for name in adapters)


@pytest.mark.filterwarnings("error::FutureWarning")
def test_an_untrained_adapter_changes_no_logits(folders: dict[str, Path]) -> None:
    ids = torch.arange(5, 25).reshape(2, 10)
    plain, adapted = (frozen_model(folders["bert"], policy).eval() for policy in ("head", "lora"))
    assert torch.equal(plain(input_ids=ids).logits, adapted(input_ids=ids).logits)


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_keeps_the_name_it_was_given(name: str) -> None:
    assert freeze.parse(name).name == name


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("hed", "did you mean 'head'"),
        ("Full", "did you mean 'full'"),
        ("top2", "did you mean 'top-N'"),
        ("top-N", "as in top-2"),
        ("top--1", "as in top-2"),
        ("top-02", "as in top-2"),
        ("top-1.5", "as in top-2"),
        ("", "Known: full, embeddings, top-N, head, lora"),
    ],
)
def test_an_unknown_policy_is_refused_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(BadInput, match="is not a freeze policy") as refused:
        freeze.parse(name)
    assert hint in str(refused.value)


@pytest.mark.parametrize("name", ["top-0", "top-3", "top-12"])
def test_top_n_outside_the_layers_is_refused_with_their_number(folders: dict[str, Path], name: str) -> None:
    with pytest.raises(BadInput, match=f"'{name}' is not possible for a model of 3 layers; top-1 to top-2"):
        freeze.check(name, models.describe(folders["bert"]))


def test_top_n_is_checked_against_the_cut_model(folders: dict[str, Path]) -> None:
    about = models.describe(folders["bert"])
    assert freeze.check("top-2", about).layers == 2
    with pytest.raises(BadInput, match="a model of 2 layers; top-1 to top-1"):
        freeze.check("top-2", about.with_layers(2))
    with pytest.raises(BadInput, match="a model of 1 layers; no top-N"):
        freeze.check("top-1", about.with_layers(1))


def test_top_n_is_refused_where_layers_are_shared(folders: dict[str, Path]) -> None:
    with pytest.raises(BadInput, match="albert, whose layers all share one set of weights") as refused:
        freeze.check("top-1", models.describe(folders["albert"]))
    assert "full, embeddings, head, lora" in str(refused.value)
    with pytest.raises(BadInput, match="share"):
        frozen_model(folders["albert"], "top-1")


@pytest.mark.parametrize(("name", "layers"), [("full", 6), ("embeddings", 6), ("top-2", 2), ("head", 0), ("lora", 6)])
def test_trained_layers_counts_what_a_backward_pass_runs_through(name: str, layers: int) -> None:
    assert freeze.trained_layers(name, 6) == layers
