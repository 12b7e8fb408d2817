"""Toy data: one (seed, split, index) is one sample, and the mask says what the image shows."""

from __future__ import annotations

import hashlib
import math
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

import unet_seg.data
from unet_seg.config import TOY_SHAPES, ToyConfig, load_config
from unet_seg.data import IGNORE, FolderDataset, Sample, ToyShapes
from unet_seg.data.build import build_datasets
from unet_seg.data.paint import draw_colours, draw_field, gaussian_blur, paint
from unet_seg.data.toy import Bar, Thing, draw_scene, export, locate
from unet_seg.errors import SegError
from unet_seg.seed import generator_for

ROUGH = {"noise": 0.1, "blur": 0.7, "occlusion": 0.5, "texture": 0.5}


def assert_same(first: Sample, second: Sample) -> None:
    assert first.name == second.name
    assert torch.equal(first.image, second.image)
    assert torch.equal(first.mask, second.mask)


def scenes(toy: ToyConfig, number: int) -> list[list[Thing]]:
    return [draw_scene(toy, generator_for(7, index)) for index in range(number)]


# --- what a sample is -----------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_sample_has_the_promised_types_sizes_and_labels(channels: int) -> None:
    dataset = ToyShapes(num_samples=5, image_size=(40, 56), channels=channels, **ROUGH)
    assert len(dataset) == 5
    assert dataset.classes == ("background", "circle", "rectangle", "triangle", "ring", "line")
    for sample in (dataset[index] for index in range(5)):
        assert sample.image.shape == (channels, 40, 56)
        assert sample.mask.shape == (40, 56)
        assert sample.image.dtype == sample.mask.dtype == torch.uint8
        assert 1 <= sample.mask.max() < len(dataset.classes)
    assert dataset[3].name == "train_00003"


def test_labels_follow_the_order_of_the_shapes() -> None:
    dataset = ToyShapes(num_samples=20, shapes=("line", "circle"))
    assert dataset.classes == ("background", "line", "circle")
    sizes = {
        label: [int((s.mask == label).sum()) for s in dataset if (s.mask == label).any()]
        for label in (1, 2)
    }
    assert np.mean(sizes[1]) < np.mean(sizes[2]) / 2  # lines are thin


def test_iterating_ends_and_indices_outside_are_refused() -> None:
    dataset = ToyShapes(num_samples=3)
    assert len(list(dataset)) == 3
    for index in (3, -1):
        with pytest.raises(IndexError, match=f"sample {index} of 3"):
            dataset[index]


# --- determinism ----------------------------------------------------------------------------------


def test_sample_depends_on_seed_split_and_index_alone() -> None:
    dataset = ToyShapes(num_samples=6, seed=5, **ROUGH)
    samples = [dataset[index] for index in range(6)]
    torch.manual_seed(1)
    np.random.seed(1)
    longer = pickle.loads(pickle.dumps(ToyShapes(num_samples=60, seed=5, **ROUGH)))
    for index in (4, 0, 5, 2):
        assert_same(longer[index], samples[index])


def test_known_sample_stays_the_same() -> None:
    """Published results name a seed: a change of the drawing would silently void them."""
    sample = ToyShapes(num_samples=1, seed=3, image_size=(16, 16), count=(2, 2), size=(0.2, 0.3))[0]
    digest = hashlib.sha256(sample.mask.numpy().tobytes()).hexdigest()
    assert digest[:16] == "24a263f99d4594a9"


def test_worker_process_draws_the_same() -> None:
    dataset = ToyShapes(num_samples=4, image_size=(16, 16), **ROUGH)
    loader = DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context="spawn")
    for index, sample in enumerate(loader):
        assert_same(Sample(*sample), dataset[index])


def test_splits_and_seeds_share_no_image() -> None:
    parts = [
        ToyShapes(num_samples=30, seed=seed, split=split)
        for seed in (0, 1, 2)
        for split in ("train", "valid", "test")
    ]
    images = {sample.image.numpy().tobytes() for part in parts for sample in part}
    assert len(images) == 9 * 30


@pytest.mark.parametrize(
    "looks", [{"noise": 0.2}, {"blur": 2.0}, {"texture": 1.0}, {"channels": 1}], ids=str
)
def test_looks_do_not_change_the_mask(looks: dict[str, float]) -> None:
    plain, changed = ToyShapes(num_samples=5), ToyShapes(num_samples=5, **looks)  # type: ignore[arg-type]
    for one, other in zip(plain, changed, strict=True):
        assert torch.equal(one.mask, other.mask)
        assert not torch.equal(one.image, other.image)


