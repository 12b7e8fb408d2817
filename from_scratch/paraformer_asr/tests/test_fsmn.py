"""The FSMN memory: its sum, padding, left context, bad input."""

from __future__ import annotations

import pytest
import torch

from paraformer_asr.errors import AsrError
from paraformer_asr.fsmn import MemoryBlock, depthwise


def by_hand(values, weight, left):
    """The sum of the module's text."""
    T = len(values)
    output = values.clone()
    for t in range(T):
        for i in range(weight.shape[2]):
            if 0 <= t - left + i < T:
                output[t] += weight[:, 0, i] * values[t - left + i]
    return output


@pytest.mark.parametrize(("kernel", "shift"), [(1, 0), (3, 0), (5, 1), (5, 2), (11, 0)])
def test_the_memory_is_the_sum_in_the_text(kernel, shift):
    torch.manual_seed(0)
    block, values = MemoryBlock(4, kernel, shift).double(), torch.randn(2, 7, 4).double()
    expected = torch.stack([by_hand(v, block.weight, (kernel - 1) // 2 + shift) for v in values])
    torch.testing.assert_close(block(values), expected)


def test_gradients_are_those_of_the_sum():
    torch.manual_seed(0)
    block = MemoryBlock(3, 5).double()
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    values = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)

    def run(values, weight):
        return torch.func.functional_call(block, {"weight": weight}, (values, mask))

    assert torch.autograd.gradcheck(run, (values, block.weight))


def test_depthwise_equals_the_one_dimensional_convolution():
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 9, 6), torch.randn(6, 1, 4), torch.randn(6)
    expected = torch.nn.functional.conv1d(x.transpose(1, 2), weight, bias, groups=6)
    output = depthwise(x, weight, bias)
    torch.testing.assert_close(output, expected.transpose(1, 2))
    assert output.is_contiguous()


def test_padding_is_not_read_and_comes_out_zero():
    torch.manual_seed(0)
    block, values = MemoryBlock(4, 5), torch.randn(2, 6, 4)
    mask = torch.tensor([[True] * 6, [True] * 3 + [False] * 3])
    poisoned = values.clone()
    poisoned[1, 3:] = float("nan")
    output = block(poisoned, mask)
    torch.testing.assert_close(output[0], block(values[:1])[0])
    torch.testing.assert_close(output[1, :3], block(values[1:, :3])[0])
    assert output[1, 3:].eq(0).all()


@pytest.mark.parametrize("context", [0, 1, 2])
def test_context_is_looked_at_but_gets_no_output(context):
    torch.manual_seed(0)
    block, values = MemoryBlock(4, 5), torch.randn(1, 8, 4)
    whole = block(values)
    part = block(values[:, 4 - context :], context=context)
    assert part.shape == (1, 4, 4)
    torch.testing.assert_close(part[:, 2:], whole[:, 6:])
    assert torch.allclose(part, whole[:, 4:]) == (context == 2)


def test_filters_that_have_no_middle_are_refused():
    with pytest.raises(AsrError, match=r"kernel=4 must be odd: try 5"):
        MemoryBlock(4, 4)
    with pytest.raises(AsrError, match=r"shift=3 must be from 0 to 2 for kernel=5"):
        MemoryBlock(4, 5, shift=3)
    with pytest.raises(AsrError, match=r"values is \[1, 6, 3\]: axis 2 should be 4"):
        MemoryBlock(4, 5)(torch.randn(1, 6, 3))
    with pytest.raises(AsrError, match=r"mask is \[1, 5\]: axis 1 should be T=6"):
        MemoryBlock(4, 5)(torch.randn(1, 6, 4), torch.ones(1, 5, dtype=torch.bool))
