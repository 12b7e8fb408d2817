"""Losses against formulas written again with loops, and what the docstrings promise."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from unet_seg.boundary import signed_distances
from unet_seg.config import LossConfig
from unet_seg.errors import SegError
from unet_seg.losses import FORMULAS, LOSSES, build_loss, supervised
from unet_seg.lovasz import jaccard_steps
from unet_seg.pixels import read_pixels

NAMES = tuple(LOSSES)
REGION = ("dice", "tversky", "lovasz")
S = 1e-5


def make(num_classes=3, *, size=(5, 6), images=3, seed=0, ignored=True, dtype=torch.float64):
    """Logits, target with an ignored corner and a class that one image lacks, and valid."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(images, num_classes, *size, generator=generator, dtype=dtype)
    target = torch.randint(0, max(num_classes, 2), (images, *size), generator=generator)
    target[0][target[0] == 1] = 0
    valid = torch.ones(images, *size, dtype=torch.bool)
    if ignored:
        target[:, 0, :2] = 255
        valid[-1, :, -2:] = False
    return logits, target, valid


# The formulas again: one image, one class, one pixel at a time, in plain Python.


def softmax(scores):
    exps = [math.exp(x - max(scores)) for x in scores]
    return [x / sum(exps) for x in exps]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def pixels_of(logits, target, valid, image):
    """(scores of all classes, true class, row, column) of each counted pixel of an image."""
    found = []
    for y, x in itertools.product(range(target.shape[1]), range(target.shape[2])):
        if target[image, y, x] != 255 and valid[image, y, x]:
            scores = logits[image, :, y, x].tolist()
            scores = [0.0, *scores] if len(scores) == 1 else scores
            found.append((scores, int(target[image, y, x]), y, x))
    return found


def by_pixel(pixels, weights, term):
    total = sum(weights[true] * term(softmax(scores)[true]) for scores, true, _, _ in pixels)
    return total / sum(weights[true] for _, true, _, _ in pixels)


def by_class(weights, binary, present, term):
    chosen = [c for c in range(int(binary), len(weights)) if present(c)]
    if not chosen:
        return 0.0
    return sum(weights[c] * term(c) for c in chosen) / sum(weights[c] for c in chosen)


def expected_tversky(pixels, weights, binary, alpha, beta, s, activation=softmax):
    def present(c):
        return any(true == c or np.argmax(scores) == c for scores, true, _, _ in pixels)

    def term(c):
        p = [(activation(scores)[c], true == c) for scores, true, _, _ in pixels]
        tp = sum(x for x, own in p if own)
        fp = sum(x for x, own in p if not own)
        fn = sum(1 - x for x, own in p if own)
        return 1 - (tp + s) / (tp + alpha * fp + beta * fn + s)

    return by_class(weights, binary, present, term)


def expected_lovasz(pixels, weights, binary):
    def term(c):
        errors = [
            (abs((true == c) - softmax(scores)[c]), true == c) for scores, true, _, _ in pixels
        ]
        errors.sort(key=lambda pair: -pair[0])
        size, before, total = sum(own for _, own in errors), 0.0, 0.0
        for i in range(1, len(errors) + 1):
            missed = sum(own for _, own in errors[:i])
            jaccard = 1 - (size - missed) / (size + i - missed)
            total += errors[i - 1][0] * (jaccard - before)
            before = jaccard
        return total

    return by_class(weights, binary, lambda c: any(t == c for _, t, _, _ in pixels), term)


def expected_boundary(pixels, weights, binary):
    def phi(c, true, y, x):
        other = [(v, u) for _, t, v, u in pixels if (t == c) != (true == c)]
        nearest = min(math.hypot(v - y, u - x) for v, u in other) - 0.5
        return -nearest if true == c else nearest

    def term(c):
        return np.mean([softmax(scores)[c] * phi(c, true, y, x) for scores, true, y, x in pixels])

    sides = {c: {true == c for _, true, _, _ in pixels} for c in range(len(weights))}
    return by_class(weights, binary, lambda c: len(sides[c]) == 2, term)


def expected_bce(pixels, weights, binary):
    if binary:
        return by_pixel(pixels, weights, lambda p: -math.log(p))

    def term(c):
        own = [sigmoid(scores[c] if true == c else -scores[c]) for scores, true, _, _ in pixels]
        return np.mean([-math.log(p) for p in own])

    return by_class(weights, False, lambda _: True, term)


