"""The same CLIP three times: ours, open_clip's and transformers'; used by clip.py.

The peers' parameters are ours (transformers' queries, keys and values are copies), so that a job
needs no memory but that of its own gradients and moments. Real captions, random pixels.
"""

from __future__ import annotations

import csv
import io
import os
import random
import sys
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCE = "src"
"""Our package, from the root of the repository."""
CAPTIONS = {"coco": ("coco_captions_mini", "caption"), "openstax": ("openstax_figures", "alt")}
"""Name of a case -> data set and column: short captions of photos, long ones of figures."""


PRODUCTS = [(800, 768, 3072), (800, 3072, 768), (800, 768, 768)]
"""Rows, inputs and outputs of most of the work in the image tower of ViT-B/32 at batch 16."""


def use_levers() -> object:
    """Choose the way of float32 products as a run does; tell what was measured."""
    import torch

    from maquette.training.fast_matmul import choose_matmul

    choice = choose_matmul(PRODUCTS)
    torch.set_float32_matmul_precision(choice.precision)
    return choice


@dataclass(frozen=True)
class Models:
    """One set of weights in three implementations; a peer may be left out."""

    ours: Any
    """A `maquette.tasks.image_text.clip.CLIP`."""
    open_clip: Any
    transformers: Any


def make_models(config: Any, *, with_transformers: bool = True) -> Models:
    """Build ours with random weights, and the peers on the same tensors.

    Args:
        config: a `ClipConfig` with a ViT.
    """
    warnings.simplefilter("ignore")  # what the peers' imports deprecate does not concern us
    sys.path.insert(0, str(ROOT / "tests/parity"))
    import torch
    from torchvision_shim import import_torchvision

    from maquette.tasks.image_text.clip import CLIP
    from maquette.tasks.image_text.key_formats import to_hugging_face

    import_torchvision()  # before open_clip and transformers, which import it too

    torch.manual_seed(0)
    ours = CLIP(config)
    peers = [_open_clip(config)]
    peers[0].load_state_dict(ours.state_dict(), assign=True)
    if with_transformers:
        peers.append(_transformers(config))
        peers[1].load_state_dict(to_hugging_face(ours.state_dict()), assign=True)
    return Models(ours, peers[0], peers[1] if with_transformers else None)


def _open_clip(config: Any) -> Any:
    import open_clip

    return open_clip.model.CLIP(
        embed_dim=config.embed_dim,
        quick_gelu=config.activation == "quick_gelu",
        vision_cfg={
            "image_size": config.image_size,
            "layers": config.vision_layers,
            "width": config.vision_width,
            "head_width": config.vision_width // config.vision_heads,
            "patch_size": config.patch_size,
        },
        text_cfg={
            "context_length": config.context_length,
            "vocab_size": config.vocab_size,
            "width": config.text_width,
            "heads": config.text_heads,
            "layers": config.text_layers,
        },
    )


def _transformers(config: Any) -> Any:
    from transformers import CLIPConfig, CLIPModel

    shared = {"hidden_act": config.activation, "projection_dim": config.embed_dim}
    end = config.vocab_size - 1
    return CLIPModel(
        CLIPConfig(
            projection_dim=config.embed_dim,
            text_config={
                "hidden_size": config.text_width,
                "intermediate_size": 4 * config.text_width,
                "num_hidden_layers": config.text_layers,
                "num_attention_heads": config.text_heads,
                "vocab_size": config.vocab_size,
                "max_position_embeddings": config.context_length,
                "bos_token_id": end - 1,
                "eos_token_id": end,
                "pad_token_id": end,
                **shared,
            },
            vision_config={
                "hidden_size": config.vision_width,
                "intermediate_size": 4 * config.vision_width,
                "num_hidden_layers": config.vision_layers,
                "num_attention_heads": config.vision_heads,
                "image_size": config.image_size,
                "patch_size": config.patch_size,
                **shared,
            },
        )
    )


def captions(case: str, number: int) -> list[str]:
    """Draw captions of a real data set, always the same ones."""
    name, column = CAPTIONS[case]
    folder = Path(os.environ.get("MAQUETTE_DATA_MIRROR", ROOT.parent / "shared/data"))
    with (
        zipfile.ZipFile(folder / name / f"{name}.zip") as archive,
        io.TextIOWrapper(archive.open("captions.csv"), encoding="utf-8") as file,
    ):
        texts = [row[column] for row in csv.DictReader(file) if row[column]]
    rng = random.Random(0)
    return rng.sample(texts, number) if number <= len(texts) else rng.choices(texts, k=number)


def tokenizer() -> Any:
    """Return CLIP's own tokenizer, ours; all three models get its ids."""
    from maquette.tasks.image_text.tokenizer import ClipTokenizer

    folder = Path(os.environ.get("MAQUETTE_DATA_MIRROR", ROOT.parent / "shared/data"))
    return ClipTokenizer.from_file(folder / "clip_vocab/bpe_simple_vocab_16e6.txt.gz")
