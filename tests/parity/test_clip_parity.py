"""Our CLIP against stored numbers of open_clip and transformers (README.md here)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from clip_cases import CASES, condense
from clip_checks import TOLERANCE, check_features, check_sizes, filled

from maquette.tasks.image_text.key_formats import to_hugging_face, to_native

FACTS: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / "clip.json").read_text())
VITS = [name for name, case in CASES.items() if case["patch_size"] is not None]
PEERS = [(name, "open_clip") for name in CASES] + [(name, "transformers") for name in VITS]
DTYPES = [torch.float64, torch.float32]


@pytest.mark.parametrize("name", CASES)
def test_keys_and_shapes_are_those_of_open_clip(name):
    ours = {key: list(value.shape) for key, value in filled(name).state_dict().items()}
    assert ours == FACTS[name]["keys"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "peer"), PEERS)
def test_features_and_gradients(name, peer, dtype):
    check_features(filled(name), name, FACTS[name][peer], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "peer"), [pair for pair in PEERS if pair[0] in VITS])
def test_other_image_sizes(name, peer, dtype):
    model = filled(name, antialias=peer == "open_clip")
    check_sizes(model, name, FACTS[name][peer], dtype)


@pytest.mark.parametrize("impl", ["explicit", "sliced", "chunked"])
@pytest.mark.parametrize("name", CASES)
def test_every_attention_gives_the_same(name, impl):
    model = filled(name, attention=impl)
    check_features(model, name, FACTS[name]["open_clip"], torch.float64)


@pytest.mark.parametrize("name", ["quick_gelu", "resnet"])
def test_activation_checkpointing_changes_no_number(name):
    model = filled(name, activation_checkpointing=True)
    check_features(model, name, FACTS[name]["open_clip"], torch.float64)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_resnet_in_training(dtype, checkpointing):
    """Batch statistics, their gradients, and running averages that move once."""
    model = filled("resnet", activation_checkpointing=checkpointing).train()
    expected = FACTS["resnet"]["open_clip train"]
    if dtype == torch.float64:
        check_features(model, "resnet", expected, dtype)
    else:
        with torch.no_grad():
            model(*_inputs("resnet"))
    running = {k: v for k, v in model.named_buffers() if "running" in k}
    assert set(running) == set(expected["buffers"])
    for key, theirs in expected["buffers"].items():
        assert condense(key, running[key]) == pytest.approx(theirs, abs=10 * TOLERANCE[dtype]), key
    counts = {int(v) for k, v in model.named_buffers() if k.endswith("num_batches_tracked")}
    assert counts == {1}


def _inputs(name):
    from clip_cases import images, tokens

    return images(CASES[name]), tokens(CASES[name])


@pytest.mark.parametrize("name", VITS)
def test_hugging_face_keys_and_back(name):
    state = filled(name).state_dict()
    theirs = to_hugging_face(state)
    shapes = {key: list(value.shape) for key, value in theirs.items()}
    assert shapes == FACTS[name]["transformers"]["keys"]
    back, left_out = to_native(theirs, "Hugging Face")
    assert left_out == ()
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)
