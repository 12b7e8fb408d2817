"""Lengths become masks; what is padded is exactly zero, whatever stood there."""

import math

import pytest
import torch

from paraformer_asr.errors import AsrError
from paraformer_asr.masks import length_mask, zero_padding


def test_true_marks_the_real_positions():
    mask = length_mask(torch.tensor([0, 2, 3]))
    assert mask.dtype == torch.bool
    assert mask.tolist() == [[False] * 3, [True, True, False], [True] * 3]


def test_the_padded_size_may_be_larger_and_the_batch_may_be_empty():
    assert length_mask(torch.tensor([1]), 3).tolist() == [[True, False, False]]
    assert length_mask(torch.tensor([], dtype=torch.int64)).shape == (0, 0)
    assert length_mask(torch.tensor([], dtype=torch.int64), 4).shape == (0, 4)
    assert length_mask(torch.tensor([0, 0])).shape == (2, 0)


def test_a_length_beyond_the_size_is_refused():
    with pytest.raises(AsrError) as caught:
        length_mask(torch.tensor([2, 9]), 4)
    assert str(caught.value) == (
        "a length of 9 is longer than the padded size 4; lengths count frames after subsampling, "
        "at the same rate as the tensor."
    )


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 4, 5)])
def test_padding_becomes_zero_also_where_it_was_nan_and_gets_no_gradient(shape):
    values = torch.randn(shape)
    values[1, 1:] = math.nan
    values.requires_grad_()
    mask = length_mask(torch.tensor([3, 1]))
    zeroed = zero_padding(values, mask)
    assert bool((zeroed[1, 1:] == 0).all())
    assert torch.equal(zeroed[0], values[0])
    zeroed.sum().backward()
    assert bool((values.grad[1, 1:] == 0).all())
    assert bool((values.grad[0] == 1).all())
