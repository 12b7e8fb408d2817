"""Whole networks: any size, gradients everywhere, layouts, seeds, learning, messages."""

from __future__ import annotations

import math
from dataclasses import asdict

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from unet_seg.blocks import NORMS
from unet_seg.config import Config, ModelConfig, config_to_dict
from unet_seg.errors import SegError
from unet_seg.models import MODELS, UNet, build_model, count_parameters, pad_image

SMALL = {"widths": (4, 8, 12), "dim": 16, "depth": 2, "heads": 2, "num_classes": 5}
VARIANTS = [
    {},
    {"stem_stride": 2, "norm": "group", "activation": "gelu", "window": 2},
    {"stem_stride": 4, "norm": "instance", "down": "conv", "up": "transpose", "residual": True},
    {"widths": (4,), "attention": "fused", "convs_per_stage": 1, "activation": "leaky_relu"},
]
SIZES = [(16, 16), (1, 1), (7, 13), (33, 18), (3, 40)]


def small(name: str, *, seed: int = 0, **changes: object) -> UNet:
    torch.manual_seed(seed)
    return build_model({"name": name, **SMALL, **changes})


def lively(net: UNet) -> UNet:
    """Give a network logits and running statistics that an error would show in."""
    with torch.no_grad():
        net.head.conv.weight.normal_()
        net.train()(torch.randn(2, 3, 32, 32))
    return net.eval()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_any_size_in_training_and_in_use(name, variant):
    net = small(name, **variant)
    for size in SIZES:
        for training in (True, False):
            logits = net.train(training)(torch.randn(1, 3, *size))
            assert logits.shape == (1, 5, *size)
            assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("norm", NORMS)
def test_one_pixel_trains(name, norm):
    """A batch of one 1x1 image leaves a norm one value; padding gives it a second."""
    net = small(name, norm=norm)
    net(torch.randn(1, 3, 1, 1)).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("variant", [*VARIANTS, {"deep_supervision": True}])
