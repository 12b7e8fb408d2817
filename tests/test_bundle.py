"""Bundles: whole, verified, and refusing to lie."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import maquette
from maquette.bundle import FORMAT, load_bundle, reference_profile
from maquette.errors import BundleError, RequestError
from maquette.files import sha256

FILES = {
    "bundle.json",
    "weights.safetensors",
    "recipe.yaml",
    "preprocessor.json",
    "input_schema.json",
    "reference.json",
    "probes.json",
}
FLOWERS = [[5.1, 3.5, 1.4, 0.2], [5.9, 3.0, 5.1, 1.8]]


@pytest.fixture
def copy(iris_run, tmp_path) -> Path:
    """A bundle that may be damaged."""
    return Path(shutil.copytree(iris_run.bundle, tmp_path / "bundle"))


def refusal(path: Path) -> str:
    with pytest.raises(BundleError) as caught:
        load_bundle(path)
    return str(caught.value)


def test_holds_everything_and_no_pickle(iris_run):
    assert {file.name for file in iris_run.bundle.iterdir()} == FILES
    for file in iris_run.bundle.iterdir():
        assert not file.read_bytes().startswith(b"\x80"), f"{file.name} looks like a pickle"
        assert b"PK\x03\x04" not in file.read_bytes()[:4], f"{file.name} is a zip"


def test_predicts_rows_by_name_by_order_and_frames(iris_run):
    bundle = maquette.load(iris_run.bundle)
    names = bundle.input_schema()["properties"]
    by_order = bundle.predict(FLOWERS)
    by_name = bundle.predict([dict(zip(names, row, strict=True)) for row in FLOWERS])
    assert by_order.values == by_name.values == ["setosa", "virginica"]
    assert np.array_equal(by_order.probabilities, by_name.probabilities)
    one = by_order[0]
    assert one["prediction"] == "setosa"
    assert sum(one["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    frame = pytest.importorskip("pandas").DataFrame(FLOWERS, columns=list(names))
    assert bundle.predict(frame).values == by_order.values


def test_order_and_company_do_not_matter(iris_run):
    """A row's answer does not depend on the rows beside it, across the chunk border too."""
    bundle = maquette.load(iris_run.bundle)
    rows = [[5 + i % 7 / 10, 3.0, 1 + i % 11 / 2, 0.2 + i % 5 / 3] for i in range(300)]
    together = bundle.predict(rows).probabilities
    alone = np.concatenate([bundle.predict([row]).probabilities for row in rows[250:262]])
    np.testing.assert_allclose(together[250:262], alone, atol=1e-6)
    backwards = bundle.predict(rows[::-1]).probabilities[::-1]
    np.testing.assert_allclose(together, backwards, atol=1e-6)


def test_a_run_folder_stands_for_its_bundle(iris_run):
    assert load_bundle(iris_run.folder).bundle_id == load_bundle(iris_run.bundle).bundle_id


def test_images_by_bytes_path_and_array(colours_run):
    bundle = maquette.load(colours_run.bundle)
    path = sorted((Path(__file__).parent.parent / "data/sample/images").glob("*/*.png"))[0]
    from PIL import Image

    pixels = np.asarray(Image.open(path).convert("RGB"))
    answers = bundle.predict([path, path.read_bytes(), pixels, Image.open(path)])
    assert len(set(answers.values)) == 1
    assert np.ptp(answers.probabilities, axis=0).max() < 1e-6


def test_what_predict_refuses(iris_run):
    bundle = maquette.load(iris_run.bundle)
    with pytest.raises(RequestError, match=r"takes a list of inputs, got one dict"):
        bundle.predict({"sepal_length": 1})
    with pytest.raises(RequestError, match="empty list"):
        bundle.predict([])
    rows = [[5.1, 3.5, 1.4, 0.2]] * 600
    with pytest.raises(RequestError, match=r"Row 599 \(counting from 0\) has 1 cells"):
        bundle.predict([*rows[:599], [5.1]])


def test_metrics_and_reference_profile_travel_along(iris_run):
    bundle = load_bundle(iris_run.bundle)
    assert bundle.metrics == iris_run.metrics
    assert bundle.task == "tabular"
    assert bundle.classes == ("setosa", "versicolor", "virginica")
    assert set(reference_profile(bundle)["numbers"]) == set(bundle.input_schema()["properties"])
    assert bundle.predict([bundle.example()]).values[0] in bundle.classes


def test_probes_are_kept_with_their_answers(iris_run, colours_run):
    for run in (iris_run, colours_run):
        probes = json.loads((run.bundle / "probes.json").read_text(encoding="utf-8"))
        assert 16 <= len(probes["inputs"]) <= 64
        assert len(probes["outputs"]) == len(probes["inputs"])


@pytest.mark.parametrize("name", sorted(FILES - {"bundle.json"}))
def test_a_flipped_byte_is_found(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(bytes(content))
    message = refusal(copy)
    assert f"{name} is damaged" in message
    assert "Copy the bundle again" in message


def test_a_damaged_manifest(copy):
    (copy / "bundle.json").write_text("{", encoding="utf-8")
    assert "bundle.json is damaged" in refusal(copy)


def test_a_missing_file(copy):
    (copy / "preprocessor.json").unlink()
    assert "incomplete: preprocessor.json is missing" in refusal(copy)


def test_a_folder_that_is_no_bundle(tmp_path):
    assert "is not a bundle: it has no bundle.json" in refusal(tmp_path)


def test_a_newer_format(copy):
    edit_manifest(copy, format=FORMAT + 1, maquette="9.9")
    message = refusal(copy)
    assert f"has bundle format {FORMAT + 1}, written by Maquette 9.9" in message
    assert "pip install --upgrade maquette" in message


def test_probes_that_come_out_otherwise_are_refused(copy):
    """As on a machine whose arithmetic differs: the checksums are right, the answers are not."""
    probes = json.loads((copy / "probes.json").read_text(encoding="utf-8"))
    probes["outputs"][3][0] += 0.5
    (copy / "probes.json").write_text(json.dumps(probes), encoding="utf-8")
    reseal(copy)
    message = refusal(copy)
    assert "does not reproduce its own answers" in message
    assert f"1 of {len(probes['inputs'])} probe inputs differ, by up to 0.5" in message


def test_weights_of_another_network(copy):
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "weights.safetensors")
    save_file(
        {name: torch.cat([w, w]) for name, w in weights.items()}, copy / "weights.safetensors"
    )
    reseal(copy)
    assert "does not fit the network of its recipe" in refusal(copy)


def edit_manifest(bundle: Path, **changes: object) -> None:
    manifest = json.loads((bundle / "bundle.json").read_text(encoding="utf-8")) | changes
    (bundle / "bundle.json").write_text(json.dumps(manifest), encoding="utf-8")


def reseal(bundle: Path) -> None:
    """Make the checksums fit the edited files."""
    names = FILES - {"bundle.json"}
    edit_manifest(bundle, files={name: sha256(bundle / name) for name in names})
