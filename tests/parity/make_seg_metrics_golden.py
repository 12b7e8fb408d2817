"""Write what torchmetrics and MONAI measure, for the segmentation metrics parity tests.

    .venv-peers/bin/python tests/parity/make_seg_metrics_golden.py

Runs in .venv-peers. `--seed` and `--output` make other numbers elsewhere (the live test). NaN and
infinity are written as "nan" and "inf". What is stored is what the references answer by their own
rules about empty classes; `test_seg_metrics.py` says how ours are turned into theirs.
"""

from __future__ import annotations

import argparse
import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
from scipy.ndimage import distance_transform_edt
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
from torchvision_shim import import_torchvision

import_torchvision()  # both references import it, so they come after the shim
import monai  # noqa: E402
import torchmetrics  # noqa: E402
from monai.metrics import (  # noqa: E402
    compute_dice,
    compute_hausdorff_distance,
    compute_iou,
    compute_surface_dice,
)
from monai.metrics.utils import get_edge_surface_distance  # noqa: E402
from torchmetrics.functional import classification, segmentation  # noqa: E402
from torchmetrics.segmentation import DiceScore  # noqa: E402


def plain(values: Any) -> Any:
    """Tensors and arrays as nested lists, with "nan" and "inf" for what JSON has no number for."""
    if isinstance(values, (Tensor, np.ndarray, np.generic)):
        return plain(values.tolist())
    if isinstance(values, list):
        return [plain(value) for value in values]
    if isinstance(values, float) and not math.isfinite(values):
        return str(values)
    return values


def by_torchmetrics(pred: Tensor, target: Tensor) -> dict[str, Any]:
    options = {"num_classes": NUM_CLASSES, "ignore_index": IGNORE}
    facts = {
        "confusion_matrix": classification.multiclass_confusion_matrix(pred, target, **options),
        "accuracy micro": classification.multiclass_accuracy(
            pred, target, average="micro", **options
        ),
    }
    for average in ("none", "macro"):
        facts[f"jaccard {average}"] = classification.multiclass_jaccard_index(
            pred, target, average=average, **options
        )
    counted = target != IGNORE  # its segmentation metrics know no ignored pixels
    masks = one_hot(pred, counted), one_hot(target, counted)
    facts["mean_iou per_class"] = segmentation.mean_iou(*masks, per_class=True)
    for level in ("samplewise", "global"):
        for average in ("none", "macro"):
            facts[f"dice {level} {average}"] = segmentation.dice_score(
                *(mask.long() for mask in masks),
                num_classes=NUM_CLASSES,
                average=average,
                aggregation_level=level,
            )
    mean = DiceScore(NUM_CLASSES, average="macro")
    mean.update(*(mask.long() for mask in masks))
    facts["DiceScore macro"] = mean.compute()
    return facts


def by_monai(pred: Tensor, target: Tensor) -> dict[str, Any]:
    counted = target != IGNORE
    masks = one_hot(pred, counted), one_hot(target, counted)
    facts: dict[str, Any] = {}
    for ignore_empty in (True, False):
        for name, compute in (("iou", compute_iou), ("dice", compute_dice)):
            facts[f"{name} ignore_empty={ignore_empty}"] = compute(
                *(mask.float() for mask in masks), ignore_empty=ignore_empty
            )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* is all 0")
        warnings.simplefilter("ignore", FutureWarning)  # MONAI calls its own deprecated argument
        for i, spacing in enumerate(SPACINGS):
            options = {"include_background": True, "spacing": spacing}
            facts[f"hausdorff {i}"] = compute_hausdorff_distance(*masks, **options)
            facts[f"hd95 {i}"] = compute_hausdorff_distance(*masks, percentile=95, **options)
            for tolerance in TOLERANCES:
                facts[f"nsd {tolerance} {i}"] = compute_surface_dice(
                    *masks, class_thresholds=[tolerance] * NUM_CLASSES, **options
                )
            exact = [hd95_exactly(*pair, spacing) for pair in pairs_of(masks)]
            for name in ("max", "pooled"):
                values = torch.tensor([value[name] for value in exact], dtype=torch.float64)
                facts[f"hd95 {name} {i}"] = values.reshape(masks[0].shape[:2])
    return facts


def pairs_of(masks: tuple[Tensor, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """All pairs of (H, W) masks of a pair of (B, N, H, W)."""
    return list(zip(*(mask.flatten(0, 1) for mask in masks), strict=True))


def hd95_exactly(pred: Tensor, target: Tensor, spacing: tuple[float, float]) -> dict[str, float]:
    """Percentiles in float64 of MONAI's surface distances.

    "max" is MONAI's own rule, whose float32 percentile is off by the rounding of the rank, up to
    some 1e-5. "pooled" is MedPy's: one percentile of both directions together.
    """
    _, both, _ = get_edge_surface_distance(pred, target, spacing=spacing, symmetric=True)
    if not len(both[0]) and not len(both[1]):
        return {"max": math.nan, "pooled": math.nan}
    each = [float(torch.quantile(distances.double(), 0.95)) for distances in both]
    return {"max": max(each), "pooled": float(torch.quantile(torch.cat(both).double(), 0.95))}


def distances(seed: int) -> dict[str, Any]:
    """SciPy's distance transform of a few masks."""
    masks = one_hot(blobs("distances", seed=seed), torch.ones(1, 1, 1, dtype=torch.bool))[0].numpy()
    return {
        str(i): np.stack([distance_transform_edt(~mask, sampling=spacing) for mask in masks])
        for i, spacing in enumerate(SPACINGS)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "golden")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    versions = {m.__name__: str(m.__version__) for m in (torch, torchmetrics, monai, scipy)}
    facts: dict[str, Any] = {"made with": versions | {"seed": args.seed}}
    facts["distance transform"] = {k: plain(v) for k, v in distances(args.seed).items()}
    facts["cases"] = {
        name: {
            peer: {key: plain(value) for key, value in measure(*pair).items()}
            for peer, measure in (("torchmetrics", by_torchmetrics), ("monai", by_monai))
        }
        for name, pair in cases(args.seed).items()
    }
    (args.output / "seg_metrics.json").write_text(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
