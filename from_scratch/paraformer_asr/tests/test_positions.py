"""Sinusoidal tables: values, offsets, sharing, bad widths."""

from __future__ import annotations

import math

import pytest
import torch

from paraformer_asr.errors import AsrError
from paraformer_asr.positions import legacy_positions, positions, relative_positions

LIKE = torch.empty(0)


def test_interleaved_positions_are_the_papers():
    table = positions("interleaved", 0, 700, 6, LIKE)
    for t in (0, 1, 5, 699):
        for i in range(3):
            angle = t / 10000 ** (2 * i / 6)
            assert table[t, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[t, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_concatenated_positions_divide_by_half_the_width_minus_one():
    table = positions("concatenated", 1, 600, 8, LIKE)
    for t in (1, 7, 600):
        for k in range(4):
            angle = t * math.exp(-k * math.log(10000) / 3)
            assert table[t - 1, k].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[t - 1, 4 + k].item() == pytest.approx(math.cos(angle), abs=1e-6)


@pytest.mark.parametrize("layout", ["interleaved", "concatenated"])
@pytest.mark.parametrize("first", [0, 3, 510, 5000])
def test_a_later_part_is_the_same_as_of_the_whole(layout, first):
    whole = positions(layout, 0, first + 20, 8, LIKE)
    torch.testing.assert_close(positions(layout, first, 20, 8, LIKE), whole[first:], atol=0, rtol=0)


@pytest.mark.parametrize("count", [1, 2, 9, 513])
def test_relative_positions_run_from_the_past_to_the_future(count):
    table = relative_positions(count, torch.empty(0, 4))
    assert table.shape == (2 * count - 1, 4)
    distance = torch.arange(count - 1, -count, -1, dtype=torch.float64)
    torch.testing.assert_close(table[:, 0], distance.sin().float())
    torch.testing.assert_close(table[:, 1], distance.cos().float())


def test_legacy_positions_count_down_from_4999():
    place = 4999 - torch.arange(10, dtype=torch.float64)
    table = legacy_positions(10, torch.empty(0, 4))
    torch.testing.assert_close(table[:, 0], place.sin().float())
    torch.testing.assert_close(table[:, 2], (place / 100).sin().float(), atol=5e-6, rtol=0)
    table = legacy_positions(5003, torch.empty(0, 4))
    assert table.shape == (5003, 4)
    assert table[0, 0].item() == pytest.approx(math.sin(5002), abs=1e-6)


def test_legacy_positions_are_rounded_as_those_of_older_checkpoints():
    rate = torch.exp(torch.arange(0, 64, 2.0) * -(math.log(10000.0) / 64))
    angle = torch.arange(4999, 4979, -1.0)[:, None] * rate
    table = legacy_positions(20, torch.empty(0, 64, dtype=torch.float64))
    assert table.dtype == torch.float64
    assert torch.equal(table[:, 0::2].float(), angle.sin())
    assert torch.equal(table[:, 1::2].float(), angle.cos())


def test_tables_have_the_dtype_asked_for_and_can_be_trained_with():
    with torch.inference_mode():
        first = positions("interleaved", 0, 5, 10, torch.empty(0, dtype=torch.float64))
    assert first.dtype == torch.float64
    assert not first.is_inference()


def test_widths_that_cannot_hold_positions_are_refused():
    with pytest.raises(AsrError, match=r"even width of at least 4, not 15; change features.num_m"):
        positions("concatenated", 1, 5, 15, LIKE)
    with pytest.raises(AsrError, match=r"concatenated positions need an even width"):
        positions("concatenated", 1, 5, 2, LIKE)
    with pytest.raises(AsrError, match=r"interleaved positions need an even width of at least 2"):
        positions("interleaved", 0, 5, 3, LIKE)
