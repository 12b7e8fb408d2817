"""CLIP checkpoints: what is read, inferred, reported, resampled and refused."""

from __future__ import annotations

import dataclasses
import json
import sys
import types
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from maquette.errors import DataError, UsageError
from maquette.tasks.image_text import load_clip
from maquette.tasks.image_text.architectures import CONFIGURATIONS, ClipConfig
from maquette.tasks.image_text.checkpoints import (
    ClipCheckpoint,
    KeyReport,
    fitted_config,
    load_into,
    read_clip,
)
from maquette.tasks.image_text.clip import CLIP
from maquette.tasks.image_text.key_formats import to_hugging_face
from maquette.tasks.image_text.preprocess import OPENAI_MEAN, OPENAI_STD
from maquette.tasks.image_text.tokenizer import ClipTokenizer

VIT = ClipConfig(
    embed_dim=16,
    image_size=24,
    patch_size=8,
    vision_width=64,
    vision_layers=2,
    vision_heads=1,
    text_width=128,
    text_layers=1,
    text_heads=2,
    vocab_size=40,
    context_length=8,
)
RESNET = dataclasses.replace(
    VIT, vision="resnet", patch_size=None, image_size=64, vision_width=4,
    vision_layers=(1, 2, 1, 1), vision_heads=2,
)  # fmt: skip


def build(config: ClipConfig = VIT, seed: int = 1) -> CLIP:
    torch.manual_seed(seed)
    return CLIP(config).eval()


def saved(folder: Path, state, name: str = "weights.safetensors") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if name.endswith(".safetensors"):
        save_file({key: value.contiguous().clone() for key, value in state.items()}, folder / name)
    else:
        torch.save(state, folder / name)
    return folder / name


def written(path: Path, content) -> None:
    path.write_text(content if isinstance(content, str) else json.dumps(content))


HF_CONFIG = {
    "model_type": "clip",
    "text_config": {"num_attention_heads": 4, "hidden_act": "gelu", "vocab_size": 40,
                    "eos_token_id": 39},
    "vision_config": {"num_attention_heads": 2, "hidden_act": "gelu"},
}  # fmt: skip
OPEN_CLIP_CONFIG = {
    "model_cfg": {
        "quick_gelu": True,
        "vision_cfg": {"width": 64, "head_width": 32, "layers": 2},
        "text_cfg": {"heads": 4},
    }
}


def read_line(checkpoint: ClipCheckpoint, start: str) -> str:
    (line,) = [line for line in checkpoint.report if line.startswith(start)]
    return line


# What is read


@pytest.mark.parametrize("config", [VIT, RESNET], ids=["vit", "resnet"])
@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.bin"])
def test_a_state_dictionary_with_our_names(tmp_path, config, name):
    model = build(config)
    path = saved(tmp_path, model.state_dict(), name)
    checkpoint = read_clip(path)
    assert checkpoint.config == config
    assert checkpoint.tokenizer_files is None
    assert (checkpoint.mean, checkpoint.std, checkpoint.fit) == (OPENAI_MEAN, OPENAI_STD, "crop")
    other = build(config, seed=2)
    report = load_into(other, checkpoint)
    assert report == KeyReport(
        loaded=tuple(model.state_dict()), missing=(), unexpected=(), shape_mismatched=(),
        resampled=(), new_vocabulary=False,
    )  # fmt: skip
    assert str(report) == f"loaded {len(model.state_dict())} tensors"
    for key, value in other.state_dict().items():
        assert torch.equal(value, model.state_dict()[key]), key


def test_the_report_says_what_it_is(tmp_path):
    path = saved(tmp_path, build().state_dict())
    assert read_clip(path).report == (
        f"{path}: OpenAI format, 50 tensors of float32",
        "architecture: of its own: ViT (patch 8, blocks 2, width 64, image 24), text (blocks 1, "
        "width 128, tokens 40, length 8), features 16",
        "attention heads: 1 and 2, from the widths",
        "activation: gelu, open_clip's, because OpenAI's weights are in float16 with 49408 tokens "
        "and these are not; there is no configuration beside the weights to say so. If features "
        "are poor, put the model's config.json or open_clip_config.json beside them",
    )


