"""Write what open_clip and transformers make of features, for the contrastive losses parity tests.

    OMP_NUM_THREADS=1 .venv-peers/bin/python tests/parity/make_clip_losses_golden.py

Features are normalised here, because the references take them so; gradients are those of the
features before. `--seed` and `--output` make other numbers elsewhere (the live test).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from clip_losses_cases import CASES, TEACHER_SCALE, case, observe
from torch import Tensor
from torch.nn import functional as F
from torchvision_shim import import_torchvision

import_torchvision()
import open_clip  # noqa: E402 - imports torchvision, so it comes after the shim
import transformers  # noqa: E402
from open_clip.loss import ClipLoss, DistillClipLoss, SigLipLoss  # noqa: E402
from transformers.models.clip.modeling_clip import image_text_contrastive_loss  # noqa: E402


def unit(features: Tensor) -> Tensor:
    return F.normalize(features, dim=-1)


def peers(given: dict[str, Tensor]) -> dict[str, Callable[..., Tensor]]:
    """Name -> (images, texts, logit_scale, logit_bias) -> loss."""
    teacher = unit(given["teacher_images"]), unit(given["teacher_texts"])
    teacher_scale = torch.tensor(TEACHER_SCALE, dtype=torch.float64).exp()

    def open_clip_clip(images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        return ClipLoss()(unit(images), unit(texts), scale.exp())

    def open_clip_biased(images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        return ClipLoss()(unit(images), unit(texts), scale.exp(), bias)

    def open_clip_siglip(images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        return SigLipLoss()(unit(images), unit(texts), scale.exp(), bias)

    def open_clip_distilled(images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        return sum(
            DistillClipLoss()(unit(images), unit(texts), scale.exp(), *teacher, teacher_scale)
        )

    def transformers_clip(images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        return image_text_contrastive_loss(unit(texts) @ unit(images).T * scale.exp())

    return {
        "open_clip ClipLoss": open_clip_clip,
        "open_clip ClipLoss with a bias": open_clip_biased,
        "open_clip SigLipLoss": open_clip_siglip,
        "open_clip DistillClipLoss": open_clip_distilled,
        "transformers clip": transformers_clip,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "golden")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    versions = {m.__name__: str(m.__version__) for m in (torch, open_clip, transformers)}
    facts: dict[str, Any] = {"made with": versions | {"seed": args.seed}, "cases": {}}
    for name in CASES:
        given = case(name, seed=args.seed)
        facts["cases"][name] = {peer: observe(loss, given) for peer, loss in peers(given).items()}
    (args.output / "clip_losses.json").write_text(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
