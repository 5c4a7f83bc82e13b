import pytest
import torch
from torch import nn

from trainables import dropout

SHAPE = (500, 200)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("probability", [0.05, 0.1, 0.5])
def test_a_mask_drops_its_share_and_keeps_the_mean(probability: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    found = dropout.mask(SHAPE, probability, dtype)
    kept = torch.tensor(1 / (1 - probability), dtype=dtype)
    assert found.dtype == dtype and set(found.unique().tolist()) == {0.0, kept.item()}
    # Four standard errors of a share over 100,000 draws.
    share, spread = float((found == 0).float().mean()), (probability * (1 - probability) / found.numel()) ** 0.5
    assert abs(share - probability) < 4 * spread


def test_neither_rows_nor_columns_nor_neighbours_of_a_mask_go_together() -> None:
    torch.manual_seed(0)
    kept = (dropout.mask(SHAPE, 0.5, torch.float32) > 0).float() - 0.5
    for one, other in ((kept[1:], kept[:-1]), (kept[:, 1:], kept[:, :-1]), (kept[:, 4:], kept[:, :-4])):
        # A product of independent signs (± 1/4) has mean 0; four standard errors.
        assert abs(float((one * other).mean())) < 4 * 0.25 / one.numel() ** 0.5


def test_pytorchs_random_state_alone_decides() -> None:
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first, second = dropout.mask((64,), 0.5, torch.float32), dropout.mask((64,), 0.5, torch.float32)
    assert not torch.equal(first, second)
    torch.set_rng_state(state)
    assert torch.equal(dropout.mask((64,), 0.5, torch.float32), first)
    assert torch.equal(dropout.mask((64,), 0.5, torch.float32), second)


def test_replaced_modules_drop_in_training_only_and_pass_gradients_of_what_is_kept() -> None:
    model = nn.Sequential(nn.Identity(), nn.Dropout(0.2))
    dropout.replace(model)
    inputs = torch.randn(SHAPE, requires_grad=True)
    assert torch.equal(model.eval()(inputs), inputs)
    found = model.train()(inputs)
    found.sum().backward()
    dropped = found == 0
    assert 0.15 < float(dropped.float().mean()) < 0.25
    assert inputs.grad is not None
    assert torch.equal(inputs.grad == 0, dropped)
    torch.testing.assert_close(inputs.grad[~dropped], torch.full_like(inputs.grad[~dropped], 1.25))


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_nothing_and_everything_are_dropped_as_pytorch_does(probability: float) -> None:
    model = nn.Sequential(nn.Dropout(probability))
    dropout.replace(model)
    inputs = torch.ones(10)
    assert torch.equal(model.train()(inputs), inputs * (1 - probability))
