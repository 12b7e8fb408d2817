"""Texts without padding: the same features and gradients as with it."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from maquette.recipe.image_text import Finetune
from maquette.tasks.image_text import clip as clip_module
from maquette.tasks.image_text.architectures import ClipConfig
from maquette.tasks.image_text.clip import CLIP
from maquette.tasks.image_text.finetune import prepare_model
from maquette.tasks.image_text.packing import Packing, packing_of

CONFIG = ClipConfig(
    embed_dim=12,
    image_size=16,
    patch_size=8,
    vision_width=16,
    vision_layers=1,
    vision_heads=2,
    text_width=16,
    text_layers=3,
    text_heads=2,
    vocab_size=40,
    context_length=12,
)
LENGTHS = (3, 12, 2, 7)
END = 39


def captions(lengths=LENGTHS, width=12) -> torch.Tensor:
    """Texts of these lengths, END last, and words behind it that must not be seen."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(0, END, (len(lengths), width), generator=generator)
    ids[torch.arange(len(lengths)), torch.tensor(lengths) - 1] = END
    return ids


def test_there_and_back():
    packing = Packing(torch.tensor(LENGTHS) - 1, length=12)
    x = torch.arange(4 * 12 * 2.0).view(4, 12, 2)
    packed = packing.pack(x)
    assert packed.tolist() == [
        token for row, length in zip(x.tolist(), LENGTHS, strict=True) for token in row[:length]
    ]
    assert packing.last_B.tolist() == [2, 14, 16, 23]
    padded = packing.pad(packed)
    assert padded.shape == x.shape
    for row, length in enumerate(LENGTHS):
        assert torch.equal(padded[row, :length], x[row, :length])
        # Behind the text stands its last token.
        assert (padded[row, length:] == x[row, length - 1]).all()


@pytest.mark.parametrize("lengths", [(12,) * 8, (12, 12, 12, 11), (12,), ()])
def test_a_full_batch_stays_as_it_is(lengths):
    assert packing_of(torch.tensor(lengths, dtype=torch.int64) - 1, 12) is None


def test_elsewhere_than_on_a_cpu_nobody_waits_for_lengths():
    ends = torch.empty(4, dtype=torch.int64, device="meta")
    assert packing_of(ends, 12) is None


@pytest.mark.parametrize("impl", ["fused", "explicit", "sliced", "chunked"])
@pytest.mark.parametrize("options", [{}, {"activation_checkpointing": True}])
def test_features_and_gradients_are_those_with_padding(monkeypatch, impl, options):
    torch.manual_seed(0)
    model = CLIP(CONFIG, attention=impl, **options).double()
    packed = observed(model)
    monkeypatch.setattr(clip_module, "packing_of", lambda *_: None)
    padded = observed(model)
    assert packed.keys() == padded.keys()
    for name, expected in padded.items():
        torch.testing.assert_close(packed[name], expected, rtol=1e-9, atol=1e-12, msg=name)


def test_low_rank_additions_are_packed_too(monkeypatch):
    torch.manual_seed(0)
    model = CLIP(CONFIG)
    prepare_model(model, Finetune(method="lora"))
    model.double()
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.1)
    packed = observed(model)
    monkeypatch.setattr(clip_module, "packing_of", lambda *_: None)
    padded = observed(model)
    assert any("low_rank" in name for name in packed)
    for name, expected in padded.items():
        torch.testing.assert_close(packed[name], expected, rtol=1e-9, atol=1e-12, msg=name)


def observed(model: CLIP) -> dict[str, torch.Tensor]:
    """The features of `captions()`, and the gradients of a fixed function of them."""
    model.zero_grad()
    features = model.encode_text(captions())
    weights = torch.linspace(-1, 1, features.numel(), dtype=features.dtype).view_as(features)
    (features * weights).sum().backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return {"features": features.detach(), **gradients}


def test_the_work_is_that_of_the_tokens(monkeypatch):
    model = CLIP(CONFIG).eval()
    rows = []
    model.transformer.resblocks[0].mlp.c_fc.register_forward_hook(
        lambda _, inputs, __: rows.append(inputs[0].numel() // CONFIG.text_width)
    )
    with torch.no_grad():
        model.encode_text(captions())
        model.encode_text(captions((3, 3, 3), width=12))  # cut to the longest
        monkeypatch.setattr(clip_module, "packing_of", lambda *_: None)
        model.encode_text(captions())
    assert rows == [sum(LENGTHS), 9, 4 * 12]


def test_numbers_that_overflow_behind_the_end_do_no_harm():
    """What fills the padding is finite wherever the texts are."""
    model = CLIP(dataclasses.replace(CONFIG, text_layers=2))
    with torch.no_grad():
        model.positional_embedding[9:] = math.nan  # only the longest text has these places
        features = model.encode_text(captions((3, 12, 2, 9)))
    assert features.isfinite().all(dim=1).tolist() == [True, False, True, True]
