"""What losses refuse, and the loss that a configuration asks for."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from loss_cases import make

from unet_seg.config import LossConfig
from unet_seg.errors import SegError
from unet_seg.losses import FORMULAS, LOSSES, build_loss, supervised

NAMES = tuple(LOSSES)


# Contracts


def test_names_and_options():
    assert tuple(FORMULAS) == NAMES
    assert set(NAMES) >= {
        *("dice", "bce_dice", "ce", "ce_dice", "focal"),
        *("tversky", "lovasz", "ce_lovasz", "boundary"),
    }
    assert LOSSES["dice"].__name__ == "dice"
    assert "soft dice" in LOSSES["dice"].__doc__.lower()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"target": torch.zeros(2, 4, 6, dtype=torch.int64)},
            "target has shape (2, 4, 6); axis 2 (W)",
        ),
        ({"target": torch.zeros(2, 1, 4, 5, dtype=torch.int64)}, "expected 3: (B, H, W)"),
        ({"target": torch.zeros(2, 4, 5)}, "target has dtype float32, expected int64"),
        ({"target": torch.zeros(2, 4, 5, dtype=torch.uint8)}, "with .to(torch.int64)"),
        ({"target": torch.full((2, 4, 5), 3)}, "holds the class id 3, but logits has 3 channels: "),
        ({"target": torch.full((2, 4, 5), -1)}, "holds the class id -1"),
        ({"logits": torch.zeros(2, 4, 5)}, "logits has shape (2, 4, 5), which is 3 axes"),
        ({"logits": torch.zeros(2, 3, 4, 5, dtype=torch.int64)}, "logits has dtype int64"),
        ({"valid": torch.ones(2, 4, 5)}, "valid has dtype float32, expected bool"),
        ({"valid": torch.ones(2, 5, 4, dtype=torch.bool)}, "valid has shape (2, 5, 4)"),
        ({"class_weights": torch.ones(2)}, "class_weights has shape (2,), expected (3,)"),
    ],
)
@pytest.mark.parametrize("name", ["ce_dice", "boundary"])
def test_arguments_that_do_not_fit_are_refused(name, change, message):
    arguments = {
        "logits": torch.zeros(2, 3, 4, 5),
        "target": torch.zeros(2, 4, 5, dtype=torch.int64),
    } | change
    with pytest.raises(SegError) as error:
        LOSSES[name](**arguments)
    assert message in str(error.value)


def test_binary_messages():
    logits = torch.zeros(1, 1, 2, 2)
    with pytest.raises(SegError, match="1 channel, read as two classes: ids 0 to 1"):
        LOSSES["ce_dice"](logits, torch.full((1, 2, 2), 2))
    target = torch.zeros(1, 2, 2, dtype=torch.int64)
    with pytest.raises(SegError, match=r"expected \(2,\)"):
        LOSSES["ce"](logits, target, class_weights=torch.ones(1))


def test_an_empty_batch_is_refused():
    with pytest.raises(SegError, match="holds no pixel"):
        LOSSES["ce"](torch.zeros(0, 2, 4, 4), torch.zeros(0, 4, 4, dtype=torch.int64))


# The configured loss


def test_build_loss_passes_weights_and_options():
    logits, target, valid = make(3)
    config = LossConfig(name="tversky", class_weights=(1.0, 2.0, 3.0), options={"beta": 0.9})
    expected_loss = LOSSES["tversky"](
        logits, target, valid=valid, class_weights=torch.tensor([1.0, 2.0, 3.0]), beta=0.9
    )
    assert torch.equal(build_loss(config, 3)(logits, target, valid), expected_loss)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LossConfig(name="dise"), "loss.name='dise' is unknown. Did you mean dice? Choose one of"),
        (LossConfig(name="focal", options={"gama": 1.0}), "focal has no such option. It has gamma"),
        (LossConfig(name="ce", options={"gamma": 1.0}), "ce has no such option. It has none"),
        (LossConfig(name="focal", options={"gamma": -1.0}), "loss.options.gamma=-1 must be a num"),
        (LossConfig(name="dice", options={"smooth": math.inf}), "loss.options.smooth=inf must be"),
        (LossConfig(class_weights=(1.0, 2.0)), "loss.class_weights has 2 numbers, expected 3"),
    ],
)
def test_build_loss_refuses(config, message):
    with pytest.raises(SegError) as error:
        build_loss(config, 3)
    assert message in str(error.value)


@pytest.mark.parametrize("name", NAMES)
def test_every_loss_is_built_by_its_name(name):
    logits, target, valid = make(3)
    value = build_loss(LossConfig(name=name), 3)(logits, target, valid)
    assert torch.equal(value, LOSSES[name](logits, target, valid=valid))


def test_supervision_of_one_level_is_the_loss():
    logits, target, valid = make(3)
    loss = build_loss(LossConfig(), 3)
    assert torch.equal(supervised(loss, [logits], target, valid), loss(logits, target, valid))


def test_each_coarser_level_weighs_half():
    calls = []

    def loss(logits, target, valid):
        calls.append((tuple(target.shape), valid))
        return logits.mean()

    levels = [torch.full((1, 1, n, n), v) for n, v in ((8, 1.0), (4, 10.0), (2, 100.0))]
    target = torch.zeros(1, 8, 8, dtype=torch.int64)
    value = supervised(loss, levels, target)
    assert value.item() == pytest.approx((1 + 10 / 2 + 100 / 4) / 1.75)
    assert calls == [((1, 8, 8), None), ((1, 4, 4), None), ((1, 2, 2), None)]


@pytest.mark.parametrize("size", [(4, 3), (1, 1), (5, 7), (16, 21), (8, 6)])
def test_targets_are_made_coarser_by_the_nearest_pixel(size):
    target = torch.randint(0, 9, (2, 8, 6), generator=torch.Generator().manual_seed(0))
    seen = []
    supervised(
        lambda logits, small, valid: seen.append((small, valid)) or logits.sum(),
        [torch.zeros(2, 1, *size)],
        target,
        target > 4,
    )
    nearest = F.interpolate(target[:, None].double(), size, mode="nearest-exact")[:, 0].long()
    assert torch.equal(seen[0][0], nearest)
    assert torch.equal(seen[0][1], nearest > 4)


def test_supervision_needs_logits():
    with pytest.raises(SegError, match="all_logits is empty"):
        supervised(build_loss(LossConfig(), 2), [], torch.zeros(1, 2, 2, dtype=torch.int64))
