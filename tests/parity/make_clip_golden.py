"""Write what transformers and open_clip compute, for the CLIP parity tests. Runs in .venv-peers.

    .venv-peers/bin/python tests/parity/make_clip_golden.py

Both are filled by the formula of `clip_cases.py` and run in float64. `--output` and `--seed` make
other numbers elsewhere (the live test); `--checkpoints FOLDER` also saves checkpoints as the
references write them, with random weights and what the references make of them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from clip_cases import CASES, OTHER_CELLS, condense, cotangents, fill, images, tokens
from torch import Tensor, nn
from torchvision_shim import import_torchvision

import_torchvision()
import open_clip  # noqa: E402 - imports torchvision, so it comes after the shim
import transformers  # noqa: E402
from open_clip.model import resize_pos_embed  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from transformers import CLIPConfig, CLIPModel  # noqa: E402

Features = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def open_clip_settings(case: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model_cfg of a case."""
    is_resnet = case["patch_size"] is None
    width = case["vision_width"] * (32 if is_resnet else 1)
    layers = case["vision_layers"]
    return {
        "embed_dim": case["embed_dim"],
        "quick_gelu": case["activation"] == "quick_gelu",
        "vision_cfg": {
            "image_size": case["image_size"],
            "layers": list(layers) if is_resnet else layers,
            "width": case["vision_width"],
            "head_width": width // case["vision_heads"],
            "patch_size": case["patch_size"],
        },
        "text_cfg": {
            "context_length": case["context_length"],
            "vocab_size": case["vocab_size"],
            "width": case["text_width"],
            "heads": case["text_heads"],
            "layers": case["text_layers"],
        },
    }


def build_open_clip(case: Mapping[str, Any], **changes: Any) -> nn.Module:
    """Build open_clip's CLIP, with another image size if asked."""
    return open_clip.model.CLIP(**open_clip_settings({**case, **changes}))


def build_hugging_face(case: Mapping[str, Any]) -> CLIPModel:
    """Build transformers' CLIPModel."""
    shared = {"hidden_act": case["activation"], "projection_dim": case["embed_dim"]}
    end = case["vocab_size"] - 1
    config = CLIPConfig(
        projection_dim=case["embed_dim"],
        text_config={
            "hidden_size": case["text_width"],
            "intermediate_size": 4 * case["text_width"],
            "num_hidden_layers": case["text_layers"],
            "num_attention_heads": case["text_heads"],
            "vocab_size": case["vocab_size"],
            "max_position_embeddings": case["context_length"],
            "bos_token_id": end - 1,
            "eos_token_id": end,
            "pad_token_id": end,
            **shared,
        },
        vision_config={
            "hidden_size": case["vision_width"],
            "intermediate_size": 4 * case["vision_width"],
            "num_hidden_layers": case["vision_layers"],
            "num_attention_heads": case["vision_heads"],
            "image_size": case["image_size"],
            "patch_size": case["patch_size"],
            **shared,
        },
    )
    return CLIPModel(config)


# Where transformers keeps each of our tensors, written here a second time and by rules of its own,
# so that the mapping under test is compared with another.
def their_tensors(model: CLIPModel, key: str) -> list[tuple[Tensor, bool]]:
    """Return the parameters that make up our `key`, and whether they are transposed."""
    if key == "logit_scale":
        return [(model.logit_scale, False)]
    if key in ("visual.proj", "text_projection"):
        linear = model.visual_projection if key == "visual.proj" else model.text_projection
        return [(linear.weight, True)]
    is_vision, name = key.startswith("visual."), key.removeprefix("visual.")
    tower = model.vision_model if is_vision else model.text_model
    single = {
        "conv1.weight": "embeddings.patch_embedding.weight",
        "class_embedding": "embeddings.class_embedding",
        "positional_embedding": "embeddings.position_embedding.weight",
        "token_embedding.weight": "embeddings.token_embedding.weight",
    }
    norms = {"ln_pre": "pre_layrnorm", "ln_post": "post_layernorm", "ln_final": "final_layer_norm"}
    if name in single:
        return [(tower.get_parameter(single[name]), False)]
    module, kind = name.rsplit(".", 1)
    if module in norms:
        return [(getattr(tower.get_submodule(norms[module]), kind), False)]
    _, _, index, part = module.split(".", 3) if module.count(".") > 2 else (*module.split("."), "")
    layer = tower.encoder.layers[int(index)]
    if kind.startswith("in_proj_"):
        kind = kind.removeprefix("in_proj_")
        attention = layer.self_attn
        return [
            (getattr(linear, kind), False)
            for linear in (attention.q_proj, attention.k_proj, attention.v_proj)
        ]
    found = {
        "ln_1": layer.layer_norm1,
        "ln_2": layer.layer_norm2,
        "attn.out_proj": layer.self_attn.out_proj,
        "mlp.c_fc": layer.mlp.fc1,
        "mlp.c_proj": layer.mlp.fc2,
    }[part]
    return [(getattr(found, kind), False)]


