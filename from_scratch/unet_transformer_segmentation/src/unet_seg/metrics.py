"""Metrics from the confusion matrix, and the meter that collects them over a data set.

In: predicted and true class ids, integers (B, H, W); pixels whose target is the ignore label, or
that `valid` marks False (padding), never count. Out: float64 numbers in [0, 1].

A class that is neither in the target nor in the prediction has no IoU: it is NaN, and means skip
it. A class that is only in one of them has IoU 0. Two averages over a data set are in use and
differ by many points; both are given and named:

- pooled: pixels of all images in one confusion matrix, as if they were one large image;
- per image: the metric of each image, then the mean over images; small images and small objects
  weigh as much as large ones.

Letters: B images, H, W pixels, N classes. Confusion matrices are int64 (N, N), rows are the target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unet_seg.contracts import check_dtype, check_shape
from unet_seg.data.sample import IGNORE
from unet_seg.errors import SegError
from unet_seg.surface import (
    check_tolerance,
    hd95,
    normalised_surface_distance,
    surface_distances,
    surface_scores,
)

__all__ = [
    "SegmentationMeter",
    "confusion_matrices",
    "confusion_matrix",
    "dice",
    "hd95",
    "iou",
    "mean_iou",
    "normalised_surface_distance",
    "pixel_accuracy",
    "surface_distances",
]

INTEGERS = (torch.int64, torch.uint8, torch.int32, torch.int16, torch.int8)

Ids: TypeAlias = Tensor | NDArray[Any]
"""Integers, as a tensor on any device or a NumPy array."""


def confusion_matrix(
    pred: Ids,
    target: Ids,
    num_classes: int,
    *,
    valid: Ids | None = None,
    ignore_label: int = IGNORE,
) -> Tensor:
    """Count pixels by (true class, predicted class).

    Args:
        pred: integers of any shape, class ids from 0 to `num_classes` - 1 wherever counted.
        target: integers of the same shape; `ignore_label` marks pixels that do not count.
        num_classes: N.
        valid: bool of the same shape, False on pixels that do not count.
        ignore_label: looked at first, so a class of this id would never count.
    Returns:
        (N, N) int64 on the device of `target`, rows are the target; its sum is the number of
        pixels counted.
    Raises:
        SegError: shapes that differ, ids that are not integers, an id outside 0..N-1 on a pixel
            that counts.
    """
    tensors = _as_tensor(pred), _as_tensor(target), None if valid is None else _as_tensor(valid)
    return _count(*tensors, num_classes, ignore_label, num_images=1)[0]


def confusion_matrices(
    pred: Ids,
    target: Ids,
    num_classes: int,
    *,
    valid: Ids | None = None,
    ignore_label: int = IGNORE,
) -> Tensor:
    """`confusion_matrix` of each image by itself: ids (B, H, W) -> (B, N, N) int64."""
    tensors = _as_tensor(pred), _as_tensor(target), None if valid is None else _as_tensor(valid)
    num_images = check_shape(tensors[1], "B H W", name="target")["B"]
    return _count(*tensors, num_classes, ignore_label, num_images=num_images)


def _as_tensor(ids: Ids) -> Tensor:
    return ids if isinstance(ids, Tensor) else torch.from_numpy(np.array(ids))


def _count(
    pred: Tensor,
    target: Tensor,
    valid: Tensor | None,
    num_classes: int,
    ignore_label: int,
    *,
    num_images: int,
) -> Tensor:
    if num_classes < 1:
        raise SegError(f"num_classes={num_classes} must be at least 1.")
    for name, tensor in (("pred", pred), ("valid", valid)):
        if tensor is not None and tensor.shape != target.shape:
            raise SegError(
                f"{name} has shape {tuple(tensor.shape)}, expected {tuple(target.shape)}, that of "
                "target; class ids come from logits (B, N, H, W) by logits.argmax(1)."
            )
    check_dtype(pred, *INTEGERS, name="pred")
    check_dtype(target, *INTEGERS, name="target")
    counted = target != ignore_label
    if valid is not None:
        check_dtype(valid, torch.bool, name="valid")
        counted &= valid
    for name, ids in (("pred", pred), ("target", target)):
        unknown = ((ids < 0) | (ids >= num_classes)) & counted
        if unknown.any():
            found = sorted(set(ids[unknown].tolist()))
            raise SegError(
                f"{name} has class {', '.join(map(str, found[:10]))} on {int(unknown.sum())} "
                f"pixels that count; expected 0 to {num_classes - 1}, or {ignore_label} in target "
                "for pixels to ignore."
            )
    cells = num_classes * num_classes
    cell = target.long() * num_classes + pred
    cell = torch.where(counted, cell, cells)  # the last bin collects what does not count
    offset = torch.arange(num_images, device=cell.device)[:, None] * (cells + 1)
    cell = cell.reshape(num_images, -1) if num_images else cell.reshape(0, 1)
    counts = torch.bincount((cell + offset).flatten(), minlength=num_images * (cells + 1))
    counts = counts.reshape(num_images, cells + 1)[:, :cells]
    return counts.reshape(num_images, num_classes, num_classes)


def iou(confusion: Tensor) -> Tensor:
    """Intersection over union of each class, TP / (TP + FP + FN).

    Args:
        confusion: (..., N, N) counts.
    Returns:
        (..., N) float64 on the CPU, in [0, 1]; NaN for a class in neither target nor prediction.
    """
    hits, target_sum, pred_sum = _sums(confusion)
    return hits / (target_sum + pred_sum - hits)  # 0 / 0 is the NaN


def dice(confusion: Tensor) -> Tensor:
    """Dice coefficient of each class, 2 TP / (2 TP + FP + FN); else as `iou`."""
    hits, target_sum, pred_sum = _sums(confusion)
    return 2 * hits / (target_sum + pred_sum)


def mean_iou(confusion: Tensor) -> float:
    """Mean of `iou` over the classes that have one; NaN if none has. `confusion` is (N, N)."""
    check_shape(confusion, "N N", name="confusion")
    return float(torch.nanmean(iou(confusion)))


def pixel_accuracy(confusion: Tensor) -> float:
    """Share of counted pixels with the right class; NaN if none counts. `confusion` is (N, N)."""
    check_shape(confusion, "N N", name="confusion")
    hits, target_sum, _ = _sums(confusion)
    return float(hits.sum() / target_sum.sum())


def _sums(confusion: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Right pixels, pixels of the target and pixels of the prediction of each class, (..., N)."""
    shape = tuple(confusion.shape)
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise SegError(f"confusion has shape {shape}, expected (..., N, N) with rows the target.")
    counts = confusion.cpu().double()  # MPS has no float64
    return counts.diagonal(dim1=-2, dim2=-1), counts.sum(-1), counts.sum(-2)


