"""Metrics by hand-counted cases, the empty-class rules, and the meter against the definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from unet_seg.errors import SegError
from unet_seg.metrics import (
    SegmentationMeter,
    confusion_matrices,
    confusion_matrix,
    dice,
    hd95,
    iou,
    mean_iou,
    normalised_surface_distance,
    pixel_accuracy,
)

PRED = torch.tensor([[0, 0, 1], [1, 1, 2]])
TARGET = torch.tensor([[0, 1, 1], [1, 0, 255]])
NAN = math.nan


def random_batch(seed: int, *, n: int = 4, ignored: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pred, target = (torch.randint(0, n, (3, 9, 7), generator=generator) for _ in range(2))
    target[torch.rand(target.shape, generator=generator) < 0.1 * ignored] = 255
    valid = torch.rand(target.shape, generator=generator) > 0.1
    return pred, target, valid


def assert_same(found: object, expected: object) -> None:
    """Nested results are equal; NaN equals NaN."""
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0, equal_nan=True)


def test_confusion_matrix_by_hand():
    counts = confusion_matrix(PRED, TARGET, 3)
    assert counts.tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert counts.dtype == torch.int64


def test_confusion_matrix_equals_a_loop_over_pixels():
    pred, target, valid = random_batch(0)
    expected = torch.zeros(4, 4, dtype=torch.int64)
    for p, t, counts in zip(pred.flatten(), target.flatten(), valid.flatten(), strict=True):
        if counts and t != 255:
            expected[t, p] += 1
    assert torch.equal(confusion_matrix(pred, target, 4, valid=valid), expected)


def test_matrices_of_a_batch_are_those_of_its_images():
    pred, target, valid = random_batch(1)
    matrices = confusion_matrices(pred, target, 4, valid=valid)
    for i in range(len(pred)):
        expected = confusion_matrix(pred[i], target[i], 4, valid=valid[i])
        assert torch.equal(matrices[i], expected)
    assert torch.equal(matrices.sum(dim=0), confusion_matrix(pred, target, 4, valid=valid))


def test_what_does_not_count_is_never_looked_at():
    pred, target, valid = random_batch(2)
    expected = confusion_matrix(pred, target, 4, valid=valid)
    pred[~valid | (target == 255)] = -9
    target[~valid] = 77
    assert torch.equal(confusion_matrix(pred, target, 4, valid=valid), expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_dtypes_and_arrays_give_the_same_counts(dtype: torch.dtype):
    """With 20 classes, target · N + pred would overflow a byte."""
    pred = torch.full((2, 2), 19, dtype=dtype)
    expected = torch.zeros(20, 20, dtype=torch.int64)
    expected[19, 19] = 4
    assert torch.equal(confusion_matrix(pred, pred, 20), expected)
    assert torch.equal(confusion_matrix(pred.numpy(), pred.numpy(), 20), expected)
    assert torch.equal(confusion_matrices(pred[None].numpy(), pred[None], 20)[0], expected)


def test_a_read_only_array_is_welcome():
    pred = PRED.numpy().copy()
    pred.setflags(write=False)
    assert torch.equal(confusion_matrix(pred, TARGET, 3), confusion_matrix(PRED, TARGET, 3))


@pytest.mark.parametrize("shape", [(0, 4, 4), (2, 0, 3)])
def test_no_pixels(shape: tuple[int, ...]):
    nothing = torch.zeros(shape, dtype=torch.int64)
    assert confusion_matrix(nothing, nothing, 2).sum() == 0
    assert confusion_matrices(nothing, nothing, 2).shape == (shape[0], 2, 2)
    assert math.isnan(pixel_accuracy(confusion_matrix(nothing, nothing, 2)))


def test_another_ignore_label_frees_255_and_hides_a_class():
    target = torch.tensor([0, 1, 1])
    assert confusion_matrix(torch.tensor([0, 1, 0]), target, 2, ignore_label=1).sum() == 1


def test_iou_dice_and_accuracy_by_hand():
    counts = torch.tensor([[5, 1, 0], [2, 3, 0], [0, 4, 0]])
    assert_same(iou(counts), torch.tensor([5 / 8, 3 / 10, 0], dtype=torch.float64))
    assert_same(dice(counts), torch.tensor([10 / 13, 6 / 13, 0], dtype=torch.float64))
    assert pixel_accuracy(counts) == pytest.approx(8 / 15)
    assert mean_iou(counts) == pytest.approx((5 / 8 + 3 / 10) / 3)


@pytest.mark.parametrize(
    ("pred", "target", "expected"),
    [
        pytest.param([0, 0], [0, 0], [1, NAN], id="absent in both"),
        pytest.param([0, 1], [0, 0], [0.5, 0], id="only predicted"),
        pytest.param([0, 0], [0, 1], [0.5, 0], id="only in the target"),
        pytest.param([1, 1], [1, 1], [NAN, 1], id="nothing but the class"),
        pytest.param([1, 1], [0, 0], [0, 0], id="all wrong"),
        pytest.param([1, 1], [255, 255], [NAN, NAN], id="all ignored"),
    ],
)
def test_empty_classes(pred: list[int], target: list[int], expected: list[float]):
    counts = confusion_matrix(torch.tensor(pred), torch.tensor(target), 2)
    values = torch.tensor(expected, dtype=torch.float64)
    assert_same(iou(counts), values)
    assert_same(dice(counts), 2 * values / (1 + values))
    present = [x for x in expected if not math.isnan(x)]
    assert_same(mean_iou(counts), sum(present) / len(present) if present else NAN)


def test_metrics_take_leading_axes():
    pred, target, valid = random_batch(3)
    matrices = confusion_matrices(pred, target, 4, valid=valid)
    assert_same(iou(matrices), torch.stack([iou(matrix) for matrix in matrices]))
    assert_same(dice(matrices), torch.stack([dice(matrix) for matrix in matrices]))


def by_definition(batches: list[tuple[Tensor, Tensor, Tensor]], n: int) -> dict[str, float]:
    """Means over images and classes, pixel sets written out."""
    image_ious, image_dices, class_ious = [], [], [[] for _ in range(n)]
    for image in zip(*(torch.cat(x) for x in zip(*batches, strict=True)), strict=True):
        pred, target, valid = image
        counted = valid & (target != 255)
        ious, dices = [], []
        for label in range(n):
            ours, theirs = (pred == label) & counted, (target == label) & counted
            if (ours | theirs).any():
                ious.append(float((ours & theirs).sum() / (ours | theirs).sum()))
                dices.append(float(2 * (ours & theirs).sum() / (ours.sum() + theirs.sum())))
                class_ious[label].append(ious[-1])
        if ious:
            image_ious.append(np.mean(ious))
            image_dices.append(np.mean(dices))
    return {
        "per_image_mean_iou": float(np.mean(image_ious)),
        "per_image_mean_dice": float(np.mean(image_dices)),
        "images": len(image_ious),
        **{f"class {label}": float(np.mean(class_ious[label])) for label in range(n)},
    }


def test_meter_equals_the_definition():
    batches = [random_batch(seed) for seed in (4, 5)]
    batches[0][2][1] = False  # an image that does not count at all
    batches[1][1][0] %= 2  # classes missing from an image
    batches[1][0][0] %= 2
    meter = SegmentationMeter("abcd")
    for batch in batches:
        meter.update(*batch)
    found = meter.compute()

    pred, target, valid = (torch.cat(x) for x in zip(*batches, strict=True))
    pooled = confusion_matrix(pred, target, 4, valid=valid)
    assert found["mean_iou"] == pytest.approx(mean_iou(pooled))
    assert found["mean_iou_foreground"] == pytest.approx(float(iou(pooled)[1:].mean()))
    assert found["mean_dice"] == pytest.approx(float(dice(pooled).mean()))
    assert found["mean_dice_foreground"] == pytest.approx(float(dice(pooled)[1:].mean()))
    assert found["pixel_accuracy"] == pytest.approx(pixel_accuracy(pooled))
    assert found["images"] == 5
    expected = by_definition(batches, 4)
    for name in ("per_image_mean_iou", "per_image_mean_dice"):
        assert found[name] == pytest.approx(expected[name], rel=1e-6)
    for label, row in enumerate(found["per_class"].values()):
        assert row["iou"] == pytest.approx(float(iou(pooled)[label]))
        assert row["dice"] == pytest.approx(float(dice(pooled)[label]))
        assert row["per_image_iou"] == pytest.approx(expected[f"class {label}"], rel=1e-6)
        assert row["pixels"] == int(pooled[label].sum())
    assert found["per_class"]["d"]["images"] == 4


def test_pooled_and_per_image_averages_differ():
    """A large image all right and a small one all wrong."""
    meter = SegmentationMeter(["ground", "thing"])
    meter.update(torch.ones(1, 10, 10, dtype=torch.int64), torch.ones(1, 10, 10, dtype=torch.int64))
    meter.update(torch.zeros(1, 1, 1, dtype=torch.int64), torch.ones(1, 1, 1, dtype=torch.int64))
    found = meter.compute()
    assert found["per_class"]["thing"]["iou"] == pytest.approx(100 / 101)
    assert found["per_class"]["thing"]["per_image_iou"] == pytest.approx(1 / 2)
    assert found["per_image_mean_iou"] == pytest.approx(1 / 2)


def test_update_returns_the_matrices_of_the_images():
    pred, target, valid = random_batch(6)
    matrices = SegmentationMeter("abcd").update(pred, target, valid)
    assert torch.equal(matrices, confusion_matrices(pred, target, 4, valid=valid))


def test_meter_does_not_depend_on_batching():
    pred, target, valid = random_batch(7)
    whole, split = (SegmentationMeter("abcd", surface=True) for _ in range(2))
    whole.update(pred, target, valid)
    for i in range(len(pred)):
        split.update(pred[i : i + 1], target[i : i + 1], valid[i : i + 1])
    assert_same(split.compute(), whole.compute())


def test_padding_changes_nothing():
    pred, target, valid = random_batch(8)
    plain, padded = (SegmentationMeter("abcd", surface=True) for _ in range(2))
    plain.update(pred, target, valid)
    pad = torch.nn.functional.pad
    frame = (0, 5, 0, 3)
    padded.update(pad(pred, frame, value=2), pad(target, frame, value=255), pad(valid, frame))
    assert_same(padded.compute(), plain.compute())


def test_merging_equals_one_meter_and_state_survives():
    one, left, right = (SegmentationMeter("abcd", surface=True) for _ in range(3))
    for seed, half in ((9, left), (10, right)):
        one.update(*random_batch(seed))
        half.update(*random_batch(seed))
    state = left.state_dict()
    left.merge(right)
    assert_same(left.compute(), one.compute())
    restored = SegmentationMeter("abcd", surface=True)
    restored.load_state_dict(state)
    restored.merge(right.state_dict())
    assert_same(restored.compute(), one.compute())
    one.reset()
    assert_same(one.compute(), SegmentationMeter("abcd", surface=True).compute())


def test_surfaces_are_means_over_images_with_the_class():
    """Three images: a shifted line, a line only in the target, and no line at all."""
    pred, target = torch.zeros(2, 3, 8, 8, dtype=torch.int64)
    pred[0, :, 1], target[0, :, 3], target[1, :, 3] = 1, 1, 1
    meter = SegmentationMeter(["ground", "line"], surface=True, tolerance=2.0)
    meter.update(pred, target)
    found = meter.compute()
    line = found["per_class"]["line"]
    assert line["hd95"] == hd95(pred[0] == 1, target[0] == 1) == 2
    assert line["hd95_undefined"] == 1
    shares = [normalised_surface_distance(pred[i] == 1, target[i] == 1, 2.0) for i in range(3)]
    assert_same(shares, [1.0, 0.0, NAN])
    assert line["nsd"] == 0.5
    assert found["mean_hd95"] == 2
    assert found["mean_nsd"] == 0.5
    assert "hd95" not in found["per_class"]["ground"]


def test_surfaces_leave_out_ignored_pixels_on_both_sides():
    pred, target = torch.zeros(2, 1, 6, 6, dtype=torch.int64)
    pred[0, :, 2], target[0, :, 2], pred[0, 0, :] = 1, 1, 1
    target[0, 0, :] = 255
    meter = SegmentationMeter(["ground", "line"], surface=True)
    meter.update(pred, target)
    assert meter.compute()["mean_hd95"] == 0


def test_meter_without_data_has_no_numbers_but_every_name():
    found = SegmentationMeter("abcd", surface=True).compute()
    full = SegmentationMeter("abcd", surface=True)
    full.update(*random_batch(11))
    assert found.keys() == full.compute().keys()
    assert math.isnan(found["mean_iou"])
    assert math.isnan(found["per_image_mean_dice"])
    assert math.isnan(found["mean_hd95"])
    assert found["images"] == 0


def test_a_single_class_has_no_foreground():
    meter = SegmentationMeter(["all"])
    meter.update(torch.zeros(1, 2, 2, dtype=torch.int64), torch.zeros(1, 2, 2, dtype=torch.int64))
    assert meter.compute()["mean_iou"] == 1
    assert math.isnan(meter.compute()["mean_iou_foreground"])


def test_shapes_that_differ():
    with pytest.raises(SegError, match=r"pred has shape \(1, 3, 2, 3\), expected \(1, 2, 3\).*arg"):
        confusion_matrix(torch.zeros(1, 3, 2, 3, dtype=torch.int64), TARGET[None], 3)
    with pytest.raises(SegError, match=r"valid has shape \(3,\), expected \(2, 3\)"):
        confusion_matrix(PRED, TARGET, 3, valid=torch.ones(3, dtype=torch.bool))
    with pytest.raises(SegError, match=r"target has shape \(2, 3\).*expected 3: \(B, H, W\)"):
        SegmentationMeter("ab").update(PRED, TARGET)


def test_dtypes_that_are_no_class_ids():
    with pytest.raises(SegError, match=r"pred has dtype float32, expected int64"):
        confusion_matrix(PRED.float(), TARGET, 3)
    with pytest.raises(SegError, match=r"target has dtype float64, expected int64"):
        confusion_matrix(PRED, TARGET.double(), 3)
    with pytest.raises(SegError, match=r"valid has dtype int64, expected bool"):
        confusion_matrix(PRED, TARGET, 3, valid=PRED)


def test_classes_that_do_not_exist():
    with pytest.raises(
        SegError, match=r"target has class 7, 9 on 3 pixels.*expected 0 to 2, or 255"
    ):
        confusion_matrix(torch.zeros(4, dtype=torch.int64), torch.tensor([9, 7, 9, 255]), 3)
    with pytest.raises(SegError, match=r"pred has class 3 on 1 pixels"):
        confusion_matrix(torch.tensor([3, 0]), torch.tensor([0, 0]), 3)
    with pytest.raises(SegError, match=r"pred has class -1 on 1 pixels"):
        confusion_matrix(torch.tensor([-1, 0]), torch.tensor([0, 0]), 3)
    with pytest.raises(SegError, match=r"pred has class 255 on 1 pixels"):
        confusion_matrix(torch.tensor([255, 0]), torch.tensor([0, 0]), 3)


def test_matrices_that_are_none():
    with pytest.raises(SegError, match=r"confusion has shape \(2, 3\), expected \(\.\.\., N, N\)"):
        iou(torch.zeros(2, 3))
    with pytest.raises(SegError, match=r"confusion has shape \(1, 2, 2\).*expected 2: \(N, N\)"):
        mean_iou(torch.zeros(1, 2, 2))
    with pytest.raises(SegError, match=r"confusion has shape \(4,\)"):
        pixel_accuracy(torch.zeros(4))
    with pytest.raises(SegError, match=r"num_classes=0 must be at least 1"):
        confusion_matrix(PRED, TARGET, 0)


def test_meters_that_make_no_sense():
    with pytest.raises(
        SegError, match=r"classes=\['a', 'a'\] must be at least one name, each once"
    ):
        SegmentationMeter(["a", "a"])
    with pytest.raises(SegError, match=r"classes=\[\] must be at least one name"):
        SegmentationMeter([])
    with pytest.raises(SegError, match=r"tolerance=-1 must be at least 0"):
        SegmentationMeter("ab", tolerance=-1)


def test_merging_another_kind_of_meter():
    with pytest.raises(SegError, match=r"expected .*: a meter with the same 4 classes"):
        SegmentationMeter("abcd").merge(SegmentationMeter("abc"))
    with pytest.raises(SegError, match=r"The sums to merge have shapes \{\}"):
        SegmentationMeter("abcd").load_state_dict({})
