"""Our vision networks against stored numbers of timm and torchvision (README.md here)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from vision_checks import check_same_keys, check_same_numbers, filled_model
from vision_numbers import uniform

from maquette.tasks.vision.models import MODELS
from maquette.tasks.vision.weight_files import native_key

GOLDEN = Path(__file__).parent / "golden"
CASES = [(name, "eval") for name in MODELS] + [("resnet18", "train"), ("efficientnet_b0", "train")]


def facts_of(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / f"{name}.json").read_text())


@pytest.mark.parametrize("name", MODELS)
def test_keys_shapes_and_parameter_counts_equal_the_references(name):
    check_same_keys(name, facts_of(name))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("name", "mode"), CASES)
def test_computes_what_the_references_compute(name, mode, dtype):
    check_same_numbers(name, facts_of(name), mode=mode, dtype=dtype)


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("efficientnet")])
def test_torchvision_names_become_ours(name):
    modules = facts_of(name)["torchvision modules"]
    for theirs, ours in modules.items():
        assert native_key(f"{theirs}.weight") == f"{ours}.weight"
    tensors = {key.rpartition(".")[0] for key in filled_model(name).state_dict()}
    assert set(modules.values()) == tensors


def test_the_fill_is_the_same_on_every_machine():
    expected = [[-8044037, 118223, -7110793], [-3629795, 7414770, -6580709]]
    assert (uniform("conv1.weight", (2, 3)) * 2**23).tolist() == expected