# --- masks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TOY_SHAPES)
def test_mask_of_a_lone_shape_is_its_area_within_one_pixel_of_the_outline(kind: str) -> None:
    toy = ToyConfig(image_size=(60, 48), shapes=(kind,), count=(1, 1), size=(0.05, 0.5))  # type: ignore[arg-type]
    for (thing,) in scenes(toy, 50):
        count = int((locate([thing], (60, 48)) == 1).sum())
        limit = thing.shape.perimeter * math.sqrt(0.5) + math.pi / 2
        assert abs(count - thing.shape.area) <= limit


def test_pixel_belongs_to_a_shape_if_its_centre_lies_inside() -> None:
    for scene in scenes(ToyConfig(image_size=(20, 26)), 5):
        owner = locate(scene, (20, 26))
        for i in range(20):
            for j in range(26):
                expected = 0
                for number, thing in enumerate(scene, start=1):
                    y, x = np.array([i + 0.5]), np.array([j + 0.5])
                    if thing.shape.inside(y - thing.centre[0], x - thing.centre[1]).all():
                        expected = number
                assert owner[i, j] == expected


def test_clean_image_is_plain_in_every_shape_and_the_mask_follows_its_colours() -> None:
    for index in range(10):
        sample = ToyShapes(num_samples=10, noise=0)[index]
        colours, which = torch.unique(sample.image.flatten(1), dim=1, return_inverse=True)
        labels = [sample.mask.flatten()[which == k].unique() for k in range(colours.shape[1])]
        assert all(len(label) == 1 for label in labels)  # a colour shows one class
        assert sum(int(label) == 0 for label in labels) == 1  # and one is the background's


def test_shapes_lie_within_the_image_and_their_number_within_count() -> None:
    numbers = set()
    for scene in scenes(ToyConfig(image_size=(32, 50), count=(2, 4), size=(0.1, 0.5)), 60):
        numbers.add(len(scene))
        for thing in scene:
            (y, x), radius = thing.centre, thing.shape.radius
            assert 0.1 * 32 <= radius <= 0.5 * 32
            assert radius <= y <= 32 - radius
            assert radius <= x <= 50 - radius
    assert numbers == {2, 3, 4}


def test_later_shapes_leave_the_earlier_ones_recognisable() -> None:
    toy = ToyConfig(image_size=(64, 64))
    shown = []
    for scene in scenes(toy, 100):
        owner = locate(scene, (64, 64))
        for number, thing in enumerate(scene, start=1):
            whole = (locate([thing], (64, 64)) == 1).sum()
            shown.append((owner == number).sum() / whole)
    assert min(shown) > 0.3
    assert np.quantile(shown, 0.05) > 0.7


def test_class_weights_decide_how_often_a_shape_is_drawn() -> None:
    toy = ToyConfig(shapes=("circle", "ring", "line"), class_weights=(6, 0, 2), count=(4, 4))
    labels = [thing.label for scene in scenes(toy, 150) for thing in scene]
    assert 2 not in labels
    assert labels.count(1) / len(labels) == pytest.approx(0.75, abs=0.06)
    last = ToyConfig(shapes=("circle", "ring"), class_weights=(1, 0))
    assert {thing.label for scene in scenes(last, 50) for thing in scene} == {1}


def test_all_shapes_are_drawn_equally_often_without_class_weights() -> None:
    labels = [thing.label for scene in scenes(ToyConfig(count=(4, 4)), 250) for thing in scene]
    counts = np.bincount(labels, minlength=6)
    assert counts[0] == 0
    np.testing.assert_allclose(counts[1:], 200, atol=50)


# --- occlusion ------------------------------------------------------------------------------------


def test_occlusion_turns_a_part_of_a_shape_into_background() -> None:
    plain = ToyShapes(num_samples=40, noise=0, count=(1, 1))
    barred = ToyShapes(num_samples=40, noise=0, count=(1, 1), occlusion=1)
    hidden = []
    for whole, part in zip(plain, barred, strict=True):
        gone = whole.mask != part.mask
        assert (part.mask[gone] == 0).all()
        assert torch.equal(whole.image[:, ~gone], part.image[:, ~gone])
        background = whole.image[:, whole.mask == 0][:, :1]
        assert (part.image[:, gone] == background).all()
        hidden.append(float(gone.sum() / (whole.mask > 0).sum()))
    assert min(hidden) > 0.01
    assert max(hidden) < 0.45
    assert 0.1 < np.mean(hidden) < 0.3


def test_occlusion_is_a_probability_per_shape() -> None:
    toy = ToyConfig(count=(4, 4), occlusion=0.25)
    barred = [thing.bar is not None for scene in scenes(toy, 100) for thing in scene]
    assert np.mean(barred) == pytest.approx(0.25, abs=0.07)


