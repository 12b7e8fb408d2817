"""Scales, ticks, numbers and elements."""

import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maquette.evaluation.svg import (
    Frame,
    Scale,
    element,
    figure,
    fixed,
    linear_ticks,
    metric_value,
    nice_range,
    number,
    text,
    tick_labels,
    tooltip,
    x_axis,
    y_axis,
)

finite = st.floats(-1e9, 1e9, allow_subnormal=False)


@given(finite, st.floats(1e-6, 1e9), st.integers(2, 10))
def test_ticks_are_inside_rising_and_not_too_many(low, width, count):
    high = low + width
    ticks = linear_ticks(low, high, count)
    slack = 1e-6 * max(abs(low), abs(high), width)
    assert all(low - slack <= tick <= high + slack for tick in ticks)
    assert ticks == sorted(ticks)
    assert len(ticks) <= count + 2


def test_ticks_are_round():
    assert linear_ticks(0, 1, 5) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert linear_ticks(3, 3, 5) == [3]
    assert Scale(0, 11, 0, 1, whole=True).ticks(4) == [0, 5, 10]
    assert Scale(0.004, 2, 0, 1, log=True).ticks(3) == pytest.approx([0.01, 0.1, 1])
    assert Scale(2, 8, 0, 1, log=True).ticks(3) == pytest.approx([2, 5])


def test_scales():
    assert Scale(0, 10, 100, 200)(2.5) == 125
    assert Scale(1, 100, 0, 10, log=True)(10) == pytest.approx(5)
    assert Scale(3, 3, 0, 10)(3) == 5  # nothing to spread out: the middle
    assert Frame(Scale(0, 1, 0, 10), Scale(0, 1, 20, 0))(0.5, 1) == (5, 0)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "0"),
        (0.00012345, "0.000123"),
        (12.0, "12"),
        (1234.5, "1,234"),
        (-0.5, "−0.5"),
        (1e-9, "1.00e−09"),
        (2.5e20, "2.50e+20"),
        (math.inf, "inf"),
    ],
)
def test_numbers_for_readers(value, written):
    assert number(value) == written


def test_metrics_keep_their_digits():
    assert [metric_value(v) for v in (0.5, -0.0001, -1.25, 55.0, 1234.5)] == [
        "0.500", "0.000", "−1.250", "55.0", "1,234",
    ]  # fmt: skip
    assert fixed(2.0, 4) == "2.000"


def test_tick_labels_agree_in_decimals():
    assert tick_labels([0, 0.25, 0.5]) == ["0.00", "0.25", "0.50"]
    assert tick_labels([-1000, 0, 1000]) == ["−1,000", "0", "1,000"]
    assert tick_labels([0, 2e-7, 4e-7]) == ["0", "2e−07", "4e−07"]
    assert tick_labels([0.5]) == ["0.5"]


@given(st.lists(finite, min_size=1, max_size=5))
def test_ranges_contain_their_values_and_are_never_empty(values):
    low, high = nice_range(values)
    assert low < high
    assert low <= min(values) <= max(values) <= high


def test_everything_is_escaped():
    hostile = "<script>alert('x')</script>\"&"
    drawn = figure(
        text(0, 0, hostile) + element("rect", tooltip(hostile), class_=hostile),
        width=10, height=10, title=hostile, description=hostile,
    )  # fmt: skip
    assert "<script" not in drawn
    root = ElementTree.fromstring(drawn)
    assert root.get("aria-label") == f"{hostile}. {hostile}"
    assert [child.tag for child in root] == ["desc", "text", "rect"]


def test_axes_are_drawn_and_labelled():
    axes = x_axis(Scale(0, 10, 50, 350), y=200, label="epoch") + y_axis(
        Scale(0, 1, 200, 20), x=50, right=350, label="accuracy"
    )
    words = [e.text for e in ElementTree.fromstring(f"<g>{axes}</g>").iter("text")]
    assert {"epoch", "accuracy", "0", "10", "0.2"} <= set(words)


def test_attributes():
    assert element("a", x=1.0, y=2.345, class_="k", stroke_width=1, fill=None) == (
        '<a x="1" y="2.35" class="k" stroke-width="1"/>'
    )


def test_a_figure_with_its_own_size_says_so():
    assert "width:300px;min-width:225px" in figure(
        "", width=300, height=1, title="t", description="d", own_size=True
    )
