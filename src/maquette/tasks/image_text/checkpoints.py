"""Read CLIP checkpoints of OpenAI, open_clip and Hugging Face, and start a model from one.

`load_clip` gives a model that is ready to use, `read_clip` the weights and all that is known about
them, `load_into` puts them into a model of another image size or with another vocabulary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from maquette.errors import DataError, UsageError
from maquette.tasks.image_text.architectures import ClipConfig
from maquette.tasks.image_text.checkpoint_config import (
    Settings,
    hugging_face_settings,
    infer_config,
    name_of,
    open_clip_settings,
)
from maquette.tasks.image_text.checkpoint_files import (
    locate,
    preprocessing_in,
    read_json,
    read_state,
    tokenizer_folder,
)
from maquette.tasks.image_text.clip import CLIP
from maquette.tasks.image_text.key_formats import Family, family_of, to_native
from maquette.tasks.image_text.positions import resample_image_positions, resample_text_positions
from maquette.tasks.tensor_files import refuse_not_finite, some

if TYPE_CHECKING:
    from maquette.tasks.image_text.tokenizer import ClipTokenizer

IMAGE_TABLES = ("visual.positional_embedding", "visual.attnpool.positional_embedding")
TEXT_TABLE = "positional_embedding"
VOCABULARY = "token_embedding.weight"
OPENAI_VOCABULARY = 49_408
"""Tokens of OpenAI's merge list, which every checkpoint without tokenizer files has."""

Colour = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class ClipCheckpoint:
    """The weights of one CLIP, under our names, and what is known about them."""

    source: str
    config: ClipConfig
    state: dict[str, Tensor]
    """Our keys; float32, whatever they were stored in."""
    report: tuple[str, ...]
    """One line each: where it came from, what was inferred and why, what was left out."""
    tokenizer_files: Path | None
    """A folder with vocab.json and merges.txt, or tokenizer.json; None: OpenAI's merge list."""
    mean: Colour
    """Of the training images, in [0, 1]."""
    std: Colour
    fit: Literal["crop", "stretch"]
    """How images become square."""


@dataclass(frozen=True, kw_only=True)
class KeyReport:
    """What became of every key of the checkpoint and of the model."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    """Keys of the model that the checkpoint does not have and that keep their random weights."""
    unexpected: tuple[str, ...]
    """Keys of the checkpoint that the model has no use for."""
    shape_mismatched: tuple[str, ...]
    """Keys of both whose shapes differ and that keep their random weights: another vocabulary."""
    resampled: tuple[str, ...]
    """Loaded after a change of size: position tables."""
    new_vocabulary: bool
    """The token embeddings stay random because the tokenizer is another."""

    def __str__(self) -> str:
        """One line per kind of key, for the log of a run."""
        kinds = {
            "resampled for another size": self.resampled,
            "random, because the tokenizer is another": (VOCABULARY,) * self.new_vocabulary,
            "random, because the shape differs": self.shape_mismatched,
            "random, because not in the checkpoint": self.missing,
            "not used": self.unexpected,
        }
        listed = [f"{kind}: {', '.join(keys)}" for kind, keys in kinds.items() if keys]
        return "\n".join([f"loaded {len(self.loaded)} tensors", *listed])


def read_clip(source: str | Path, *, activation: str | None = None) -> ClipCheckpoint:
    """Read a checkpoint and find out which CLIP it is.

    Args:
        source: a file (.safetensors, .bin, .pt, or an index of shards) or a folder of OpenAI,
            open_clip or Hugging Face, or "hub:OWNER/NAME". Files are read as data alone.
        activation: quick_gelu or gelu; by default what the configuration beside the weights says,
            else a guess that the report explains.
    Raises:
        UsageError: there is no such source, or it holds another architecture.
        DataError: a file is damaged, would run code, or holds NaN or infinity.
    """
    files = locate(source)
    stored = read_state(files)
    family = family_of(stored)
    if family is None:
        raise UsageError(
            f"{source} holds no CLIP that Maquette knows; its tensors are {some(stored)}. OpenAI, "
            "open_clip and Hugging Face CLIPModel checkpoints are read; SigLIP and towers of timm "
            "are other architectures."
        )
    state, left_out = to_native(stored, family)
    refuse_not_finite(state, str(source))
    kinds = sorted({str(value.dtype).removeprefix("torch.") for value in state.values()} - {_INT})
    config, lines = infer_config(
        state,
        where=str(source),
        family=family,
        settings=_settings(files.folder, family),
        activation=activation,
        is_openai=family == "OpenAI" and ("float16" in kinds or "input_resolution" in left_out),
    )
    known = name_of(config)
    preprocessing = preprocessing_in(files.folder)
    return ClipCheckpoint(
        source=str(source),
        config=config,
        state={
            key: value.float() if value.is_floating_point() else value
            for key, value in state.items()
        },
        report=(
            f"{source}: {family} format, {len(state)} tensors of {' and '.join(kinds)}",
            f"architecture: {known or 'of its own'}: {_describe(config)}",
            *lines,
            *([f"not weights, left out: {', '.join(left_out)}"] if left_out else []),
        ),
        tokenizer_files=tokenizer_folder(files.folder),
        mean=preprocessing["mean"],
        std=preprocessing["std"],
        fit=preprocessing["fit"],
    )


_INT = "int64"
"""Batch norm's counters, which say nothing about the precision."""