def test_openais_files_are_half_precision_with_three_sizes(tmp_path):
    config = VIT.with_vocabulary(49_408, 8)
    state = {key: value.half() for key, value in build(config).state_dict().items()}
    sizes = {"input_resolution": 24, "context_length": 8, "vocab_size": 49_408}
    path = saved(tmp_path, state | {k: torch.tensor(v) for k, v in sizes.items()}, "ViT.pt")
    checkpoint = read_clip(path)
    assert checkpoint.config == dataclasses.replace(config, activation="quick_gelu")
    assert all(value.dtype == torch.float32 for value in checkpoint.state.values())
    assert "of float16" in checkpoint.report[0]
    assert read_line(checkpoint, "not weights") == (
        "not weights, left out: input_resolution, context_length, vocab_size"
    )
    assert "quick_gelu, OpenAI's, because" in read_line(checkpoint, "activation")


class Tree(torch.nn.Module):
    """A module with the given tensors at their dotted names, to be saved as a TorchScript."""

    def __init__(self, state):
        super().__init__()
        for name in dict.fromkeys(key.partition(".")[0] for key in state):
            below = {k.partition(".")[2]: v for k, v in state.items() if k.split(".")[0] == name}
            if "" in below:
                self.register_buffer(name, below[""])
            else:
                self.add_module(name, Tree(below))

    def forward(self) -> int:
        return 0


