"""The tensor checks: what passes, what is refused, and with which words."""

from __future__ import annotations

import pytest
import torch

from unet_seg.contracts import check_dtype, check_finite, check_range, check_shape
from unet_seg.errors import SegError


def test_letters_become_sizes_that_other_tensors_must_share():
    sizes = check_shape(torch.zeros(2, 3, 4, 5), "B 3 H W", name="image")
    assert sizes == {"B": 2, "H": 4, "W": 5}
    assert check_shape(torch.zeros(2, 4, 5), "B H W", name="mask", sizes=sizes) == sizes


@pytest.mark.parametrize(
    ("shape", "axes", "message"),
    [
        ((2, 3), "B H W", "x has shape (2, 3), which is 2 axes; expected 3: (B, H, W)."),
        ((2, 4), "B 3", "x has shape (2, 4); axis 1 (3) is 4, expected 3 from (B=2, 3)."),
        ((2, 4), "A A", "x has shape (2, 4); axis 1 (A) is 4, expected 2 from (A=2, A=2)."),
    ],
)
def test_a_wrong_shape_says_which_axis(shape, axes, message):
    with pytest.raises(SegError) as error:
        check_shape(torch.zeros(shape), axes, name="x")
    assert str(error.value) == message


def test_a_size_known_from_another_tensor_is_expected():
    with pytest.raises(SegError, match=r"axis 1 \(W\) is 4, expected 7"):
        check_shape(torch.zeros(2, 4), "H W", name="mask", sizes={"W": 7})


def test_a_wrong_dtype_says_how_to_convert():
    check_dtype(torch.zeros(1), torch.float32, name="x")
    with pytest.raises(SegError) as error:
        check_dtype(torch.zeros(1), torch.int64, torch.uint8, name="x")
    assert str(error.value) == (
        "x has dtype float32, expected int64 or uint8; convert it with .to(torch.int64)."
    )


def test_values_out_of_range_are_shown():
    check_range(torch.tensor([0.0, 1.0]), 0, 1, name="x")
    check_range(torch.zeros(0), 0, 1, name="x")
    with pytest.raises(SegError, match=r"x has values from -1 to 2, expected 0 to 1\."):
        check_range(torch.tensor([-1.0, 2.0]), 0, 1, name="x")


@pytest.mark.parametrize(("bad", "kind"), [(float("nan"), "NaN"), (float("inf"), "infinite")])
def test_values_that_are_not_finite_are_counted_and_located(bad, kind):
    values = torch.zeros(2, 3)
    check_finite(values, name="x")
    check_finite(torch.zeros(2, dtype=torch.int64), name="x")
    values[1, 2] = values[1, 0] = bad
    with pytest.raises(SegError, match=rf"x holds 2 values .* first is {kind} at index \(1, 0\)"):
        check_finite(values, name="x")
    with pytest.raises(SegError, match="not finite"):
        check_range(values, 0, 1, name="x")
