"""Write what open_clip's and transformers' image transforms make of pictures, as 8-bit levels.

OMP_NUM_THREADS=1 .venv-peers/bin/python tests/parity/make_clip_images_golden.py
"""

from __future__ import annotations

import argparse
import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from clip_images_cases import SHAPES, SIZES, picture
from PIL import Image
from torchvision_shim import import_torchvision

import_torchvision()
import open_clip  # noqa: E402 - imports torchvision, so it comes after the shim
import transformers  # noqa: E402
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD  # noqa: E402
from open_clip.transform import image_transform  # noqa: E402

try:
    from transformers import CLIPImageProcessorPil as ClipProcessor
except ImportError:
    from transformers import CLIPImageProcessor as ClipProcessor


def levels(pixels: torch.Tensor) -> str:
    """(3, S, S) normalised -> the 8-bit levels they came from, (S, S, 3), as base64."""
    mean, std = (torch.tensor(c).view(3, 1, 1) for c in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD))
    exact = (pixels * std + mean) * 255
    whole = exact.round()
    assert (exact - whole).abs().max() < 1e-3
    content = whole.permute(1, 2, 0).numpy().astype(np.uint8).tobytes()
    return base64.b64encode(content).decode()


def answers(seed: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for size in SIZES.values():
        transform = image_transform(
            size, is_train=False, mean=OPENAI_DATASET_MEAN, std=OPENAI_DATASET_STD
        )
        processor = ClipProcessor(
            size={"shortest_edge": size}, crop_size={"height": size, "width": size}
        )
        for name in SHAPES:
            image = Image.fromarray(picture(name, seed=seed))
            theirs = processor(image, return_tensors="pt")["pixel_values"][0]
            found[f"{name} {size}"] = {
                "open_clip": levels(transform(image)),
                "transformers": levels(theirs),
            }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "golden")
    arguments = parser.parse_args()
    facts = {
        "made with": {
            "open_clip": open_clip.__version__,
            "transformers": transformers.__version__,
            "pillow": PIL.__version__,
            "seed": arguments.seed,
        },
        "cases": answers(arguments.seed),
    }
    path = arguments.output / "clip_images.json"
    path.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
