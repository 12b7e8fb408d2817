"""The summary of a training: which epoch was best, and when none was."""

import math

import pytest
from tiny_task import CPU, TinyNet, tiny_recipe

from maquette.training.result import FitResult, result_of
from maquette.training.state import State


def summary(*values: float, epochs: int = 3) -> FitResult:
    recipe = tiny_recipe(epochs=epochs, early_stopping={"monitor": "valid/roc_auc"})
    state = State.new(TinyNet(), recipe, CPU)
    state.history = [{"epoch": i, "valid/roc_auc": x} for i, x in enumerate(values, start=1)]
    state.epoch = len(values)
    state.train_samples, state.train_seconds = 300, 2.0
    return result_of(state, recipe.training, seconds=5.0)


def test_the_first_of_equals_is_the_best() -> None:
    result = summary(0.5, 0.9, 0.9)
    assert (result.best_epoch, result.best_value) == (2, 0.9)


def test_nan_is_never_the_best() -> None:
    result = summary(math.nan, 0.2, math.nan)
    assert (result.best_epoch, result.best_value) == (2, 0.2)


def test_a_monitor_that_never_had_a_value_leaves_the_last_epoch() -> None:
    result = summary(math.nan, math.nan)
    assert result.best_epoch == 2
    assert math.isnan(result.best_value)


@pytest.mark.parametrize(("epochs", "early"), [(2, False), (3, True)])
def test_fewer_epochs_than_asked_for_is_an_early_stop(epochs: int, early: bool) -> None:
    result = summary(0.1, 0.2, epochs=epochs)
    assert result.stopped_early is early
    assert result.samples_per_second == 150
    assert result.seconds == 5
