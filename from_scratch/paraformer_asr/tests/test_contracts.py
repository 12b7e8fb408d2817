"""Checks at the doors name the tensor, what it is and what it should be."""

import math

import pytest
import torch

from paraformer_asr.contracts import expect, expect_between, expect_dtype, expect_finite
from paraformer_asr.errors import AsrError


def message_of(call, *arguments) -> str:
    with pytest.raises(AsrError) as caught:
        call(*arguments)
    return str(caught.value)


def test_letters_are_returned_with_their_sizes():
    sizes = expect(
        ("feats", torch.zeros(2, 7, 80), "B T 80"),
        ("lens", torch.zeros(2), "B"),
        ("weights", torch.zeros(3, 7), "_ T"),
    )
    assert sizes == {"B": 2, "T": 7}


def test_empty_axes_are_sizes_too():
    assert expect(("feats", torch.zeros(0, 0, 4), "B T F")) == {"B": 0, "T": 0, "F": 4}


def test_a_wrong_number_of_axes_is_told_with_all_of_them():
    text = message_of(expect, ("hidden", torch.zeros(5, 4), "B T D"))
    assert text == "hidden is [5, 4]; expected 3 axes (B, T, D)."


def test_a_size_that_another_tensor_has_set_is_told_with_that_tensor():
    named = [("hidden", torch.zeros(2, 5, 4), "B T D"), ("alphas", torch.zeros(2, 6), "B T")]
    assert message_of(expect, *named) == (
        "alphas is [2, 6]: axis 1 should be T=5 as in hidden, not 6; expected (B, T)."
    )


def test_a_number_in_the_contract_is_told_as_such():
    assert message_of(expect, ("feats", torch.zeros(5, 40), "T 80")) == (
        "feats is [5, 40]: axis 1 should be 80 as in the contract, not 40; expected (T, 80)."
    )


def test_one_letter_twice_in_a_tensor_is_one_size():
    assert message_of(expect, ("square", torch.zeros(2, 3), "N N")) == (
        "square is [2, 3]: axis 1 should be N=2 as in square, not 3; expected (N, N)."
    )


def test_a_dtype_is_told_with_the_call_that_makes_it_right():
    expect_dtype("tokens", torch.zeros(1, dtype=torch.int32), torch.int64, torch.int32)
    text = message_of(expect_dtype, "tokens", torch.zeros(1), torch.int64, torch.int32)
    assert text == (
        "tokens is torch.float32; expected torch.int64 or torch.int32: use .to(torch.int64)."
    )


def test_values_that_are_not_finite_are_counted_and_the_first_is_placed():
    expect_finite("feats", torch.ones(2, 3))
    feats = torch.ones(2, 3)
    feats[0, 2], feats[1, 0] = math.nan, -math.inf
    assert message_of(expect_finite, "feats", feats) == (
        "feats has 2 values that are NaN or infinite, the first at [0, 2]; look at the recording "
        "or the step that made it."
    )


def test_a_range_is_told_with_the_one_that_was_found():
    expect_between("alphas", torch.tensor([0.0, 1.0]), 0, 1)
    expect_between("alphas", torch.zeros(0), 0, 1)
    assert message_of(expect_between, "alphas", torch.tensor([-0.5, 2.0]), 0, 1) == (
        "alphas reaches from -0.5 to 2; expected 0 to 1."
    )


def test_nan_is_in_no_range():
    text = message_of(expect_between, "alphas", torch.tensor([0.5, math.nan]), 0, 1)
    assert text.startswith("alphas has 1 values that are NaN or infinite, the first at [1]")