def _settings(folder: Path, family: Family) -> Settings | None:
    """Read the configuration beside the weights that belongs to names of this family."""
    if family == "Hugging Face":
        path, read = folder / "config.json", hugging_face_settings
    else:
        path, read = folder / "open_clip_config.json", open_clip_settings
    content = read_json(path)
    return None if content is None else read(content, str(path))


def _describe(config: ClipConfig) -> str:
    kind = f"ViT (patch {config.patch_size}" if config.vision == "vit" else "ResNet (stride 32"
    return (
        f"{kind}, blocks {config.vision_layers}, width {config.vision_width}, image "
        f"{config.image_size}), text (blocks {config.text_layers}, width {config.text_width}, "
        f"tokens {config.vocab_size}, length {config.context_length}), features {config.embed_dim}"
    )


def fitted_config(config: ClipConfig, checkpoint: ClipCheckpoint) -> ClipConfig:
    """Return `config` with the activation and the resampling that the checkpoint's weights need.

    Raises:
        UsageError: the checkpoint holds other towers.
    """
    _refuse_other_towers(config, checkpoint)
    return dataclasses.replace(
        config,
        activation=checkpoint.config.activation,
        antialias_positions=checkpoint.config.antialias_positions,
    )


def load_into(
    model: CLIP, checkpoint: ClipCheckpoint, *, new_vocabulary: bool = False
) -> KeyReport:
    """Copy a checkpoint's weights into `model` and return what was and was not used.

    A table of image positions for another size is resampled; a longer table of text positions is
    cut, a shorter one stretched. Everything else must be there and fit, so a model is never
    silently half random. On any error the model is as it was.

    Args:
        new_vocabulary: the tokenizer is not the checkpoint's, so token embeddings stay random.
    Raises:
        UsageError: other towers, another activation, or another vocabulary.
        DataError: tensors are missing, of another shape, or would change what a tower computes.
    """
    config, source = model.config, checkpoint.source
    _refuse_other_towers(config, checkpoint)
    if config.activation != checkpoint.config.activation:
        raise UsageError(
            f"{source} computes with {checkpoint.config.activation}, the model with "
            f"{config.activation}: it would run and be wrong. Set model.name: clip, which takes "
            "this from the checkpoint; in Python, build the model with fitted_config."
        )
    if config.vocab_size != checkpoint.config.vocab_size and not new_vocabulary:
        raise UsageError(
            f"{source} knows {checkpoint.config.vocab_size} tokens, the tokenizer has "
            f"{config.vocab_size}; use the checkpoint's own: data.image_text.tokenizer: auto."
        )
    wanted = model.state_dict()
    given = dict(checkpoint.state)
    resampled = _resample(given, config)
    left = {VOCABULARY} if new_vocabulary else set()
    shared = [key for key in wanted if key in given]
    report = KeyReport(
        loaded=tuple(
            key for key in shared if given[key].shape == wanted[key].shape and key not in left
        ),
        missing=tuple(key for key in wanted if key not in given),
        unexpected=tuple(key for key in given if key not in wanted),
        shape_mismatched=tuple(
            key for key in shared if given[key].shape != wanted[key].shape and key not in left
        ),
        resampled=resampled,
        new_vocabulary=new_vocabulary,
    )
    _refuse_misfit(report, given, wanted, source)
    model.load_state_dict({key: given[key] for key in report.loaded}, strict=False)
    return report


