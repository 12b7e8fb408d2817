"""Which pixels, images and classes count in a loss."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from loss_cases import make, sure

from unet_seg.losses import LOSSES
from unet_seg.pixels import read_pixels

NAMES = tuple(LOSSES)
REGION = ("dice", "tversky", "lovasz")


# Pixels that do not count


@pytest.mark.parametrize("poison", [1e30, -1e30, math.inf, math.nan])
@pytest.mark.parametrize("num_classes", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_ignored_pixels_change_nothing_whatever_they_hold(name, num_classes, poison):
    logits, target, valid = make(num_classes, dtype=torch.float32)
    uncounted = (target == 255) | ~valid
    poisoned = logits.masked_fill(uncounted[:, None], poison).requires_grad_()
    other_target = target.clone()
    other_target[~valid] = 1000  # a label outside the classes, under the mask
    logits.requires_grad_()
    clean = LOSSES[name](logits, target, valid=valid)
    dirty = LOSSES[name](poisoned, other_target, valid=valid)
    assert dirty.item() == clean.item()
    clean.backward()
    dirty.backward()
    assert torch.equal(poisoned.grad, logits.grad)
    assert not poisoned.grad[uncounted[:, None].expand_as(logits)].any()
    assert poisoned.grad.any()


@pytest.mark.parametrize("name", NAMES)
def test_nan_on_a_counted_pixel_shows(name):
    logits, target, valid = make()
    logits[1, :, 3, 3] = math.nan
    assert LOSSES[name](logits, target, valid=valid).isnan()


@pytest.mark.parametrize("how", ["valid", "label"])
@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_nothing(name, how):
    logits, target, _ = make(dtype=torch.float32)
    padded = F.pad(logits, (0, 3, 0, 2), value=7.0)
    padded_target = F.pad(target, (0, 3, 0, 2), value=255 if how == "label" else 1)
    valid = None
    if how == "valid":
        valid = F.pad(torch.ones_like(target, dtype=torch.bool), (0, 3, 0, 2))
    torch.testing.assert_close(
        LOSSES[name](padded, padded_target, valid=valid),
        LOSSES[name](logits, target),
        atol=1e-6,
        rtol=0,
    )


def test_another_ignore_label():
    logits, target, _ = make()
    other = target.masked_fill(target == 255, -1)
    assert torch.equal(LOSSES["ce"](logits, other, ignore_label=-1), LOSSES["ce"](logits, target))


# Batches


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1), (2, 3), (4, 1)])
@pytest.mark.parametrize("name", NAMES)
def test_parts_weighted_by_their_images_add_up_to_the_batch(name, sizes):
    logits, target, valid = make(images=5, dtype=torch.float32)
    target[1] = 255  # counts as an image all the same
    whole = logits.clone().requires_grad_()
    total = LOSSES[name](whole, target, valid=valid)
    total.backward()
    parts, accumulated = logits.clone().requires_grad_(), 0.0
    for x, t, v in zip(parts.split(sizes), target.split(sizes), valid.split(sizes), strict=True):
        part = LOSSES[name](x, t, valid=v) * (len(t) / 5)
        part.backward()
        accumulated += part.item()
    assert accumulated == pytest.approx(total.item(), abs=1e-6)
    torch.testing.assert_close(parts.grad, whole.grad, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_weighs_the_same_whatever_its_size(name):
    large, target, _ = make(size=(16, 16), images=1)
    small, small_target = large[:, :, :4, :4], target[:, :4, :4]
    both = F.pad(small, (0, 12, 0, 12)), F.pad(small_target, (0, 12, 0, 12), value=255)
    batch = LOSSES[name](torch.cat([large, both[0]]), torch.cat([target, both[1]]))
    alone = [LOSSES[name](large, target), LOSSES[name](small, small_target)]
    torch.testing.assert_close(batch, (alone[0] + alone[1]) / 2)


@pytest.mark.parametrize("name", NAMES)
def test_order_of_classes_means_nothing(name):
    logits, target, valid = make(3)
    order = torch.tensor([2, 0, 1])  # the new class i was the class order[i]
    moved = target.clone()
    for new, old in enumerate(order.tolist()):
        moved[target == old] = new
    weights = torch.tensor([1.0, 2.0, 5.0])
    torch.testing.assert_close(
        LOSSES[name](logits[:, order], moved, valid=valid, class_weights=weights[order]),
        LOSSES[name](logits, target, valid=valid, class_weights=weights),
    )


@pytest.mark.parametrize("name", NAMES)
def test_memory_layout_means_nothing(name):
    logits, target, valid = make(dtype=torch.float32)
    last = logits.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(
        LOSSES[name](last, target, valid=valid), LOSSES[name](logits, target, valid=valid)
    )


# Absent classes


@pytest.mark.parametrize("num_classes", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_an_image_without_counted_pixels_has_loss_zero_and_no_gradient(name, num_classes):
    logits, target, _ = make(num_classes)
    logits.requires_grad_()
    loss = LOSSES[name](logits, torch.full_like(target, 255))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("name", ["dice", "tversky", "ce_dice", "bce_dice"])
def test_without_smooth_nothing_over_nothing_does_not_count_either(name):
    """Image 0 is ignored entirely; the probability of class 2 underflows to 0 in image 1."""
    logits, target, _ = make(3, images=2, dtype=torch.float32)
    target[0], target[1] = 255, target[1].where(target[1] != 2, 1)
    logits[1, 2] = -200.0
    logits.requires_grad_()
    loss = LOSSES[name](logits, target, smooth=0.0)
    loss.backward()
    alone = LOSSES[name](logits[1:], target[1:], smooth=0.0)
    assert loss.item() == pytest.approx(alone.item() / 2)
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", REGION)
def test_a_class_neither_in_target_nor_prediction_does_not_count(name):
    target = torch.tensor([[[0, 0, 1, 1]]])
    prediction = torch.tensor([[[0, 0, 0, 1]]])
    two, three = (LOSSES[name](sure(prediction, n), target).item() for n in (2, 3))
    assert two == pytest.approx(three, abs=1e-6)
    assert two > 0.1


@pytest.mark.parametrize("name", ["dice", "tversky"])
def test_a_false_alarm_costs_the_whole_class(name):
    target = torch.tensor([[[0, 0, 0, 0]]])
    right, alarm = sure(target), sure(torch.tensor([[[0, 0, 0, 2]]]))
    without = LOSSES[name](right, target).item()
    assert without == pytest.approx(0, abs=1e-6)
    background = 1 - 6 / 7 if name == "dice" else 1 - 3 / 3.7  # TP 3, FN 1
    assert LOSSES[name](alarm, target).item() == pytest.approx((1 + background) / 2, abs=1e-4)


def test_lovasz_leaves_out_classes_absent_from_the_target():
    target = torch.tensor([[[0, 0, 0, 0]]])
    alarm = sure(torch.tensor([[[0, 0, 0, 2]]]))
    assert LOSSES["lovasz"](alarm, target).item() == pytest.approx(1 / 4)  # 1 - IoU of class 0


@pytest.mark.parametrize(
    ("name", "alarm"), [("dice", 1.0), ("tversky", 1.0), ("lovasz", 0.0), ("boundary", 0.0)]
)
def test_binary_without_foreground(name, alarm):
    target = torch.zeros(1, 2, 2, dtype=torch.int64)
    quiet = torch.full((1, 1, 2, 2), -60.0)
    loud = quiet.clone()
    loud[0, 0, 0, 0] = 60.0
    assert LOSSES[name](quiet, target).item() == 0
    assert LOSSES[name](loud, target).item() == pytest.approx(alarm, abs=1e-4)


def test_boundary_of_an_image_of_one_class_is_zero():
    logits, target, _ = make(3)
    assert LOSSES["boundary"](logits, torch.ones_like(target)).item() == 0


@pytest.mark.parametrize("name", ["ce", "focal", "dice", "lovasz"])
def test_an_image_of_classes_without_weight_has_loss_zero(name):
    logits, target, _ = make(3, ignored=False)
    weights = torch.tensor([1.0, 1.0, 0.0])
    logits = logits + sure(torch.full_like(target, 2))
    logits.requires_grad_()
    loss = LOSSES[name](logits, torch.full_like(target, 2), class_weights=weights)
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_equal_logits_predict_every_class():
    target = torch.zeros(1, 2, 2, dtype=torch.int64)
    pixels = read_pixels(torch.zeros(1, 3, 2, 2), target)
    assert pixels.predicted_BN.tolist() == [[True, True, True]]


@pytest.mark.parametrize("seed", range(3))
def test_predicted_classes_are_those_of_argmax(seed):
    logits, target, valid = make(9, seed=seed, size=(2, 3))
    pixels = read_pixels(logits, target, valid=valid)
    counted = (target != 255) & valid
    for image in range(3):
        found = set(logits[image].argmax(0)[counted[image]].tolist())
        assert set(pixels.predicted_BN[image].nonzero()[:, 0].tolist()) == found
