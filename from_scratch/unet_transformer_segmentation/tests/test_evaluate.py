"""Evaluation: scores that agree with the validation and with each other, and the files written."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from unet_seg.checkpoints import LoadedModel
from unet_seg.config import Config
from unet_seg.data.batches import eval_batches
from unet_seg.data.build import build_datasets
from unet_seg.data.sample import IGNORE, Sample
from unet_seg.errors import SegError
from unet_seg.evaluate import (
    draw_examples,
    error_kinds,
    evaluate_run,
    representative,
    score_images,
    table,
    without_nan,
)
from unet_seg.metrics import SegmentationMeter
from unet_seg.models import build_model


@pytest.fixture
def loaded(make_config: Callable[..., Config]) -> LoadedModel:
    config = make_config()
    torch.manual_seed(0)
    model = build_model(config).eval()
    classes = config.data.classes
    return LoadedModel(model, config, classes, 7, torch.device("cpu"), Path("m.pt"))


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_scores_are_those_of_the_validation(loaded: LoadedModel, tmp_path: Path) -> None:
    config = loaded.config
    meter = SegmentationMeter(loaded.classes)
    for batch in eval_batches(
        build_datasets(config)["valid"], config.data, batch_size=3, multiple=4
    ):
        with torch.no_grad():
            meter.update(loaded.model(batch.image).argmax(1), batch.mask, batch.valid)
    result = evaluate_run(loaded, "valid", out=tmp_path)
    expected = meter.compute()
    assert without_nan({name: result[name] for name in expected}) == without_nan(expected)
    assert result["confusion"] == meter.state_dict()["confusion"].tolist()


def test_a_network_that_knows_the_truth_scores_1(
    loaded: LoadedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The truth is looked up by the image, so mask and prediction must meet in every place."""
    samples = list(map(build_datasets(loaded.config)["test"].__getitem__, range(4)))

    class Oracle(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            pixels = ((image[0] * 0.25 + 0.5) * 255).round().to(torch.uint8)
            mask = next(mask for known, mask, _ in samples if torch.equal(known, pixels))
            return torch.nn.functional.one_hot(mask.long(), 6).permute(2, 0, 1)[None].float()

    result = evaluate_run(replace(loaded, model=Oracle()), "test", surface=True, out=tmp_path)
    for name in ("mean_iou", "mean_dice", "pixel_accuracy", "per_image_mean_iou", "mean_nsd"):
        assert result[name] == pytest.approx(1)
    assert result["mean_hd95"] == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        *("class", "iou", "dice", "per_image_iou", "per_image_dice", "images", "pixels"),
        *("hd95", "hd95_undefined", "nsd"),
    ]
    assert lines[1].split()[:3] == ["background", "1.0000", "1.0000"]
    assert "mean_iou                1.0000" in lines
    assert lines[-1] == "images                  4 of test"


