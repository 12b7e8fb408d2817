from __future__ import annotations

import math
from typing import get_args

import pytest
import torch

from maquette.nn.activations import ACTIVATIONS, gain
from maquette.recipe.schema import Activation


def test_the_table_and_the_recipe_list_the_same_names():
    assert set(ACTIVATIONS) == set(get_args(Activation))


def test_gain_of_relu_is_the_square_root_of_two():
    assert gain("relu") == pytest.approx(math.sqrt(2), rel=1e-6)


def test_gain_of_leaky_relu_is_he_equation_15():
    assert gain("leaky_relu") == pytest.approx(math.sqrt(2 / (1 + 0.01**2)), rel=1e-6)


def test_selu_keeps_the_mean_square_by_construction():
    assert gain("selu") == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gain_restores_the_mean_square_of_normal_inputs(name):
    z = torch.randn(400_000, generator=torch.Generator().manual_seed(0))
    assert (gain(name) * ACTIVATIONS[name]()(z)).square().mean() == pytest.approx(1, abs=0.02)


def test_an_unknown_name_is_refused_with_the_list():
    with pytest.raises(ValueError, match=r"Unknown activation 'swish'. Available: relu, gelu"):
        gain("swish")