def expected(name, logits, target, valid, weights):
    binary = logits.shape[1] == 1
    total = 0.0
    for image in range(len(logits)):
        a = (pixels_of(logits, target, valid, image), weights)
        parts = {
            "ce": lambda a=a: by_pixel(*a, lambda p: -math.log(p)),
            "focal": lambda a=a: by_pixel(*a, lambda p: -((1 - p) ** 2) * math.log(p)),
            "bce": lambda a=a: expected_bce(*a, binary),
            "dice": lambda a=a: expected_tversky(*a, binary, 0.5, 0.5, S / 2),
            "tversky": lambda a=a: expected_tversky(*a, binary, 0.3, 0.7, S),
            "lovasz": lambda a=a: expected_lovasz(*a, binary),
            "boundary": lambda a=a: expected_boundary(*a, binary),
        }
        if name == "bce_dice":
            kind = softmax if binary else lambda scores: [sigmoid(x) for x in scores]
            total += parts["bce"]()
            total += expected_tversky(*a, binary, 0.5, 0.5, S / 2, activation=kind)
            continue
        names = ("ce", "dice", "boundary") if name == "ce_dice_boundary" else name.split("_")
        scale = {"boundary": 0.01} if name != "boundary" else {}
        total += sum(scale.get(part, 1.0) * parts[part]() for part in names)
    return total / len(logits)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("num_classes", [1, 2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_equals_the_formula_written_with_loops(name, num_classes, weighted):
    logits, target, valid = make(num_classes)
    weights = [0.5, 2.0, 1.0, 3.0][: max(num_classes, 2)] if weighted else [1.0] * 4
    weights = weights[: max(num_classes, 2)]
    value = LOSSES[name](
        logits, target, valid=valid, class_weights=torch.tensor(weights) if weighted else None
    )
    assert value.shape == ()
    assert value.item() == pytest.approx(expected(name, logits, target, valid, weights), abs=1e-12)


@pytest.mark.parametrize(
    ("name", "options", "same"),
    [
        ("focal", {"gamma": 0.0}, "ce"),
        ("tversky", {"alpha": 0.5, "beta": 0.5, "smooth": S / 2}, "dice"),
        ("ce_dice_boundary", {"boundary_weight": 0.0}, "ce_dice"),
    ],
)
def test_options_that_make_one_loss_another(name, options, same):
    logits, target, valid = make()
    ours = LOSSES[name](logits, target, valid=valid, **options)
    torch.testing.assert_close(ours, LOSSES[same](logits, target, valid=valid))


def test_tversky_at_one_is_soft_jaccard():
    logits, target, _ = make(2, images=1, ignored=False)
    p, g = logits.softmax(1), F.one_hot(target, 2).movedim(-1, 1)
    both, either = (p * g).sum((2, 3)), (p + g - p * g).sum((2, 3))
    value = LOSSES["tversky"](logits, target, alpha=1.0, beta=1.0, smooth=0.0)
    torch.testing.assert_close(value, (1 - both / either).mean())


@pytest.mark.parametrize("weights", [None, torch.tensor([0.2, 1.0, 3.0])])
def test_cross_entropy_of_one_image_is_pytorchs_forward_and_backward(weights):
    logits, target, _ = make(images=1, dtype=torch.float32)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = LOSSES["ce"](ours, target, class_weights=weights)
    reference = F.cross_entropy(theirs, target, weight=weights, ignore_index=255)
    loss.backward()
    reference.backward()
    torch.testing.assert_close(loss, reference)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_smooth_counts_pixels():
    """Two of four pixels are of class 1; p = 1/2 everywhere: Dice = (2·1 + s) / (2 + 2 + s)."""
    target = torch.tensor([[[0, 0], [1, 1]]])
    value = LOSSES["dice"](torch.zeros(1, 2, 2, 2), target, smooth=4.0)
    assert value.item() == pytest.approx(1 - (2 + 4) / (4 + 4))


# Gradients


@pytest.mark.parametrize("num_classes", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_finite_differences(name, num_classes):
    logits, target, valid = make(num_classes, size=(3, 4), images=2)
    weights = torch.tensor([0.5, 2.0, 1.0][: max(num_classes, 2)], dtype=torch.float64)

    def loss(x):
        return LOSSES[name](x, target, valid=valid, class_weights=weights)

    assert torch.autograd.gradcheck(loss, logits.requires_grad_())


@pytest.mark.parametrize("name", [name for name in NAMES if name != "boundary"])
def test_descending_the_loss_finds_the_target(name):
    logits, target, _ = make(3, size=(8, 8), images=2, dtype=torch.float32)
    logits.requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(60):
        optimizer.zero_grad()
        LOSSES[name](logits, target).backward()
        optimizer.step()
    counted = target != 255
    assert (logits.argmax(1) == target)[counted].all()


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 3.5])
def test_focal_of_certain_pixels_has_finite_gradients(gamma):
    logits = torch.tensor([[200.0, -200.0], [0.0, 0.0]]).reshape(1, 2, 1, 2).requires_grad_()
    loss = LOSSES["focal"](logits, torch.zeros(1, 1, 2, dtype=torch.int64), gamma=gamma)
    loss.backward()
    assert loss.item() == pytest.approx(100)  # one pixel right, one wrong by 200
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("num_classes", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_huge_logits_stay_finite(name, num_classes):
    logits, target, _ = make(num_classes, dtype=torch.float32)
    logits = (1e4 * logits).requires_grad_()
    loss = LOSSES[name](logits, target)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


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


def sure(prediction, num_classes=3, logit=60.0):
    """Logits that predict the ids of (B, H, W) with certainty."""
    return logit * F.one_hot(prediction, num_classes).movedim(-1, 1).float()


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


# Right and wrong predictions


@pytest.mark.parametrize("name", [name for name in NAMES if "boundary" not in name])
def test_a_certain_right_prediction_costs_nothing(name):
    _, target, _ = make(3, size=(8, 8), ignored=False)
    logits = sure(target) - 30  # also for one sigmoid a class
    assert LOSSES[name](logits, target).item() == pytest.approx(0, abs=1e-6)


def test_lovasz_of_certain_predictions_is_one_minus_iou():
    _, target, _ = make(3, size=(8, 8), images=1, ignored=False, seed=1)
    prediction = target.roll(1, -1)
    ious = []
    for c in range(3):
        a, b = target == c, prediction == c
        if a.any():
            ious.append((a & b).sum() / (a | b).sum())
    value = LOSSES["lovasz"](sure(prediction), target).item()
    assert value == pytest.approx(1 - torch.stack(ious).mean().item(), abs=1e-6)


def test_jaccard_steps_add_up_to_the_loss_of_all_pixels_wrong():
    is_class = torch.tensor([[True, False, True, False], [False, False, False, True]])
    steps = jaccard_steps(is_class, torch.float32)
    # First row: 1 of 2 missed, then one false alarm, the other missed, one more alarm.
    torch.testing.assert_close(steps[0].cumsum(0), torch.tensor([1 / 2, 2 / 3, 1.0, 1.0]))
    torch.testing.assert_close(steps[1].cumsum(0), torch.tensor([1 / 2, 2 / 3, 3 / 4, 1.0]))


def test_boundary_is_lowest_at_the_target_and_grows_with_the_distance_of_a_mistake():
    target = torch.zeros(1, 12, 12, dtype=torch.int64)
    target[:, 4:8, 4:8] = 1

    def loss_with_spot(y):
        prediction = target.clone()
        prediction[0, y, 5] = 1
        return LOSSES["boundary"](sure(prediction, 2), target).item()

    best = LOSSES["boundary"](sure(target, 2), target).item()
    assert best < 0
    assert best < loss_with_spot(3) < loss_with_spot(2) < loss_with_spot(0)


def test_signed_distance_of_a_row():
    target = torch.tensor([[[0, 0, 0, 1, 1, 255, 0]]])
    pixels = read_pixels(torch.zeros(1, 2, 1, 7), target)
    wanted = torch.tensor([[False, True]])
    distances = signed_distances(pixels, wanted)
    assert distances[0, 0].tolist() == [[0.0] * 7]
    # The ignored pixel is on neither side: the nearest outside of the last 1 is two to its right.
    assert distances[0, 1, 0, [0, 1, 2, 3, 4, 6]].tolist() == [2.5, 1.5, 0.5, -0.5, -1.5, 1.5]


# Precision


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_summed_in_float32(name, dtype):
    logits, target, _ = make(3, images=1, dtype=torch.float32)
    half = logits.to(dtype).requires_grad_()
    loss = LOSSES[name](half, target)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == LOSSES[name](half.detach().float(), target).item()
    assert half.grad.dtype == dtype
    assert half.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_sums_over_a_large_image_keep_their_digits(dtype):
    """400x400 pixels are more than the largest float16; the right answer is known."""
    target = torch.zeros(1, 400, 400, dtype=torch.int64)
    target[:, :, 100:] = 1
    logits = torch.zeros(1, 2, 400, 400, dtype=dtype)
    # p = 1/2: class 0 overlaps 20000 of 40000, class 1 60000 of 120000; predicted area is 80000.
    dice = [1 - 2 * own / (80000 + size) for own, size in ((20000, 40000), (60000, 120000))]
    assert LOSSES["dice"](logits, target).item() == pytest.approx(sum(dice) / 2, abs=1e-6)
    assert LOSSES["ce"](logits, target).item() == pytest.approx(math.log(2), abs=2e-7)


def test_no_loss_uses_an_operation_without_a_deterministic_form():
    logits, target, valid = make(dtype=torch.float32)
    torch.use_deterministic_algorithms(True)
    try:
        for loss in LOSSES.values():
            values = [loss(logits, target, valid=valid).item() for _ in range(2)]
            assert values[0] == values[1]
    finally:
        torch.use_deterministic_algorithms(False)


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
