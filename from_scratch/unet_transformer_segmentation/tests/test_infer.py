"""Prediction on arrays, and inference on files: what goes in, what comes out, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from unet_seg import infer
from unet_seg.checkpoints import LoadedModel, load_model, save
from unet_seg.config import Config, DataConfig, config_to_dict
from unet_seg.data.batches import eval_batches
from unet_seg.data.build import build_datasets
from unet_seg.errors import SegError
from unet_seg.image_files import read_image, read_mask
from unet_seg.infer import infer_paths, predict, predict_logits
from unet_seg.models import build_model


class Channels(nn.Module):
    """Gives the image back as logits, so that the class is the brightest channel."""

    def forward(self, image: Tensor) -> Tensor:
        return image


@pytest.fixture
def loaded(make_config: Callable[..., Config], tmp_path: Path) -> LoadedModel:
    config = make_config()
    torch.manual_seed(0)
    path = tmp_path / "model.pt"
    state = {"config": config_to_dict(config), "step": 7, "model": build_model(config).state_dict()}
    save(path, state)
    return load_model(path, "cpu")


@pytest.fixture
def picture() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def write(path: Path, array: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def test_every_form_of_an_image_gives_the_same_mask(picture: NDArray[np.uint8]) -> None:
    expected = picture.argmax(2)
    tensor = torch.from_numpy(picture).permute(2, 0, 1)
    alpha = np.concatenate([picture, picture[..., :1]], axis=2)
    frozen = picture.copy()
    frozen.flags.writeable = False  # as numpy.asarray of a Pillow image is
    for image in (
        picture,
        frozen,
        tensor,
        tensor.float() / 255,
        picture / 255,
        alpha,
        picture[::-1][::-1],
    ):
        mask = predict(Channels(), image)
        assert mask.dtype == np.uint8
        assert mask.shape == (20, 30)
        np.testing.assert_array_equal(mask, expected)


def test_grey_and_colour_become_what_the_network_needs(picture: NDArray[np.uint8]) -> None:
    grey = picture[..., 0]
    logits = predict_logits(Channels(), grey)
    assert logits.shape == (3, 20, 30)
    expected = (torch.from_numpy(grey) / 255 - 0.5) / 0.25
    torch.testing.assert_close(logits, expected.expand(3, -1, -1))
    torch.testing.assert_close(predict_logits(Channels(), grey[..., None]), logits)

    model = Channels()
    model.in_channels = 1  # type: ignore[assignment]
    luminance = np.asarray(Image.fromarray(picture).convert("L")) / 255
    given = predict_logits(model, picture)[0] * 0.25 + 0.5
    assert np.abs(given.numpy() - luminance).max() <= 1 / 255 + 1e-6  # Pillow rounds differently
    torch.testing.assert_close(
        predict_logits(model, picture / 255)[0] * 0.25 + 0.5, given, atol=2e-3, rtol=0
    )


def test_files_and_arrays_give_the_same_mask(loaded: LoadedModel, tmp_path: Path) -> None:
    data = replace(loaded.config.data, channels=1)
    picture = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    from_file = read_image(write(tmp_path / "x.png", picture), 1)
    torch.testing.assert_close(
        predict_logits(Channels(), picture, data=data),
        predict_logits(Channels(), from_file, data=data),
    )


def test_one_logit_channel_means_two_classes() -> None:
    class Brightness(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image[:, :1]

    image = np.array([[0, 127], [128, 255]], dtype=np.uint8)
    np.testing.assert_array_equal(predict(Brightness(), image), [[0, 0], [1, 1]])


def test_a_loaded_model_prepares_images_as_in_training(loaded: LoadedModel) -> None:
    """The prediction is that of the validation: same size, channels and normalisation."""
    data = replace(loaded.config.data, normalize="image", mean=0.1)
    loaded = replace(loaded, config=replace(loaded.config, data=data))
    dataset = build_datasets(loaded.config)["valid"]
    for index, batch in enumerate(eval_batches(dataset, data, batch_size=1, multiple=4)):
        with torch.no_grad():
            expected = loaded.model(batch.image)[0]
        torch.testing.assert_close(predict_logits(loaded, dataset[index].image), expected)


def test_resized_images_get_masks_of_their_own_size(picture: NDArray[np.uint8]) -> None:
    seen = []

    class Spy(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            seen.append(tuple(image.shape))
            return image

    assert predict(Spy(), picture, data=DataConfig(resize=(8, 16))).shape == (20, 30)
    assert seen == [(1, 3, 8, 16)]


def test_flips_average_the_logits_of_mirrored_views(picture: NDArray[np.uint8]) -> None:
    torch.manual_seed(0)
    model = nn.Conv2d(3, 4, 3, padding=1)
    views = [
        predict_logits(model, np.flip(picture, axes)).numpy() for axes in ((), (0,), (1,), (0, 1))
    ]
    expected = sum(
        np.flip(view, [axis + 1 for axis in axes])
        for view, axes in zip(views, ((), (0,), (1,), (0, 1)), strict=True)
    )
    given = predict_logits(model, picture, tta=True)
    np.testing.assert_allclose(given.numpy(), expected / 4, atol=1e-5)
    assert np.abs(given.numpy() - views[0]).max() > 1e-3


def test_large_images_go_through_windows(
    picture: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    class Spy(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            seen.append(tuple(image.shape[2:]))
            return image

    expected = predict(Channels(), picture)
    np.testing.assert_array_equal(predict(Spy(), picture, window=16), expected)
    assert set(seen) == {(16, 16)}
    monkeypatch.setattr(infer, "WHOLE_PIXELS", 20 * 30)
    monkeypatch.setattr(infer, "WINDOW", 10)
    seen.clear()
    predict(Spy(), picture)
    assert seen == [(20, 30)]
    seen.clear()
    np.testing.assert_array_equal(
        predict(Spy(), np.pad(picture, ((0, 1), (0, 0), (0, 0))))[:20], expected
    )
    assert set(seen) == {(10, 10)}


def test_the_network_keeps_its_mode() -> None:
    model = nn.Sequential(nn.Dropout(0.9), nn.Conv2d(3, 2, 1))
    image = np.full((8, 8), 200, dtype=np.uint8)
    logits = predict_logits(model, image)
    assert logits[0].unique().numel() == 1  # without dropout, every pixel is alike
    assert model.training
    predict(model.eval(), image)
    assert not model.training


ONE_IMAGE = "expected one image (H,W) or (H,W,C) with C = 1, 3 or 4."
RANGE = (
    "expected uint8 in [0, 255] or floating point in [0, 1]; divide by the largest value its "
    "pixels can have."
)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 5, 2), np.uint8), f"image has shape (4, 5, 2), {ONE_IMAGE}"),
        (np.zeros((1, 4, 5, 3), np.uint8), f"image has shape (1, 4, 5, 3), {ONE_IMAGE}"),
        (
            torch.zeros(4, 5),
            "image has shape (4, 5), expected one image (C,H,W) with C = 1, 3 or 4.",
        ),
        (np.zeros((4, 5), np.uint16), f"image has dtype uint16, {RANGE}"),
        (torch.zeros(3, 4, 5, dtype=torch.int64), f"image has dtype int64, {RANGE}"),
        (
            Image.new("L", (4, 5)),
            "image is of type Image, expected a tensor or a NumPy array; numpy.asarray(image) "
            "makes one of a Pillow image.",
        ),
        (np.full((4, 5), 200.0), "predict: image has values from 200 to 200, expected 0 to 1."),
        (np.zeros((0, 5), np.uint8), "predict: the image has no pixels, its size is (0, 5)."),
    ],
)
def test_images_that_are_refused(image: object, message: str) -> None:
    with pytest.raises(SegError) as error:
        predict(Channels(), image)  # type: ignore[arg-type]
    assert str(error.value) == message


def test_nan_is_refused() -> None:
    image = np.full((3, 4, 5), 0.5)
    image[0, 1, 2] = np.nan
    with pytest.raises(
        SegError,
        match="predict: image holds 1 values that are not finite; the first is NaN at index",
    ):
        predict(Channels(), torch.from_numpy(image))


def test_settings_are_checked_even_where_no_window_is_needed() -> None:
    image = np.zeros((8, 8), np.uint8)
    with pytest.raises(SegError, match=r"overlap=2 must be in \[0, 0.9\]; use 0.5."):
        predict(Channels(), image, overlap=2)
    with pytest.raises(SegError, match="window=0 must be at least 1 pixel; 512 suits most"):
        predict(Channels(), image, window=0)


def test_files_get_mask_overlay_and_areas(loaded: LoadedModel, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    path, out = write(tmp_path / "in" / "a.png", picture), tmp_path / "out" / "deep"
    report = infer_paths(loaded, [path], out, window=16, tta=True)
    assert report.errors == []
    assert report.written == [out / "a_mask.png"]
    expected = predict(loaded, picture, window=16, tta=True)
    np.testing.assert_array_equal(read_mask(out / "a_mask.png"), expected)
    with Image.open(out / "a_mask.png") as file:
        assert file.mode == "P"
    assert read_image(out / "a_overlay.png", 3).shape == (3, 20, 30)
    result = json.loads((out / "a.json").read_text())
    assert (result["height"], result["width"]) == (20, 30)
    assert list(result["classes"]) == list(loaded.classes)
    for index, area in enumerate(result["classes"].values()):
        assert area["pixels"] == (expected == index).sum()
        assert area["fraction"] == pytest.approx(area["pixels"] / 600)
    assert (result["step"], result["window"], result["tta"]) == (7, 16, True)
    assert sorted(p.name for p in out.iterdir()) == ["a.json", "a_mask.png", "a_overlay.png"]


def test_folders_globs_and_bad_files(loaded: LoadedModel, tmp_path: Path) -> None:
    grey = np.zeros((9, 9), dtype=np.uint8)
    folder = tmp_path / "in"
    for name in ("b.png", "a.jpg", "sub/c.png"):
        write(folder / name, grey)
    (folder / "broken.png").write_bytes((folder / "b.png").read_bytes()[:40])
    (folder / "notes.txt").write_text("no image")
    np.save(folder / "nan.npy", np.full((4, 4), np.nan))
    inputs = [folder, str(tmp_path / "in" / "**" / "*.png"), tmp_path / "nix.png", folder / "b.png"]
    report = infer_paths(loaded, inputs, tmp_path / "out")
    assert [path.name for path in report.written] == ["a_mask.png", "b_mask.png", "c_mask.png"]
    nix, broken, nan = report.errors
    assert nix.startswith(
        f"{tmp_path / 'nix.png'}: no such file or folder, and as a glob no image (.png, .jpg"
    )
    assert broken.startswith(f"{folder / 'broken.png'}: ")
    assert nan.startswith(f"{folder / 'nan.npy'}: 16 of 16 values are NaN or infinite")


def test_a_folder_without_images(loaded: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    report = infer_paths(loaded, [tmp_path / "empty"], tmp_path / "out")
    assert report.written == []
    assert report.errors[0].startswith(f"{tmp_path / 'empty'}: holds no image (.png, ")


def test_names_that_are_taken_twice_are_told_apart(loaded: LoadedModel, tmp_path: Path) -> None:
    grey = np.zeros((9, 9), dtype=np.uint8)
    both = [write(tmp_path / name, grey) for name in ("a/x.png", "b/x.png")]
    written = infer_paths(loaded, both, tmp_path / "out").written
    assert [path.name for path in written] == ["a-x_mask.png", "b-x_mask.png"]
    same = [write(tmp_path / name, grey) for name in ("c/x.png", "c/X.jpg")]
    written = infer_paths(loaded, same, tmp_path / "out").written
    assert [path.name for path in written] == ["x-png_mask.png", "X-jpg_mask.png"]
    tricky = [write(tmp_path / name, grey) for name in ("d/e-x.png", "d-e/x.png", "d/e/x.png")]
    written = infer_paths(loaded, tricky, tmp_path / "out").written
    assert len({path.name for path in written}) == 3


def test_inputs_are_never_overwritten(loaded: LoadedModel, tmp_path: Path) -> None:
    grey = np.full((9, 9), 77, dtype=np.uint8)
    image, mask = write(tmp_path / "x.png", grey), write(tmp_path / "x_mask.png", grey)
    before = mask.read_bytes()
    report = infer_paths(loaded, [tmp_path], tmp_path)
    assert report.errors == [
        f"{image}: its result {mask} would overwrite that input; choose another --out."
    ]
    assert [path.name for path in report.written] == ["x_mask_mask.png"]
    assert mask.read_bytes() == before


def test_outputs_that_cannot_be(loaded: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        SegError, match=r"file/deeper: cannot be made a folder \(Not a directory\); name"
    ):
        infer_paths(loaded, [], tmp_path / "file" / "deeper")
    with pytest.raises(SegError, match=r"alpha=1.5 must be in \[0, 1\]"):
        infer_paths(loaded, [], tmp_path / "out", overlay_alpha=1.5)
    with pytest.raises(SegError, match="overlap=1 must be in"):
        infer_paths(loaded, [], tmp_path / "out", overlap=1)
    assert not (tmp_path / "out").exists()
