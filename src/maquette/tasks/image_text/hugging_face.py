"""Write a CLIP model in the Hugging Face format, so that transformers loads it.

    CLIPModel.from_pretrained(folder), CLIPTokenizer.from_pretrained(folder),
    CLIPImageProcessor.from_pretrained(folder)

`write_hugging_face` is the way in. `checkpoints.read_clip` reads the folder back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from maquette.errors import UsageError
from maquette.files import write_atomic, write_folder_once, write_json
from maquette.tasks.image_text.architectures import ClipConfig
from maquette.tasks.image_text.clip import CLIP
from maquette.tasks.image_text.key_formats import to_hugging_face
from maquette.tasks.image_text.positions import resample_image_positions
from maquette.tasks.image_text.preprocess import ImageTextPreprocessor
from maquette.tasks.image_text.tokenizer import ClipTokenizer

POSITIONS = "visual.positional_embedding"
BICUBIC = 3
"""Pillow's number of the filter, which image processors take."""


def write_hugging_face(
    folder: Path, model: CLIP, tokenizer: ClipTokenizer, preprocessing: ImageTextPreprocessor
) -> None:
    """Write config, weights, tokenizer and image preprocessing into a new folder.

    Whole or not at all. Positions are resampled for the image size of `preprocessing`. What
    transformers has no place for is not written: another similarity than cosine, class prompts.

    Args:
        folder: does not exist yet, or is empty.
        model: a ViT model; its weights are written as they are, in float32 or what they are in.
        preprocessing: its image_size, fit, mean and std are used.
    Raises:
        UsageError: the model has a ResNet tower, or the folder has something in it.
        RunError: the disk is full, or the place is not writable.
    """
    if model.config.vision == "resnet":
        raise UsageError(
            "transformers has no CLIP with a ResNet image tower, so this model cannot be written "
            "in the Hugging Face format; train a clip_vit_… or clip_tiny for that."
        )
    if preprocessing.fit == "pad":
        raise UsageError(
            "The model was trained with fit: pad, which the image processors of transformers do "
            "not have, so they would show it other images; train with fit: crop or stretch."
        )
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    if folder.exists():
        raise UsageError(f"{folder} exists already; give a new folder.")

    config = model.config.with_image_size(preprocessing.image_size)

    def fill(temporary: Path) -> None:
        tensors = _tensors(model, config)
        write_atomic(
            temporary / "model.safetensors",
            lambda path: save_file(tensors, path, metadata={"format": "pt"}),
        )
        write_json(temporary / "config.json", _config(config, model, tokenizer))
        write_json(temporary / "preprocessor_config.json", _image_processor(preprocessing))
        tokenizer.save_hugging_face(temporary)
        write_json(temporary / "tokenizer_config.json", _tokenizer_config(tokenizer))
        write_json(temporary / "special_tokens_map.json", SPECIAL_TOKENS)

    write_folder_once(folder, fill)


START = "<|startoftext|>"
END = "<|endoftext|>"
SPECIAL_TOKENS = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
"""OpenAI's; padding comes after the end token, where causal attention never looks."""


def _tensors(model: CLIP, config: ClipConfig) -> dict[str, Tensor]:
    """Return the weights under their names, with positions for the image size in `config`."""
    state = {key: value.detach().cpu() for key, value in model.state_dict().items()}
    state[POSITIONS] = resample_image_positions(
        state[POSITIONS], grid=config.grid, antialias=config.antialias_positions
    )
    return to_hugging_face(state)


def _config(config: ClipConfig, model: CLIP, tokenizer: ClipTokenizer) -> dict[str, Any]:
    """Return a CLIPConfig, with our choice of resampling beside it."""
    dtype = str(model.text_projection.dtype).removeprefix("torch.")
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "torch_dtype": dtype,
        "projection_dim": config.embed_dim,
        "logit_scale_init_value": float(model.logit_scale.detach()),
        "antialias_positions": config.antialias_positions,
        "text_config": _text_config(config, tokenizer),
        "vision_config": _vision_config(config),
    }


def _text_config(config: ClipConfig, tokenizer: ClipTokenizer) -> dict[str, Any]:
    return {
        "model_type": "clip_text_model",
        "vocab_size": config.vocab_size,
        "hidden_size": config.text_width,
        "intermediate_size": 4 * config.text_width,
        "num_hidden_layers": config.text_layers,
        "num_attention_heads": config.text_heads,
        "max_position_embeddings": config.context_length,
        "hidden_act": config.activation,
        "layer_norm_eps": 1e-5,
        "projection_dim": config.embed_dim,
        "bos_token_id": tokenizer.sot,
        "eos_token_id": tokenizer.eot,
        "pad_token_id": tokenizer.eot,
    }


def _vision_config(config: ClipConfig) -> dict[str, Any]:
    return {
        "model_type": "clip_vision_model",
        "hidden_size": config.vision_width,
        "intermediate_size": 4 * config.vision_width,
        "num_hidden_layers": config.vision_layers,
        "num_attention_heads": config.vision_heads,
        "num_channels": 3,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "hidden_act": config.activation,
        "layer_norm_eps": 1e-5,
        "projection_dim": config.embed_dim,
    }


def _image_processor(preprocessing: ImageTextPreprocessor) -> dict[str, Any]:
    """Return a CLIPImageProcessor's configuration: resize, cut, normalise."""
    side = preprocessing.image_size
    square = {"height": side, "width": side}
    is_cut = preprocessing.fit == "crop"
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": side} if is_cut else square,
        "resample": BICUBIC,
        "do_center_crop": is_cut,
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
    }


def _tokenizer_config(tokenizer: ClipTokenizer) -> dict[str, Any]:
    return {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": tokenizer.context_length,
        "do_lower_case": True,
        "errors": "replace",
        **SPECIAL_TOKENS,
    }
