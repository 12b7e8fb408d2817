"""Which CLIP a checkpoint holds: from a configuration file where there is one, else from shapes.

Shapes tell everything but the number of attention heads and the activation. `infer_config` is the
way in; all keys are ours (`key_formats.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Any, Literal

from torch import Tensor

from maquette.errors import UsageError, one_of
from maquette.tasks.image_text.architectures import (
    ACTIVATIONS,
    CONFIGURATIONS,
    RESNET_EXPANSION,
    ClipConfig,
)
from maquette.tasks.image_text.key_formats import Family

Activation = Literal["quick_gelu", "gelu"]

HEAD_WIDTH = 64
"""Width of an attention head in all CLIP models but the largest."""
LARGE_HEAD_WIDTHS = {1280: 80, 1408: 88, 1664: 104}
"""Width of the image tower -> of its heads, in the published ViT-H, ViT-g and ViT-bigG."""

LEGACY_END = 2
"""The eos_token_id of old configurations, which transformers takes for "the largest id"."""
PLAIN: Mapping[str, Mapping[str, Any]] = {
    "vision_cfg": {
        "timm_model_name": None,
        "attentional_pool": False,
        "pool_type": "tok",
        "final_ln_after_pool": False,
        "norm_kwargs": None,
        "act_kwargs": None,
    },
    "text_cfg": {
        "hf_model_name": None,
        "embed_cls": False,
        "no_causal_mask": False,
        "pool_type": "argmax",
        "final_ln_after_pool": False,
        "norm_kwargs": None,
        "act_kwargs": None,
    },
}
"""Settings of open_clip that change what a tower computes and not always its shapes, as CLIP has
them; the others show in keys and shapes."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a configuration file beside the weights says; None where it says nothing."""

    vision_heads: int | None = None
    text_heads: int | None = None
    activation: Activation | None = None
    antialias_positions: bool = True
    image_size: int | None = None
    """Needed for ResNets only: several sizes have the same grid."""
    notes: tuple[str, ...] = ()
    """What the user should know."""


def hugging_face_settings(config: Mapping[str, Any], where: str) -> Settings:
    """Read a config.json of transformers; what it leaves out has the defaults of CLIPConfig.

    Raises:
        UsageError: it is another model, or a CLIP that computes something ours does not.
    """
    if config.get("model_type", "clip") != "clip":
        raise UsageError(
            f"{where} is a {config['model_type']!r}, not a 'clip'; SigLIP and others with their "
            "own towers are other architectures."
        )
    text, vision = _section(config, "text_config"), _section(config, "vision_config")
    acts = {text.get("hidden_act", "quick_gelu"), vision.get("hidden_act", "quick_gelu")}
    if len(acts) != 1 or not acts <= set(ACTIVATIONS):
        raise UsageError(
            f"{where}: hidden_act is {' and '.join(sorted(map(str, acts)))}; expected one of "
            f"{', '.join(ACTIVATIONS)} in both towers."
        )
    for name, section in (("text", text), ("vision", vision)):
        eps = section.get("layer_norm_eps", 1e-5)
        if eps != 1e-5:
            raise UsageError(f"{where}: {name} layer_norm_eps is {eps}, but CLIP has 1e-05.")
    end = text.get("eos_token_id", 49_407)
    notes: tuple[str, ...] = ()
    if end not in (LEGACY_END, text.get("vocab_size", 49_408) - 1):
        notes = (f"text features: read at the largest token id, where transformers reads at {end}",)
    return Settings(
        vision_heads=vision.get("num_attention_heads", 12),
        text_heads=text.get("num_attention_heads", 8),
        activation=acts.pop(),
        antialias_positions=bool(config.get("antialias_positions", False)),
        notes=notes,
    )


