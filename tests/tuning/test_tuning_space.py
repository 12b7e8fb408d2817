"""The search space: what a recipe may search, and what is told to one that asks for more."""

from __future__ import annotations

import math
import re

import pytest

from maquette.errors import RecipeError, UsageError
from maquette.recipe import make_recipe
from maquette.tuning.space import Choices, Span, space_of, values_of, with_values


def test_ranges_and_choices(make):
    recipe = make(
        {
            "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
            "training.batch_size": {"low": 8, "high": 64},
            "training.optimizer": ["adamw", "sgd"],
            "training.clip_norm": {"low": 0.1, "high": 2},
            "data.tabular.preprocessing.normalize": [True, False],
            "model.architecture.hidden_layers": ["[128, 64]", "[8]"],
        }
    )
    assert space_of(recipe) == {
        "training.learning_rate": Span(low=1e-4, high=1e-2, log=True),
        "training.batch_size": Span(low=8, high=64, whole=True),
        "training.optimizer": Choices(values=("adamw", "sgd")),
        "training.clip_norm": Span(low=0.1, high=2.0),
        "data.tabular.preprocessing.normalize": Choices(values=(True, False)),
        "model.architecture.hidden_layers": Choices(values=("[128, 64]", "[8]")),
    }


def test_values_go_into_the_recipe_and_nothing_else_changes(make):
    recipe = make(
        {
            "model.architecture.hidden_layers": ["[128, 64]", "[8]"],
            "training.early_stopping.patience": {"low": 1, "high": 9},
        },
        training={"epochs": 7},
    )
    space = space_of(recipe)
    changed = with_values(
        recipe,
        {"model.architecture.hidden_layers": "[8]", "training.early_stopping.patience": 3},
        space,
    )
    assert changed.model.architecture.hidden_layers == (8,)
    assert changed.training.early_stopping.patience == 3
    back = with_values(
        changed,
        {"model.architecture.hidden_layers": "[128, 64]", "training.early_stopping.patience": 20},
        space,
    )
    assert back == recipe


def test_where_the_recipe_itself_stands(make):
    space = {
        "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "training.batch_size": [32, 64],
        "model.architecture.hidden_layers": ["[128, 64]", "[8]"],
    }
    recipe = make(space)
    assert values_of(recipe, space_of(recipe)) == {
        "training.learning_rate": 1e-3,
        "training.batch_size": 64,
        "model.architecture.hidden_layers": "[128, 64]",
    }
    outside = make(space, training={"learning_rate": 1.0})
    assert values_of(outside, space_of(outside)) is None
    absent = make({"training.clip_norm": [0.5, 1.0]})
    assert values_of(absent, space_of(absent)) is None


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "There is nothing to search: tune.space is empty. Name recipe keys in it"),
        (
            {"training.lerning_rate": [0.1, 0.2]},
            "tune.space: unknown key 'training.lerning_rate'. Did you mean 'learning_rate'? "
            "Allowed there: epochs, batch_size,",
        ),
        ({"training.epochs.x": [1, 2]}, "tune.space: unknown key 'training.epochs.x'."),
        ({"training": [1, 2]}, "tune.space: 'training' is a section; name one key inside it."),
        (
            {"training.optimizer": {"low": 1, "high": 2}},
            "tune.space.training.optimizer is a range, but training.optimizer holds no number. "
            "Give a list of choices.",
        ),
        (
            {"training.epochs": {"low": 1.5, "high": 2}},
            "tune.space.training.epochs: training.epochs holds whole numbers, so low 1.5 and high "
            "2 must be whole too.",
        ),
        (
            {"training.epochs": [3]},
            "tune.space.training.epochs: a search needs two different choices or more, found [3].",
        ),
        ({"training.epochs": [3, 3]}, "two different choices or more, found [3, 3]."),
        ({"seed": [1, 2]}, "tune.space: 'seed' cannot be searched; it makes no model better."),
        (
            {"data.tabular.path": ["a", "b"]},
            "tune.space: 'data.tabular.path' cannot be searched; it decides what a trial is "
            "measured by, so trials could not be compared.",
        ),
        ({"training.early_stopping.monitor": ["valid/loss", "valid/ece"]}, "it decides what a"),
    ],
)
def test_what_cannot_be_searched(make, space, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        space_of(make(space))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            {"training.learning_rate": [0.1, -1.0]},
            "tune.space: training.learning_rate=-1.0: training.learning_rate is -1.0; it should "
            "be greater than 0.",
        ),
        ({"training.optimizer": ["adam", "adm"]}, "'adm'. Did you mean 'adam'?"),
        ({"training.label_smoothing": {"low": 0, "high": 1}}, "training.label_smoothing=1.0: "),
        (
            {"model.architecture.hidden_layers": ["[128, 64", "[8]"]},
            "tune.space.model.architecture.hidden_layers: '[128, 64' is not a list; write it as "
            'text: "[64, 32]".',
        ),
        ({"data.image.fit": ["crop", "pad"]}, "data.image.image_size"),
    ],
)
def test_values_that_the_recipe_does_not_take(make, space, message):
    with pytest.raises(RecipeError, match=re.escape(message)):
        space_of(make(space))


def test_the_edges_of_a_range():
    assert Span(low=0.0, high=1.0).is_edge(0.995)
    assert not Span(low=0.0, high=1.0).is_edge(0.5)
    assert Span(low=1e-4, high=1e-1, log=True).is_edge(1.01e-4)
    assert not Span(low=1e-4, high=1e-1, log=True).is_edge(2e-4)


def pairs(**contrastive: object):
    return make_recipe(
        {
            "name": "pairs",
            "data": {"image_text": {"path": "p.csv", "image_size": 64, "domain": "medical"}},
            "model": {"type": "image_text", "name": "clip_tiny"},
            "contrastive": contrastive,
        }
    )


def test_without_a_space_image_text_searches_its_loss():
    from maquette.tasks.image_text.domains import read_domain

    recipe = pairs()
    space, loss = space_of(recipe), read_domain("medical").loss
    for name, given in loss.ranges.items():
        span = space[f"contrastive.parameters.{name}"]
        assert (span.low, span.high) == (given.low, given.high)
    assert space["contrastive.temperature"] == Span(low=0.01, high=0.2, log=True)
    start = values_of(recipe, space)
    assert start is not None
    for name, value in loss.parameters.items():
        assert start[f"contrastive.parameters.{name}"] == value
    trial = with_values(recipe, start, space)
    assert trial.contrastive.loss == "auto"
    assert dict(trial.contrastive.parameters) == dict(loss.parameters)


def test_another_loss_has_its_own_ranges():
    recipe = pairs(loss="siglip")
    space = space_of(recipe)
    assert set(space) == {"contrastive.parameters.bias", "contrastive.temperature"}
    start = values_of(recipe, space)
    assert start is not None
    assert start["contrastive.parameters.bias"] == -10
    assert math.isclose(float(start["contrastive.temperature"]), 0.1)
    given = pairs(loss="siglip", parameters={"bias": -7}, temperature=0.05)
    assert values_of(given, space) == {
        "contrastive.parameters.bias": -7.0,
        "contrastive.temperature": 0.05,
    }
