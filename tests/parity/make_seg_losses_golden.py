"""Write the losses of segmentation_models_pytorch, for the segmentation losses parity tests.

    .venv-peers/bin/python tests/parity/make_seg_losses_golden.py

Runs in .venv-peers, in float64 (Lovász: float32), one image at a time, because the reference's
Dice, Tversky and Jaccard are sums over the whole batch. `--seed` and `--output` make other numbers
elsewhere (the live test). What is stored follows the reference's own rules; `test_seg_losses.py`
turns ours into them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from seg_losses_cases import ALPHA, SMOOTH, WEIGHTS, cases, observe
from seg_metrics_cases import IGNORE, NUM_CLASSES
from torch import Tensor
from torchvision_shim import import_torchvision

import_torchvision()  # the reference imports it, so it comes after the shim
import segmentation_models_pytorch as smp  # noqa: E402
from segmentation_models_pytorch import losses  # noqa: E402
from segmentation_models_pytorch.losses.lovasz import _lovasz_softmax  # noqa: E402

Peer = Callable[[Tensor, Tensor], Tensor]


def region(mode: str) -> dict[str, Peer]:
    """Losses on whole regions, which have the same arguments in both modes."""
    options: dict[str, Any] = {"mode": mode, "ignore_index": IGNORE}
    return {
        "dice": losses.DiceLoss(**options),
        "dice smooth": losses.DiceLoss(smooth=SMOOTH, **options),
        "tversky": losses.TverskyLoss(alpha=0.3, beta=0.7, **options),
    }


def one_vs_rest(logits: Tensor, target: Tensor) -> Tensor:
    """Its BCE with the ignored pixels' labels of every class set to its ignore index."""
    one_hot = F.one_hot(target.where(target != IGNORE, 0), NUM_CLASSES).movedim(-1, 1)
    labels = one_hot.where((target != IGNORE)[:, None], IGNORE)
    return losses.SoftBCEWithLogitsLoss(ignore_index=IGNORE)(logits, labels.to(logits))


def binary_bce(logits: Tensor, target: Tensor) -> Tensor:
    return losses.SoftBCEWithLogitsLoss(ignore_index=IGNORE)(logits, target[:, None].to(logits))


def lovasz_sigmoid(logits: Tensor, target: Tensor) -> Tensor:
    """What its Lovász-softmax makes of one channel of sigmoids; its class offers the hinge only."""
    p = logits[:, 0].float().sigmoid()
    return _lovasz_softmax(p, target, classes=[1], per_image=True, ignore=IGNORE)


def lovasz(mode: str) -> Peer:
    """Its Lovász losses, which know float32 only."""
    loss = losses.LovaszLoss(mode, per_image=True, ignore_index=IGNORE)
    return lambda logits, target: loss(logits.float(), target)


def peers(num_channels: int) -> dict[str, Peer]:
    options: dict[str, Any] = {"ignore_index": IGNORE}
    if num_channels == 1:
        return region("binary") | {
            "bce": binary_bce,
            "focal": losses.FocalLoss("binary", gamma=2.0, **options),
            "focal alpha": losses.FocalLoss("binary", alpha=ALPHA, gamma=2.0, **options),
            "lovasz sigmoid": lovasz_sigmoid,
            "lovasz hinge": lovasz("binary"),
        }
    return region("multiclass") | {
        "ce": losses.SoftCrossEntropyLoss(smooth_factor=0.0, **options),
        "bce": one_vs_rest,
        "jaccard": losses.JaccardLoss("multiclass", **options),
        "dice weighted": losses.DiceLoss("multiclass", class_weights=list(WEIGHTS), **options),
        "lovasz": lovasz("multiclass"),
        "focal": losses.FocalLoss("multiclass", gamma=2.0, **options),
    }


def measure(peer: Peer, logits: Tensor, target: Tensor) -> dict[str, list[float]]:
    logits = logits.clone().requires_grad_()
    each = [peer(*pair).reshape(()) for pair in zip(logits.split(1), target.split(1), strict=True)]
    return observe(torch.stack(each), logits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "golden")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    versions = {m.__name__: str(m.__version__) for m in (torch, smp)}
    facts: dict[str, Any] = {"made with": versions | {"seed": args.seed}}
    facts["cases"] = {
        name: {key: measure(peer, *pair) for key, peer in peers(pair[0].shape[1]).items()}
        for name, pair in cases(args.seed).items()
    }
    logits, target = cases(args.seed)["all classes"]
    facts["dice of the batch"] = region("multiclass")["dice"](logits, target).item()
    (args.output / "seg_losses.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
