"""Losses against formulas written again with loops, and their gradients and precision."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from loss_cases import make, sure

from unet_seg.boundary import signed_distances
from unet_seg.losses import LOSSES
from unet_seg.lovasz import jaccard_steps
from unet_seg.pixels import read_pixels

NAMES = tuple(LOSSES)
S = 1e-5


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