def test_gradient_reaches_every_parameter(name, variant):
    net = small(name, **variant)
    levels = net.forward_all(torch.randn(2, 3, 21, 34))
    sum((level * torch.randn_like(level)).sum() for level in levels).backward()
    dead = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_an_image_to_the_stride_changes_nothing(name, variant):
    net = lively(small(name, **variant))
    image = torch.randn(2, 3, 19, 30)
    padded = F.pad(image, (0, -30 % net.stride, 0, -19 % net.stride))
    torch.testing.assert_close(net(padded)[..., :19, :30], net(image))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_both_memory_layouts_give_the_same(name, variant):
    net = lively(small(name, **variant))
    image = torch.randn(2, 3, 24, 17)
    expected = net(image)
    net.to(memory_format=torch.channels_last)
    actual = net(image.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_images_of_a_batch_do_not_meet_in_use(name):
    net = lively(small(name))
    images = torch.randn(3, 3, 20, 20)
    alone = torch.cat([net(image[None]) for image in images])
    torch.testing.assert_close(net(images), alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_the_seed_decides_the_weights(name):
    one, same, other = (small(name, seed=s).state_dict() for s in (3, 3, 4))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", MODELS)
def test_first_loss_is_near_that_of_a_uniform_guess(name):
    torch.manual_seed(0)
    logits = small(name)(torch.randn(4, 3, 32, 32))
    loss = F.cross_entropy(logits, torch.randint(5, (4, 32, 32)))
    assert float(loss.detach()) == pytest.approx(math.log(5), abs=0.8)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("stem_stride", [1, 2])
def test_overfits_one_batch(name, stem_stride):
    net = small(name, widths=(8, 16, 24), stem_stride=stem_stride, num_classes=3)
    image = torch.randn(2, 3, 16, 24)
    target = (image[:, 0] > 0).long() + (torch.arange(24) > 11)  # each pixel's value, and its place
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for _ in range(120):
        loss = F.cross_entropy(net(image), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    accuracy = (net(image).argmax(1) == target).float().mean()
    assert accuracy > 0.98


def test_deep_supervision_gives_every_decoder_level_while_training():
    net = small("unet", widths=(4, 6, 8, 10), deep_supervision=True)
    image = torch.randn(1, 3, 21, 34)
    shapes = [tuple(level.shape) for level in net.forward_all(image)]
    assert shapes == [(1, 5, 21, 34), (1, 5, 11, 17), (1, 5, 6, 9)]
    assert len(net.eval().forward_all(image)) == 1
    torch.testing.assert_close(net.forward_all(image)[0], net(image))


def test_deep_supervision_counts_from_the_image_under_a_stem():
    net = small("unet", widths=(4, 6, 8), stem_stride=2, deep_supervision=True)
    shapes = [tuple(level.shape[2:]) for level in net.forward_all(torch.randn(1, 3, 24, 33))]
    assert shapes == [(24, 33), (6, 9)]


@pytest.mark.parametrize(
    ("changes", "stride"), [({}, 4), ({"stem_stride": 4}, 16), ({"widths": (4,)}, 1)]
)
def test_stride_is_the_image_pixels_of_the_coarsest_level(changes, stride):
    net = small("unet", **changes)
    assert net.stride == stride
    seen: list[Tensor] = []
    net.bottleneck.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    net(torch.randn(1, 3, 3 * stride, 2 * stride))
    assert seen[0].shape[2:] == (3, 2)


def test_padding_is_zeros_right_and_bottom():
    image = torch.ones(1, 1, 3, 5)
    padded = pad_image(image, 4)
    assert padded.shape == (1, 1, 4, 8)
    assert torch.equal(padded[..., :3, :5], image)
    assert padded.sum() == image.sum()
    assert pad_image(torch.ones(1, 1, 4, 8), 4).shape == (1, 1, 4, 8)
    assert pad_image(image[..., :3, :3], 4).shape == (1, 1, 4, 8)  # a norm needs a second pixel


def test_dropout_silences_whole_channels_of_the_coarsest_level():
    net = small("unet", dropout=0.5)
    seen: list[Tensor] = []
    net.dropout.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    net(torch.randn(1, 3, 32, 32))
    silent = (seen[0] == 0).all(-1).all(-1)
    assert 0 < int(silent.sum()) < silent.numel()
    net.eval()
    image = torch.randn(1, 3, 8, 8)
    assert torch.equal(net(image), net(image))


def test_the_hybrid_sees_the_whole_image_and_the_baseline_does_not():
    image = torch.randn(1, 3, 64, 64)
    changed = image.clone()
    changed[..., 60:, 60:] = torch.randn(1, 3, 4, 4)
    far = {}
    for name in MODELS:
        net = lively(small(name))
        far[name] = not torch.allclose(net(image)[..., :4, :4], net(changed)[..., :4, :4])
    assert far == {"unet": False, "unet_transformer": True}


def test_attention_kinds_agree_with_the_same_weights():
    nets = [lively(small("unet_transformer", attention=kind)) for kind in ("explicit", "fused")]
    image = torch.randn(2, 3, 20, 28)
    torch.testing.assert_close(nets[0](image), nets[1](image), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_trains_in_bf16(name):
    net = small(name, window=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = net(torch.randn(2, 3, 18, 27))
    assert logits.dtype == torch.bfloat16
    logits.float().square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


def test_build_model_takes_a_config_or_its_section_or_their_plain_values():
    config = Config()
    section = ModelConfig(in_channels=3, num_classes=len(config.data.classes))
    shapes = [
        {key: tensor.shape for key, tensor in build_model(given).state_dict().items()}
        for given in (config, section, config_to_dict(config), asdict(section))
    ]
    assert shapes[1:] == shapes[:1] * 3
    assert build_model({"num_classes": 2}).in_channels == 3


def test_count_parameters_counts_trained_numbers():
    net = small("unet", widths=(4,), convs_per_stage=1)
    assert count_parameters(net) == 3 * 4 * 9 + 2 * 4 + 4 * 5 + 5  # conv, norm, head and its bias
    net.head.requires_grad_(requires_grad=False)
    assert count_parameters(net) == 3 * 4 * 9 + 2 * 4


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "unet_transfomer", "num_classes": 2}, r"is unknown. Did you mean unet_transform"),
        ({"name": "x", "num_classes": 2}, "name='x' is unknown. Choose one of: unet, unet_transf"),
        ({"name": "unet"}, "model.num_classes is missing; give it, or a whole configuration"),
        ({"num_classes": 0}, "model.num_classes=0: at least 1"),
        ({"num_classes": 2, "in_channels": 0}, "model.in_channels=0: at least 1"),
        ({"num_classes": 2, "width": 3}, "unknown key model.width. Did you mean model.widths"),
    ],
)
def test_what_cannot_be_built_is_named(config, message):
    with pytest.raises(SegError, match=message):
        build_model(config)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 1, 8, 8), r"image has shape \(1, 1, 8, 8\); axis 1 \(3\) is 1, expected 3"),
        ((3, 8, 8), r"image has shape \(3, 8, 8\), which is 3 axes; expected 4"),
        ((1, 3, 0, 8), r"image has shape \(1, 3, 0, 8\), which holds no pixels"),
        ((0, 3, 8, 8), r"image has shape \(0, 3, 8, 8\), which holds no pixels"),
    ],
)
def test_what_is_no_image_is_named(shape, message):
    with pytest.raises(SegError, match=message):
        small("unet")(torch.zeros(shape))
