"""The export in the Hugging Face format: the files, the way back, and what cannot be written.

That transformers itself reads it is tested live in tests/parity/test_clip_peers.py.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from maquette.errors import RunError, UsageError
from maquette.tasks.image_text import load_clip
from maquette.tasks.image_text.architectures import CONFIGURATIONS, ClipConfig
from maquette.tasks.image_text.checkpoints import read_clip
from maquette.tasks.image_text.clip import CLIP
from maquette.tasks.image_text.hugging_face import write_hugging_face
from maquette.tasks.image_text.preprocess import ImageTextPreprocessor
from maquette.tasks.image_text.tokenizer import ClipTokenizer

TOKENIZER = ClipTokenizer.train(["a red cat", "a dog"] * 3, vocabulary_size=520, context_length=8)
CONFIG = ClipConfig(
    embed_dim=16,
    image_size=24,
    patch_size=8,
    vision_width=16,
    vision_layers=2,
    vision_heads=2,
    text_width=24,
    text_layers=1,
    text_heads=3,
    vocab_size=TOKENIZER.vocab_size,
    context_length=8,
)
FILES = {
    "config.json",
    "merges.txt",
    "model.safetensors",
    "preprocessor_config.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "vocab.json",
}


def build(config: ClipConfig = CONFIG) -> CLIP:
    torch.manual_seed(0)
    return CLIP(config).eval()


def preprocessing(**changes) -> ImageTextPreprocessor:
    values = {
        "image_size": 24,
        "fit": "crop",
        "mean": (0.1, 0.2, 0.3),
        "std": (0.4, 0.5, 0.6),
        "tokenizer": TOKENIZER,
        "classes": None,
        "prompts": (),
        "architecture": CONFIG.to_json(),
        "similarity": "cosine",
        "max_pixels": 10**6,
    }
    return ImageTextPreprocessor(**(values | changes))


def content(folder: Path, name: str):
    return json.loads((folder / name).read_text())


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_what_is_written_is_read_back(tmp_path, activation, antialias):
    model = build(dataclasses.replace(CONFIG, activation=activation, antialias_positions=antialias))
    folder = tmp_path / "new" / "export"
    write_hugging_face(folder, model, TOKENIZER, preprocessing())
    assert {path.name for path in folder.iterdir()} == FILES
    again, tokenizer, preprocess = load_clip(folder)
    assert again.config == model.config
    for key, value in again.state_dict().items():
        assert torch.equal(value, model.state_dict()[key]), key
    assert torch.equal(tokenizer(["a red dog"]), TOKENIZER(["a red dog"]))
    checkpoint = read_clip(folder)
    assert (checkpoint.mean, checkpoint.std, checkpoint.fit) == (
        (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "crop",
    )  # fmt: skip
    assert not any("transformers reads at" in line for line in checkpoint.report)
    assert preprocess.keywords["image_size"] == 24


def test_the_configurations(tmp_path):
    write_hugging_face(tmp_path / "export", build(), TOKENIZER, preprocessing(fit="stretch"))
    config = content(tmp_path / "export", "config.json")
    assert config["text_config"]["eos_token_id"] == TOKENIZER.eot
    assert config["vision_config"]["intermediate_size"] == 64
    assert config["torch_dtype"] == "float32"
    images = content(tmp_path / "export", "preprocessor_config.json")
    assert images["do_center_crop"] is False
    assert images["size"] == {"height": 24, "width": 24}
    assert content(tmp_path / "export", "tokenizer_config.json")["model_max_length"] == 8
    assert content(tmp_path / "export", "special_tokens_map.json")["eos_token"] == "<|endoftext|>"
    assert read_clip(tmp_path / "export").fit == "stretch"


def test_another_image_size_has_its_positions_resampled(tmp_path):
    model = build()
    write_hugging_face(tmp_path / "export", model, TOKENIZER, preprocessing(image_size=40))
    again, _, _ = load_clip(tmp_path / "export")
    assert again.config.image_size == 40
    images = torch.randn(2, 3, 40, 40)
    with torch.no_grad():
        torch.testing.assert_close(again.encode_image(images), model.encode_image(images))


def test_half_precision_is_written_as_it_is(tmp_path):
    model = build().to(torch.bfloat16)
    write_hugging_face(tmp_path / "export", model, TOKENIZER, preprocessing())
    assert content(tmp_path / "export", "config.json")["torch_dtype"] == "bfloat16"
    assert read_clip(tmp_path / "export").report[0].endswith("of bfloat16")


def refused(error, folder: Path, model: CLIP, images: ImageTextPreprocessor) -> str:
    with pytest.raises(error) as caught:
        write_hugging_face(folder, model, TOKENIZER, images)
    return str(caught.value)


def test_what_transformers_does_not_have(tmp_path):
    resnet = build(CONFIGURATIONS["clip_tiny_resnet"].with_vocabulary(TOKENIZER.vocab_size, 8))
    folder = tmp_path / "export"
    assert refused(UsageError, folder, resnet, preprocessing()) == (
        "transformers has no CLIP with a ResNet image tower, so this model cannot be written in "
        "the Hugging Face format; train a clip_vit_… or clip_tiny for that."
    )
    assert refused(UsageError, folder, build(), preprocessing(fit="pad")) == (
        "The model was trained with fit: pad, which the image processors of transformers do not "
        "have, so they would show it other images; train with fit: crop or stretch."
    )
    assert not folder.exists()


def test_folders(tmp_path):
    folder = tmp_path / "export"
    folder.mkdir()
    write_hugging_face(folder, build(), TOKENIZER, preprocessing())
    assert refused(UsageError, folder, build(), preprocessing()) == (
        f"{folder} exists already; give a new folder."
    )


def test_whole_or_not_at_all(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("maquette.tasks.image_text.hugging_face.save_file", full)
    message = refused(RunError, tmp_path / "export", build(), preprocessing())
    assert "No space left on device" in message
    assert list(tmp_path.iterdir()) == []
