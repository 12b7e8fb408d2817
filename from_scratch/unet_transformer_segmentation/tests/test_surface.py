"""Surface measures: shapes whose distances are known, every empty case, and the definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from unet_seg.errors import SegError
from unet_seg.surface import (
    hd95,
    normalised_surface_distance,
    outline,
    surface_distances,
    surface_scores,
)

EMPTY = np.zeros((12, 12), dtype=bool)


def square(top: int, left: int, side: int) -> np.ndarray:
    mask = EMPTY.copy()
    mask[top : top + side, left : left + side] = True
    return mask


def blobs(seed: int, shape: tuple[int, int] = (24, 31)) -> np.ndarray:
    """Smooth random shapes that touch the edge of the image."""
    noise = np.random.default_rng(seed).normal(size=shape)
    for axis in (0, 1):
        for _ in range(6):
            noise = noise + np.roll(noise, 1, axis) + np.roll(noise, -1, axis)
    return noise > 0


def by_definition(pred: np.ndarray, target: np.ndarray, spacing: tuple[float, float]):
    points = [np.argwhere(outline(mask)) * np.array(spacing) for mask in (pred, target)]
    pairs = np.linalg.norm(points[0][:, None] - points[1][None], axis=-1)
    return pairs.min(axis=1), pairs.min(axis=0)


def test_outline_is_the_ring_and_the_edge_of_the_image_is_outside():
    ring = square(2, 3, 5)
    ring[3:6, 4:7] = False
    np.testing.assert_array_equal(outline(square(2, 3, 5)), ring)
    full = np.ones((4, 5), dtype=bool)
    border = full.copy()
    border[1:-1, 1:-1] = False
    np.testing.assert_array_equal(outline(full), border)


def test_outline_looks_at_four_neighbours_not_eight():
    mask = np.ones((5, 5), dtype=bool)
    mask[0, 0] = False
    assert not outline(mask)[1, 1]  # only its diagonal neighbour is outside
    assert outline(mask)[0, 1]


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.0, 0.5)])
@pytest.mark.parametrize("seed", range(4))
def test_distances_equal_the_definition(seed: int, spacing: tuple[float, float]):
    pred, target = blobs(seed), blobs(seed + 100)
    expected = by_definition(pred, target, spacing)
    found = surface_distances(pred, target, spacing=spacing)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_equal_masks_are_at_distance_zero():
    mask = blobs(5)
    assert hd95(mask, mask) == 0
    assert normalised_surface_distance(mask, mask, 0.0) == 1


def test_shifted_line():
    pred, target = EMPTY.copy(), EMPTY.copy()
    pred[:, 2], target[:, 5] = True, True
    assert hd95(pred, target) == 3
    assert hd95(pred, target, spacing=(1.0, 0.5)) == 1.5
    assert hd95(pred, target, spacing=(9.0, 1.0)) == 3
    assert normalised_surface_distance(pred, target, 2.9) == 0
    assert normalised_surface_distance(pred, target, 3.0) == 1  # equal to the tolerance is within


def test_max_of_directions_and_pooled_percentile_differ():
    """The target has a second pixel 10 away; seen from the prediction nothing is wrong."""
    pred, target = EMPTY.copy(), EMPTY.copy()
    pred[0, 0] = target[0, 0] = target[0, 10] = True
    assert hd95(pred, target) == pytest.approx(9.5)  # percentile of (0, 10)
    assert hd95(pred, target, method="pooled") == pytest.approx(9.0)  # of (0, 0, 10)
    assert normalised_surface_distance(pred, target, 1.0) == pytest.approx(2 / 3)


def test_both_masks_empty_have_no_distance():
    assert math.isnan(hd95(EMPTY, EMPTY))
    assert math.isnan(hd95(EMPTY, EMPTY, method="pooled"))
    assert math.isnan(normalised_surface_distance(EMPTY, EMPTY, 1.0))
    assert [len(x) for x in surface_distances(EMPTY, EMPTY)] == [0, 0]


@pytest.mark.parametrize("swap", [False, True])
def test_one_empty_mask_is_infinitely_far(swap: bool):
    pair = (EMPTY, square(1, 1, 3)) if swap else (square(1, 1, 3), EMPTY)
    assert hd95(*pair) == math.inf
    assert hd95(*pair, method="pooled") == math.inf
    assert normalised_surface_distance(*pair, 1e9) == 0
    assert sorted(len(x) for x in surface_distances(*pair)) == [0, 8]


def test_swapping_the_masks_changes_nothing():
    pred, target = blobs(6), blobs(7)
    assert hd95(pred, target) == hd95(target, pred)
    assert surface_scores(pred, target, 1.0) == surface_scores(target, pred, 1.0)


def test_empty_surroundings_change_nothing():
    pred, target = blobs(8), blobs(9)
    padded = [np.pad(mask, ((3, 5), (0, 7))) for mask in (pred, target)]
    assert surface_scores(*padded, 1.0) == surface_scores(pred, target, 1.0)


def test_both_scores_at_once_equal_each_alone():
    pred, target = blobs(10), blobs(11)
    expected = hd95(pred, target), normalised_surface_distance(pred, target, 1.5)
    assert surface_scores(pred, target, 1.5) == expected


def test_tensors_and_zeros_and_ones_are_masks_too():
    pred, target = blobs(12), blobs(13)
    tensors = [torch.from_numpy(mask) for mask in (pred, target)]
    assert hd95(*tensors) == hd95(pred, target)
    assert hd95(pred.astype(np.uint8), tensors[1].long()) == hd95(pred, target)


@pytest.mark.parametrize(
    "bad", [np.full((12, 12), 2), np.full((12, 12), -1), np.zeros((12, 12), dtype=np.float32)]
)
def test_class_ids_instead_of_a_mask(bad: np.ndarray):
    with pytest.raises(SegError, match=r"pred is .* not a mask of 0 and 1; .* pred == class_id"):
        hd95(bad, EMPTY)


def test_a_batch_of_masks():
    with pytest.raises(SegError, match=r"target has shape \(2, 12, 12\), expected \(H, W\)"):
        hd95(EMPTY, np.stack([EMPTY, EMPTY]))


def test_masks_of_two_sizes():
    with pytest.raises(SegError, match=r"pred has shape \(12, 11\) and target \(12, 12\)"):
        surface_distances(EMPTY[:, 1:], EMPTY)


def test_unknown_method():
    with pytest.raises(SegError, match=r"method='mean' must be 'max' or 'pooled'"):
        hd95(EMPTY, EMPTY, method="mean")


@pytest.mark.parametrize("tolerance", [-1.0, math.nan, math.inf])
def test_tolerance_that_is_none(tolerance: float):
    with pytest.raises(SegError, match=r"tolerance=.* must be at least 0 and finite"):
        normalised_surface_distance(EMPTY, EMPTY, tolerance)
    with pytest.raises(SegError, match=r"tolerance=.* must be at least 0 and finite"):
        surface_scores(EMPTY, EMPTY, tolerance)


def test_spacing_is_checked_even_for_empty_masks():
    with pytest.raises(SegError, match=r"spacing=\(0, 1\) must be two positive numbers"):
        hd95(EMPTY, EMPTY, spacing=(0, 1))
