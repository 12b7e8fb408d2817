"""The multiply-add count against formulas and against PyTorch's own counter."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from unet_seg.flops import count_flops
from unet_seg.models import MODELS, UNet, build_model


def small(name: str, **changes: object) -> UNet:
    return build_model({"name": name, "widths": (4, 8), "dim": 16, "num_classes": 5, **changes})


def test_by_hand():
    net = small("unet", widths=(4,), convs_per_stage=2)
    counts = count_flops(net, (3, 6, 10))
    first, second, head = 60 * 3 * 4 * 9, 60 * 4 * 4 * 9, 60 * 4 * 5
    assert counts["encoder.0.layers.0.conv"] == first
    assert counts["encoder.0"] == first + second
    assert counts["head"] == head
    assert counts["total"] == first + second + head


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"stem_stride": 2, "residual": True, "down": "conv", "up": "transpose"},
        {"window": 2, "depth": 3},
        {"attention": "fused"},
    ],
)
def test_pytorchs_counter_agrees(name, variant):
    net = small(name, **variant).eval()
    shape = (3, 13, 22)
    explicit = small(name, **{**variant, "attention": "explicit"}).eval()  # it knows matmuls only
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        explicit(torch.zeros(1, *shape))
    assert 2 * count_flops(net, shape)["total"] == counter.get_total_flops()


@pytest.mark.parametrize("name", MODELS)
def test_parts_add_up(name):
    net = small(name, deep_supervision=True)
    counts = count_flops(net, (3, 16, 16))
    assert set(counts) == {"total"} | {key for key, _ in net.named_modules() if key}
    assert counts["total"] == sum(counts[key] for key, _ in net.named_children())
    assert counts["encoder"] == sum(counts[f"encoder.{i}"] for i in range(2))


def test_four_times_the_pixels_cost_four_times_the_convolutions():
    net = small("unet")
    one, four = (count_flops(net, (3, size, size))["total"] for size in (32, 64))
    assert four == 4 * one


def test_the_model_stays_as_it_was():
    net = small("unet").train()
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    count_flops(net, (3, 1024, 1024))
    assert net.training
    assert all(torch.equal(tensor, before[key]) for key, tensor in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


def test_any_module_of_images_can_be_counted():
    net = nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.ConvTranspose2d(6, 4, 2, stride=2))
    counts = count_flops(net, (3, 10, 10))
    assert counts == {"0": 64 * 6 * 9, "1": 64 * 6 * 4 * 4, "total": 64 * (6 * 9 + 6 * 4 * 4)}
