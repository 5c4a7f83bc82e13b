import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from trainables import attention_on_cpu, dropout
from trainables.attention_on_cpu import Bucket, buckets

HEADS, SIZE = 3, 8
LENGTHS = [2, 5, 5, 6, 9, 40, 40, 41]


def row(seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """(1, heads, tokens, head size), laid out in memory as transformers has it."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, sum(LENGTHS), HEADS, SIZE, generator=generator).to(dtype).transpose(1, 2).requires_grad_()


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, found: list[Bucket], probability: float = 0.0
) -> torch.Tensor:
    hidden = [None] * len(found)
    return attention_on_cpu.attend(query, key, value, found, probability=probability, scaling=0.3, hidden=hidden)


def one_by_one(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    parts, start = [], 0
    for length in LENGTHS:
        text = slice(start, start + length)
        parts.append(scaled_dot_product_attention(query[:, :, text], key[:, :, text], value[:, :, text], scale=0.3))
        start += length
    return torch.cat(parts, dim=2).transpose(1, 2)


def slopes(attended: torch.Tensor, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    above = torch.randn(attended.shape, generator=torch.Generator().manual_seed(9)).to(attended.dtype)
    return list(torch.autograd.grad(attended, inputs, above))


@pytest.mark.parametrize("cost", [0, 5_000, 1_000_000])
def test_buckets_of_any_size_give_what_each_text_gives_alone(cost: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_on_cpu, "_WEIGHTS_PER_BUCKET", cost)
    inputs = [row(0), row(1), row(2)]
    found, expected = attend(*inputs, buckets(LENGTHS)), one_by_one(*inputs)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    for slope, wanted in zip(slopes(found, inputs), slopes(expected, inputs), strict=True):
        torch.testing.assert_close(slope, wanted, rtol=1e-4, atol=1e-5)


def test_in_bf16_it_is_off_by_no_more_than_rounding() -> None:
    inputs = [row(seed, torch.bfloat16) for seed in range(3)]
    exact = [tensor.detach().float().requires_grad_() for tensor in inputs]
    found, expected = attend(*inputs, buckets(LENGTHS)), one_by_one(*exact)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.02)
    for slope, wanted in zip(slopes(found, inputs), slopes(expected, exact), strict=True):
        torch.testing.assert_close(slope.float(), wanted, rtol=0.05, atol=0.05)


def test_dropped_weights_carry_neither_value_nor_gradient() -> None:
    inputs = [row(0), row(1), row(2)]
    found = buckets(LENGTHS)
    torch.manual_seed(4)
    attended = attend(*inputs, found, probability=0.3)
    torch.manual_seed(4)
    parts = []
    for bucket in found:
        query, key, value = (attention_on_cpu._padded(tensor[0].transpose(0, 1), bucket) for tensor in inputs)
        scores = 0.3 * query @ key.transpose(1, 2)
        if bucket.padding is not None:
            scores = scores.masked_fill(bucket.padding.repeat_interleave(HEADS, dim=0), -torch.inf)
        kept = torch.softmax(scores, -1) * dropout.mask(scores.shape, 0.3, torch.float32)
        whole = (kept @ value).unflatten(0, (bucket.texts, HEADS)).transpose(1, 2).flatten(0, 1)
        parts.append(whole if bucket.real is None else whole[bucket.real])
    expected = torch.cat(parts)[None]
    torch.testing.assert_close(attended, expected, rtol=1e-5, atol=1e-6)
    for slope, wanted in zip(slopes(attended, inputs), slopes(expected, inputs), strict=True):
        torch.testing.assert_close(slope, wanted, rtol=1e-4, atol=1e-5)


def test_the_cut_into_buckets_is_the_cheapest_and_keeps_the_order() -> None:
    found = buckets(LENGTHS)
    assert [(bucket.start, bucket.end, bucket.longest) for bucket in found] == [(0, 27, 16), (27, 148, 48)]
    assert buckets([16]) == [Bucket(0, 16, 1, 16, None, None)]
    # Two long texts together would be more than a bucket holds.
    assert [bucket.texts for bucket in buckets([200] * 3)] == [1, 1, 1]


def test_tokens_behind_the_last_text_get_nothing_and_give_nothing() -> None:
    inputs = [row(0), row(1), row(2)]
    found = buckets(LENGTHS[:-1])
    attended = attend(*inputs, found)
    unused = slice(found[-1].end, None)
    assert attended.shape == one_by_one(*inputs).shape
    assert not attended[:, unused].any()
    for slope in slopes(attended, inputs):
        assert not slope[:, :, unused].any()