def test_bar_along_a_line_is_turned_across_it() -> None:
    (thing,) = next(
        scene for scene in scenes(ToyConfig(shapes=("line",), count=(1, 1), size=(0.3, 0.3)), 1)
    )
    angle = thing.shape.angle  # type: ignore[attr-defined]
    along = Bar(angle + math.pi / 2, 0.0, 5.0)
    owner = locate([Thing(1, thing.shape, thing.centre, along)], (64, 64))
    shown = (owner == 1).sum() / thing.shape.area
    assert 0.6 < shown < 0.85  # 10 of about 38 pixels of length are hidden


def test_bar_covers_its_width() -> None:
    bar = Bar(angle=0.0, offset=2.0, half_width=1.0)
    x = np.array([0.9, 1.0, 2.0, 3.0, 3.1])
    assert bar.inside(np.zeros(5), x).tolist() == [False, True, True, True, False]


# --- looks ----------------------------------------------------------------------------------------


def test_colours_differ_from_the_background_and_from_each_other() -> None:
    generator = generator_for(11)
    for channels, least in ((3, 0.4), (1, 0.05)):
        for _ in range(300):
            colours = draw_colours(5, channels, generator)
            assert colours.min() >= 0
            assert colours.max() <= 1
            apart = np.linalg.norm(colours[:, None] - colours[None], axis=2)
            assert apart[~np.eye(5, dtype=bool)].min() > least


def test_colours_do_not_tell_the_class() -> None:
    dataset = ToyShapes(
        num_samples=600, image_size=(16, 16), size=(0.3, 0.4), count=(1, 1), noise=0
    )
    colours: dict[int, list[NDArray[np.float64]]] = {}
    for sample in dataset:
        label = int(sample.mask.max())
        inside = sample.image[:, sample.mask == label].double()
        colours.setdefault(label, []).append(inside.mean(dim=1).numpy() / 255)
    overall = np.concatenate([np.stack(of_class) for of_class in colours.values()])
    for of_class in colours.values():
        # The mean of n colours is off by about their deviation over the root of n.
        error = overall.std(axis=0) / math.sqrt(len(of_class))
        assert (np.abs(np.mean(of_class, axis=0) - overall.mean(axis=0)) < 4 * error).all()


def test_noise_has_its_deviation() -> None:
    clean, noisy = ToyShapes(num_samples=4, noise=0), ToyShapes(num_samples=4, noise=0.04)
    for one, other in zip(clean, noisy, strict=True):
        inner = (one.image > 60) & (one.image < 195)  # nothing is cut off there
        difference = (other.image.double() - one.image.double())[inner] / 255
        assert float(difference.std()) == pytest.approx(0.04, rel=0.05)
        assert abs(float(difference.mean())) < 0.003


def test_texture_changes_the_background_only() -> None:
    plain, textured = (ToyShapes(num_samples=6, noise=0, texture=t) for t in (0.0, 0.6))
    for one, other in zip(plain, textured, strict=True):
        shape = one.mask > 0
        assert torch.equal(one.image[:, shape], other.image[:, shape])
        background = other.image[:, ~shape].double() / 255
        # 0.2 * 0.6 * (0.5 to 1) in each channel; one image's field strays from deviation 1.
        assert ((background.std(dim=1) > 0.03) & (background.std(dim=1) < 0.2)).all()


def test_field_has_mean_zero_variance_one_and_is_smooth() -> None:
    generator = generator_for(12)
    fields = np.stack([draw_field((32, 48), generator) for _ in range(300)])
    assert fields.dtype == np.float32
    assert abs(fields.mean()) < 0.05
    assert fields.var() == pytest.approx(1, abs=0.05)
    assert np.abs(fields.mean(axis=0)).max() < 0.3  # at every pixel alike
    # The shortest waves are 3.2 pixels long, most are much longer.
    assert np.diff(fields, axis=2).std() < 0.8


def test_blur_is_a_gaussian_of_the_given_deviation() -> None:
    image = np.zeros((2, 41, 31), dtype=np.float32)
    image[0, 20, 15] = 1
    image[1] = 0.3
    blurred = gaussian_blur(image, 2.0)
    y, x = np.mgrid[:41, :31]
    assert blurred[0].sum() == pytest.approx(1, rel=1e-5)
    assert (blurred[0] * (y - 20) ** 2).sum() == pytest.approx(4, rel=0.03)
    assert (blurred[0] * (x - 15) ** 2).sum() == pytest.approx(4, rel=0.03)
    assert (blurred[0] * (x - 15)).sum() == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(blurred[1], 0.3, rtol=1e-6)  # up to the very edge


