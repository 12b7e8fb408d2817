"""Plots: what is drawn where, and that odd data draws too."""

from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maquette.evaluation.accumulators import softmax
from maquette.evaluation.calibration import reliability_curve
from maquette.evaluation.class_plots import (
    confusion_plot,
    coverage_plot,
    reliability_plot,
    roc_plot,
)
from maquette.evaluation.number_plots import (
    agreement_plot,
    error_histogram,
    residual_plot,
    within_plot,
)
from maquette.evaluation.plots import (
    MAX_POINTS,
    Contender,
    Series,
    dot_plot,
    line_chart,
    sparkline,
    thinned,
)


def parsed(plot):
    """The plot as XML; also refuses positions that are not numbers."""
    assert "nan" not in plot.lower().replace("nance", "")
    assert "inf" not in plot
    return ElementTree.fromstring(plot)


def words(plot):
    return [one.text for one in parsed(plot).iter("text")]


def with_class(plot, name):
    return [one for one in parsed(plot).iter() if name in (one.get("class") or "").split()]


def test_line_chart_labels_lines_and_marks_the_best():
    plot = line_chart(
        [
            Series("train", "other", [(1, 0.9), (2, 0.5), (3, 0.4)]),
            Series("valid", "ours", [(1, 0.8), (2, 0.6), (3, 0.7)]),
        ],
        title="Loss",
        x_label="epoch",
        mark=2,
    )
    assert {"Loss", "epoch", "train", "valid", "best: 2", "1", "2", "3"} <= set(words(plot))
    assert "log scale" not in words(plot)
    assert "train ends at 0.4, valid ends at 0.7" in parsed(plot).get("aria-label")
    assert len(with_class(plot, "line")) == 2


def test_line_chart_turns_logarithmic_for_wide_ranges_only():
    wide = [Series("valid", "ours", [(1, 10.0), (2, 0.01)])]
    assert "log scale" in words(line_chart(wide, title="Loss", x_label="epoch"))
    negative = [Series("valid", "ours", [(1, 10.0), (2, -0.01)])]
    assert "log scale" not in words(line_chart(negative, title="R²", x_label="epoch"))


def test_labels_of_lines_that_end_together_stay_apart():
    plot = line_chart(
        [Series("a", "ours", [(1, 1), (2, 0.5)]), Series("b", "other", [(1, 1), (2, 0.5)])],
        title="t",
        x_label="x",
    )
    heights = [float(one.get("y")) for one in with_class(plot, "name")]
    assert abs(heights[0] - heights[1]) >= 12


def test_dot_plot_frames_the_contest_and_points_at_the_rest():
    plot = dot_plot(
        [
            Contender("this model", 0.95, (0.92, 0.98)),
            Contender("boosted trees (50 of 100 rows)", 0.94),
            Contender("majority class", 0.1),
        ],
        title="Accuracy",
        note="larger is better",
        limits=(-np.inf, 1),
    )
    assert {"this model", "boosted trees", "50 of 100 rows", "0.950", "0.100"} <= set(words(plot))
    dots = with_class(plot, "dot")
    assert [dot.tag.rpartition("}")[2] for dot in dots] == ["circle", "circle", "path"]
    assert float(dots[1].get("cx")) < float(dots[0].get("cx"))
    assert len(with_class(plot, "whisker")) == 1


def test_dot_plot_of_equal_values():
    plot = dot_plot(
        [Contender("this model", 1.0, (1.0, 1.0)), Contender("other", 1.0)],
        title="AUC", note="", limits=(-np.inf, 1),
    )  # fmt: skip
    assert len(with_class(plot, "dot")) == 2


def test_confusion_matrix_counts_and_colours():
    plot = confusion_plot(np.array([[5.0, 1], [0, 4]]), ["cat", "dog"])
    assert [one.text for one in with_class(plot, "count")] == ["5", "1", "4"]
    assert len(with_class(plot, "right")) == 2
    assert len(with_class(plot, "wrong")) == 1
    told = [one.text for one in parsed(plot).iter("title")]
    assert told == ["cat → cat: 5 of 6", "cat → dog: 1 of 6", "dog → dog: 4 of 4"]
    assert "9 of 10 test samples on the diagonal" in parsed(plot).get("aria-label")


@pytest.mark.parametrize("num", [2, 5, 20, 50])
def test_confusion_matrix_fits_any_number_of_classes(num):
    rng = np.random.default_rng(0)
    names = [f"a class with a long name {index}" for index in range(num)]
    plot = confusion_plot(rng.integers(0, 9, (num, num)).astype(float), names)
    _, _, width, height = map(float, parsed(plot).get("viewBox").split())
    assert width < 1000
    assert height < 1000
    for cell in with_class(plot, "right") + with_class(plot, "wrong"):
        assert float(cell.get("x")) + float(cell.get("width")) <= width
        assert float(cell.get("y")) + float(cell.get("height")) <= height
    assert bool(with_class(plot, "count")) == (num <= 20)


def test_a_class_without_test_samples_has_an_empty_row():
    plot = confusion_plot(np.array([[2.0, 0], [0, 0]]), ["a", "b"])
    assert len(with_class(plot, "right")) == 1


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 200), st.integers(2, 5), st.integers(0, 2**32))
def test_confidence_plots_draw_any_predictions(n, num_classes, seed):
    rng = np.random.default_rng(seed)
    rows, targets = softmax(rng.normal(scale=3, size=(n, num_classes))), rng.integers(0, 2, n)
    curve = reliability_curve(targets, rows)
    assert len(with_class(reliability_plot(curve), "bar")) == len(curve.counts)
    parsed(coverage_plot((rows.argmax(axis=1) == targets).astype(float), rows.max(axis=1)))
    if len(np.unique(targets)) == 2:
        parsed(roc_plot(targets.astype(float), rows[:, 1], positive="yes"))


def test_roc_of_a_perfect_ranking_goes_through_the_corner():
    plot = roc_plot(np.array([1.0, 1, 0]), np.array([0.9, 0.8, 0.1]), positive="yes")
    (line,) = with_class(plot, "line")
    assert "46,34" in line.get("d")  # left and top of the plotting area


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e7, 1e7), st.floats(-1e7, 1e7)), min_size=1, max_size=60))
def test_regression_plots_draw_any_numbers(pairs):
    targets, predictions = (np.array(values) for values in zip(*pairs, strict=True))
    parsed(agreement_plot(targets, predictions, name="<price>"))
    parsed(residual_plot(targets, predictions))
    parsed(error_histogram(predictions - targets))
    parsed(within_plot(predictions - targets))


def test_large_clouds_are_thinned():
    values = np.linspace(0, 1, 20_000)
    plot = agreement_plot(values, values, name="y")
    assert len(list(parsed(plot).iter("circle"))) <= MAX_POINTS + 1
    points = [(float(i), 0.0) for i in range(10_001)]
    assert thinned(points)[-1] == points[-1]
    assert thinned(points[:10]) == points[:10]


def test_sparkline_draws_one_bar_per_bin():
    assert len(with_class(sparkline([1, 0, 4], title="x"), "bar")) == 3
    parsed(sparkline([0, 0], title="x"))