def test_openais_own_archives_are_read(tmp_path):
    state = {key: value.half() for key, value in build().state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; OpenAI's files are still there
        whole = Tree(state | {"input_resolution": torch.tensor(24)})
        torch.jit.script(whole).save(tmp_path / "ViT.pt")
    checkpoint = read_clip(tmp_path / "ViT.pt")
    assert checkpoint.config == dataclasses.replace(VIT, activation="gelu")
    assert len(load_into(build(seed=2), checkpoint).loaded) == 50
    assert all(torch.equal(value.float(), checkpoint.state[key]) for key, value in state.items())


def test_open_clips_folder_with_its_configuration(tmp_path):
    state = build().state_dict()
    saved(tmp_path, state, "open_clip_pytorch_model.bin")
    settings = OPEN_CLIP_CONFIG | {
        "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.1, 0.2, 0.3], "resize_mode": "squash"}
    }
    written(tmp_path / "open_clip_config.json", settings)
    checkpoint = read_clip(tmp_path)
    expected = dataclasses.replace(VIT, vision_heads=2, text_heads=4, activation="quick_gelu")
    assert checkpoint.config == expected
    assert read_line(checkpoint, "activation") == (
        "activation: quick_gelu, as the configuration beside the weights says"
    )
    assert checkpoint.mean == (0.5, 0.5, 0.5)
    assert checkpoint.std == (0.1, 0.2, 0.3)
    assert checkpoint.fit == "stretch"


def test_open_clips_text_tower_under_a_prefix(tmp_path):
    model = build()
    state = {
        key if key.startswith("visual.") or key == "logit_scale" else f"text.{key}": value
        for key, value in model.state_dict().items()
    }
    path = saved(tmp_path, state | {"text.attn_mask": torch.zeros(8, 8)})
    checkpoint = read_clip(path)
    assert checkpoint.report[0] == f"{path}: open_clip format, 50 tensors of float32"
    other = build(seed=2)
    assert len(load_into(other, checkpoint).loaded) == 50


def test_a_resnet_of_open_clip_keeps_its_image_size(tmp_path):
    saved(tmp_path, build(RESNET).state_dict(), "open_clip_model.safetensors")
    settings = {
        "model_cfg": {
            "vision_cfg": {"image_size": 80, "layers": [1, 2, 1, 1], "width": 4, "head_width": 64},
            "text_cfg": {"heads": 2},
        }
    }
    written(tmp_path / "open_clip_config.json", settings)
    with pytest.raises(UsageError, match="image_size 80 is not a multiple of 32"):
        read_clip(tmp_path)
    settings["model_cfg"]["vision_cfg"]["image_size"] = 64
    written(tmp_path / "open_clip_config.json", settings)
    assert read_clip(tmp_path).config == RESNET


def hugging_face(folder: Path, config=HF_CONFIG, name: str = "model.safetensors") -> Path:
    state = to_hugging_face(build().state_dict())
    extra = {"text_model.embeddings.position_ids": torch.arange(8)[None]}
    saved(folder, state | extra, name)
    if config is not None:
        written(folder / "config.json", config)
    return folder


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_hugging_face_folder(tmp_path, name):
    checkpoint = read_clip(hugging_face(tmp_path, name=name))
    assert checkpoint.config == dataclasses.replace(
        VIT, vision_heads=2, text_heads=4, antialias_positions=False
    )
    assert "Hugging Face format" in checkpoint.report[0]
    assert read_line(checkpoint, "not weights").endswith("text_model.embeddings.position_ids")
    model = CLIP(checkpoint.config)
    assert len(load_into(model, checkpoint).loaded) == 50
    for key, value in build().state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key


def test_hugging_faces_default_is_quick_gelu(tmp_path):
    checkpoint = read_clip(hugging_face(tmp_path, None))
    assert checkpoint.config.activation == "quick_gelu"
    assert "quick_gelu, the default of transformers; there is no" in read_line(
        checkpoint, "activation"
    )
    config = {"text_config": {"num_attention_heads": 2}, "vision_config": {}}
    written(tmp_path / "config.json", config)
    with pytest.raises(UsageError, match="vision_heads is 12, which does not divide 64"):
        read_clip(tmp_path)
    config["vision_config"] = {"num_attention_heads": 1}
    written(tmp_path / "config.json", config)
    assert read_clip(tmp_path).config.activation == "quick_gelu"


def test_another_end_token_is_reported(tmp_path):
    config = HF_CONFIG | {"text_config": HF_CONFIG["text_config"] | {"eos_token_id": 5}}
    checkpoint = read_clip(hugging_face(tmp_path, config))
    assert read_line(checkpoint, "text features") == (
        "text features: read at the largest token id, where transformers reads at 5"
    )


def test_shards(tmp_path):
    state = to_hugging_face(build().state_dict())
    halves = [dict(list(state.items())[:20]), dict(list(state.items())[20:])]
    names = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    table = {}
    for name, half in zip(names, halves, strict=True):
        saved(tmp_path, half, name)
        table |= dict.fromkeys(half, name)
    written(tmp_path / "model.safetensors.index.json", {"weight_map": table})
    written(tmp_path / "config.json", HF_CONFIG)
    assert len(read_clip(tmp_path).state) == 50
    assert len(read_clip(tmp_path / "model.safetensors.index.json").state) == 50
    (tmp_path / names[1]).unlink()
    with pytest.raises(DataError, match=r"names model-00002-of-00002.safetensors, which is not be"):
        read_clip(tmp_path)
    written(tmp_path / "model.safetensors.index.json", {})
    with pytest.raises(DataError, match=r"index.json has no weight_map"):
        read_clip(tmp_path)


def test_tokenizer_and_preprocessing_of_a_folder(tmp_path):
    hugging_face(tmp_path)
    written(
        tmp_path / "preprocessor_config.json",
        {"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1], "do_center_crop": False},
    )
    written(tmp_path / "vocab.json", {})
    assert read_clip(tmp_path).tokenizer_files is None
    written(tmp_path / "merges.txt", "")
    checkpoint = read_clip(tmp_path)
    assert checkpoint.tokenizer_files == tmp_path
    assert (checkpoint.mean, checkpoint.fit) == ((0.1, 0.2, 0.3), "stretch")
    (tmp_path / "vocab.json").unlink()
    written(tmp_path / "tokenizer.json", {})
    assert read_clip(tmp_path).tokenizer_files == tmp_path


def test_the_activation_can_be_said(tmp_path):
    path = saved(tmp_path, build().state_dict())
    checkpoint = read_clip(path, activation="quick_gelu")
    assert checkpoint.config.activation == "quick_gelu"
    assert read_line(checkpoint, "activation") == "activation: quick_gelu, as you said"
    with pytest.raises(UsageError, match="Unknown activation 'quickgelu'"):
        read_clip(path, activation="quickgelu")


def test_heads_of_our_own_small_models(tmp_path):
    config = CONFIGURATIONS["clip_tiny"].with_vocabulary(300, 16).with_image_size(32)
    checkpoint = read_clip(saved(tmp_path, build(config).state_dict()))
    assert checkpoint.config == config
    assert "those of clip_tiny" in read_line(checkpoint, "attention heads")
    assert "architecture: clip_tiny: ViT (" in checkpoint.report[1]


def test_heads_of_the_large_published_models(tmp_path):
    config = dataclasses.replace(VIT, vision_width=1280, vision_layers=1, vision_heads=16)
    assert read_clip(saved(tmp_path, build(config).state_dict())).config.vision_heads == 16


# What is refused


def refused(error, source, **options) -> str:
    with pytest.raises(error) as caught:
        read_clip(source, **options)
    return str(caught.value)


def test_nothing_there(tmp_path):
    assert refused(UsageError, tmp_path / "no.pt") == (
        f"model.architecture.weights: {tmp_path / 'no.pt'} does not exist; give a file or a folder "
        "of an OpenAI, open_clip or Hugging Face CLIP, or hub:OWNER/NAME."
    )
    assert "Expected one of model.safetensors" in refused(UsageError, tmp_path)
    assert "found none. Give the file itself" in refused(UsageError, tmp_path)
    saved(tmp_path, build().state_dict(), "a.pt")
    assert read_clip(tmp_path).config == VIT
    saved(tmp_path, build().state_dict(), "b.pt")
    assert "found 2 (a.pt, b.pt)" in refused(UsageError, tmp_path)


def test_a_bundle_is_not_a_checkpoint(tmp_path):
    written(tmp_path / "bundle.json", {})
    assert refused(UsageError, tmp_path) == (
        f"{tmp_path} is a Maquette bundle; write it as a checkpoint first and give that: "
        f"maquette export {tmp_path} FOLDER."
    )


def test_another_architecture_entirely(tmp_path):
    path = saved(tmp_path, {"conv1.weight": torch.zeros(4, 3, 7, 7), "fc.bias": torch.zeros(2)})
    assert refused(UsageError, path) == (
        f"{path} holds no CLIP that Maquette knows; its tensors are conv1.weight, fc.bias. OpenAI, "
        "open_clip and Hugging Face CLIPModel checkpoints are read; SigLIP and towers of timm are "
        "other architectures."
    )


def without(state, *keys):
    return {key: value for key, value in state.items() if key not in keys}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: without(s, "text_projection"), "holds no CLIP that Maquette knows: "
         "text_projection is missing, expected a tensor with 2 dimensions."),
        (lambda s: s | {"text_projection": torch.zeros(4)}, "text_projection has (4,), expected"),
        (lambda s: s | {"visual.positional_embedding": torch.zeros(12, 64)},
         "the table of image positions has 12 rows, expected 1 and a square number"),
        (lambda s: without(s, "transformer.resblocks.0.attn.in_proj_weight"),
         "transformer.resblocks has no blocks"),
        (lambda s: s | {"visual.transformer.resblocks.0.mlp.c_fc.weight": torch.zeros(200, 64)},
         "the MLPs of visual.transformer.resblocks are 200 wide; CLIP's are 4 × 64 = 256."),
    ],
)  # fmt: skip
def test_towers_that_are_not_clips(tmp_path, change, message):
    path = saved(tmp_path, change(build().state_dict()))
    assert message in refused(UsageError, path)