def hugging_face_features(model: CLIPModel) -> Features:
    def features(pixels: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        seen = model.vision_model(pixel_values=pixels, interpolate_pos_encoding=True)
        read = model.text_model(input_ids=ids)
        return model.visual_projection(seen.pooler_output), model.text_projection(
            read.pooler_output
        )

    return features


def open_clip_features(model: nn.Module) -> Features:
    return lambda pixels, ids: (model.encode_image(pixels), model.encode_text(ids))


def observe(
    case: Mapping[str, Any],
    features: Features,
    gradients: Callable[[], dict[str, Tensor]],
    seed: int,
) -> dict[str, Any]:
    """Run a filled reference forward and backward at the case's own size."""
    image_features, text_features = features(images(case, seed=seed).double(), tokens(case))
    scalar = (image_features * cotangents(image_features, "image")).sum()
    scalar = scalar + (text_features * cotangents(text_features, "text")).sum()
    scalar.backward()
    return {
        "image_features": image_features.tolist(),
        "text_features": text_features.tolist(),
        "gradients": {key: condense(key, value) for key, value in gradients().items()},
    }


def describe(case: Mapping[str, Any], *, seed: int) -> dict[str, Any]:
    """Return the golden facts of one case from the references that have it."""
    model = build_open_clip(case)
    state = fill(model.state_dict(), seed=seed)
    facts: dict[str, Any] = {"keys": {key: list(value.shape) for key, value in state.items()}}
    facts["open_clip"] = _describe_open_clip(case, state, training=False, seed=seed)
    if case["patch_size"] is None:
        facts["open_clip train"] = _describe_open_clip(case, state, training=True, seed=seed)
    else:
        facts["transformers"] = _describe_hugging_face(case, state, seed=seed)
    return facts


def _describe_open_clip(
    case: Mapping[str, Any], state: dict[str, Tensor], *, training: bool, seed: int
) -> dict[str, Any]:
    model = build_open_clip(case)
    model.load_state_dict(state)
    model = model.double().train(training)
    facts = observe(
        case,
        open_clip_features(model),
        lambda: {k: p.grad for k, p in model.named_parameters() if p.grad is not None},
        seed,
    )
    if training:
        running = {k: v for k, v in model.named_buffers() if "running" in k}
        facts["buffers"] = {key: condense(key, value) for key, value in running.items()}
        return facts
    facts["sizes"] = {}
    if case["patch_size"] is not None:
        for cells in OTHER_CELLS:
            other = build_open_clip(case, image_size=cells * case["patch_size"]).double()
            resized = {key: value.double() for key, value in state.items()}
            resize_pos_embed(resized, other)
            other.load_state_dict(resized)
            pixels = images(case, cells, seed=seed).double()
            facts["sizes"][str(cells)] = other.eval().encode_image(pixels).tolist()
    return facts


def _describe_hugging_face(
    case: Mapping[str, Any], state: dict[str, Tensor], *, seed: int
) -> dict[str, Any]:
    model = build_hugging_face(case)
    parameters = {key: their_tensors(model, key) for key in state}
    with torch.no_grad():
        for key, parts in parameters.items():
            values = state[key].chunk(len(parts)) if len(parts) > 1 else [state[key]]
            for (parameter, transposed), value in zip(parts, values, strict=True):
                parameter.copy_(value.T if transposed else value)
    model = model.double().eval()

    def gradients() -> dict[str, Tensor]:
        found = {}
        for key, parts in parameters.items():
            if all(p.grad is not None for p, _ in parts):
                found[key] = (
                    torch.cat([p.grad.T if turned else p.grad for p, turned in parts])
                    if len(parts) > 1 or parts[0][1]
                    else parts[0][0].grad
                )
        return found

    facts = observe(case, hugging_face_features(model), gradients, seed)
    facts["keys"] = {key: list(value.shape) for key, value in model.state_dict().items()}
    facts["sizes"] = {}
    for cells in OTHER_CELLS:
        pixels = images(case, cells, seed=seed).double()
        seen = model.vision_model(pixel_values=pixels, interpolate_pos_encoding=True)
        facts["sizes"][str(cells)] = model.visual_projection(seen.pooler_output).tolist()
    return facts


def save_checkpoints(folder: Path) -> None:
    """Save each case as the references do, with random weights, and what they make of them."""
    for name, case in CASES.items():
        model = build_open_clip(case).eval()
        _randomise(model)
        home = folder / f"open_clip {name}"
        home.mkdir(parents=True)
        torch.save(model.state_dict(), home / "open_clip_pytorch_model.bin")
        save_file(model.state_dict(), home / "open_clip_model.safetensors")
        settings = {"model_cfg": open_clip_settings(case), "preprocess_cfg": {}}
        (home / "open_clip_config.json").write_text(json.dumps(settings))
        _save_answers(case, open_clip_features(model), home)
        if case["patch_size"] is not None:
            theirs = build_hugging_face(case).eval()
            _randomise(theirs)
            home = folder / f"transformers {name}"
            theirs.save_pretrained(home)
            theirs.save_pretrained(home / "shards", max_shard_size="20KB")
            _save_answers(case, hugging_face_features(theirs), home)


def save_large(folder: Path) -> None:
    """Save a whole ViT-B/32 of each reference in bfloat16-sized random numbers, and answers."""
    case = {
        "embed_dim": 512,
        "image_size": 224,
        "patch_size": 32,
        "vision_width": 768,
        "vision_layers": 12,
        "vision_heads": 12,
        "text_width": 512,
        "text_layers": 12,
        "text_heads": 8,
        "vocab_size": 49_408,
        "context_length": 77,
        "activation": "quick_gelu",
    }
    model = build_hugging_face(case).eval()
    home = folder / "transformers vit_b32"
    model.save_pretrained(home)
    _save_answers(case, hugging_face_features(model), home)


def _randomise(model: nn.Module) -> None:
    """Move norms, biases and statistics from their ones and zeros, so that a swap shows."""
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point() and tensor.ndim == 1:
                tensor.add_(torch.rand_like(tensor) * 0.2)


def _save_answers(case: Mapping[str, Any], features: Features, home: Path) -> None:
    pixels, ids = images(case), tokens(case)
    with torch.no_grad():
        image_features, text_features = features(pixels, ids)
    answers = {"pixels": pixels, "ids": ids, "image": image_features, "text": text_features}
    save_file({key: value.contiguous() for key, value in answers.items()}, home / "answers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "golden/clip.json")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoints", type=Path)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    facts = {
        "made with": {
            "torch": torch.__version__,
            "open_clip": open_clip.__version__,
            "transformers": transformers.__version__,
            "seed": args.seed,
        }
    }
    facts |= {name: describe(case, seed=args.seed) for name, case in CASES.items()}
    args.output.write_text(json.dumps(facts) + "\n")
    if args.checkpoints is not None:
        save_checkpoints(args.checkpoints)
        save_large(args.checkpoints)


if __name__ == "__main__":
    main()
