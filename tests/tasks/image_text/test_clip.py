"""Properties of CLIP: what may not change a feature, what starts how, what is refused."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch

from maquette.tasks.image_text.architectures import CONFIGURATIONS, ClipConfig
from maquette.tasks.image_text.clip import CLIP, QuickGELU
from maquette.tasks.image_text.positions import resample_image_positions, resample_text_positions

VIT = ClipConfig(
    embed_dim=12,
    image_size=24,
    patch_size=8,
    vision_width=16,
    vision_layers=2,
    vision_heads=2,
    text_width=16,
    text_layers=2,
    text_heads=2,
    vocab_size=40,
    context_length=10,
)
RESNET = dataclasses.replace(
    VIT, vision="resnet", patch_size=None, image_size=64, vision_width=4,
    vision_layers=(1, 1, 1, 1), vision_heads=2,
)  # fmt: skip
BOTH = pytest.mark.parametrize("config", [VIT, RESNET], ids=["vit", "resnet"])


def build(config: ClipConfig = VIT, **options) -> CLIP:
    torch.manual_seed(0)
    return CLIP(config, **options).eval()


def pixels(config: ClipConfig, batch: int = 4, side: int | None = None) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(batch, 3, side or config.image_size, side or config.image_size)


def ids(batch: int = 4, length: int = 10) -> torch.Tensor:
    """Texts of different lengths: start 38, words, end 39, zeros."""
    torch.manual_seed(2)
    rows = torch.zeros(batch, length, dtype=torch.int64)
    for row in range(batch):
        words = torch.randint(0, 38, (row % (length - 2),))
        rows[row, : len(words) + 2] = torch.cat([torch.tensor([38]), words, torch.tensor([39])])
    return rows


@BOTH
def test_shapes_order_and_batch_of_one(config):
    model, images, texts = build(config), pixels(config), ids()
    with torch.no_grad():
        image_features, text_features = model(images, texts)
        assert image_features.shape == text_features.shape == (4, 12)
        order = torch.tensor([2, 0, 3, 1])
        shuffled = model(images[order], texts[order])
        alone = model(images[1:2], texts[1:2])
    torch.testing.assert_close(shuffled[0], image_features[order])
    torch.testing.assert_close(shuffled[1], text_features[order])
    torch.testing.assert_close(alone[0], image_features[1:2])
    torch.testing.assert_close(alone[1], text_features[1:2])


@BOTH
def test_an_empty_batch(config):
    image_features, text_features = build(config)(pixels(config)[:0], ids()[:0])
    assert image_features.shape == text_features.shape == (0, 12)


def test_padding_is_never_read():
    model, texts = build().double(), ids()
    longest = int(texts.argmax(dim=1).max()) + 1
    other = texts.clone()
    for row in range(4):
        other[row, int(texts[row].argmax()) + 1 :] = 7
    with torch.no_grad():
        expected = model.encode_text(texts)
        torch.testing.assert_close(
            model.encode_text(texts[:, :longest]), expected, rtol=0, atol=1e-12
        )
        torch.testing.assert_close(model.encode_text(other), expected, rtol=0, atol=1e-12)


def test_trimmed_texts_have_the_same_gradients():
    texts = ids()
    longest = int(texts.argmax(dim=1).max()) + 1
    gradients = []
    for cut in (texts, texts[:, :longest]):
        model = build().double()
        model.encode_text(cut).sin().sum().backward()
        gradients.append({k: p.grad for k, p in model.named_parameters() if p.grad is not None})
    assert longest < 10
    for key, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], value, rtol=0, atol=1e-12)


def test_the_first_end_token_is_read():
    texts = ids()
    texts[3, 7:] = 39
    again = texts.clone()
    again[3, 7:] = 0
    model = build()
    with torch.no_grad():
        torch.testing.assert_close(model.encode_text(texts), model.encode_text(again))


def test_every_word_before_the_end_matters():
    model, texts = build(), ids()
    with torch.no_grad():
        before = model.encode_text(texts)
        texts[3, 1] = (texts[3, 1] + 1) % 38
        after = model.encode_text(texts)
    assert torch.equal(before[:3], after[:3])
    assert not torch.allclose(before[3], after[3])


@BOTH
def test_other_image_sizes_leave_the_table_alone_and_pass_gradients(config):
    model = build(config)
    table = (
        "visual.positional_embedding" if config is VIT else ("visual.attnpool.positional_embedding")
    )
    before = copy.deepcopy(model.state_dict())
    for side in (2 * config.stride, 5 * config.stride, config.image_size):
        model.zero_grad()
        features = model.encode_image(pixels(config, 2, side))
        assert features.shape == (2, 12)
        features.sum().backward()
        gradient = model.get_parameter(table).grad
        assert gradient is not None
        assert gradient.abs().sum() > 0
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(("old", "new"), [(7, 3), (3, 7), (4, 1), (2, 12), (1, 4)])
def test_positions_are_resampled_as_by_pytorch(old, new, antialias):
    table = torch.randn(1 + old**2, 6, dtype=torch.float64, requires_grad=True)
    grid = table[1:].T.reshape(1, 6, old, old)
    expected = torch.nn.functional.interpolate(
        grid, size=(new, new), mode="bicubic", align_corners=False, antialias=antialias
    )
    expected = torch.cat([table[:1], expected.reshape(6, new**2).T])
    found = resample_image_positions(table, grid=new, antialias=antialias)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    weights = torch.randn_like(found)
    theirs = torch.autograd.grad((expected * weights).sum(), table)
    ours = torch.autograd.grad((found * weights).sum(), table)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_positions_of_the_same_size_are_the_table_itself():
    table = torch.randn(10, 6)
    assert resample_image_positions(table, grid=3, antialias=True) is table
    assert resample_text_positions(table, length=10) is table


def test_positions_are_resampled_in_full_precision_under_autocast():
    table = torch.randn(10, 6)
    expected = resample_image_positions(table, grid=5, antialias=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(resample_image_positions(table, grid=5, antialias=True), expected)


def test_text_positions_are_resampled_linearly():
    table = torch.arange(4.0)[:, None].expand(4, 3)
    found = resample_text_positions(table, length=8)
    expected = torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])
    torch.testing.assert_close(found, expected[:, None].expand(8, 3))


@BOTH
def test_attention_may_be_changed_later(config):
    model, images, texts = build(config, attention="explicit").double(), pixels(config), ids()
    images = images.double()
    with torch.no_grad():
        expected = model(images, texts)
        for impl in ("fused", "sliced", "chunked"):
            model.attention = impl
            assert model.attention == impl
            assert {m.impl for m in model.modules() if hasattr(m, "impl")} == {impl}
            torch.testing.assert_close(model(images, texts), expected, rtol=0, atol=1e-10)


@BOTH
def test_bfloat16_autocast_stays_near(config):
    model, images, texts = build(config), pixels(config), ids()
    with torch.no_grad():
        expected = model(images, texts)
        with torch.autocast("cpu", torch.bfloat16):
            found = model(images, texts)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.nn.functional.cosine_similarity(ours.float(), theirs).min() > 0.99


def test_quick_gelu_is_its_formula():
    x = torch.linspace(-8, 8, 101, dtype=torch.float64, requires_grad=True)
    expected = x * torch.sigmoid(1.702 * x)
    torch.testing.assert_close(QuickGELU()(x), expected, rtol=0, atol=1e-14)
    assert torch.autograd.gradcheck(QuickGELU(), x)


def test_weights_start_as_in_the_paper():
    torch.manual_seed(0)
    model = CLIP(CONFIGURATIONS["clip_tiny"].with_vocabulary(2000, 77))
    state, width, layers = model.state_dict(), 128, 4
    residual = width**-0.5 * (2 * layers) ** -0.5
    scales = {
        "token_embedding.weight": 0.02,
        "positional_embedding": 0.01,
        "text_projection": width**-0.5,
        "transformer.resblocks.2.attn.in_proj_weight": width**-0.5,
        "transformer.resblocks.2.attn.out_proj.weight": residual,
        "transformer.resblocks.2.mlp.c_fc.weight": (2 * width) ** -0.5,
        "transformer.resblocks.2.mlp.c_proj.weight": residual,
        "visual.proj": width**-0.5,
        "visual.positional_embedding": width**-0.5,
        "visual.transformer.resblocks.1.attn.in_proj_weight": math.sqrt(2 / (4 * width)),
        "visual.transformer.resblocks.1.mlp.c_fc.weight": math.sqrt(1 / (3 * width)),
    }
    for key, scale in scales.items():
        assert state[key].std().item() == pytest.approx(scale, rel=0.05), key
    assert model.logit_scale.item() == pytest.approx(math.log(1 / 0.07))
    assert model.logit_scale.ndim == 0
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.LayerNorm)):
        assert norm.eps == 1e-5


def test_resnet_blocks_begin_as_their_shortcuts():
    state = build(RESNET).state_dict()
    lasts = [
        value for key, value in state.items() if key.endswith(".bn3.weight") and "layer" in key
    ]
    assert len(lasts) == 4
    assert all(value.eq(0).all() for value in lasts)


@BOTH
def test_activation_checkpointing_saves_tensors(config):
    saved = []
    for checkpointing in (False, True):
        model = build(config, activation_checkpointing=checkpointing).train()
        count = [0]

        def pack(tensor, count=count):
            count[0] += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(pixels(config), ids())
        saved.append(count[0])
    assert saved[1] < saved[0] / 2


@pytest.mark.parametrize(
    ("config", "shape", "message"),
    [
        (VIT, (2, 3, 24, 32), "images are 24 × 32 pixels; expected squares with a side that is a "
         "multiple of 8, as 32."),
        (VIT, (2, 3, 20, 20), "images are 20 × 20 pixels; expected squares with a side that is a "
         "multiple of 8, as 16."),
        (RESNET, (2, 3, 8, 8), "a multiple of 32, as 32."),
        (VIT, (2, 1, 24, 24), r"image_BCHW is (2, 1, 24, 24), expected (B, 3, H, W)"),
    ],
)  # fmt: skip
def test_other_images_are_refused(config, shape, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared
        build(config).encode_image(torch.zeros(shape))
    assert message in str(caught.value)


@pytest.mark.parametrize("shape", [(10,), (2, 11), (2, 0)])
def test_other_texts_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(B, T\) with T from 1 to 10, the model's co"):
        build().encode_text(torch.zeros(shape, dtype=torch.int64))
