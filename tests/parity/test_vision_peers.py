"""Our vision networks against timm and torchvision themselves, with numbers made just now.

Opt-in: `pytest -m peers` with .venv-peers beside .venv (README.md here says how to make it).
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from vision_checks import check_same_keys, check_same_numbers
from vision_numbers import IMAGE_SHAPE, NUM_CLASSES, uniform

from maquette.tasks.vision.models import MODELS
from maquette.tasks.vision.weights import adapt_channels, load_weights

pytestmark = pytest.mark.peers

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv-peers" / "bin" / "python"
SEED = 1
WITH_WEIGHTS = ("resnet18", "efficientnet_b0")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of what the references compute with another seed, and their weight files."""
    if not PYTHON.is_file():
        pytest.skip("there is no .venv-peers; tests/parity/README.md says how to make it")
    folder = tmp_path_factory.mktemp("live")
    command = [PYTHON, HERE / "make_vision_golden.py", "--output", folder, "--seed", str(SEED)]
    done = subprocess.run(
        [*command, "--weights", *WITH_WEIGHTS],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    yield folder
    for path in folder.iterdir():
        path.unlink()  # a hundred megabytes that pytest would keep


@pytest.mark.parametrize("name", MODELS)
def test_live_numbers(live: Path, name: str):
    facts = json.loads((live / f"{name}.json").read_text())
    check_same_keys(name, facts)
    for mode in ("eval", "train") if "timm train" in facts else ("eval",):
        check_same_numbers(name, facts, mode=mode, dtype=torch.float64, seed=SEED)


@pytest.mark.parametrize("file", ["timm.safetensors", "torchvision.pth"])
@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_live_weight_files_load_and_give_the_same_logits(live: Path, name: str, file: str):
    model = MODELS[name](num_classes=NUM_CLASSES)
    report = load_weights(model, live / f"{name}.{file}")
    assert len(report.loaded) == len(model.state_dict())
    assert report.missing + report.unexpected + report.shape_mismatched + report.adapted == ()
    answers = load_file(live / f"{name}.{file.partition('.')[0]}.answers.safetensors")
    with torch.no_grad():
        logits = model.eval()(uniform("image", IMAGE_SHAPE))
    torch.testing.assert_close(logits, answers["logits"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 4])
def test_live_stem_adapted_like_timm(live: Path, channels: int):
    stem = load_file(live / "resnet18.timm.safetensors")["conv1.weight"]
    expected = load_file(live / "resnet18.timm.answers.safetensors")[f"stem {channels}"]
    torch.testing.assert_close(adapt_channels(stem, channels), expected)
