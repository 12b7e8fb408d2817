"""What "our network computes what the references compute" means, for golden and live numbers."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from vision_numbers import NUM_CLASSES, fill_state, key_hash, observe

from maquette.tasks.vision.models import MODELS, VisionModel


def family_of(name: str) -> str:
    return name.split("_")[0].rstrip("0123456789")


def filled_model(name: str, *, seed: int = 0) -> VisionModel:
    """Build our network with the values of the formula, without dropout and stochastic depth."""
    model = MODELS[name](num_classes=NUM_CLASSES)
    model.load_state_dict(_filled_state(name, seed))
    return model


@lru_cache(maxsize=1)
def _filled_state(name: str, seed: int) -> dict[str, Tensor]:
    state = MODELS[name](num_classes=NUM_CLASSES).state_dict()
    return fill_state(state, family_of(name), seed=seed)


def check_same_keys(name: str, facts: dict[str, Any]) -> None:
    """Every key, its shape and the order of registration equal timm's; parameters the paper's."""
    assert key_hash(MODELS[name](num_classes=NUM_CLASSES).state_dict()) == facts["keys"]
    whole = MODELS[name](num_classes=1000)
    assert sum(parameter.numel() for parameter in whole.parameters()) == facts["parameters"]


def check_same_numbers(
    name: str, facts: dict[str, Any], *, mode: str, dtype: torch.dtype, seed: int = 0
) -> None:
    """Logits, stage outputs, gradients and running statistics equal both references' in float64.

    float64: 1e-9. float32: 1e-5, absolute for the logits (of order one), of the root mean square
    for everything condensed; 1e-4 for gradients through batch statistics, which amplify rounding.
    """
    model = filled_model(name, seed=seed)
    found = observe(
        model,
        stages={stage: model.get_submodule(stage) for stage in facts[f"timm {mode}"]["stages"]},
        names={key: key for key in model.state_dict()},
        training=mode == "train",
        seed=seed,
        dtype=dtype,
    )
    forward = 1e-9 if dtype == torch.float64 else 1e-5
    backward = 1e-4 if dtype == torch.float32 and mode == "train" else forward
    for peer in ("timm", "torchvision"):
        expected = facts[f"{peer} {mode}"]
        torch.testing.assert_close(
            torch.tensor(found["logits"]), torch.tensor(expected["logits"]), rtol=0, atol=forward
        )
        _check_condensed(found["stages"], expected["stages"], forward)
        _check_condensed(found["gradients"], expected["gradients"], backward)
        if mode == "train":
            _check_condensed({"": found["buffers"]}, {"": expected["buffers"]}, forward)


def _check_condensed(found: dict[str, Any], expected: dict[str, Any], tolerance: float) -> None:
    assert list(found) == list(expected)
    for name, (size, projection) in expected.items():
        assert abs(found[name][0] - size) <= tolerance * size, name
        assert abs(found[name][1] - projection) <= tolerance * size, name
