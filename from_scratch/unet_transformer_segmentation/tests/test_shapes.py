"""Toy shapes: the points inside, the area and the outline agree, with each other and with geometry.

A shape is put onto a pixel grid at some centre; its pixels are those whose centre lies inside. They
differ from the shape itself only within half a pixel's diagonal of the outline.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from matplotlib.path import Path

from unet_seg.config import TOY_SHAPES
from unet_seg.data.shapes import DRAW, Bools, Disc, Floats, Line, Polygon, Shape
from unet_seg.seed import generator_for

KINDS = tuple(DRAW)


def grid(
    reach: float, *, dy: float = 0, dx: float = 0, spacing: float = 1
) -> tuple[Floats, Floats]:
    """Rows and columns of a grid around (0, 0) that covers `reach`, moved by (dy, dx)."""
    points = np.arange(-math.ceil(reach / spacing) - 2, math.ceil(reach / spacing) + 3) * spacing
    return (points + dy)[:, None], (points + dx)[None]


def pixels(shape: Shape, dy: float, dx: float) -> Bools:
    return shape.inside(*grid(shape.radius, dy=dy, dx=dx))


def test_every_configurable_shape_can_be_drawn() -> None:
    assert KINDS == TOY_SHAPES


@pytest.mark.parametrize("kind", KINDS)
def test_pixel_count_is_the_area_within_one_pixel_of_the_outline(kind: str) -> None:
    generator = generator_for(1)
    for _ in range(200):
        shape = DRAW[kind](generator.uniform(2, 40), generator)
        count = pixels(shape, *generator.uniform(-0.5, 0.5, 2)).sum()
        # All doubtful pixels have their centre within sqrt(1/2) of the outline, on one side of it;
        # the part of the plane where that holds measures this much (Steiner's formula).
        assert abs(count - shape.area) <= shape.perimeter * math.sqrt(0.5) + math.pi / 2


@pytest.mark.parametrize("kind", KINDS)
def test_pixel_count_is_the_area_on_average_over_positions(kind: str) -> None:
    """Exactly so for all positions within a pixel; here for 20 x 20 of them."""
    generator = generator_for(2)
    steps = (np.arange(20) + 0.5) / 20
    for _ in range(3):
        shape = DRAW[kind](generator.uniform(5, 9), generator)
        counts = [pixels(shape, dy, dx).sum() for dy in steps for dx in steps]
        assert np.mean(counts) == pytest.approx(shape.area, rel=5e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_shape_fills_the_circle_of_its_radius(kind: str) -> None:
    generator = generator_for(3)
    for radius in (1.5, 7.0, 30.0):
        shape = DRAW[kind](radius, generator)
        y, x = grid(radius, spacing=radius / 200)
        furthest = np.hypot(y, x)[shape.inside(y, x)].max()
        assert shape.radius == radius
        assert 0.97 * radius <= furthest <= radius * (1 + 1e-12)


@pytest.mark.parametrize("kind", ["rectangle", "triangle"])
def test_polygon_holds_what_lies_between_its_corners(kind: str) -> None:
    generator = generator_for(4)
    for _ in range(20):
        shape = DRAW[kind](10.0, generator)
        assert isinstance(shape, Polygon)
        corners = [(10 * math.cos(angle), 10 * math.sin(angle)) for angle in shape.corners]
        y, x = grid(10, dy=0.3, dx=0.2)
        points = np.stack(np.broadcast_arrays(x, y), axis=-1).reshape(-1, 2)
        expected = Path(corners).contains_points(points).reshape(len(y), -1)
        np.testing.assert_array_equal(shape.inside(y, x), expected)


def test_line_holds_what_is_near_its_middle() -> None:
    line = Line(radius=12, half_width=2, angle=0.7)
    y, x = grid(12)
    along = np.linspace(-10, 10, 2001)  # without the round ends
    away = np.hypot(y[..., None] - along * math.sin(0.7), x[..., None] - along * math.cos(0.7)).min(
        axis=2
    )
    np.testing.assert_array_equal(line.inside(y, x), away <= 2)


def test_ring_is_a_disc_without_its_hole() -> None:
    y, x = grid(9, dy=0.1)
    ring = Disc(9, hole=5).inside(y, x)
    np.testing.assert_array_equal(ring, Disc(9).inside(y, x) & ~Disc(5).inside(y, x))
    assert not Disc(9, hole=5).inside(np.zeros(1), np.zeros(1)).any()
    assert Disc(9).inside(np.zeros(1), np.zeros(1)).all()


@pytest.mark.parametrize(
    ("shape", "area", "perimeter"),
    [
        (Disc(2), 4 * math.pi, 4 * math.pi),
        (Disc(2, hole=1), 3 * math.pi, 6 * math.pi),
        (Polygon(math.sqrt(2), tuple(math.pi * (i + 0.5) / 2 for i in range(4))), 4, 8),
        (
            Polygon(2, tuple(2 * math.pi * i / 3 for i in range(3))),
            3 * math.sqrt(3),
            6 * math.sqrt(3),
        ),
        (Polygon(5, (0, math.pi / 2, math.pi)), 25, 10 + 10 * math.sqrt(2)),
        (Line(3, half_width=1, angle=0.4), 8 + math.pi, 8 + 2 * math.pi),
        (Line(1, half_width=1, angle=0.4), math.pi, 2 * math.pi),
    ],
    ids=["disc", "ring", "square", "equilateral", "right-angled", "line", "round-line"],
)
def test_area_and_perimeter_of_known_shapes(shape: Shape, area: float, perimeter: float) -> None:
    assert shape.area == pytest.approx(area)
    assert shape.perimeter == pytest.approx(perimeter)


def test_drawn_shapes_keep_the_proportions_that_tell_them_apart() -> None:
    generator = generator_for(5)
    for _ in range(200):
        rectangle = DRAW["rectangle"](1.0, generator)
        assert isinstance(rectangle, Polygon)
        narrow, wide, *_ = np.diff(rectangle.corners)
        assert narrow + wide == pytest.approx(math.pi)  # so the corners are right angles
        assert 1 <= math.sin(wide / 2) / math.sin(narrow / 2) <= 1.8

        triangle = DRAW["triangle"](1.0, generator)
        assert isinstance(triangle, Polygon)
        first, second = np.diff(triangle.corners)
        angles = np.degrees([first, second, 2 * math.pi - first - second]) / 2
        assert 36 <= angles.min() <= angles.max() <= 84

        ring = DRAW["ring"](1.0, generator)
        assert isinstance(ring, Disc)
        assert 0.45 <= ring.hole <= 0.65

        line = DRAW["line"](1.0, generator)
        assert isinstance(line, Line)
        assert 5 <= line.radius / line.half_width <= 8
