"""Segmentation metrics against torchmetrics, MONAI and SciPy, with every kind of empty class.

Stored numbers run in the ordinary suite; with `-m peers` numbers made just now from another seed.
Where a reference has another rule for an empty class, the rule is written out here, next to the
comparison: ours is NaN for a class in neither mask and a plain 0 for one in a single mask.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from facts import read_facts
from seg_metrics_cases import (
    IGNORE,
    NUM_CLASSES,
    SPACINGS,
    TOLERANCES,
    blobs,
    cases,
    one_hot,
)
from torch import Tensor
from unet_seg.distance import distance_transform
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
    surface_distances,
)

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv-peers" / "bin" / "python"
LIVE_SEED = 1
TOLERANCE = 1e-6
"""Absolute for shares, which the references compute in float32; relative for distances."""

Pair = tuple[Tensor, Tensor]


@pytest.fixture(scope="module", params=["golden", pytest.param("live", marks=pytest.mark.peers)])
def facts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """What the references measured: "golden" from the stored file, "live" just now."""
    folder = tmp_path_factory.mktemp("live")
    return read_facts(request.param, "seg_metrics", folder, seed=LIVE_SEED)


@pytest.fixture(params=list(cases(0)))
def case(request: pytest.FixtureRequest, facts: dict[str, Any]):
    """Prediction, target and the facts of one case."""
    pred, target = cases(facts["made with"]["seed"])[request.param]
    return pred, target, facts["cases"][request.param]


def same(ours: Any, theirs: Any, *, relative: float = 0.0, absolute: float = TOLERANCE) -> None:
    """Numbers agree within the tolerance, NaN with NaN and infinity with infinity."""
    given = np.array(theirs, dtype=np.float64)  # reads "nan" and "inf"
    np.testing.assert_allclose(np.asarray(ours), given, rtol=relative, atol=absolute)


def same_where_finite(ours: np.ndarray, theirs: Any, *, absolute: float) -> None:
    given = np.array(theirs, dtype=np.float64)
    finite = np.isfinite(given)
    np.testing.assert_array_equal(np.isfinite(ours), finite)
    same(ours[finite], given[finite], absolute=absolute)


def each(pred: Tensor, target: Tensor, measure: Callable[[Tensor, Tensor], float]) -> np.ndarray:
    """A measure of two masks for every image and class, (B, N)."""
    counted = target != IGNORE
    preds, targets = one_hot(pred, counted), one_hot(target, counted)
    return np.array(
        [
            [measure(p, t) for p, t in zip(*pair, strict=True)]
            for pair in zip(preds, targets, strict=True)
        ]
    )


def test_torchmetrics_pooled_over_all_images(case: tuple[Tensor, Tensor, dict[str, Any]]):
    pred, target, facts = case
    theirs = facts["torchmetrics"]
    confusion = confusion_matrix(pred, target, NUM_CLASSES)
    assert confusion.tolist() == theirs["confusion_matrix"]
    same(iou(confusion).nan_to_num(0.0), theirs["jaccard none"])  # NaN: theirs 0
    same(mean_iou(confusion), theirs["jaccard macro"])  # which leaves those out all the same
    same(dice(confusion), theirs["dice global none"][0])
    same(dice(confusion).nanmean(), theirs["dice global macro"][0])
    same(np.nan_to_num(pixel_accuracy(confusion)), theirs["accuracy micro"])  # no pixel: theirs 0


def test_torchmetrics_per_image(case: tuple[Tensor, Tensor, dict[str, Any]]):
    pred, target, facts = case
    theirs = facts["torchmetrics"]
    matrices = confusion_matrices(pred, target, NUM_CLASSES)
    same(iou(matrices).nan_to_num(-1.0), theirs["mean_iou per_class"])  # NaN: theirs -1
    same(dice(matrices), theirs["dice samplewise none"])
    same(dice(matrices).nanmean(dim=1), theirs["dice samplewise macro"])
    meter = SegmentationMeter("abcd")
    meter.update(pred, target)
    same(meter.compute()["per_image_mean_dice"], theirs["DiceScore macro"])


def test_monai_overlap(case: tuple[Tensor, Tensor, dict[str, Any]]):
    """Theirs with ignore_empty=False: a class in neither mask is 1. With ignore_empty=True a class
    absent from the target is NaN even where it is predicted, which hides false positives."""
    pred, target, facts = case
    matrices = confusion_matrices(pred, target, NUM_CLASSES)
    in_target = matrices.sum(dim=2) > 0
    for name, measure in (("iou", iou), ("dice", dice)):
        ours = measure(matrices)
        same(ours.nan_to_num(1.0), facts["monai"][f"{name} ignore_empty=False"])
        same(ours.where(in_target, torch.nan), facts["monai"][f"{name} ignore_empty=True"])


@pytest.mark.parametrize("i", range(len(SPACINGS)))
def test_monai_surfaces(case: tuple[Tensor, Tensor, dict[str, Any]], i: int):
    """One mask empty: ours is infinite, as their Hausdorff distance is. Their percentile of
    infinities is NaN from two outline pixels on (inf - inf in the interpolation), so there only
    that neither is finite is compared."""
    pred, target, facts = case
    theirs, spacing = facts["monai"], SPACINGS[i]

    def hausdorff(p: Tensor, t: Tensor) -> float:
        both = np.concatenate(surface_distances(p, t, spacing=spacing))
        return float(both.max()) if both.size else float("nan")

    same(each(pred, target, hausdorff), theirs[f"hausdorff {i}"], relative=1e-6)
    for method in ("max", "pooled"):
        ours = each(pred, target, lambda p, t, m=method: hd95(p, t, spacing=spacing, method=m))
        same_where_finite(ours, theirs[f"hd95 {method} {i}"], absolute=TOLERANCE)
        if method == "max":  # MONAI's own number; the rank of its percentile is float32
            same_where_finite(ours, theirs[f"hd95 {i}"], absolute=2e-5)
    for tolerance in TOLERANCES:
        ours = each(
            pred, target, lambda p, t, at=tolerance: normalised_surface_distance(p, t, at, spacing)
        )
        same(ours, theirs[f"nsd {tolerance} {i}"])


@pytest.mark.parametrize("i", range(len(SPACINGS)))
def test_scipy_distance_transform(facts: dict[str, Any], i: int):
    ids = blobs("distances", seed=facts["made with"]["seed"])
    masks = one_hot(ids, torch.ones(1, 1, 1, dtype=torch.bool))[0].numpy()
    ours = distance_transform(masks, SPACINGS[i])
    same(ours, facts["distance transform"][str(i)], relative=1e-12, absolute=0)


def test_the_cases_hold_every_kind_of_empty_class():
    """Guards the cases themselves: per image, per class, in neither, one or both masks."""
    seen = set()
    for pred, target in cases(0).values():
        matrices = confusion_matrices(pred, target, NUM_CLASSES)
        predicted, true = matrices.sum(dim=1) > 0, matrices.sum(dim=2) > 0
        seen |= {tuple(pair) for pair in torch.stack([predicted, true], -1).flatten(0, 1).tolist()}
    assert seen == {(False, False), (False, True), (True, False), (True, True)}
