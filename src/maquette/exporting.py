"""A bundle in another tool's format: `maquette export`."""

from __future__ import annotations

from pathlib import Path

from maquette.bundle import load_bundle
from maquette.errors import UsageError
from maquette.tasks.image_text.hugging_face import write_hugging_face
from maquette.tasks.image_text.model import PairModel
from maquette.tasks.image_text.preprocess import ImageTextPreprocessor


def export_bundle(bundle: Path, output: Path) -> list[str]:
    """Write an image-text bundle as a folder that transformers loads; return lines that say so.

    Raises:
        BundleError: not a bundle, or a damaged one.
        UsageError: a bundle of another task, a network that the format does not know, or a folder
            that is there already.
    """
    loaded = load_bundle(bundle, device="cpu")
    model, preprocessor = loaded.model, loaded.preprocessor
    if not isinstance(model, PairModel) or not isinstance(preprocessor, ImageTextPreprocessor):
        raise UsageError(
            f"{bundle} holds a model of task {loaded.task!r}; only image_text models (CLIP) are "
            "exported, for transformers."
        )
    if preprocessor.similarity != "cosine":
        raise UsageError(
            f"{bundle} compares features by {preprocessor.similarity!r}, and CLIPModel of "
            "transformers only by their cosine; train with contrastive.similarity: cosine."
        )
    write_hugging_face(output, model.clip, preprocessor.tokenizer, preprocessor)
    lines = [
        f"{output} is ready: transformers.CLIPModel.from_pretrained({str(output)!r}), and "
        "CLIPTokenizer and CLIPImageProcessor likewise"
    ]
    if model.logit_bias is not None:
        lines.append(
            f"note: the bias {float(model.logit_bias):.4g} of the sigmoid loss has no place in the "
            "format; similarities are the same without it, probabilities of pairs are not"
        )
    return lines
