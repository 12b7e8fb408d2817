"""The distance transform against the definition, written as plainly as it can be."""

from __future__ import annotations

import numpy as np
import pytest

from unet_seg.distance import distance_transform
from unet_seg.errors import SegError


def by_definition(mask: np.ndarray, spacing: tuple[float, float] = (1, 1)) -> np.ndarray:
    """The smallest distance to any True pixel, each pair looked at."""
    y, x = np.indices(mask.shape)
    dy = (y[..., None] - y[mask]) * float(spacing[0])
    dx = (x[..., None] - x[mask]) * float(spacing[1])
    return np.sqrt((dy**2 + dx**2).min(axis=-1, initial=np.inf))


def random_masks(count: int):
    rng = np.random.default_rng(0)
    for _ in range(count):
        share = rng.choice([0.0, 0.02, 0.1, 0.5, 0.95, 1.0])
        yield rng.random(rng.integers(1, 15, size=2)) < share


def test_whole_number_squares_are_exact():
    for mask in random_masks(150):
        np.testing.assert_array_equal(distance_transform(mask), by_definition(mask))


@pytest.mark.parametrize("spacing", [(2.0, 1.0), (0.3, 0.7), (5.0, 0.01), (1e-3, 1e3)])
def test_pixels_of_any_shape(spacing: tuple[float, float]):
    for mask in random_masks(50):
        expected = by_definition(mask, spacing)
        np.testing.assert_allclose(distance_transform(mask, spacing), expected, rtol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1)])
def test_single_pixels_rows_and_columns(shape: tuple[int, int]):
    mask = np.zeros(shape, dtype=bool)
    assert np.isinf(distance_transform(mask)).all()
    mask[-1, -1] = True
    np.testing.assert_array_equal(distance_transform(mask), by_definition(mask))


def test_distance_to_one_pixel_is_the_hypotenuse():
    mask = np.zeros((40, 60), dtype=bool)
    mask[10, 20] = True
    y, x = np.indices(mask.shape)
    np.testing.assert_array_equal(
        distance_transform(mask), np.sqrt((y - 10.0) ** 2 + (x - 20.0) ** 2)
    )


def test_transposing_the_mask_transposes_the_distances():
    mask = np.random.default_rng(1).random((37, 90)) < 0.02
    np.testing.assert_array_equal(distance_transform(mask.T), distance_transform(mask).T)


def test_a_stack_equals_its_planes_and_empty_planes_stay_apart():
    masks = np.random.default_rng(2).random((2, 3, 11, 8)) < 0.1
    masks[0, 1] = False
    distances = distance_transform(masks)
    assert np.isinf(distances[0, 1]).all()
    for plane in np.ndindex(2, 3):
        np.testing.assert_array_equal(distances[plane], distance_transform(masks[plane]))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 4, 4)])
def test_no_pixels_give_no_distances(shape: tuple[int, ...]):
    distances = distance_transform(np.zeros(shape, dtype=bool))
    assert distances.shape == shape
    assert distances.dtype == np.float64


def test_the_mask_is_not_changed_and_may_be_any_view():
    mask = np.random.default_rng(3).random((20, 30)) < 0.1
    before = mask.copy()
    view = mask[::-2, ::3]
    np.testing.assert_array_equal(distance_transform(view), by_definition(view))
    np.testing.assert_array_equal(mask, before)


def test_class_ids_instead_of_a_mask():
    with pytest.raises(
        SegError, match=r"mask is int64 with shape \(4, 4\), expected bool.*=="
    ) as e:
        distance_transform(np.zeros((4, 4), dtype=np.int64))
    assert str(e.value).endswith("mask == class_id.")


def test_one_axis():
    with pytest.raises(SegError, match=r"shape \(4,\), expected bool \(\.\.\., H, W\)"):
        distance_transform(np.zeros(4, dtype=bool))


@pytest.mark.parametrize("spacing", [(0, 1), (1, -1), (1, np.nan), (1, np.inf), (1,), (1, 1, 1)])
def test_spacing_that_is_none(spacing: tuple[float, ...]):
    with pytest.raises(SegError, match=r"spacing=.* must be two positive numbers"):
        distance_transform(np.ones((2, 2), dtype=bool), spacing)
