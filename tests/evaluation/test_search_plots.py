"""The plots of a search hold what happened, and survive every shape of it."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from maquette.evaluation.compare_plots import Dot, run_dots
from maquette.evaluation.search_plots import (
    Axis,
    Tried,
    best_of,
    history_plot,
    importance_plot,
    parallel_plot,
    slice_plot,
)

LEARNING = Axis(key="training.learning_rate", low=1e-4, high=1e-1, log=True)
CHOICE = Axis(key="training.optimizer", choices=("adamw", "sgd"))


def tried(number: int, value: float | None, *, rate: float = 0.01, choice: str = "sgd") -> Tried:
    values = {LEARNING.key: rate, CHOICE.key: choice}
    curve = [(1, 0.9 if value is None else value)] if number != 99 else []
    return Tried(number=number, values=values, value=value, curve=curve)


TRIALS = [tried(0, 0.5), tried(1, None), tried(2, 0.3, rate=0.1), tried(3, 0.4, choice="adamw")]


def drawn(svg: str) -> ElementTree.Element:
    """Every plot is well-formed, and no number in it is NaN."""
    assert "nan" not in svg
    return ElementTree.fromstring(svg)


def marks(svg: str, style: str) -> int:
    return len(re.findall(rf'class="{style}"', svg))


def test_history():
    svg = history_plot(TRIALS, monitor="valid/loss", larger_is_better=False)
    drawn(svg)
    assert (marks(svg, "dot best"), marks(svg, "dot other"), marks(svg, "hollow")) == (1, 2, 1)
    assert "best 0.3 in trial 2" in svg
    line = re.search(r'<path d="M([^"]*)" class="line ours"', svg)
    assert line is not None
    heights = [float(point.split(",")[1]) for point in line[1].split()]
    assert heights == sorted(heights)  # the best so far only gets lower on the scale


@pytest.mark.parametrize("larger_is_better", [True, False])
def test_the_best_of_equals_is_the_first(larger_is_better):
    equal = [tried(0, 0.5), tried(1, 0.5)]
    assert best_of(equal, larger_is_better=larger_is_better) is equal[0]
    assert best_of([tried(0, None)], larger_is_better=larger_is_better) is None
    best = best_of(TRIALS, larger_is_better=larger_is_better)
    assert best is TRIALS[0 if larger_is_better else 2]


def test_one_trial_and_equal_values():
    for trials in ([tried(0, 0.5)], [tried(0, 0.5), tried(1, 0.5), tried(99, None)]):
        drawn(history_plot(trials, monitor="valid/loss", larger_is_better=False))
        drawn(slice_plot(trials, LEARNING, monitor="valid/loss", larger_is_better=False))
        drawn(parallel_plot(trials, [LEARNING], monitor="valid/loss", larger_is_better=False))


def test_slices_over_numbers_and_choices():
    for axis in (LEARNING, CHOICE):
        svg = slice_plot(TRIALS, axis, monitor="valid/loss", larger_is_better=False)
        drawn(svg)
        assert (marks(svg, "dot best"), marks(svg, "dot other")) == (1, 2)
        assert axis.key in svg
    assert ">adamw</text>" in svg


def test_one_failure_does_not_press_the_others_together():
    worst = [*TRIALS, tried(4, 1e9)]
    svg = slice_plot(worst, LEARNING, monitor="valid/loss", larger_is_better=False)
    calm = slice_plot(TRIALS, LEARNING, monitor="valid/loss", larger_is_better=False)
    assert re.findall(r'class="tick"[^>]*>([^<]*)<', svg) == re.findall(
        r'class="tick"[^>]*>([^<]*)<', calm
    )
    assert marks(svg, "dot other") == 3  # it is drawn, at the edge


def test_parallel_lines_end_with_the_best():
    svg = parallel_plot(
        TRIALS, [LEARNING, CHOICE], monitor="valid/mean_recall", larger_is_better=True
    )
    drawn(svg)
    styles = re.findall(r'class="thin (\w+)"', svg)
    assert len(styles) == 3
    assert styles[-1] == "best"
    assert ">learning_rate</text>" in svg
    assert ">valid/mean_recall</text>" in svg


def test_importance():
    svg = importance_plot({"training.learning_rate": 0.75, "training.optimizer": 0.25})
    drawn(svg)
    widths = [float(width) for width in re.findall(r'width="([\d.]+)" y=', svg)]
    assert widths[0] == pytest.approx(3 * widths[1], rel=1e-2)
    assert ">75%<" in svg


def test_names_are_escaped():
    axis = Axis(key="a.<b>&", choices=("<x>", "y"))
    trials = [Tried(number=0, values={axis.key: "<x>"}, value=1.0, curve=[])]
    for svg in (
        slice_plot(trials, axis, monitor="<m>", larger_is_better=True),
        parallel_plot(trials, [axis], monitor="<m>", larger_is_better=True),
        importance_plot({"<k>": 1.0}),
        run_dots([Dot(name="<d>", style="c0", value=1.0, interval=None)], title="<t>", note="<n>"),
    ):
        drawn(svg)


def test_run_dots():
    svg = run_dots(
        [
            Dot(name="A", style="c0", value=0.5, interval=(0.4, 0.6)),
            Dot(name="B", style="c1", value=0.7, interval=None),
        ],
        title="test/accuracy",
        note="larger is better",
    )
    drawn(svg)
    assert marks(svg, "whisker c0") == 1
    assert "A 0.500, B 0.700" in svg