def test_paint_blurs_before_it_adds_noise() -> None:
    owner = np.zeros((64, 64), dtype=np.int64)
    image = paint(owner, 1, channels=1, texture=0, blur=3, noise=0.05, generator=generator_for(13))
    assert (image / 255).std() == pytest.approx(0.05, rel=0.1)


# --- configuration and errors ---------------------------------------------------------------------


@pytest.mark.parametrize(("split", "number"), [("train", 7), ("valid", 3), ("test", 5)])
def test_from_config_takes_every_setting(split: str, number: int) -> None:
    settings = {
        "image_size": (24, 40),
        "shapes": ("ring", "line"),
        "class_weights": (1.0, 2.0),
        "count": (2, 3),
        "size": (0.2, 0.25),
        **ROUGH,
    }
    toy = ToyConfig(num_train=7, num_valid=3, num_test=5, **settings)  # type: ignore[arg-type]
    dataset = ToyShapes.from_config(toy, split=split, seed=4, channels=1)
    same = ToyShapes(num_samples=number, seed=4, split=split, channels=1, **settings)  # type: ignore[arg-type]
    assert len(dataset) == number
    assert dataset.classes == ("background", "ring", "line")
    for one, other in zip(dataset, same, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_samples": 0}, "ToyShapes: num_samples=0 must be at least 1."),
        ({"seed": -1}, "ToyShapes: seed=-1 must be at least 0."),
        ({"channels": 2}, "ToyShapes: channels=2 must be 3 (colour) or 1 (grey)."),
        (
            {"split": "val"},
            "ToyShapes: unknown split 'val'. Did you mean valid? Known: train, valid, test.",
        ),
        (
            {"shapes": ("circel",)},
            "ToyShapes: unknown shape 'circel'. Did you mean circle? "
            "Known: circle, rectangle, triangle, ring, line.",
        ),
        ({"noise": -0.1}, "data.toy.noise=-0.1 must not be negative."),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_settings_are_explained(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(SegError) as caught:
        ToyShapes(**{"num_samples": 1, **arguments})  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_from_config_knows_three_splits() -> None:
    with pytest.raises(SegError, match=r"unknown split 'tests'\. Did you mean test\?"):
        ToyShapes.from_config(ToyConfig(), split="tests", seed=0)


def test_data_names_are_loaded_when_used() -> None:
    code = "import sys, unet_seg.data; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
    assert (unet_seg.data.ToyShapes, unet_seg.data.IGNORE) == (ToyShapes, IGNORE)
    assert unet_seg.data.FolderDataset is FolderDataset
    with pytest.raises(AttributeError, match=r"'unet_seg\.data' has no attribute 'Shapes'"):
        _ = unet_seg.data.Shapes  # type: ignore[attr-defined]


# --- export ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_exported_files_are_read_back_bit_for_bit(tmp_path: Path, channels: int) -> None:
    folder = tmp_path / "toy"
    splits = {
        split: ToyShapes(num_samples=number, split=split, channels=channels, image_size=(16, 24))
        for split, number in (("train", 3), ("valid", 2), ("test", 2))
    }
    for _ in range(2):  # exporting again changes nothing
        for dataset in splits.values():
            export(dataset, folder)

    read = build_datasets(load_config(folder / "data.yaml"))
    for split, dataset in splits.items():
        files = read[split]
        assert isinstance(files, FolderDataset)
        assert files.classes == dataset.classes
        assert len(files) == len(dataset)
        for index in range(len(dataset)):
            assert torch.equal(files[index].image, dataset[index].image)
            assert torch.equal(files[index].mask, dataset[index].mask)


def test_manifest_lists_the_latest_export_of_each_split(tmp_path: Path) -> None:
    for number, split in ((3, "train"), (1, "test"), (2, "train")):
        export(ToyShapes(num_samples=number, split=split, image_size=(8, 8)), tmp_path)
    assert (tmp_path / "manifest.csv").read_text().splitlines() == [
        "image,mask,split",
        "images/test_00000.png,masks/test_00000.png,test",
        "images/train_00000.png,masks/train_00000.png,train",
        "images/train_00001.png,masks/train_00001.png,train",
    ]


def test_export_refuses_the_manifest_of_something_else(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("file,label\na.png,1\n")
    with pytest.raises(SegError) as caught:
        export(ToyShapes(num_samples=1), tmp_path)
    assert str(caught.value) == (
        f"{manifest}: has the columns file, label, expected image, mask, split of an earlier "
        "export; choose another folder."
    )
    assert manifest.read_text() == "file,label\na.png,1\n"


def test_export_says_that_the_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(SegError) as caught:
        export(ToyShapes(num_samples=1), tmp_path / "taken")
    path = tmp_path / "taken" / "images"
    assert str(caught.value) == (
        f"{path}: cannot be made (Not a directory); choose another folder."
    )
