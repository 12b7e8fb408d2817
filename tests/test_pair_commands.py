"""The commands of image-text bundles: evaluation at several sizes, export, no server yet."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from maquette.cli import main
from maquette.errors import UsageError
from maquette.lifecycle import Run, train

sys.path.append(str(Path(__file__).parent / "tasks" / "image_text"))
from shape_pairs import shape_manifest, shape_recipe


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("commands")
    manifest = shape_manifest(folder / "pairs", 30)
    return train(shape_recipe(folder / "runs", manifest, training__epochs=1))


def command(capsys, *arguments: object) -> tuple[int, str, str]:
    code = 0
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    out, err = capsys.readouterr()
    return code, out, err


def test_sizes(run, capsys):
    code, out, _ = command(capsys, "evaluate", run.folder, "--sizes", "24,16")
    assert code == 0
    assert [one["size"] for one in json.loads(out)] == [16, 24]
    code, _, err = command(capsys, "evaluate", run.folder, "--sizes", "small")
    assert code == 2
    assert "--sizes is 'small', expected sides in pixels: 48,64,96." in err
    assert command(capsys, "evaluate", run.folder, "--split", "tset")[0] == 2


def test_export(run, capsys, tmp_path):
    code, out, _ = command(capsys, "export", run.folder, "--output", tmp_path / "clip")
    assert code == 0
    assert "CLIPModel.from_pretrained" in out
    assert (tmp_path / "clip" / "model.safetensors").is_file()
    code, _, err = command(capsys, "export", run.folder, "--output", tmp_path / "clip")
    assert code == 2
    assert "exists already" in err


def test_an_exported_bias_is_told(tmp_path, capsys):
    manifest = shape_manifest(tmp_path / "pairs", 30)
    recipe = shape_recipe(
        tmp_path / "runs", manifest, training__epochs=1, contrastive={"loss": "siglip"}
    )
    trained = train(recipe)
    code, out, _ = command(capsys, "export", trained.folder, "--output", tmp_path / "clip")
    assert code == 0
    assert "has no place in the format" in out


def test_pairs_are_not_served_yet(run):
    from maquette.lifecycle import load
    from maquette.serve.models import ServedModels

    with pytest.raises(UsageError, match="which the server does not offer yet"):
        ServedModels([load(run.bundle)])
