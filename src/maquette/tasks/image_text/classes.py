"""Class features: what a text tower says of each class, through several prompts.

Letters: N classes, P prompts, T tokens, E embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from maquette.tasks.image_text.domains import fill
from maquette.tasks.image_text.model import PairModel
from maquette.tasks.image_text.preprocess import ImageTextPreprocessor
from maquette.tasks.image_text.tokenizer import ClipTokenizer

CHUNK = 256
"""Prompts per forward pass."""


def prompt_features(
    model: PairModel, tokenizer: ClipTokenizer, classes: Sequence[str], prompts: Sequence[str]
) -> Tensor:
    """(P, N, E) float32 text features of every prompt with every class, unnormalised."""
    texts = [fill(prompt, name) for prompt in prompts for name in classes]
    device = model.clip.logit_scale.device
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            parts = [
                model.clip.encode_text(
                    tokenizer.trimmed(texts[start : start + CHUNK]).to(device)
                ).float()
                for start in range(0, len(texts), CHUNK)
            ]
    finally:
        model.train(was_training)
    return torch.cat(parts).reshape(len(prompts), len(classes), -1).clone()


def prepared_prompts(
    model: PairModel, tokenizer: ClipTokenizer, classes: Sequence[str], prompts: Sequence[str]
) -> Tensor:
    """(P, N, E') the same, prepared: their dot product with prepared images is the similarity."""
    features = prompt_features(model, tokenizer, classes, prompts)
    with torch.inference_mode():
        _, prepared = model.prepare(features[0, :1], features.flatten(0, 1))
    return prepared.reshape(len(prompts), len(classes), -1).float().cpu()


def class_features(model: PairModel, preprocessor: ImageTextPreprocessor) -> Tensor:
    """(N, E) mean over the prompts of normalised features, normalised again (CLIP's ensemble)."""
    assert preprocessor.classes is not None, "asked for networks that classify"
    features = prompt_features(
        model, preprocessor.tokenizer, preprocessor.classes, preprocessor.prompts
    )
    return F.normalize(F.normalize(features, dim=2).mean(dim=0), dim=1)
