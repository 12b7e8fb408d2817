"""Convolutional parts: shapes, what norms and activations compute, initial weights, messages."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unet_seg.blocks import (
    ACTIVATIONS,
    NORMS,
    DownBlock,
    Head,
    Stage,
    UpBlock,
    init_he,
    make_activation,
    make_norm,
    make_stem,
)
from unet_seg.errors import SegError


def stage(in_channels: int, out_channels: int, *, residual: bool = False, num_convs: int = 2):
    return Stage(
        in_channels,
        out_channels,
        num_convs=num_convs,
        norm="batch",
        activation="relu",
        residual=residual,
    )


@pytest.mark.parametrize("kind", NORMS)
def test_norms_give_mean_0_and_variance_1_over_what_they_normalise(kind):
    torch.manual_seed(0)
    x = torch.randn(3, 12, 5, 7) * 3 + 2
    y = make_norm(kind, 12).train()(x)
    axes, y = {  # 12 channels make 6 groups of 2
        "batch": ((0, 2, 3), y),
        "group": ((2, 3, 4), y.reshape(3, 6, 2, 5, 7)),
        "instance": ((2, 3), y),
    }[kind]
    torch.testing.assert_close(y.mean(axes), torch.zeros_like(y.mean(axes)), atol=1e-5, rtol=0)
    variance = y.var(axes, correction=0)
    torch.testing.assert_close(variance, torch.ones_like(variance), atol=1e-4, rtol=0)


def test_instance_norm_is_pytorchs():
    x = torch.randn(2, 6, 5, 4)
    torch.testing.assert_close(make_norm("instance", 6)(x), F.instance_norm(x))


@pytest.mark.parametrize(("channels", "groups"), [(16, 8), (12, 6), (10, 5), (7, 7), (11, 1)])
def test_group_norm_takes_the_largest_divisor_up_to_8(channels, groups):
    norm = make_norm("group", channels)
    assert isinstance(norm, nn.GroupNorm)
    assert norm.num_groups == groups


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activations_are_the_functions_of_their_names(kind):
    x = torch.linspace(-3, 3, 13)
    torch.testing.assert_close(make_activation(kind)(x.clone()), getattr(F, kind)(x))


@pytest.mark.parametrize("num_convs", [1, 2, 3])
def test_stage_has_that_many_convolutions_and_keeps_the_size(num_convs):
    net = stage(3, 8, num_convs=num_convs)
    assert net(torch.randn(2, 3, 5, 9)).shape == (2, 8, 5, 9)
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert [c.in_channels for c in convolutions] == [3, 8, 8][:num_convs]
    assert all(c.kernel_size == (3, 3) and c.bias is None for c in convolutions)


@pytest.mark.parametrize("in_channels", [8, 3])
def test_residual_stage_with_silent_convolutions_is_its_shortcut(in_channels):
    net = stage(in_channels, 8, residual=True)
    for part in net.layers.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.zeros_(part.weight)
    x = torch.randn(2, in_channels, 4, 4)
    assert net.shortcut is not None
    torch.testing.assert_close(net(x), net.shortcut(x).relu())


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_stem_shows_every_pixel_to_the_stage(stride):
    image = torch.arange(3.0 * 8 * 12).reshape(1, 3, 8, 12)
    seen: list[torch.Tensor] = []
    inner = stage(3 * stride**2, 5)
    inner.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    assert make_stem(stride, inner)(image).shape == (1, 5, 8 // stride, 12 // stride)
    assert torch.equal(seen[0].flatten().sort().values, image.flatten())
    block = image[0, :, stride : 2 * stride, :stride]  # channels of one pixel = one block
    assert torch.equal(seen[0][0, :, 1, 0] if stride > 1 else image[0, :, 1, 0], block.flatten())


@pytest.mark.parametrize("kind", ["max_pool", "conv"])
def test_down_halves(kind):
    block = DownBlock(4, stage(4, 6), kind=kind)
    assert block(torch.randn(2, 4, 6, 10)).shape == (2, 6, 3, 5)


@pytest.mark.parametrize("kind", ["transpose", "bilinear"])
def test_up_doubles_and_joins_the_skip(kind):
    block = UpBlock(6, 4, stage(8, 4), kind=kind)
    seen: list[torch.Tensor] = []
    block.stage.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    skip = torch.randn(2, 4, 6, 10)
    assert block(torch.randn(2, 6, 3, 5), skip).shape == (2, 4, 6, 10)
    assert torch.equal(seen[0][:, 4:], skip)  # [deep, skip]


def test_bilinear_up_may_convolve_before_it_interpolates():
    block = UpBlock(6, 4, stage(8, 4), kind="bilinear")
    seen: list[torch.Tensor] = []
    block.stage.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    deep = torch.randn(2, 6, 3, 5)
    block(deep, torch.randn(2, 4, 6, 10))
    late = block.up(F.interpolate(deep, scale_factor=2, mode="bilinear", align_corners=False))
    torch.testing.assert_close(seen[0][:, :4], late)


@torch.no_grad()
def test_head_starts_as_one_prediction_for_each_block():
    torch.manual_seed(0)
    head = Head(16, 5, stride=4)
    logits = head(torch.randn(2, 16, 3, 4))
    assert logits.shape == (2, 5, 12, 16)
    blocks = logits.reshape(2, 5, 3, 4, 4, 4)
    assert torch.equal(blocks, blocks[:, :, :, :1, :, :1].expand_as(blocks))
    assert 0.3 < float(logits.std()) < 3  # unit variance in, about unit variance out


@torch.no_grad()
def test_he_init_keeps_the_mean_square_through_relu():
    torch.manual_seed(0)
    x = torch.randn(2, 64, 32, 32)
    for layer in (nn.Conv2d(64, 64, 3, padding=1), nn.ConvTranspose2d(64, 64, 2, stride=2)):
        init_he(layer)
        y = layer(x).relu()[:, :, 1:-1, 1:-1]
        assert float(y.square().mean()) == pytest.approx(1, rel=0.1)
        assert layer.bias is not None
        assert not layer.bias.any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_norm("layer", 4), "norm='layer' is unknown; expected one of batch, group, i"),
        (lambda: make_activation("tanh"), "activation='tanh' is unknown; expected one of relu, le"),
        (lambda: DownBlock(4, stage(4, 4), kind="avg"), "down='avg' is unknown; expected max_pool"),
        (lambda: UpBlock(4, 4, stage(8, 4), kind="nn"), "up='nn' is unknown; expected transpose"),
    ],
)
def test_unknown_parts_are_named(make, message):
    with pytest.raises(SegError, match=message):
        make()
