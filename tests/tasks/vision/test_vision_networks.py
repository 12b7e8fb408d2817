"""What holds for every vision network: shapes, independence, learning, initialisation."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from maquette.tasks.vision.efficientnet import EfficientNet, scaled_channels
from maquette.tasks.vision.models import MODELS
from maquette.tasks.vision.resnet import BasicBlock, Bottleneck, ResNet

SMALLEST = ("resnet18", "resnet50", "efficientnet_b0")
"""One of each kind of block; the others differ in repeats and widths alone."""


def build(name: str, *, num_classes: int = 4, **options):
    torch.manual_seed(0)
    if name.startswith("resnet"):
        options = {"base_width": 16} | options
    return MODELS[name](num_classes=num_classes, **options)


@pytest.mark.parametrize("stem", ["standard", "small"])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (33, 64)])
@pytest.mark.parametrize("name", SMALLEST)
def test_any_image_size_in_evaluation(name, size, stem):
    logits = build(name, stem=stem).eval()(torch.randn(2, 3, *size))
    assert logits.shape == (2, 4)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", SMALLEST)
def test_an_image_is_scored_alike_in_any_order_and_alone(name):
    model = build(name, stem="small", dropout=0.5, drop_path=0.5).eval()
    images = torch.randn(5, 3, 16, 16)
    order = torch.tensor([3, 0, 4, 2, 1])
    with torch.no_grad():
        scores = model(images)
        torch.testing.assert_close(model(images[order]), scores[order], rtol=0, atol=1e-5)
        torch.testing.assert_close(model(images[2:3]), scores[2:3], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", SMALLEST)
def test_channels_last_changes_the_layout_and_not_the_numbers(name):
    model = build(name, stem="small").eval()
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        expected = model(images)
        model = model.to(memory_format=torch.channels_last)
        found = model(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", SMALLEST)
def test_overfits_one_batch(name):
    model = build(name, stem="small")
    images, targets = torch.randn(8, 3, 12, 12), torch.arange(8) % 4
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(30):
        loss = F.cross_entropy(model(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0"])
def test_every_parameter_learns(name):
    model = build(name)
    F.cross_entropy(model(torch.randn(4, 3, 64, 64)), torch.arange(4)).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("num_classes", [2, 100])
@pytest.mark.parametrize("name", SMALLEST)
def test_first_loss_is_near_that_of_guessing(name, num_classes):
    model = build(name, num_classes=num_classes, stem="small")
    targets = torch.arange(32) % num_classes
    loss = F.cross_entropy(model(torch.randn(32, 3, 32, 32)), targets)
    assert loss.item() == pytest.approx(math.log(num_classes), abs=0.35)


@pytest.mark.parametrize("name", SMALLEST)
@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 8, 8, 3), (2, 1, 8, 8)])
def test_a_wrong_input_is_answered_with_the_right_shape(name, shape):
    with pytest.raises(ValueError, match=r"expected \(B, 3, H, W\); channels-last images need"):
        build(name)(torch.zeros(shape))


@pytest.mark.parametrize("name", SMALLEST)
def test_other_channel_counts(name):
    assert build(name, in_channels=5)(torch.randn(2, 5, 32, 32)).shape == (2, 4)


@pytest.mark.parametrize(("stem", "reduction"), [("standard", 32), ("small", 8)])
@pytest.mark.parametrize(("name", "last"), [("resnet18", "layer4"), ("efficientnet_b0", "blocks")])
def test_how_far_the_sides_shrink(name, last, stem, reduction):
    model = build(name, stem=stem).eval()
    grids = []
    hook = model.get_submodule(last).register_forward_hook(
        lambda _module, _inputs, output: grids.append(output.shape[2:])
    )
    model(torch.zeros(1, 3, 64, 96))
    hook.remove()
    assert grids == [(64 // reduction, 96 // reduction)]


def test_a_smaller_stem_of_an_efficientnet_takes_the_same_weights():
    small, standard = build("efficientnet_b0", stem="small"), build("efficientnet_b0")
    small.load_state_dict(standard.state_dict())


def test_stochastic_depth_grows_with_depth():
    resnet = ResNet(block=BasicBlock, depths=(1, 1, 1, 2), num_classes=2, drop_path=0.4)
    rates = [block.drop_path.probability for block in resnet.modules() if type(block) is BasicBlock]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])

    efficientnet = EfficientNet(width=1.0, depth=1.0, num_classes=2, drop_path=0.2)
    rates = [block.drop_path.probability for stage in efficientnet.blocks for block in stage]
    assert rates == pytest.approx([0.2 * index / 16 for index in range(16)])


@pytest.mark.parametrize("name", SMALLEST)
def test_kernels_start_with_the_deviation_of_he_et_al(name):
    for module in MODELS[name](num_classes=2).modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 5000:
            fan_out = module.weight[:, 0].numel() / module.groups
            wanted = math.sqrt(2 / fan_out)
            assert module.weight.std().item() == pytest.approx(wanted, rel=0.05)


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_zero_init_last_starts_each_block_as_its_shortcut(block):
    torch.manual_seed(0)
    model = ResNet(
        block=block, depths=(2, 1, 1, 1), num_classes=2, base_width=8, zero_init_last=True
    )
    x = torch.rand(2, 8 * block.expansion, 4, 4)
    torch.testing.assert_close(model.layer1[1](x), x)


@pytest.mark.parametrize(
    ("channels", "width", "expected"),
    [(32, 1.0, 32), (32, 1.2, 40), (40, 1.1, 48), (16, 1.1, 16), (1280, 1.1, 1408), (3, 1.0, 8)],
)
def test_scaled_channels(channels, width, expected):
    assert scaled_channels(channels, width) == expected
