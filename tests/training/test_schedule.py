"""Learning rates: the formulas, the ends, no jumps."""

import math
from itertools import pairwise

import pytest

from maquette.training.schedule import Schedule


def make(shape: str, *, warmup: int = 10, total: int = 110, final: float = 0.1) -> Schedule:
    return Schedule(shape=shape, peak=1.0, final=final, warmup_steps=warmup, total_steps=total)  # type: ignore[arg-type]


def test_warm_up_is_linear_and_its_first_step_is_not_zero() -> None:
    schedule = make("constant")
    assert [schedule(step) for step in (0, 4, 9)] == [0.1, 0.5, 1.0]
    assert {schedule(step) for step in range(10, 110)} == {1.0}


def test_cosine_is_half_way_down_in_the_middle() -> None:
    schedule = make("cosine")
    assert schedule(10) == 1.0
    assert math.isclose(schedule(60), 0.55)
    quarter = 0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2
    assert math.isclose(schedule(35), quarter)


def test_linear_loses_the_same_each_step_and_reaches_the_final_rate() -> None:
    schedule = make("linear")
    drops = [earlier - later for earlier, later in pairwise(schedule(t) for t in range(10, 110))]
    assert all(math.isclose(drop, 0.009) for drop in drops)
    assert math.isclose(schedule(110), 0.1)


@pytest.mark.parametrize("shape", ["constant", "cosine", "linear"])
@pytest.mark.parametrize("warmup", [0, 1, 7])
def test_rates_are_positive_rise_then_never_rise_again(shape: str, warmup: int) -> None:
    schedule = make(shape, warmup=warmup, total=50, final=0.0)
    rates = [schedule(step) for step in range(50)]
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)


def test_a_single_step_is_enough() -> None:
    assert make("cosine", warmup=0, total=1)(0) == 1.0
