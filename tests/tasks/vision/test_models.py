"""The table of vision networks, and what a recipe's keys become."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from maquette.errors import UsageError
from maquette.recipe.schema import Architecture, ModelName
from maquette.tasks.vision.models import MODELS, build_model
from maquette.tasks.vision.resnet import ResNet


def build(name="resnet18", side=32, **architecture):
    return build_model(
        name, num_classes=5, image_size=(side, side), architecture=Architecture(**architecture)
    )


def test_the_table_is_the_recipes_list():
    of_pairs = {name for name in get_args(ModelName) if name.startswith("clip")}
    assert {*MODELS, "mlp"} == set(get_args(ModelName)) - of_pairs


@pytest.mark.parametrize("name", MODELS)
def test_every_network_scores_images(name):
    assert build(name).eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


@pytest.mark.parametrize(
    ("wanted", "size", "small"),
    [
        ("auto", (32, 32), True),
        ("auto", (33, 8), False),
        ("auto", (8, 33), False),
        ("standard", (32, 32), False),
        ("small", (224, 224), True),
    ],
)
def test_stem_follows_the_image_size(wanted, size, small):
    model = build_model(
        "resnet18", num_classes=2, image_size=size, architecture=Architecture(stem=wanted)
    )
    assert isinstance(model, ResNet)
    assert model.small_stem is small
    assert model.conv1.kernel_size == ((3, 3) if small else (7, 7))


def test_the_recipes_keys_reach_the_network():
    model = build(base_width=16, dropout=0.3, drop_path=0.2)
    assert model.conv1.out_channels == 16
    assert model.fc.in_features == 128
    assert model.dropout.p == 0.3
    assert model.layer4[1].drop_path.probability == pytest.approx(0.2)
    assert build("efficientnet_b0", dropout=0.4).dropout.p == 0.4


@pytest.mark.parametrize(
    ("name", "key", "value", "shown"),
    [
        ("resnet18", "hidden_layers", (32, 16), "[32, 16]"),
        ("resnet50", "normalization", "batch", "batch"),
        ("resnet18", "embedding_dim", 4, "4"),
        ("resnet18", "activation", "gelu", "gelu"),
        ("efficientnet_b1", "input_dim", 3, "3"),
        ("efficientnet_b0", "base_width", 32, "32"),
    ],
)
def test_keys_a_network_does_not_have_are_refused(name, key, value, shown):
    with pytest.raises(UsageError) as caught:
        build(name, **{key: value})
    assert str(caught.value).startswith(
        f"model.architecture.{key} is {shown}, but {name} has no such key, so it would do "
        f"nothing; remove it. {name} takes: "
    )
    assert ("base_width" in str(caught.value).split("takes:")[1]) == name.startswith("resnet")


def test_a_resolved_recipe_with_every_default_written_out_is_accepted():
    assert build("efficientnet_b0", **Architecture().model_dump(exclude_none=True)) is not None


def test_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(
        UsageError, match=r"Unknown vision model 'resnet19'\. Did you mean 'resnet1"
    ):
        build("resnet19")
