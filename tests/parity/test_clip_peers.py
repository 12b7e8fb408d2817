"""Our CLIP against open_clip and transformers themselves: other numbers, files, the export.

Opt-in: `pytest -m peers` with .venv-peers beside .venv (README.md here says how to make it).
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from clip_cases import CASES
from clip_checks import check_features, check_sizes, filled
from PIL import Image
from safetensors.torch import load_file

from maquette.tasks.image_text.architectures import CONFIGURATIONS, ClipConfig
from maquette.tasks.image_text.checkpoints import load_clip, load_into, read_clip
from maquette.tasks.image_text.clip import CLIP
from maquette.tasks.image_text.hugging_face import write_hugging_face
from maquette.tasks.image_text.preprocess import ImageTextPreprocessor
from maquette.tasks.image_text.tokenizer import ClipTokenizer

pytestmark = pytest.mark.peers

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv-peers" / "bin" / "python"
SEED = 1
VITS = [name for name, case in CASES.items() if case["patch_size"] is not None]
SAVED = [f"open_clip {name}" for name in CASES] + [f"transformers {name}" for name in VITS]
CAPTIONS = ["a photo of a cat", "two dogs, running!", "x" * 40, ""]


def run(*command: Any) -> None:
    if not PYTHON.is_file():
        pytest.skip("there is no .venv-peers; tests/parity/README.md says how to make it")
    done = subprocess.run(
        [PYTHON, *command],
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with facts of another seed and the references' own checkpoints."""
    folder = tmp_path_factory.mktemp("live")
    facts = ["--output", folder / "clip.json", "--checkpoints", folder / "saved"]
    run(HERE / "make_clip_golden.py", "--seed", str(SEED), *facts)
    yield folder
    for path in folder.rglob("*.safetensors"):
        path.unlink()  # 600 megabytes that pytest would keep


@pytest.mark.parametrize("name", CASES)
def test_live_numbers(live, name):
    facts = json.loads((live / "clip.json").read_text())[name]
    for peer in ("open_clip", "transformers") if name in VITS else ("open_clip",):
        model = filled(name, seed=SEED, antialias=peer == "open_clip")
        check_features(model, name, facts[peer], torch.float64, seed=SEED)
        check_sizes(model, name, facts[peer], torch.float64, seed=SEED)


def check_answers(model: CLIP, folder: Path) -> None:
    answers = load_file(folder / "answers")
    with torch.no_grad():
        image_features, text_features = model.eval()(answers["pixels"], answers["ids"])
    torch.testing.assert_close(image_features, answers["image"], rtol=0, atol=1e-5)
    torch.testing.assert_close(text_features, answers["text"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("saved", SAVED)
def test_live_checkpoints_load_equal(live, saved):
    folder = live / "saved" / saved
    case = CASES[saved.split()[1]]
    antialias = saved.startswith("open_clip")
    for source in [folder, *folder.glob("*.safetensors"), *folder.glob("*.bin"), folder / "shards"]:
        if not source.exists():
            continue
        checkpoint = read_clip(source)
        assert checkpoint.config == ClipConfig(**case, antialias_positions=antialias)
        model = CLIP(checkpoint.config)
        report = load_into(model, checkpoint)
        assert len(report.loaded) == len(model.state_dict())
        assert report.unexpected == ()
        check_answers(model, folder)


def test_live_whole_vit_b32(live):
    folder = live / "saved" / "transformers vit_b32"
    checkpoint = read_clip(folder)
    assert checkpoint.config.same_towers(CONFIGURATIONS["clip_vit_b32"])
    assert any("clip_vit_b32" in line for line in checkpoint.report)
    model = CLIP(checkpoint.config)
    load_into(model, checkpoint)
    check_answers(model, folder)


@pytest.mark.parametrize(("activation", "fit"), [("gelu", "crop"), ("quick_gelu", "stretch")])
def test_live_transformers_loads_the_export(tmp_path, activation, fit):
    tokenizer = ClipTokenizer.train(CAPTIONS * 3, vocabulary_size=530, context_length=16)
    torch.manual_seed(SEED)
    config = ClipConfig(
        **{**CASES["gelu"], "activation": activation, "vocab_size": tokenizer.vocab_size}
    )
    model = CLIP(config).eval()
    preprocessing = ImageTextPreprocessor(
        image_size=48,
        fit=fit,
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.25, 0.3),
        tokenizer=tokenizer,
        classes=None,
        prompts=(),
        architecture=config.to_json(),
        similarity="cosine",
        max_pixels=10**6,
    )
    folder = tmp_path / "export"
    write_hugging_face(folder, model, tokenizer, preprocessing)
    pixels = np.random.default_rng(SEED).integers(0, 256, (50, 75, 3), dtype=np.uint8)
    # 48 × 72 after resizing: an even margin, because transformers rounds odd ones the other way.
    picture = tmp_path / "picture.png"
    Image.fromarray(pixels).save(picture)
    run(HERE / "read_clip_export.py", folder, picture, *CAPTIONS)

    theirs = json.loads((folder / "answers.json").read_text())
    assert theirs["problems"] == {}
    assert theirs["activation"] == activation
    assert theirs["longest"] == 16
    assert theirs["ids"] == [tokenizer.sequence(text) for text in CAPTIONS]
    seen, ids = torch.tensor(theirs["pixels"]), tokenizer(CAPTIONS)
    again, its_tokenizer, preprocess = load_clip(folder)
    # torchvision's bicubic filter and Pillow's round a few pixels to neighbouring grey levels.
    apart = (preprocess(picture)[None] - seen).abs()
    assert apart.max() < 1.01 / 255 / 0.2
    assert (apart > 1e-5).float().mean() < 0.01
    with torch.no_grad():
        image_features = F.normalize(model.encode_image(seen), dim=1)
        text_features = F.normalize(model.encode_text(ids), dim=1)
    logits = model.logit_scale.exp() * image_features @ text_features.T
    for found, key in [
        (image_features, "image_features"),
        (text_features, "text_features"),
        (logits.detach(), "logits"),
    ]:
        torch.testing.assert_close(found, torch.tensor(theirs[key]), rtol=0, atol=1e-5)

    assert again.config == config
    assert torch.equal(its_tokenizer(CAPTIONS), ids)
    with torch.no_grad():
        assert torch.equal(F.normalize(again.encode_image(seen), dim=1), image_features)