def _resample(given: dict[str, Tensor], config: ClipConfig) -> tuple[str, ...]:
    """Fit the position tables in `given` to the model's sizes; return the keys that changed."""
    changed = []
    for key in IMAGE_TABLES:
        if key in given and given[key].shape[0] != 1 + config.grid**2:
            given[key] = resample_image_positions(
                given[key], grid=config.grid, antialias=config.antialias_positions
            )
            changed.append(key)
    length = config.context_length
    if given[TEXT_TABLE].shape[0] != length:
        # The first positions mean the same at any length, so a table is cut, not squeezed.
        is_longer = given[TEXT_TABLE].shape[0] > length
        given[TEXT_TABLE] = (
            given[TEXT_TABLE][:length]
            if is_longer
            else resample_text_positions(given[TEXT_TABLE], length=length)
        )
        changed.append(TEXT_TABLE)
    return tuple(changed)


def _refuse_other_towers(config: ClipConfig, checkpoint: ClipCheckpoint) -> None:
    theirs = checkpoint.config
    if config.same_towers(theirs):
        return
    name = name_of(theirs)
    mine, found = config.to_json(), theirs.to_json()
    shapes = ("embed_dim", "vision", "patch_size", "vision_width", "vision_layers", "vision_heads")
    differing = [
        f"{key} {found[key]} instead of {mine[key]}"
        for key in (*shapes, "text_width", "text_layers", "text_heads")
        if found[key] != mine[key]
    ]
    fix = f"It holds a {name}: set model.name: {name}" if name else "Set model.name: clip"
    raise UsageError(
        f"The weights in {checkpoint.source} do not fit this model; nothing was loaded. "
        f"{'; '.join(differing)}. {fix}{', or clip' if name else ''}, which takes its shape from "
        "the checkpoint."
    )


def _refuse_misfit(
    report: KeyReport, given: dict[str, Tensor], wanted: dict[str, Tensor], source: str
) -> None:
    """Refuse missing tensors, other shapes, and layers that the towers do not have."""
    extra = [key for key in report.unexpected if key.startswith(("visual.", "transformer."))]
    shapes = [
        f"{key} {tuple(given[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in report.shape_mismatched
    ]
    missing = [key for key in report.missing if not key.endswith("num_batches_tracked")]
    problems = {"missing": missing, "of another shape": shapes, "unknown to the model": extra}
    listed = [f"{len(keys)} {kind}: {some(keys)}" for kind, keys in problems.items() if keys]
    if listed:
        raise DataError(
            f"The weights in {source} do not fit a CLIP; nothing was loaded. {'; '.join(listed)}."
        )


def load_clip(
    source: str | Path, *, activation: str | None = None
) -> tuple[CLIP, ClipTokenizer, Callable[[Any], Tensor]]:
    """Return a model in evaluation mode, its tokenizer, and its image preprocessing.

        model, tokenizer, preprocess = load_clip("hub:openai/clip-vit-base-patch32")
        image_features = model.encode_image(preprocess("cat.jpg")[None])
        text_features = model.encode_text(tokenizer(["a photo of a cat"]))

    Args:
        source: as for `read_clip`.
        activation: as for `read_clip`.
    Returns:
        the model on the CPU in float32; a tokenizer that turns a list of B texts into (B, T) int64;
        a function from a Pillow image, a path or the bytes of a file to (3, H, W) float32.
    """
    from maquette.tasks.image_text.preprocess import clip_preprocess
    from maquette.tasks.image_text.tokenizer import ClipTokenizer

    checkpoint = read_clip(source, activation=activation)
    config = checkpoint.config
    vocabulary = checkpoint.tokenizer_files
    if vocabulary is None and config.vocab_size != OPENAI_VOCABULARY:
        raise UsageError(
            f"{source} has {config.vocab_size} tokens and no tokenizer files beside it; put its "
            "vocab.json and merges.txt there."
        )
    tokenizer = ClipTokenizer.from_file(
        vocabulary or "catalogue:clip_vocab", context_length=config.context_length
    )
    model = CLIP(config)
    load_into(model, checkpoint)
    preprocess = partial(
        clip_preprocess,
        image_size=config.image_size,
        fit=checkpoint.fit,
        mean=checkpoint.mean,
        std=checkpoint.std,
    )
    return model.eval(), tokenizer, preprocess