def open_clip_settings(config: Mapping[str, Any], where: str) -> Settings:
    """Read an open_clip_config.json.

    Raises:
        UsageError: a tower is of another kind (timm, Hugging Face, attention pooling).
    """
    model = _section(config, "model_cfg") or config
    text, vision = _section(model, "text_cfg"), _section(model, "vision_cfg")
    for name, section in (("vision_cfg", vision), ("text_cfg", text)):
        for key, plain in PLAIN[name].items():
            if section.get(key, plain) not in (plain, None):
                raise UsageError(
                    f"{where}: {name}.{key} is {section[key]!r}: a tower of another architecture "
                    f"than CLIP's, where it is {plain!r}."
                )
    is_resnet = isinstance(vision.get("layers"), list)
    width, head = vision.get("width", 768), vision.get("head_width", HEAD_WIDTH)
    return Settings(
        vision_heads=width * (RESNET_EXPANSION if is_resnet else 1) // head,
        text_heads=text.get("heads", 8),
        activation="quick_gelu" if model.get("quick_gelu", False) else "gelu",
        image_size=vision.get("image_size", 224),
    )


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = config.get(name)
    return section if isinstance(section, Mapping) else {}


def infer_config(
    state: Mapping[str, Tensor],
    *,
    where: str,
    family: Family,
    settings: Settings | None,
    activation: str | None,
    is_openai: bool,
) -> tuple[ClipConfig, list[str]]:
    """Return the configuration of a state dictionary, and a line for every guess.

    Args:
        state: our keys.
        where: the source, for errors.
        settings: what a configuration file beside it says, None without one.
        activation: what the user says; wins over everything.
        is_openai: the weights are in float16 or come with three sizes, as OpenAI's do.
    Raises:
        UsageError: the tensors are those of another architecture.
    """
    known = settings or Settings(antialias_positions=family != "Hugging Face")
    shapes: dict[str, Any] = _text_shapes(state, where)
    shapes |= _vision_shapes(state, where, known.image_size)
    heads, lines = _heads(shapes, known, where)
    act, why = _activation(activation, settings, family, shapes["vocab_size"], is_openai)
    config = ClipConfig(
        **(shapes | heads),
        activation=act,
        antialias_positions=known.antialias_positions,
    )
    return config, [*lines, *known.notes, f"activation: {act}, {why}"]


def name_of(config: ClipConfig) -> str | None:
    """Return the name in `CONFIGURATIONS` of these towers, preferring the same image size."""
    same = [name for name, known in CONFIGURATIONS.items() if known.same_towers(config)]
    exact = [name for name in same if CONFIGURATIONS[name].image_size == config.image_size]
    return next(iter(exact + same), None)


def _text_shapes(state: Mapping[str, Tensor], where: str) -> dict[str, Any]:
    vocab_size, width = _shape(state, "token_embedding.weight", 2, where)
    context_length, _ = _shape(state, "positional_embedding", 2, where)
    _, embed_dim = _shape(state, "text_projection", 2, where)
    return {
        "embed_dim": embed_dim,
        "text_width": width,
        "text_layers": _count_blocks(state, "transformer.resblocks", width, where),
        "vocab_size": vocab_size,
        "context_length": context_length,
    }


def _vision_shapes(
    state: Mapping[str, Tensor], where: str, image_size: int | None
) -> dict[str, Any]:
    if "visual.layer1.0.conv1.weight" in state:
        (width,) = _shape(state, "visual.bn3.weight", 1, where)
        grid = _grid(_shape(state, "visual.attnpool.positional_embedding", 2, where)[0], where)
        stages = [_count(state, rf"visual\.layer{n}\.(\d+)\.conv1") for n in (1, 2, 3, 4)]
        return {
            "vision": "resnet",
            "vision_width": width,
            "vision_layers": tuple(stages),
            "image_size": image_size if image_size and image_size // 32 == grid else grid * 32,
        }
    width, _, patch, _ = _shape(state, "visual.conv1.weight", 4, where)
    tokens, _ = _shape(state, "visual.positional_embedding", 2, where)
    return {
        "vision": "vit",
        "patch_size": patch,
        "vision_width": width,
        "vision_layers": _count_blocks(state, "visual.transformer.resblocks", width, where),
        "image_size": _grid(tokens, where) * patch,
    }


