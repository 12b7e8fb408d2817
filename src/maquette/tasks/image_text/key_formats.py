"""The three families of names that CLIP's tensors have, and the way between them.

Ours are OpenAI's: `visual.…`, `transformer.resblocks.…`. open_clip has the same, or the text tower
under `text.`; Hugging Face has its own and stores both projections transposed and the attention's
input matrix in three parts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from maquette.errors import DataError
from maquette.tasks.tensor_files import some

Family = Literal["OpenAI", "open_clip", "Hugging Face"]

NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask", "text.attn_mask")
"""Entries of state dictionaries that are settings: OpenAI's three sizes, saved causal masks."""
_OPEN_CLIP_TEXT = re.compile(
    r"text\.(transformer\.|token_embedding\.|positional_embedding$|ln_final\.|text_projection)"
)

_WHOLE = {
    "logit_scale": "logit_scale",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "text_projection": "text_projection.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "visual.proj": "visual_projection.weight",
}
"""Our key -> Hugging Face's, of everything outside the blocks, `pre_layrnorm` spelt as there."""
_TRANSPOSED = ("text_projection", "visual.proj")
_TOWERS = {
    "transformer.resblocks": "text_model.encoder.layers",
    "visual.transformer.resblocks": "vision_model.encoder.layers",
}
_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_QKV = ("q_proj", "k_proj", "v_proj")
"""The three parts of our in_proj_weight and in_proj_bias, in order."""


def family_of(state: Mapping[str, Tensor]) -> Family | None:
    """Say whose names a state dictionary has; None if it is no CLIP that we know."""
    if "vision_model.embeddings.class_embedding" in state:
        return "Hugging Face"
    if "visual.conv1.weight" not in state:
        return None
    if "text.token_embedding.weight" in state:
        return "open_clip"
    return "OpenAI" if "token_embedding.weight" in state else None


def to_native(
    state: Mapping[str, Tensor], family: Family
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Rename and reshape to our keys; also return the entries left out because they are settings.

    Keys that the family does not have stay as they are.

    Raises:
        DataError: a part of an attention matrix is missing.
    """
    weights = {
        key: value
        for key, value in state.items()
        if key not in NOT_WEIGHTS and not key.endswith(".position_ids")
    }
    left_out = tuple(key for key in state if key not in weights)
    if family == "Hugging Face":
        return _from_hugging_face(weights), left_out
    return {_without_text(key): value for key, value in weights.items()}, left_out


def _without_text(key: str) -> str:
    return key.removeprefix("text.") if _OPEN_CLIP_TEXT.match(key) else key


def _from_hugging_face(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    native = {}
    rest = dict(state)
    for ours, theirs in _WHOLE.items():
        if theirs in rest:
            value = rest.pop(theirs)
            native[ours] = value.T.contiguous() if ours in _TRANSPOSED else value
    for ours, theirs in _TOWERS.items():
        for index in _indices(rest, theirs):
            for kind in ("weight", "bias"):
                for name, their_name in _BLOCK.items():
                    key = f"{theirs}.{index}.{their_name}.{kind}"
                    if key in rest:
                        native[f"{ours}.{index}.{name}.{kind}"] = rest.pop(key)
                joined = f"{ours}.{index}.attn.in_proj_{kind}"
                parts = [f"{theirs}.{index}.self_attn.{name}.{kind}" for name in _QKV]
                native[joined] = _joined(rest, parts)
    return native | rest


def _indices(state: Mapping[str, Tensor], tower: str) -> list[int]:
    pattern = re.compile(re.escape(tower) + r"\.(\d+)\.")
    return sorted({int(found[1]) for key in state if (found := pattern.match(key))})


def _joined(state: dict[str, Tensor], parts: list[str]) -> Tensor:
    """Take the three parts out of `state` and stack their rows."""
    missing = [key for key in parts if key not in state]
    if missing:
        raise DataError(f"The checkpoint lacks {some(missing)}; take another one.")
    return torch.cat([state.pop(key) for key in parts])


def to_hugging_face(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and reshape our keys of a ViT model to those of transformers' CLIPModel."""
    theirs = {}
    for key, value in state.items():
        if key in _WHOLE:
            theirs[_WHOLE[key]] = value.T.contiguous() if key in _TRANSPOSED else value
            continue
        tower, index, name, kind = _parts_of(key)
        if name == "attn.in_proj":
            for part, rows in zip(_QKV, value.chunk(3), strict=True):
                theirs[f"{tower}.{index}.self_attn.{part}.{kind}"] = rows.clone()
        else:
            theirs[f"{tower}.{index}.{_BLOCK[name]}.{kind}"] = value
    return theirs


def _parts_of(key: str) -> tuple[str, str, str, str]:
    """Split a block's key: (their tower, index, our name in the block, weight or bias)."""
    found = re.fullmatch(r"(.*resblocks)\.(\d+)\.(.+)[._](weight|bias)", key)
    assert found is not None, f"{key} is in no block"
    return _TOWERS[found[1]], found[2], found[3], found[4]
