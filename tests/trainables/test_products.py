"""Products by bf16 copies of the weights: what autocast gives, with gradients that are not rounded on their way."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainables.products import Copies, Linear


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 16, bias=False), nn.LayerNorm(16))


def slopes(network: nn.Module, given: torch.Tensor) -> dict[str, torch.Tensor]:
    network.zero_grad(set_to_none=True)
    given = given.detach().requires_grad_()
    (network(given) ** 2).sum().backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None} | {"x": given.grad}


@pytest.mark.parametrize("shape", [(40, 32), (1, 40, 32), (2, 20, 32)])
def test_outputs_are_those_of_autocast_and_gradients_are_nearer_to_fp32(shape: tuple[int, ...]) -> None:
    network, given = model(), torch.randn(*shape)
    exact = slopes(network, given)
    with torch.autocast("cpu", torch.bfloat16):
        expected, rounded = network(given), slopes(network, given)
        copies = Copies(network)
        with copies.used():
            assert torch.equal(network(given), expected)
            found = slopes(network, given)
    assert found.keys() == exact.keys()
    for name, slope in found.items():
        assert slope.dtype == torch.float32
        assert slope.shape == exact[name].shape
        error, before = ((each[name] - exact[name]).norm() / exact[name].norm() for each in (found, rounded))
        assert error < 1.1 * before, name


def test_copies_follow_what_trains(shape: tuple[int, ...] = (8, 32)) -> None:
    network, given = model(), torch.randn(*shape)
    copies = Copies(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    with torch.autocast("cpu", torch.bfloat16):
        expected = network(given)
        with copies.used():
            assert torch.equal(network(given), expected)


def test_outside_the_block_a_model_is_what_it_was() -> None:
    network, given = model(), torch.randn(8, 32)
    expected, keys = network(given), list(network.state_dict())
    copies = Copies(network)
    with copies.used():
        pass
    assert torch.equal(network(given), expected)
    assert list(network.state_dict()) == keys
    assert isinstance(network[0], Linear)


def test_what_is_frozen_gets_no_gradient() -> None:
    network, given = model(), torch.randn(8, 32)
    network[0].requires_grad_(False)
    with Copies(network).used():
        found = slopes(network, given)
    assert "0.weight" not in found
    assert "2.weight" in found
    assert found["x"].abs().max() > 0
