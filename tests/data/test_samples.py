"""The committed samples: what they hold, and that the script still writes exactly them."""

from __future__ import annotations

import csv
import json
import runpy
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    runpy.run_path(str(DATA / "make_samples.py"))["main"](folder)
    return folder


def test_iris_is_what_the_script_writes(fresh: Path):
    assert (fresh / "iris.csv").read_bytes() == (DATA / "sample/iris.csv").read_bytes()


def test_images_are_what_the_script_writes(fresh: Path):
    written = sorted(p.relative_to(fresh) for p in fresh.rglob("*.png"))
    committed = sorted(p.relative_to(DATA / "sample") for p in (DATA / "sample").rglob("*.png"))
    assert written == committed
    for path in committed:
        ours, theirs = (
            np.asarray(Image.open(root / path), np.int16) for root in (DATA / "sample", fresh)
        )
        # Pixels, not bytes, as compression differs between zlib versions; and one level of slack
        # for the last bit of another processor's mathematics.
        np.testing.assert_allclose(ours, theirs, atol=1)


def test_there_are_thirty_images_of_three_classes():
    files = sorted((DATA / "sample/images").rglob("*.png"))
    assert len(files) == 30
    assert sorted({p.parent.name for p in files}) == ["blue", "green", "red"]
    for path in files:
        with Image.open(path) as image:
            assert (image.size, image.mode) == ((64, 64), "RGB")


def test_iris_fits_its_schema():
    schema = json.loads((DATA / "schemas/iris.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    with (DATA / "sample/iris.csv").open(newline="") as file:
        rows = [
            {k: v if k == "species" else float(v) for k, v in row.items()}
            for row in csv.DictReader(file)
        ]
    for row in rows:
        jsonschema.validate(row, schema)
    assert len(rows) == 150
    assert list(rows[0]) == [
        "sepal_length",
        "sepal_width",
        "petal_length",
        "petal_width",
        "species",
    ]
    counts = {
        name: sum(r["species"] == name for r in rows)
        for name in schema["properties"]["species"]["enum"]
    }
    assert counts == {"setosa": 50, "versicolor": 50, "virginica": 50}
