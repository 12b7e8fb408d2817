"""Windows that give what the whole image gives, and weights that sum to one."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from unet_seg.errors import SegError
from unet_seg.models import build_model
from unet_seg.sliding import profiles, sliding_window, window_starts


def local_network(stride: int = 2) -> nn.Module:
    """A network whose logits depend on at most 6 pixels to each side."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(stride),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.Upsample(scale_factor=stride),
        nn.Conv2d(8, 4, 3, padding=1),
    ).eval()
    network.stride = stride  # type: ignore[assignment]
    return network


@torch.no_grad()
def whole(model: nn.Module, image: Tensor) -> Tensor:
    return model(image)


class Record(nn.Module):
    """Gives the image back as logits and remembers what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[tuple[int, ...]] = []

    def forward(self, image: Tensor) -> Tensor:
        self.batches.append(tuple(image.shape))
        return image


@pytest.mark.parametrize("size", [(96, 96), (130, 74), (66, 200)])
@pytest.mark.parametrize(("window", "overlap"), [(64, 0.5), (48, 0.6), (64, 0.9), (200, 0.5)])
def test_windows_give_the_logits_of_the_whole_image(
    size: tuple[int, int], window: int, overlap: float
) -> None:
    model, image = local_network(), torch.randn(1, 3, *size)
    given = sliding_window(model, image, window=window, overlap=overlap)
    expected = whole(model, image)
    torch.testing.assert_close(given, expected, atol=1e-5, rtol=0)


def test_a_receptive_field_beyond_the_overlap_shows_in_the_logits() -> None:
    """So that the test above cannot pass whatever the weights are."""
    model, image = local_network(), torch.randn(1, 3, 96, 96)
    given = sliding_window(model, image, window=32, overlap=0.1)
    assert (given - whole(model, image)).abs().max() > 1e-3


def test_unet_in_windows_is_the_unet_in_the_interior() -> None:
    torch.manual_seed(0)
    model = build_model({"num_classes": 3, "widths": [4, 8, 8], "norm": "batch"}).eval()
    image = torch.randn(1, 3, 200, 180)
    given = sliding_window(model, image, window=128, overlap=0.75)
    torch.testing.assert_close(given, whole(model, image), atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (5, 70), (33, 31)])
def test_any_size(size: tuple[int, int]) -> None:
    image = torch.randn(1, 2, *size)
    given = sliding_window(Record(), image, window=16, overlap=0.5)
    torch.testing.assert_close(given, image)


def test_windows_are_no_larger_than_the_image() -> None:
    model = Record()
    sliding_window(model, torch.randn(1, 3, 20, 100), window=32)
    assert {shape[2:] for shape in model.batches} == {(20, 32)}


def test_windows_are_computed_in_batches_and_start_on_the_stride() -> None:
    model = Record()
    model.stride = 8  # type: ignore[assignment]
    image = torch.randn(1, 2, 50, 100)
    torch.testing.assert_close(sliding_window(model, image, window=30, batch_size=4), image)
    assert {shape[1:] for shape in model.batches} == {(2, 32, 32)}
    num_windows = len(window_starts(56, 32, 0.5, 8)) * len(window_starts(104, 32, 0.5, 8))
    assert sum(shape[0] for shape in model.batches) == num_windows
    assert max(shape[0] for shape in model.batches) == 4


@pytest.mark.parametrize("multiple", [1, 2, 8, 16])
@pytest.mark.parametrize("overlap", [0, 0.25, 0.5, 0.9])
def test_starts_cover_the_axis(multiple: int, overlap: float) -> None:
    window = 64
    for size in range(window, 6 * window, multiple):
        starts = window_starts(size, window, overlap, multiple)
        assert starts[0] == 0
        assert starts[-1] == size - window
        assert all(start % multiple == 0 for start in starts)
        steps = [after - before for before, after in pairwise(starts)]
        assert all(0 < step <= max(window * (1 - overlap), multiple) + 1e-9 for step in steps)
    assert window_starts(128, 64, 0.5) == [0, 32, 64]  # n = ceil((I - P) / (P s)) + 1


@pytest.mark.parametrize("starts", [[0], [0, 32], [0, 17, 37, 60], [0, 64, 128], [0, 6, 13]])
def test_profiles_sum_to_one_and_fall_off(starts: list[int]) -> None:
    weights = profiles(starts, 64)
    total = torch.zeros(starts[-1] + 64)
    for start, row in zip(starts, weights, strict=True):
        total[start : start + 64] += row
    torch.testing.assert_close(total, torch.ones_like(total))
    assert (weights >= 0).all()
    if starts == [0, 32]:
        left = weights[0]
        assert (left[:40] == 1).all()  # what the second window sees too well to be asked
        assert (left[56:] == 0).all()
        assert (left[41:57].diff() <= 0).all()


def test_the_blend_is_gaussian() -> None:
    left, right = profiles([0, 32], 64)
    pixel = 45  # 13.5 from the first centre at 31.5, 18.5 from the second at 63.5
    ratio = torch.tensor(-(13.5**2 - 18.5**2) / (2 * 8**2)).exp()  # sigma = P / 8 = 8
    torch.testing.assert_close(left[pixel] / right[pixel - 32], ratio)


def test_the_models_output_is_left_alone() -> None:
    class Constant(nn.Module):
        kept = torch.ones(1, 2, 16, 16)

        def forward(self, _image: Tensor) -> Tensor:
            return self.kept

    model = Constant()
    given = sliding_window(model, torch.zeros(1, 3, 40, 40), window=16)
    torch.testing.assert_close(given, torch.ones(1, 2, 40, 40))
    assert (model.kept == 1).all()


def test_low_precision_is_summed_in_float32() -> None:
    class Half(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image.bfloat16()

    assert sliding_window(Half(), torch.randn(1, 1, 20, 20), window=16).dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 0}, "window=0 must be at least 1 pixel; 512 suits most networks."),
        ({"window": 8, "overlap": 0.95}, "overlap=0.95 must be in [0, 0.9]; use 0.5."),
        ({"window": 8, "overlap": -0.1}, "overlap=-0.1 must be in [0, 0.9]; use 0.5."),
        ({"window": 8, "batch_size": 0}, "batch_size=0 must be at least 1."),
    ],
)
def test_settings_out_of_range(settings: dict[str, float], message: str) -> None:
    with pytest.raises(SegError) as error:
        sliding_window(Record(), torch.zeros(1, 3, 9, 9), **settings)  # type: ignore[arg-type]
    assert str(error.value) == message


def test_images_of_another_shape() -> None:
    with pytest.raises(SegError, match=r"image has shape .* 3 axes; expected 4"):
        sliding_window(Record(), torch.zeros(3, 9, 9), window=8)
    with pytest.raises(SegError, match=r"axis 0 \(1\) is 2, expected 1"):
        sliding_window(Record(), torch.zeros(2, 3, 9, 9), window=8)
    with pytest.raises(SegError, match=r"image has shape \(1, 3, 0, 9\): it has no pixels"):
        sliding_window(Record(), torch.zeros(1, 3, 0, 9), window=8)