def _shape(state: Mapping[str, Tensor], key: str, dims: int, where: str) -> tuple[int, ...]:
    if key not in state or state[key].ndim != dims:
        found = f"has {tuple(state[key].shape)}" if key in state else "is missing"
        raise UsageError(
            f"{where} holds no CLIP that Maquette knows: {key} {found}, expected a tensor with "
            f"{dims} dimensions. OpenAI, open_clip and Hugging Face CLIP models have one."
        )
    return tuple(state[key].shape)


def _grid(tokens: int, where: str) -> int:
    grid = isqrt(tokens - 1)
    if grid < 1 or grid**2 != tokens - 1:
        raise UsageError(
            f"{where}: the table of image positions has {tokens} rows, expected 1 and a square "
            "number: a class token and a square grid."
        )
    return grid


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    return len({found[1] for key in state if (found := re.match(pattern, key))})


def _count_blocks(state: Mapping[str, Tensor], tower: str, width: int, where: str) -> int:
    layers = _count(state, re.escape(tower) + r"\.(\d+)\.attn\.in_proj_weight")
    if layers == 0:
        raise UsageError(f"{where} holds no CLIP that Maquette knows: {tower} has no blocks.")
    hidden = _shape(state, f"{tower}.0.mlp.c_fc.weight", 2, where)[0]
    if hidden != 4 * width:
        raise UsageError(
            f"{where}: the MLPs of {tower} are {hidden} wide; CLIP's are 4 × {width} = {4 * width}."
        )
    return layers


def _heads(
    shapes: Mapping[str, Any], known: Settings, where: str
) -> tuple[dict[str, int], list[str]]:
    """Return the heads of both towers, from the file, one of our configurations, or the width."""
    if known.vision_heads is not None and known.text_heads is not None:
        return {"vision_heads": known.vision_heads, "text_heads": known.text_heads}, []
    vocabulary = {"vocab_size", "context_length", "image_size"}
    for name, config in CONFIGURATIONS.items():
        if all(getattr(config, k) == v for k, v in shapes.items() if k not in vocabulary):
            heads = {"vision_heads": config.vision_heads, "text_heads": config.text_heads}
            return heads, [f"attention heads: those of {name}, which has these shapes"]
    width = shapes["vision_width"]
    vision = width * (RESNET_EXPANSION if shapes["vision"] == "resnet" else 1)
    widths = {"vision": vision, "text": shapes["text_width"]}
    heads = {}
    for tower, total in widths.items():
        head = LARGE_HEAD_WIDTHS.get(total, HEAD_WIDTH) if tower == "vision" else HEAD_WIDTH
        if total % head:
            raise UsageError(
                f"{where}: how many attention heads the {tower} tower has cannot be seen from its "
                f"width {total}; put the config.json or open_clip_config.json of the model beside "
                "it."
            )
        heads[f"{tower}_heads"] = total // head
    line = f"attention heads: {heads['vision_heads']} and {heads['text_heads']}, from the widths"
    return heads, [line]


def _activation(
    given: str | None, settings: Settings | None, family: Family, vocab_size: int, is_openai: bool
) -> tuple[Activation, str]:
    """Return the activation and why; it cannot be seen in shapes."""
    if given is not None:
        if given not in ACTIVATIONS:
            raise UsageError(one_of("activation", given, ACTIVATIONS))
        return given, "as you said"  # type: ignore[return-value]
    if settings is not None and settings.activation is not None:
        return settings.activation, "as the configuration beside the weights says"
    doubt = (
        "; there is no configuration beside the weights to say so. If features are poor, put the "
        "model's config.json or open_clip_config.json beside them"
    )
    if family == "Hugging Face":
        return "quick_gelu", f"the default of transformers{doubt}"
    if is_openai and vocab_size == 49_408:
        return "quick_gelu", f"OpenAI's, because its weights are in float16, as these are{doubt}"
    why = "open_clip's, because OpenAI's weights are in float16 with 49408 tokens and these are not"
    return "gelu", f"{why}{doubt}"
