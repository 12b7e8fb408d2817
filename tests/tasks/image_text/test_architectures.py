"""The shapes of CLIP models: the table, what it refuses, and the way through JSON."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import get_args

import pytest
import torch

from maquette.errors import UsageError
from maquette.recipe.schema import ModelName
from maquette.tasks.image_text.architectures import CONFIGURATIONS, ClipConfig, configuration
from maquette.tasks.image_text.clip import CLIP

TINY = CONFIGURATIONS["clip_tiny"]
RESNET = CONFIGURATIONS["clip_tiny_resnet"]

PUBLISHED = {
    "clip_vit_b32": 151_277_313,
    "clip_vit_b16": 149_620_737,
    "clip_vit_l14": 427_616_513,
    "clip_vit_l14_336": 427_944_193,
    "clip_rn50": 102_007_137,
}


def test_the_table_is_the_recipes_list():
    of_pairs = {name for name in get_args(ModelName) if name.startswith("clip")}
    assert {*CONFIGURATIONS, "clip"} == of_pairs


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_have_their_published_number_of_parameters(name):
    with torch.device("meta"):
        model = CLIP(CONFIGURATIONS[name])
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED[name]


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("clip_tiny", 1e6, 2e6), ("clip_tiny_resnet", 1e6, 3e6), ("clip_small", 4e6, 6e6)],
)
def test_small_models_are_small_without_their_vocabulary(name, low, high):
    with torch.device("meta"):
        model = CLIP(CONFIGURATIONS[name])
    assert low < sum(p.numel() for p in model.parameters()) - 49_408 * model.ln_final.weight.numel()
    assert sum(p.numel() for k, p in model.named_parameters() if "embedding" not in k) < high


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_through_json(name):
    config = CONFIGURATIONS[name]
    assert ClipConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_the_recipe_knows_the_same_names():
    from typing import get_args

    from maquette.recipe.schema import ModelName

    names = {name for name in get_args(ModelName) if name.startswith("clip_")}
    assert names == set(CONFIGURATIONS)


def test_no_torch_is_imported():
    module = "maquette.tasks.image_text.architectures"
    code = f"import sys, {module}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_changes_keep_the_rest():
    changed = TINY.with_image_size(96).with_vocabulary(700, 30)
    assert (changed.image_size, changed.grid) == (96, 12)
    assert (changed.vocab_size, changed.context_length) == (700, 30)
    assert changed.same_towers(TINY)
    assert not changed.same_towers(CONFIGURATIONS["clip_small"])
    assert (RESNET.stride, RESNET.grid, RESNET.image_feature_width) == (32, 2, 512)
    assert configuration("clip_tiny") is TINY


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        (TINY, {"image_size": 60}, "CLIP: image_size 60 is not a multiple of 8, the patch_size; "
         "take 56 or 64."),
        (TINY, {"image_size": 4}, "CLIP: image_size 4 is not a multiple of 8, the patch_size; "
         "take 8."),
        (RESNET, {"image_size": 80}, "CLIP: image_size 80 is not a multiple of 32, the stride of "
         "the ResNet; take 64 or 96."),
        (TINY, {"vision_heads": 5}, "CLIP: vision_heads is 5, which does not divide 128, the width "
         "that vision attention works in; take a divisor, as 4."),
        (TINY, {"text_heads": 3}, "CLIP: text_heads is 3, which does not divide 128"),
        (RESNET, {"vision_heads": 7}, "CLIP: vision_heads is 7, which does not divide 512"),
        (TINY, {"vision": "vt"}, "CLIP: Unknown vision tower 'vt'. Did you mean 'vit'? Available: "
         "resnet, vit."),
        (TINY, {"activation": "relu"}, "CLIP: Unknown activation 'relu'. Did you mean 'gelu'? "
         "Available: gelu, quick_gelu."),
        (TINY, {"antialias_positions": 1}, "CLIP: antialias_positions is 1, expected true or "
         "false."),
        (TINY, {"patch_size": None}, "CLIP: a vit needs patch_size, found None."),
        (RESNET, {"patch_size": 8}, "CLIP: a resnet has no patch_size, found 8."),
        (TINY, {"embed_dim": 0}, "CLIP: embed_dim is 0, expected a whole number of at least 1."),
        (TINY, {"context_length": 2}, "CLIP: context_length is 2, expected a whole number of at "
         "least 3."),
        (TINY, {"text_layers": 2.0}, "CLIP: text_layers is 2.0, expected a whole number"),
        (TINY, {"text_layers": True}, "CLIP: text_layers is True, expected a whole number"),
        (TINY, {"vision_layers": (1, 1, 1, 1)}, "CLIP: vision_layers of a vit is one number of "
         "blocks, found (1, 1, 1, 1)."),
        (RESNET, {"vision_layers": (1, 1, 1)}, "CLIP: vision_layers of a resnet is the blocks of "
         "each of its four stages, as (3, 4, 6, 3), found (1, 1, 1)."),
        (RESNET, {"vision_layers": 4}, "as (3, 4, 6, 3), found 4."),
        (RESNET, {"vision_width": 15}, "CLIP: vision_width of a resnet is even, because its stem "
         "begins with half of it; found 15."),
    ],
)  # fmt: skip
def test_impossible_shapes_are_refused(config, change, message):
    with pytest.raises(UsageError) as caught:
        dataclasses.replace(config, **change)
    assert message in str(caught.value)


def test_json_with_other_fields_is_refused():
    with pytest.raises(UsageError, match=r"unknown field 'patchsize'\. Did you mean 'patch_size'"):
        ClipConfig.from_json(TINY.to_json() | {"patchsize": 8})
    state = TINY.to_json()
    del state["text_heads"]
    with pytest.raises(UsageError, match="the field 'text_heads' is missing"):
        ClipConfig.from_json(state)


def test_an_unknown_name_is_refused():
    with pytest.raises(
        UsageError, match=r"Unknown CLIP model 'clip_vit_b23'\. Did you mean 'clip_v"
    ):
        configuration("clip_vit_b23")