def test_heads_that_cannot_be_seen(tmp_path):
    config = dataclasses.replace(VIT, text_width=48)
    path = saved(tmp_path, build(config).state_dict())
    message = refused(UsageError, path)
    assert "how many attention heads the text tower has cannot be seen from its width 48" in message
    assert "put the config.json or open_clip_config.json of the model beside it" in message


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "siglip"}, "config.json is a 'siglip', not a 'clip'; SigLIP and others"),
        ({"text_config": {"hidden_act": "gelu"}, "vision_config": {}},
         "hidden_act is gelu and quick_gelu; expected one of quick_gelu, gelu in both towers."),
        ({"text_config": {"hidden_act": "relu"}, "vision_config": {"hidden_act": "relu"}},
         "hidden_act is relu; expected"),
        ({"vision_config": {"layer_norm_eps": 1e-6}},
         "vision layer_norm_eps is 1e-06, but CLIP has 1e-05."),
    ],
)  # fmt: skip
def test_other_models_of_transformers(tmp_path, config, message):
    assert message in refused(UsageError, hugging_face(tmp_path, config))


@pytest.mark.parametrize(
    ("tower", "key", "value"),
    [
        ("vision_cfg", "timm_model_name", "vit_base"),
        ("vision_cfg", "pool_type", "avg"),
        ("text_cfg", "no_causal_mask", True),
    ],
)
def test_other_models_of_open_clip(tmp_path, tower, key, value):
    saved(tmp_path, build().state_dict(), "open_clip_model.safetensors")
    model = {name: dict(section) for name, section in OPEN_CLIP_CONFIG["model_cfg"].items()
             if name != "quick_gelu"}  # fmt: skip
    model[tower][key] = value
    written(tmp_path / "open_clip_config.json", {"model_cfg": model})
    message = refused(UsageError, tmp_path)
    assert f"{tower}.{key} is {value!r}: a tower of another architecture than CLIP's" in message


