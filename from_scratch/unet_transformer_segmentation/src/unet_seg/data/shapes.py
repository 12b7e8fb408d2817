"""Shapes with a centre at (0, 0): which points lie inside, and the exact area and outline.

A kind of shape ("ring") is drawn at random by its function in `DRAW`, which makes one of three
figures. Each fits into the circle of its `radius` and touches it. Lengths are in pixels, angles in
radians from the x axis (columns, to the right) towards the y axis (rows, downwards).

`inside(y, x)` takes arrays that broadcast, such as rows (h,1) and columns (1,w), and returns bool.
Points on the outline count as inside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Shape(Protocol):
    """What every figure below offers."""

    @property
    def radius(self) -> float:
        """Of the circle around (0, 0) that holds the shape."""

    @property
    def area(self) -> float: ...

    @property
    def perimeter(self) -> float:
        """Length of all outlines, a hole's among them."""

    def inside(self, y: Floats, x: Floats) -> Bools: ...


@dataclass(frozen=True)
class Disc:
    """A circle, with a round hole if `hole` is not 0."""

    radius: float
    hole: float = 0.0

    @property
    def area(self) -> float:
        return math.pi * (self.radius**2 - self.hole**2)

    @property
    def perimeter(self) -> float:
        return 2 * math.pi * (self.radius + self.hole)

    def inside(self, y: Floats, x: Floats) -> Bools:
        squared = y * y + x * x
        return (squared <= self.radius**2) & (squared >= self.hole**2)


@dataclass(frozen=True)
class Polygon:
    """A convex polygon with its corners on the circle; `corners` are their angles, ascending.

    Two neighbours an angle d apart are joined by a chord of length 2 R sin(d / 2), at distance
    R cos(d / 2) from the centre; with the centre they make a triangle of area R^2 sin(d) / 2.
    """

    radius: float
    corners: tuple[float, ...]

    def _steps(self) -> list[float]:
        """The angle from each corner to the next; together a full turn."""
        following = (*self.corners[1:], self.corners[0] + 2 * math.pi)
        return [b - a for a, b in zip(self.corners, following, strict=True)]

    @property
    def area(self) -> float:
        return self.radius**2 / 2 * sum(math.sin(step) for step in self._steps())

    @property
    def perimeter(self) -> float:
        return 2 * self.radius * sum(math.sin(step / 2) for step in self._steps())

    def inside(self, y: Floats, x: Floats) -> Bools:
        result = np.ones(np.broadcast_shapes(y.shape, x.shape), dtype=np.bool_)
        for corner, step in zip(self.corners, self._steps(), strict=True):
            middle = corner + step / 2
            outward = y * math.sin(middle) + x * math.cos(middle)
            result &= outward <= self.radius * math.cos(step / 2)
        return result


@dataclass(frozen=True)
class Line:
    """A straight line of length 2 `radius` and thickness 2 `half_width`, with round ends."""

    radius: float
    half_width: float
    angle: float

    @property
    def _half_core(self) -> float:
        """Half the distance between the centres of the round ends."""
        return self.radius - self.half_width

    @property
    def area(self) -> float:
        return 4 * self._half_core * self.half_width + math.pi * self.half_width**2

    @property
    def perimeter(self) -> float:
        return 4 * self._half_core + 2 * math.pi * self.half_width

    def inside(self, y: Floats, x: Floats) -> Bools:
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        beyond = np.maximum(np.abs(x * cos + y * sin) - self._half_core, 0)
        across = y * cos - x * sin
        return beyond * beyond + across * across <= self.half_width**2


def draw_circle(radius: float, generator: np.random.Generator) -> Shape:  # noqa: ARG001
    """A full disc; the generator is there because the other kinds need one."""
    return Disc(radius)


def draw_rectangle(radius: float, generator: np.random.Generator) -> Shape:
    """Turned at will, and at most 1.8 times as long as wide: a line is at least 5 times."""
    turn, aspect = generator.uniform((0, 1), (math.pi, 1.8))
    half = math.atan(1 / aspect)  # of the angle under which a short side is seen
    return Polygon(radius, (turn - half, turn + half, turn + math.pi - half, turn + math.pi + half))


def draw_triangle(radius: float, generator: np.random.Generator) -> Shape:
    """Each angle of the triangle is 36 to 84 degrees, so none is a needle."""
    turn, second, third = generator.uniform((0, -1, -1), (2 * math.pi, 1, 1))
    # An inscribed angle is half the arc it sees; the arcs are 120 degrees +- 24, or twice that.
    third_of_turn, most = 2 * math.pi / 3, math.radians(24)
    corners = (turn, turn + third_of_turn + second * most, turn + 2 * third_of_turn + third * most)
    return Polygon(radius, corners)


def draw_ring(radius: float, generator: np.random.Generator) -> Shape:
    """A disc with a hole of 0.45 to 0.65 of its radius; the hole is not part of the ring."""
    return Disc(radius, hole=radius * generator.uniform(0.45, 0.65))


def draw_line(radius: float, generator: np.random.Generator) -> Shape:
    """Turned at will, 5 to 8 times as long as thick."""
    turn, aspect = generator.uniform((0, 5), (math.pi, 8))
    return Line(radius, half_width=radius / aspect, angle=turn)


DRAW: Mapping[str, Callable[[float, np.random.Generator], Shape]] = {
    "circle": draw_circle,
    "rectangle": draw_rectangle,
    "triangle": draw_triangle,
    "ring": draw_ring,
    "line": draw_line,
}
"""Kind of shape -> function(radius, generator) that draws one."""