class SegmentationMeter:
    """Collects the metrics of a data set batch by batch, in memory that does not grow.

        meter = SegmentationMeter(dataset.classes)
        for batch in batches:
            meter.update(model(batch.image).argmax(1), batch.mask, batch.valid)
        meter.compute()["mean_iou"]

    `surface=True` adds HD95 and the normalised surface distance of every class but the first
    (the background), per image; it costs milliseconds for each class in each image. Pixels that do
    not count belong to no class there, in the target and in the prediction alike.
    """

    def __init__(
        self,
        classes: Sequence[str],
        *,
        surface: bool = False,
        tolerance: float = 2.0,
        ignore_label: int = IGNORE,
    ) -> None:
        if not classes or len(set(classes)) != len(classes):
            raise SegError(f"classes={list(classes)} must be at least one name, each once.")
        check_tolerance(tolerance)
        self.classes = tuple(classes)
        self.surface = surface
        self.tolerance = tolerance
        self.ignore_label = ignore_label
        self.reset()

    def reset(self) -> None:
        """Forget everything collected."""
        n = len(self.classes)
        self._sums: dict[str, Tensor] = {
            "confusion": torch.zeros(n, n, dtype=torch.int64),
            "images": torch.zeros((), dtype=torch.int64),
            "image_iou": torch.zeros((), dtype=torch.float64),
            "image_dice": torch.zeros((), dtype=torch.float64),
            "class_images": torch.zeros(n, dtype=torch.int64),
            "class_iou": torch.zeros(n, dtype=torch.float64),
            "class_dice": torch.zeros(n, dtype=torch.float64),
            "hd95": torch.zeros(n, dtype=torch.float64),
            "hd95_undefined": torch.zeros(n, dtype=torch.int64),
            "nsd": torch.zeros(n, dtype=torch.float64),
        }

    def update(self, pred: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        """Add a batch.

        Args:
            pred, target: (B, H, W) integer class ids, as in `confusion_matrix`.
            valid: (B, H, W) bool or None.
        Returns:
            (B, N, N) int64 on the CPU: the confusion matrix of each image.
        Raises:
            SegError: as `confusion_matrix`.
        """
        matrices = confusion_matrices(
            pred, target, len(self.classes), valid=valid, ignore_label=self.ignore_label
        ).cpu()
        ious, dices = iou(matrices), dice(matrices)
        present = ~torch.isnan(ious)  # (B, N)
        counted = present.any(dim=1)  # an image without a counted pixel is not an image
        sums = self._sums
        sums["confusion"] += matrices.sum(dim=0)
        sums["images"] += counted.sum()
        sums["image_iou"] += ious[counted].nanmean(dim=1).sum()
        sums["image_dice"] += dices[counted].nanmean(dim=1).sum()
        sums["class_images"] += present.sum(dim=0)
        sums["class_iou"] += ious.nansum(dim=0)
        sums["class_dice"] += dices.nansum(dim=0)
        if self.surface:
            self._update_surfaces(pred, target, valid, present)
        return matrices

    def _update_surfaces(
        self, pred: Tensor, target: Tensor, valid: Tensor | None, present: Tensor
    ) -> None:
        counted = target != self.ignore_label
        counts = (counted if valid is None else counted & valid).cpu().numpy()
        preds, targets = pred.cpu().numpy(), target.cpu().numpy()
        for image, label in present.nonzero().tolist():
            if label == 0:
                continue
            distance, share = surface_scores(
                (preds[image] == label) & counts[image],
                (targets[image] == label) & counts[image],
                self.tolerance,
            )
            self._sums["nsd"][label] += share
            if np.isinf(distance):
                self._sums["hd95_undefined"][label] += 1
            else:
                self._sums["hd95"][label] += distance

    def compute(self) -> dict[str, Any]:
        """The metrics of everything collected; NaN stands for what has no value.

        Returns:
            "mean_iou", "mean_dice": pooled, mean over the classes in target or prediction;
            "mean_iou_foreground", "mean_dice_foreground": the same without the first class;
            "pixel_accuracy": pooled;
            "per_image_mean_iou", "per_image_mean_dice": of each image the mean over its classes,
            then the mean over images;
            "images": the number of images with a pixel that counts;
            "per_class": for each class name "iou", "dice" (pooled), "per_image_iou",
            "per_image_dice" (mean over the images that have the class in target or prediction),
            "images" (their number) and "pixels" (of the target).

            With surfaces also, per class but the first: "hd95", the mean over images where it is
            finite, "hd95_undefined", the number of images where only one of target and prediction
            has the class, and "nsd", the mean over images where either has it; and their means
            over classes, "mean_hd95" and "mean_nsd".
        """
        sums = self._sums
        confusion, images = sums["confusion"], sums["images"]
        pooled_iou, pooled_dice = iou(confusion), dice(confusion)
        per_class = {
            "iou": pooled_iou,
            "dice": pooled_dice,
            "per_image_iou": sums["class_iou"] / sums["class_images"],
            "per_image_dice": sums["class_dice"] / sums["class_images"],
            "images": sums["class_images"],
            "pixels": confusion.sum(dim=1),
        }
        result: dict[str, Any] = {
            "mean_iou": float(pooled_iou.nanmean()),
            "mean_iou_foreground": float(pooled_iou[1:].nanmean()),
            "mean_dice": float(pooled_dice.nanmean()),
            "mean_dice_foreground": float(pooled_dice[1:].nanmean()),
            "pixel_accuracy": pixel_accuracy(confusion),
            "per_image_mean_iou": float(sums["image_iou"] / images),
            "per_image_mean_dice": float(sums["image_dice"] / images),
            "images": int(images),
        }
        rows = _rows(self.classes, per_class)
        if self.surface:
            surfaces = {
                "hd95": sums["hd95"] / (sums["class_images"] - sums["hd95_undefined"]),
                "hd95_undefined": sums["hd95_undefined"],
                "nsd": sums["nsd"] / sums["class_images"],
            }
            surfaces = {name: values[1:] for name, values in surfaces.items()}
            result["mean_hd95"] = float(surfaces["hd95"].nanmean())
            result["mean_nsd"] = float(surfaces["nsd"].nanmean())
            for name, row in _rows(self.classes[1:], surfaces).items():
                rows[name] |= row
        return result | {"per_class": rows}

    def state_dict(self) -> dict[str, Tensor]:
        """A copy of the sums collected so far, for `load_state_dict` and `merge`."""
        return {name: value.clone() for name, value in self._sums.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace what was collected by a `state_dict` of a meter with as many classes."""
        self.reset()
        self.merge(state)

    def merge(self, other: SegmentationMeter | Mapping[str, Tensor]) -> None:
        """Add what another meter, or its `state_dict`, collected, such as in another process.

        Raises:
            SegError: another number of classes, or not the sums of a meter.
        """
        state = other._sums if isinstance(other, SegmentationMeter) else other
        shapes = {name: tuple(value.shape) for name, value in self._sums.items()}
        given = {name: tuple(value.shape) for name, value in state.items()}
        if given != shapes:
            raise SegError(
                f"The sums to merge have shapes {given}, expected {shapes}: a meter with the same "
                f"{len(self.classes)} classes."
            )
        for name, value in state.items():
            self._sums[name] += value


def _rows(names: Sequence[str], columns: Mapping[str, Tensor]) -> dict[str, dict[str, float | int]]:
    """Turn columns of one value per class into a dict for each class."""
    values = {column: tensor.tolist() for column, tensor in columns.items()}
    return {name: {column: values[column][i] for column in values} for i, name in enumerate(names)}
