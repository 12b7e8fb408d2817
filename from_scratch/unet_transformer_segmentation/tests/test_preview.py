"""The preview shows the image as it is, the classes in their colours, and writes one PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unet_seg.data import IGNORE, Sample, ToyShapes
from unet_seg.errors import SegError
from unet_seg.image_files import palette
from unet_seg.preview import preview, side_by_side, to_picture


class Listed:
    """A dataset of given samples that notes which of them were asked for."""

    def __init__(self, samples: list[Sample], classes: tuple[str, ...] = ("background", "thing")):
        self.samples, self.classes, self.asked = samples, classes, list[int]()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        self.asked.append(index)
        return self.samples[index]


def sample(height: int = 32, width: int = 32, name: str = "s") -> Sample:
    """A grey image with a square of class 1 and some ignored pixels on the right."""
    mask = torch.zeros(height, width, dtype=torch.uint8)
    mask[4:20, 4:20] = 1
    mask[:, -6:] = IGNORE
    return Sample(torch.full((3, height, width), 100, dtype=torch.uint8), mask, name)


def test_picture_is_a_png_large_enough_to_see(tmp_path: Path) -> None:
    path = tmp_path / "new" / "toy.png"
    assert preview(ToyShapes(num_samples=6), path, count=4) == path
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 300
    assert [p.name for p in path.parent.iterdir()] == ["toy.png"]  # and nothing half-written


def test_samples_are_spread_evenly_and_no_more_than_there_are(tmp_path: Path) -> None:
    dataset = Listed([sample() for _ in range(10)])
    preview(dataset, tmp_path / "a.png", count=4)
    assert dataset.asked == [0, 2, 5, 7]
    dataset = Listed([sample() for _ in range(2)])
    preview(dataset, tmp_path / "b.png", count=12)
    assert dataset.asked == [0, 1]


def test_image_is_left_and_its_mask_right_in_class_colours() -> None:
    shown = side_by_side(sample(), num_classes=2)
    assert shown.shape == (32, 32 + 1 + 32, 3)
    assert (shown[:, :32] == 100).all()
    assert (shown[:, 32] == 255).all()
    right = shown[:, 33:]
    assert (right[24:, :20] == 100).all()  # background stays clear
    assert (right[4, 4:20] == palette(2)[1]).all()  # the outline is solid
    np.testing.assert_allclose(right[10, 10], 0.4 * 100 + 0.6 * palette(2)[1], atol=1)
    np.testing.assert_allclose(right[10, -2], 0.4 * 100 + 0.6 * 255, atol=1)  # ignored: white


def test_colours_of_the_image_do_not_mix_with_those_of_the_classes() -> None:
    red = sample()
    red.image[1:] = 0
    background = side_by_side(red, num_classes=2)[30, 33]
    assert len(set(background.tolist())) == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_float_and_grey_images_are_shown_too(channels: int) -> None:
    image = torch.linspace(0, 1, 12).view(1, 3, 4).repeat(channels, 1, 1)
    picture = to_picture(Sample(image, torch.zeros(3, 4, dtype=torch.uint8), "f"))
    assert picture.shape == (3, 4, 3)
    assert picture.dtype == np.uint8
    assert (picture[..., 0] == picture[..., 2]).all()
    np.testing.assert_array_equal(picture.ravel()[::3], np.rint(np.linspace(0, 255, 12)))


def test_sizes_may_differ_names_may_be_long_and_classes_many(tmp_path: Path) -> None:
    samples = [sample(32, 32), sample(30, 120, "x" * 80), sample(90, 25)]
    classes = ("background", *(f"a rather long class name {i}" for i in range(30)))
    preview(Listed(samples, classes), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("samples", "count", "message"),
    [
        ([sample()], 0, "preview: count=0 must be at least 1."),
        ([], 3, "preview: the dataset is empty; there is nothing to draw."),
    ],
)
def test_what_cannot_be_drawn_is_explained(
    samples: list[Sample], count: int, message: str, tmp_path: Path
) -> None:
    with pytest.raises(SegError) as caught:
        preview(Listed(samples), tmp_path / "a.png", count=count)
    assert str(caught.value) == message
