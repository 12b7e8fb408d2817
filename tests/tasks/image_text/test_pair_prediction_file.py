"""Files of predictions: pairs from manifests and shards, images for models with classes."""

import json

import numpy as np
import pytest
from made_pairs import (
    caption,
    data_of,
    made_rows,
    made_shards,
    png,
    write_manifest,
)

from maquette.errors import DataError, RunError
from maquette.tasks.base import Predictions
from maquette.tasks.image_text import prediction_file
from maquette.tasks.image_text.prediction_file import predict_pairs


class _Model:
    """Stands for a bundle: answers count up, and what it was asked is kept."""

    max_pixels = 1000

    def __init__(self, classes=None):
        self.classes = classes
        self.asked = []

    def __call__(self, raw):
        start = len(self.asked)
        self.asked += raw
        if self.classes is None:
            return Predictions([float(start + n) for n in range(len(raw))])
        names = [self.classes[n % len(self.classes)] for n in range(start, start + len(raw))]
        share = np.full((len(raw), len(self.classes)), 1 / len(self.classes), np.float32)
        return Predictions(names, share, self.classes)


def predicted(model, source, tmp_path, **options):
    output = tmp_path / "answers.jsonl"
    data = data_of("unused", **options)
    lines = predict_pairs(model, model, data=data, source=source, output=output)
    return lines, [json.loads(line) for line in output.read_text().splitlines()]


def test_a_manifest_becomes_similarities_in_its_order(tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_file, "CHUNK", 4)
    path = write_manifest(tmp_path / "data", made_rows(10))
    lines, answers = predicted(_Model(), path, tmp_path, text_columns=(), label_column="x")
    assert lines == [f"10 predictions in {tmp_path}/answers.jsonl"]
    assert answers == [
        {"image": f"{n}.png", "text": caption(n), "similarity": float(n)} for n in range(10)
    ]


def test_every_caption_of_a_row_is_compared(tmp_path):
    rows = made_rows(2, more=lambda n: f"more {n}")
    path = write_manifest(tmp_path / "data", rows)
    _, answers = predicted(_Model(), path, tmp_path, text_columns=("text", "more"))
    assert [answer["text"] for answer in answers] == [caption(0), "more 0", caption(1), "more 1"]


def test_bad_rows_and_files_have_lines_of_their_own(tmp_path):
    rows = made_rows(4)
    path = write_manifest(tmp_path / "data", [*rows, {"image": "absent.png", "text": "x"}])
    (tmp_path / "data" / "absent.png").unlink()
    (tmp_path / "data" / "1.png").write_bytes(b"")
    model = _Model()
    lines, answers = predicted(model, path, tmp_path)
    assert lines[1] == "not read: 2 of 5 inputs; their lines say why, as `error`"
    assert answers[1] == {
        "image": "1.png", "text": caption(1), "error": "The image is empty (0 bytes)."
    }  # fmt: skip
    assert answers[4] == {
        "place": "pairs.csv:6",
        "error": f"names absent.png, but there is no such file in {tmp_path}/data",
    }
    assert len(model.asked) == 3


def test_a_split_or_label_column_is_not_needed_to_predict(tmp_path):
    path = write_manifest(tmp_path / "data", made_rows(3))
    options = {"split": {"method": "column", "column": "fold"}, "label_column": "topic"}
    _, answers = predicted(_Model(), path, tmp_path, **options, where={"a": "b"})
    assert len(answers) == 3


def test_shards_are_predicted_too(tmp_path):
    made_shards(tmp_path / "data", (3,))
    _, answers = predicted(_Model(), tmp_path / "data" / "part-0.tar", tmp_path)
    assert answers[2] == {
        "image": "part-0.tar/000002.png", "text": caption(2), "similarity": 2.0
    }  # fmt: skip


def test_a_folder_of_images_is_sorted_into_classes(tmp_path):
    for name in ("b.png", "a/c.jpg"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(png(1))
    (tmp_path / "in" / "notes.txt").write_text("x")
    (tmp_path / "in" / "z.png").write_bytes(b"broken")
    lines, answers = predicted(_Model(("bad", "good")), tmp_path / "in", tmp_path)
    assert lines[0].startswith("2 predictions in ")
    assert answers[0] == {
        "image": "a/c.jpg", "prediction": "bad", "probabilities": {"bad": 0.5, "good": 0.5}
    }  # fmt: skip
    assert answers[1]["prediction"] == "good"
    assert answers[2]["error"].startswith("The image is not an image Maquette reads")
    _, one = predicted(_Model(("bad",)), tmp_path / "in" / "b.png", tmp_path)
    assert one == [{"image": "b.png", "prediction": "bad", "probabilities": {"bad": 1.0}}]


def test_what_cannot_be_predicted_leaves_no_file(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    refused = {
        "holds no image; looked for .bmp, .gif,": (_Model(("a",)), folder),
        "holds images without texts, and this model compares images with texts; give a manifest": (
            _Model(),
            folder,
        ),
        "There is no manifest, folder or shard": (_Model(), tmp_path / "absent.csv"),
        "has no column 'text' (data.image_text.text_columns)": (
            _Model(),
            write_manifest(tmp_path / "other", [{"image": "a.png", "alt": "x"}]),
        ),
        "holds no pair that could be used: pairs.csv:2 has no text in 'text'": (
            _Model(),
            write_manifest(tmp_path / "empty", [{"image": "a.png", "text": ""}]),
        ),
    }
    for text, (model, source) in refused.items():
        with pytest.raises(DataError) as caught:
            predicted(model, source, tmp_path)
        assert text in str(caught.value)
    (folder / "a.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"None of the 1 inputs of .* could be predicted; the last"):
        predicted(_Model(("a",)), folder, tmp_path)
    assert not (tmp_path / "answers.jsonl").exists()


def test_a_model_that_fails_half_way_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_file, "CHUNK", 2)
    path = write_manifest(tmp_path / "data", made_rows(6))

    class Failing(_Model):
        def __call__(self, raw):
            if self.asked:
                raise RunError("out of memory")
            return super().__call__(raw)

    with pytest.raises(RunError, match="out of memory"):
        predicted(Failing(), path, tmp_path)
    assert not (tmp_path / "answers.jsonl").exists()