def test_not_finite_weights(tmp_path):
    state = build().state_dict()
    state["visual.proj"][0, 0] = torch.inf
    path = saved(tmp_path, state)
    assert refused(DataError, path) == (
        f"{path} holds NaN or infinity in visual.proj; take another checkpoint."
    )


def test_a_missing_part_of_an_attention(tmp_path):
    state = to_hugging_face(build().state_dict())
    del state["text_model.encoder.layers.0.self_attn.k_proj.bias"]
    assert refused(DataError, saved(tmp_path, state)) == (
        "The checkpoint lacks text_model.encoder.layers.0.self_attn.k_proj.bias; take another one."
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"model_type": \n nonsense}', "config.json:2: not JSON: Expecting value."),
        ("[1, 2]", "config.json holds a JSON list, expected an object."),
    ],
)
def test_damaged_configurations(tmp_path, content, message):
    assert message in refused(DataError, hugging_face(tmp_path, content))


def test_configurations_that_are_not_text(tmp_path):
    hugging_face(tmp_path)
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00")
    assert "config.json is not UTF-8 text" in refused(DataError, tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").mkdir()
    assert "Could not read" in refused(DataError, tmp_path)


def test_colours_are_three_numbers(tmp_path):
    hugging_face(tmp_path)
    written(tmp_path / "preprocessor_config.json", {"image_mean": [0.5]})
    assert "three numbers, found [0.5]" in refused(DataError, tmp_path)


# Into a model


def checkpoint_of(config: ClipConfig = VIT, **changes) -> ClipCheckpoint:
    checkpoint = ClipCheckpoint(
        source="there",
        config=config,
        state=build(config).state_dict(),
        report=(),
        tokenizer_files=None,
        mean=OPENAI_MEAN,
        std=OPENAI_STD,
        fit="crop",
    )
    return dataclasses.replace(checkpoint, **changes)


def test_another_image_size_is_resampled_as_the_model_itself_would():
    checkpoint = checkpoint_of()
    model = build(VIT.with_image_size(40), seed=2)
    report = load_into(model, checkpoint)
    assert report.resampled == ("visual.positional_embedding",)
    assert "resampled for another size: visual.positional_embedding" in str(report)
    assert checkpoint.state["visual.positional_embedding"].shape == (10, 64)
    images = torch.randn(2, 3, 40, 40)
    with torch.no_grad():
        expected = build().encode_image(images)
        torch.testing.assert_close(model.encode_image(images), expected)


def test_a_resnets_table_is_resampled():
    report = load_into(build(RESNET.with_image_size(96), seed=2), checkpoint_of(RESNET))
    assert report.resampled == ("visual.attnpool.positional_embedding",)


def test_text_positions_are_cut_or_stretched():
    texts = torch.tensor([[38, 5, 39, 0, 0], [38, 7, 9, 1, 39]])
    for length in (5, 20):
        model = build(VIT.with_vocabulary(40, length), seed=2)
        assert load_into(model, checkpoint_of()).resampled == ("positional_embedding",)
        with torch.no_grad():
            same = torch.allclose(model.encode_text(texts), build().encode_text(texts), atol=1e-6)
        assert same == (length == 5)


def test_another_vocabulary_is_refused_or_starts_anew():
    model = build(VIT.with_vocabulary(30, 8), seed=2)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(UsageError) as caught:
        load_into(model, checkpoint_of())
    assert str(caught.value) == (
        "there knows 40 tokens, the tokenizer has 30; use the checkpoint's own: "
        "data.image_text.tokenizer: auto."
    )
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    report = load_into(model, checkpoint_of(), new_vocabulary=True)
    assert report.new_vocabulary
    assert "token_embedding.weight" not in report.loaded
    assert "random, because the tokenizer is another: token_embedding.weight" in str(report)
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert "token_embedding.weight" not in changed
    assert "text_projection" in changed


def test_a_new_vocabulary_of_the_same_size_starts_anew():
    model = build(seed=2)
    before = model.token_embedding.weight.detach().clone()
    load_into(model, checkpoint_of(), new_vocabulary=True)
    assert torch.equal(model.token_embedding.weight, before)


def test_another_architecture_is_refused_and_named():
    tiny = CONFIGURATIONS["clip_tiny"].with_vocabulary(40, 8)
    with pytest.raises(UsageError) as caught:
        load_into(build(VIT), checkpoint_of(tiny))
    message = str(caught.value)
    assert message.startswith("The weights in there do not fit this model; nothing was loaded.")
    assert "embed_dim 128 instead of 16; " in message
    assert message.endswith(
        "It holds a clip_tiny: set model.name: clip_tiny, or clip, which takes its shape from the "
        "checkpoint."
    )
    with pytest.raises(UsageError, match=r"Set model.name: clip, which takes its shape"):
        load_into(CLIP(tiny), checkpoint_of(VIT))


def test_another_activation_is_refused_and_fitted():
    checkpoint = checkpoint_of(dataclasses.replace(VIT, activation="quick_gelu"))
    with pytest.raises(UsageError) as caught:
        load_into(build(), checkpoint)
    assert str(caught.value) == (
        "there computes with quick_gelu, the model with gelu: it would run and be wrong. Set "
        "model.name: clip, which takes this from the checkpoint; in Python, build the model with "
        "fitted_config."
    )
    config = fitted_config(VIT.with_image_size(48), checkpoint)
    assert (config.activation, config.image_size) == ("quick_gelu", 48)
    load_into(build(config), checkpoint)
    with pytest.raises(UsageError, match="do not fit this model"):
        fitted_config(RESNET, checkpoint)


def test_missing_tensors_and_unknown_layers_are_refused():
    state = dict(build().state_dict())
    del state["ln_final.bias"]
    state["ln_final.weight"] = torch.zeros(7)
    state["visual.transformer.resblocks.0.ls_1.gamma"] = torch.ones(64)
    with pytest.raises(DataError) as caught:
        load_into(build(seed=2), checkpoint_of(state=state))
    assert str(caught.value) == (
        "The weights in there do not fit a CLIP; nothing was loaded. 1 missing: ln_final.bias; "
        "1 of another shape: ln_final.weight (7,) instead of (128,); 1 unknown to the model: "
        "visual.transformer.resblocks.0.ls_1.gamma."
    )


def test_what_is_beside_the_towers_is_reported():
    state = build().state_dict() | {"logit_bias": torch.zeros(())}
    report = load_into(build(seed=2), checkpoint_of(state=state))
    assert report.unexpected == ("logit_bias",)
    assert "not used: logit_bias" in str(report)


def test_old_resnets_without_step_counts():
    state = {k: v for k, v in build(RESNET).state_dict().items() if not k.endswith("tracked")}
    report = load_into(build(RESNET, seed=2), checkpoint_of(RESNET, state=state))
    assert len(report.missing) == 22
    assert "random, because not in the checkpoint: visual.bn1.num_batches" in str(report)


# From the hub


class FakeHub(types.ModuleType):
    """Stands in for huggingface_hub: what a repository has, and what is in the local cache."""

    def __init__(self, folder: Path | None, files=("model.safetensors", "flax_model.msgpack")):
        super().__init__("huggingface_hub")
        self.folder, self.files, self.asked = folder, list(files), []
        self.cache: Path | None = None
        hub = self

        class HfApi:
            def list_repo_files(self, repository, *, revision):
                if hub.folder is None:
                    raise OSError("cannot reach huggingface.co\nwith more lines")
                return hub.files

        self.HfApi = HfApi

    def snapshot_download(self, repository, *, revision, **options):
        self.asked.append((repository, revision, options))
        found = self.cache if options.get("local_files_only") else self.folder
        if found is None:
            raise OSError("not cached")
        return str(found)


def test_a_model_of_the_hub(tmp_path, monkeypatch):
    hub = FakeHub(hugging_face(tmp_path))
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert read_clip("hub:openai/clip-vit@v1.0").config.vision_heads == 2
    patterns = ["model.safetensors", "*.json", "merges.txt"]
    assert hub.asked == [("openai/clip-vit", "v1.0", {"allow_patterns": patterns})]
    hub.files = ["pytorch_model.bin.index.json", "pytorch_model-1.bin"]
    read_clip("hub:openai/clip-vit")
    patterns = ["pytorch_model.bin.index.json", "pytorch_model-*.bin", "*.json", "merges.txt"]
    assert hub.asked[1][1:] == (None, {"allow_patterns": patterns})


def test_the_hubs_errors(tmp_path, monkeypatch):
    hub = FakeHub(tmp_path, files=["tf_model.h5"])
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert "hub:a/b has none of model.safetensors" in refused(UsageError, "hub:a/b")
    assert "hub:clip-vit is no name on the Hugging Face Hub; expected hub:OWNER/NAME" in refused(
        UsageError, "hub:clip-vit"
    )
    hub.folder = None
    assert refused(UsageError, "hub:a/b") == (
        "Could not fetch hub:a/b: cannot reach huggingface.co. Is the name right, and is there a "
        "network? Without one, download the files elsewhere and give their folder."
    )
    hub.cache = hugging_face(tmp_path / "cache")
    assert read_clip("hub:a/b").config.embed_dim == 16


def test_without_the_hubs_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert refused(UsageError, "hub:a/b") == (
        "hub:a/b needs the package huggingface_hub: pip install 'maquette[hub]'. Or download the "
        "model's files yourself and give their folder."
    )


# Ready to use


def test_load_clip_gives_model_tokenizer_and_preprocessing(tmp_path):
    from PIL import Image

    tokenizer = ClipTokenizer.train(["a cat", "a dog"], vocabulary_size=520, context_length=8)
    config = VIT.with_vocabulary(tokenizer.vocab_size, 8)
    saved(tmp_path, build(config).state_dict())
    with pytest.raises(UsageError) as caught:
        load_clip(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} has {tokenizer.vocab_size} tokens and no tokenizer files beside it; put its "
        "vocab.json and merges.txt there."
    )
    tokenizer.save_hugging_face(tmp_path)
    model, its_tokenizer, preprocess = load_clip(tmp_path)
    assert not model.training
    assert torch.equal(its_tokenizer(["a cat"]), tokenizer(["a cat"]))
    pixels = preprocess(Image.new("RGB", (40, 30), (255, 0, 0)))
    assert pixels.shape == (3, 24, 24)
    expected = (torch.tensor([1.0, 0, 0]) - torch.tensor(OPENAI_MEAN)) / torch.tensor(OPENAI_STD)
    torch.testing.assert_close(pixels[:, 12, 12], expected)
    with torch.no_grad():
        image_features, text_features = model(pixels[None], its_tokenizer(["a cat"]))
    assert image_features.shape == text_features.shape == (1, 16)


@pytest.mark.data
def test_load_clip_takes_openais_merge_list_where_there_is_no_other(tmp_path):
    saved(tmp_path, build(VIT.with_vocabulary(49_408, 77)).state_dict())
    _, tokenizer, _ = load_clip(tmp_path)
    assert tokenizer.encode("a photo of a cat") == [320, 1125, 539, 320, 2368]


def test_the_package_has_nothing_else():
    import maquette.tasks.image_text as package

    with pytest.raises(AttributeError, match="has no attribute 'load_clop'"):
        _ = package.load_clop