def test_the_files_hold_what_was_returned(loaded: LoadedModel, tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    result = evaluate_run(loaded, "test", window=16, overlap=0.25, tta=True, out=out)
    stored = json.loads((out / "evaluation_test.json").read_text())
    assert stored == json.loads(json.dumps(without_nan(result)))
    assert stored["settings"] == {"window": 16, "overlap": 0.25, "tta": True}
    assert (stored["split"], stored["step"], stored["images"]) == ("test", 7, 4)

    per_class = read_csv(out / "per_class_test.csv")
    assert [row["class"] for row in per_class] == list(loaded.classes)
    for row in per_class:
        value = stored["per_class"][row["class"]]["iou"]
        assert row["iou"] == ("" if value is None else str(value))

    per_image = read_csv(out / "per_image_test.csv")
    assert [row["name"] for row in per_image] == [f"test_{i:05d}" for i in range(4)]
    mean = np.mean([float(row["mean_iou"]) for row in per_image])
    assert mean == pytest.approx(stored["per_image_mean_iou"])
    assert sum(int(row["pixels"]) for row in per_image) == 4 * 32 * 32
    with Image.open(out / "examples_test.png") as picture:
        assert picture.width > 1000


def test_masks_are_scored_at_their_own_size(loaded: LoadedModel) -> None:
    data = replace(loaded.config.data, resize=(16, 16))
    small = replace(loaded, config=replace(loaded.config, data=data))
    meter = SegmentationMeter(loaded.classes)
    rows = score_images(small, build_datasets(small.config)["valid"], meter)
    assert {(row["height"], row["width"], row["pixels"]) for row in rows} == {(32, 32, 1024)}


def test_ignored_pixels_do_not_count(loaded: LoadedModel) -> None:
    class HalfAndAll(Dataset[Sample]):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> Sample:
            mask = torch.zeros(8, 8, dtype=torch.uint8)
            mask[:, 4 * (1 - index) :] = IGNORE
            return Sample(torch.zeros(3, 8, 8, dtype=torch.uint8), mask, f"s{index}")

    meter = SegmentationMeter(loaded.classes)
    rows = score_images(loaded, HalfAndAll(), meter)
    assert [row["pixels"] for row in rows] == [32, 0]
    assert [math.isnan(row["mean_iou"]) for row in rows] == [False, True]
    assert meter.compute()["images"] == 1


def test_a_mask_value_beyond_the_classes_names_the_image(loaded: LoadedModel) -> None:
    class Wrong(Dataset[Sample]):
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> Sample:
            mask = torch.full((8, 8), 9, dtype=torch.uint8)
            return Sample(torch.zeros(3, 8, 8, dtype=torch.uint8), mask, "scan_17")

    with pytest.raises(SegError, match="scan_17: target has class 9 on 64 pixels that count"):
        score_images(loaded, Wrong(), SegmentationMeter(loaded.classes))


def test_examples_are_the_worst_the_median_and_the_best() -> None:
    def rows(*scores: float) -> list[dict[str, float]]:
        return [{"mean_iou": score} for score in scores]

    assert representative(rows(0.5, 0.1, math.nan, 0.9, 0.4)) == [1, 0, 3]
    assert representative(rows(0.5, 0.1)) == [1, 0]
    assert representative(rows(0.5)) == [0]
    assert representative(rows(math.nan)) == []


def test_error_kinds() -> None:
    truth = np.array([0, 1, IGNORE, 0, 1, 1], dtype=np.uint8)
    pred = np.array([0, 1, 1, 1, 0, 2], dtype=np.uint8)
    np.testing.assert_array_equal(error_kinds(truth, pred), [0, 0, 0, 1, 2, 3])


def test_no_examples_draw_no_picture(tmp_path: Path) -> None:
    draw_examples([], ("a", "b"), tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_the_table_shows_what_has_no_value() -> None:
    result = {
        "per_class": {"a": {"iou": 0.5, "pixels": 12345}, "b": {"iou": math.nan, "pixels": 0}},
        "mean_iou": 0.5,
        "images": 3,
        "split": "valid",
    }
    assert table(result).splitlines() == [
        "class               iou          pixels",
        "a                0.5000          12,345",
        "b                     -               0",
        "",
        "mean_iou                0.5000",
        "images                  3 of valid",
    ]


def test_grey_images_are_evaluated_and_drawn(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config(data={"channels": 1, "toy": {"image_size": [16, 24], "num_test": 1}})
    model = build_model(config).eval()
    loaded = LoadedModel(model, config, config.data.classes, 0, torch.device("cpu"), Path("m.pt"))
    evaluate_run(loaded, "test", out=tmp_path)
    assert (tmp_path / "examples_test.png").is_file()


def test_what_is_refused(loaded: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(SegError) as error:
        evaluate_run(loaded, "dev", out=tmp_path)
    assert str(error.value) == "split 'dev' is unknown; there are train, valid, test."
    (tmp_path / "file").write_text("")
    with pytest.raises(
        SegError, match=r"file/x: cannot be made a folder \(Not a directory\); name"
    ):
        evaluate_run(loaded, "test", out=tmp_path / "file" / "x")
