"""Number and date columns: parity with scikit-learn, and the rules beyond it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import QuantileTransformer, RobustScaler, StandardScaler

from maquette.errors import DataError
from maquette.recipe.schema import TabularPreprocessing
from maquette.tasks.tabular.encoders import (
    LIMIT,
    NORMAL_LIMIT,
    DateColumn,
    NumberColumn,
    NumberScaler,
    days,
    phase,
    to_normal,
)

RANDOM = np.random.default_rng(0)
TRAIN = np.stack(
    [RANDOM.normal(5, 2, 900), RANDOM.lognormal(0, 2, 900), RANDOM.integers(0, 4, 900)], axis=1
).astype(np.float64)
LIVE = np.concatenate([TRAIN[:50], TRAIN[:50] * 3 - 4])


def scale(train: np.ndarray, live: np.ndarray, **chosen: object) -> np.ndarray:
    rules = TabularPreprocessing.model_validate(chosen)
    columns = [NumberColumn.fit(f"x{j}", train[:, j], rules) for j in range(train.shape[1])]
    return NumberScaler(columns, rules.scaling if rules.normalize else "none")(live)


def fit(values: list[float], **chosen: object) -> NumberColumn:
    return NumberColumn.fit("x", np.array(values), TabularPreprocessing.model_validate(chosen))


def test_standard_equals_scikit_learn():
    expected = StandardScaler().fit(TRAIN).transform(LIVE)
    np.testing.assert_allclose(scale(TRAIN, LIVE), expected, rtol=1e-6, atol=1e-6)


def test_robust_equals_scikit_learn_then_the_smooth_clip():
    linear = RobustScaler().fit(TRAIN).transform(LIVE)
    expected = linear / np.sqrt(1 + (linear / 3) ** 2)
    actual = scale(TRAIN, LIVE, scaling="robust")
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)
    assert np.abs(actual).max() < 3


def test_quantile_equals_scikit_learn():
    reference = QuantileTransformer(n_quantiles=30, output_distribution="normal", subsample=None)
    expected = reference.fit(TRAIN[:, :2]).transform(LIVE[:, :2])
    actual = scale(TRAIN[:, :2], LIVE[:, :2], scaling="quantile")
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(actual).max() <= NORMAL_LIMIT + 1e-6


def test_quantile_in_float64_is_as_exact_as_scikit_learn():
    knots = np.sort(RANDOM.normal(size=40))
    reference = QuantileTransformer(n_quantiles=40, output_distribution="normal")
    live = np.linspace(-2, 2, 101)
    expected = reference.fit(knots[:, None]).transform(live[:, None])[:, 0]
    np.testing.assert_allclose(to_normal(live, knots), expected, rtol=1e-9, atol=1e-9)


def test_quantile_keeps_a_repeated_end_at_the_middle_of_its_ranks_unlike_scikit_learn():
    flags = np.array([0.0] * 50 + [1.0] * 50)
    reference = QuantileTransformer(n_quantiles=10, output_distribution="normal")
    assert np.abs(reference.fit_transform(flags[:, None])).min() > 5
    knots = np.array(fit(flags.tolist(), scaling="quantile").quantiles)
    np.testing.assert_allclose(to_normal(np.array([0.0, 1.0]), knots), [-0.7647, 0.7647], atol=1e-4)


def test_without_normalize_numbers_stay_as_they_are():
    np.testing.assert_array_equal(scale(TRAIN, LIVE, normalize=False), LIVE.astype(np.float32))


def test_robust_falls_back_to_half_the_range_when_the_quartiles_agree():
    column = fit([0.0] * 8 + [4.0], scaling="robust")
    assert (column.center, column.scale) == (0.0, 2.0)


@pytest.mark.parametrize(
    ("method", "expected"), [("median", 2.0), ("mean", 4.0), ("zero", 0.0), ("error", None)]
)
def test_fill(method, expected):
    assert fit([1.0, 2.0, 9.0], handle_missing=method).fill == expected


def test_statistics_come_from_the_observed_values():
    column = fit([1.0, math.nan, 3.0])
    assert (column.center, column.scale, column.fill) == (2.0, 1.0, 2.0)
    assert (column.low, column.high, column.typical) == (1.0, 3.0, 2.0)


def test_missing_values_get_the_fill_and_an_indicator():
    train = np.array([[1.0], [math.nan], [5.0]])
    np.testing.assert_allclose(scale(train, train), [[-1, 0], [0, 1], [1, 0]])
    np.testing.assert_allclose(scale(train, train, missing_indicator=False), [[-1], [0], [1]])


def test_a_missing_value_unseen_in_training_is_filled_without_an_indicator():
    train = np.array([[1.0], [2.0], [6.0]])
    expected = (2.0 - 3.0) / train.std()
    np.testing.assert_allclose(scale(train, np.array([[math.nan]])), [[expected]], rtol=1e-6)


def test_missing_is_refused_under_error_with_the_fix():
    with pytest.raises(DataError, match=r"Column 'x' has 2 missing .* use median, mean or zero"):
        fit([math.nan, 1.0, math.nan], handle_missing="error")


@pytest.mark.parametrize("values", [[3.0] * 5, [0.1 + 0.2, 0.3, 0.3], [math.nan] * 3])
def test_constant_columns_are_dropped(values):
    assert fit(values).is_constant
    train = np.stack([np.array(values), np.arange(len(values))], axis=1)
    assert scale(train, train).shape == (len(values), 1)


def test_a_constant_column_with_gaps_keeps_its_indicator():
    column = fit([7.0, math.nan, 7.0])
    assert column.is_constant
    assert column.has_indicator


@pytest.mark.parametrize("scaling", ["standard", "robust", "quantile"])
@pytest.mark.parametrize("value", [1e300, -1e300])
def test_absurd_live_values_stay_finite(scaling, value):
    live = np.array([[value, value, value]])
    actual = scale(TRAIN, live, scaling=scaling)
    assert np.isfinite(actual).all()
    assert np.abs(actual).max() <= LIMIT["standard"]
    assert np.isfinite(scale(TRAIN, live, normalize=False)).all()


@given(st.lists(st.floats(-1e100, 1e100), min_size=2, max_size=40))
@settings(max_examples=60, deadline=None)
def test_the_cut_never_touches_a_standardised_training_value(values):
    column = fit(values)
    if not column.is_constant:
        standardised = (np.array(values) - column.center) / column.scale
        assert np.abs(standardised).max() <= math.sqrt(len(values)) + 1e-6


def test_values_too_large_to_standardise_are_refused():
    with pytest.raises(DataError, match=r"Column 'x' has values up to 1.7e\+308, too large to"):
        fit([1.7e308, -1.7e308, 1.0])


@given(st.permutations(range(12)))
@settings(max_examples=20, deadline=None)
def test_row_order_does_not_matter(order):
    values = np.linspace(-3, 8, 12) ** 3
    for scaling in ("standard", "robust", "quantile"):
        rules = TabularPreprocessing(scaling=scaling)
        first = NumberColumn.fit("x", values, rules)
        second = NumberColumn.fit("x", values[list(order)], rules)
        assert first.quantiles == second.quantiles
        assert (first.center, first.scale) == pytest.approx((second.center, second.scale))


def test_days_count_from_1970_with_fractions():
    dates = np.array(["1970-01-02", "1969-12-31T12:00", "NaT"], dtype="datetime64[ms]")
    np.testing.assert_array_equal(days(dates), [1.0, -0.5, np.nan])


def test_phases_of_known_dates():
    dates = np.array(["2024-07-01", "2023-01-01", "NaT"], dtype="datetime64[ms]")
    np.testing.assert_allclose(phase(dates, "year"), [182 / 366, 0, np.nan])
    monday = np.array(["2024-07-01T12:00"], dtype="datetime64[ms]")
    np.testing.assert_allclose(phase(monday, "week"), [0.5 / 7], atol=1e-12)
    np.testing.assert_allclose(phase(monday, "day"), [0.5])


def test_a_date_column_keeps_the_cycles_it_moves_through():
    mondays = np.array(["2024-07-01", "2024-07-08", "2024-07-15"], dtype="datetime64[ms]")
    column = DateColumn.fit("d", mondays, TabularPreprocessing())
    assert column.cycles == ("year",)
    hours = np.array(["2024-07-01T06", "2024-07-01T12", "NaT"], dtype="datetime64[ms]")
    column = DateColumn.fit("d", hours, TabularPreprocessing())
    assert column.cycles == ("year", "week", "day")
    np.testing.assert_allclose(column.encode(hours)[0, 4:], [1, 0], atol=1e-6)
    np.testing.assert_array_equal(column.encode(hours)[2], np.zeros(6))


def test_the_end_of_december_is_next_to_the_start_of_january():
    dates = np.array(["2023-12-31T23:59", "2024-01-01", "2024-07-01"], dtype="datetime64[ms]")
    waves = DateColumn.fit("d", dates, TabularPreprocessing()).encode(dates)[:, :2]
    np.testing.assert_allclose(waves[0], waves[1], atol=1e-4)
    assert np.linalg.norm(waves[0] - waves[2]) > 1.9
