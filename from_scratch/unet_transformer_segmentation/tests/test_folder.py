"""Folders of images and masks: pairing, class maps, splits, and one message for all bad files."""

import pickle
import re

import numpy as np
import pytest
import torch
from PIL import Image

from unet_seg.config import Config, DataConfig, FolderConfig, ToyConfig
from unet_seg.data.build import build_datasets
from unet_seg.data.folder import FolderDataset, open_splits, scan, split_pairs
from unet_seg.data.pairs import Pair, find_pairs
from unet_seg.errors import SegError
from unet_seg.image_files import palette, write_mask, write_png

CLASSES = {"background": 0, "thing": 1}
IMAGE = np.full((4, 6, 3), 80, dtype=np.uint8)
MASK = np.array([[0, 0, 0, 1, 1, 1]] * 4, dtype=np.uint8)


def refused(text):
    return pytest.raises(SegError, match=re.escape(text))


@pytest.fixture
def root(tmp_path):
    """Ten good pairs i0 ... i9 in images/ and masks/."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for i in range(10):
        write_png(tmp_path / f"images/i{i}.png", IMAGE + i)
        write_png(tmp_path / f"masks/i{i}.png", MASK)
    return tmp_path


def folder_config(root, **settings):
    return FolderConfig(root=str(root), **{"class_map": CLASSES, **settings})


def one_mask(root, mask, class_map, *, ignore=None, name="masks/i0.png"):
    """The class ids that a mask (an array, or a file already written) is read as."""
    if mask is not None:
        write_png(root / name, mask)
    folder = folder_config(root, class_map=class_map, ignore=ignore)
    pair = Pair("i0", root / "images/i0.png", root / name, None)
    return FolderDataset([pair], folder, channels=3)[0].mask.numpy()


def problems(root, **settings):
    """The lines of the one error that opening a bad folder raises."""
    with pytest.raises(SegError) as caught:
        open_splits(folder_config(root, **settings), channels=3)
    return str(caught.value).splitlines()


# What a sample is


def test_samples(root):
    dataset = FolderDataset(find_pairs(folder_config(root))[0], folder_config(root), channels=1)

    assert len(dataset) == 10
    assert dataset.classes == ("background", "thing")
    image, mask, name = dataset[3]
    assert (tuple(image.shape), str(image.dtype), int(image[0, 0, 0])) == (
        (1, 4, 6),
        "torch.uint8",
        83,
    )
    assert np.array_equal(mask.numpy(), MASK)
    assert (name, mask.dtype) == ("i3", torch.uint8)
    assert dataset[-1].name == "i9"
    with pytest.raises(IndexError):
        dataset[10]


@pytest.mark.parametrize("cache", [True, False])
def test_cache_keeps_decoded_samples(root, cache):
    dataset = open_splits(folder_config(root, cache=cache), channels=3)["train"]
    assert (dataset[0] is dataset[0]) == cache

    for path in root.glob("images/*.png"):
        path.unlink()
    if cache:  # the scan has read everything already
        assert len(list(dataset)) == len(dataset)
    else:
        with refused("no such file"):
            dataset[0]


def test_a_worker_gets_the_dataset_without_the_cache(root):
    dataset = open_splits(folder_config(root), channels=3)["train"]
    sent = pickle.loads(pickle.dumps(dataset))

    assert sent.pairs == dataset.pairs
    assert np.array_equal(sent[1].image, dataset[1].image)
    dataset.pairs[0].image.unlink()
    assert dataset[0].name == sent.pairs[0].name  # from memory
    with refused("no such file"):
        sent[0]


# Class maps


def test_numbers_lists_ranges_and_ignore(root):
    mask = np.array([[0, 3, 4, 9, 20, 255]] * 4, dtype=np.uint8)
    ids = one_mask(root, mask, {"background": 0, "a": [3, 4], "b": "9-20", "c": "7"}, ignore=255)
    assert ids[0].tolist() == [0, 1, 1, 2, 2, 255]


def test_nuclei_style_instances(root):
    mask = np.array([[0, 1, 2, 77, 254, 255]] * 4, dtype=np.uint8)
    assert one_mask(root, mask, {"background": 0, "nucleus": "1-255"})[0].tolist() == [0, *[1] * 5]


def test_order_of_the_names_is_the_order_of_the_classes(root):
    assert one_mask(root, MASK, {"thing": 1, "background": 0})[0].tolist() == [1, 1, 1, 0, 0, 0]


def test_colours(root):
    mask = np.zeros((4, 6, 3), dtype=np.uint8)
    mask[:, 2:4] = (255, 0, 16)
    mask[:, 4:] = (1, 2, 3)
    ids = one_mask(root, mask, {"sky": "#000000", "road": "#FF0010"}, ignore="#010203")
    assert ids[0].tolist() == [0, 0, 1, 1, 255, 255]


def test_palette_masks_by_index_and_by_colour(root):
    write_mask(root / "masks/i0.png", MASK, palette(2))
    assert np.array_equal(one_mask(root, None, CLASSES), MASK)
    r, g, b = palette(2)[1]
    by_colour = {"background": "#000000", "thing": f"#{r:02x}{g:02x}{b:02x}"}
    assert np.array_equal(one_mask(root, None, by_colour), MASK)


def test_16_bit_masks(root):
    Image.fromarray(MASK.astype(np.uint16) * 40_000).save(root / "masks/i0.png")
    assert np.array_equal(one_mask(root, None, {"background": 0, "thing": 40_000}), MASK)


@pytest.mark.parametrize(
    ("class_map", "ignore", "text"),
    [
        (
            {"background": 0, "a": "1-"},
            None,
            "data.folder.class_map.a='1-' is no mask value; write a number (7), a list ([7, 8]), a "
            'range ("1-255") or a colour ("#ff0000").',
        ),
        (
            {"a": 0, "b": "9-3"},
            None,
            "data.folder.class_map.b='9-3': expected first <= last <= 65535.",
        ),
        ({"a": 0, "b": -1}, None, "data.folder.class_map.b=-1 is no mask value"),
        (
            {"a": 0, "b": "#ff00"},
            "#000000",
            "class_map.b is a colour but data.folder.class_map.a",
        ),
        (
            {"a": "0-5", "b": 5},
            None,
            "data.folder.class_map.b=5 and data.folder.class_map.a both hold 5; a mask value has",
        ),
        (
            {"a": 0, "b": "1-255"},
            255,
            "data.folder.ignore=255 and data.folder.class_map.b both",
        ),
        (
            {"a": "#000000", "b": 1},
            None,
            "class_map.a is a colour but data.folder.class_map.b is a number; a mask is read",
        ),
        ({"a": "#000000", "b": "#ff00"}, None, "data.folder.class_map.b='#ff00' is no mask value"),
        (
            {f"c{i}": i for i in range(256)},
            None,
            "data.folder.class_map has 256 classes; at most 255, for the id 255 marks ignored",
        ),
    ],
)
def test_class_maps_that_make_no_sense(root, class_map, ignore, text):
    with refused(text):
        one_mask(root, MASK, class_map, ignore=ignore)


# Pairing


def test_pairs_by_name_with_other_suffixes_and_subfolders(root):
    (root / "images/deep").mkdir()
    (root / "masks/deep").mkdir()
    Image.fromarray(IMAGE).save(root / "images/deep/i0.JPG")
    np.save(root / "masks/deep/i0.npy", MASK)
    (root / "images/notes.txt").write_text("not an image")
    (root / "images/.hidden.png").write_text("not an image")

    pairs, found = find_pairs(folder_config(root))

    assert not found
    assert [pair.name for pair in pairs] == ["deep/i0", *(f"i{i}" for i in range(10))]
    assert pairs[0].mask.name == "i0.npy"


def write_manifest(root, *rows, head="image,mask,split"):
    (root / "list.csv").write_text("\n".join([head, *rows]) + "\n", encoding="utf-8-sig")
    return {"manifest": "list.csv"}


def test_manifest_with_splits(root):
    rows = [
        f"images/i{i}.png, masks/i{9 - i}.png ,{split}"
        for i, split in enumerate(["train"] * 6 + ["valid"] * 2 + ["test"] * 2)
    ]
    splits = open_splits(folder_config(root, **write_manifest(root, *rows)), channels=3)

    assert [len(splits[split]) for split in ("train", "valid", "test")] == [6, 2, 2]
    assert [s.name for s in splits["test"]] == ["i8", "i9"]
    assert splits["test"].pairs[0].mask.name == "i1.png"


def test_manifest_may_leave_out_valid_and_other_columns_are_passed_over(root):
    rows = [f"images/i{i}.png,x,{'test' if i > 7 else 'train'},masks/i{i}.png" for i in range(10)]
    manifest = write_manifest(root, *rows, head="image,source,split,mask")
    splits = open_splits(folder_config(root, **manifest, valid_fraction=0.25), channels=3)
    assert [len(splits[split]) for split in ("train", "valid", "test")] == [6, 2, 2]


def test_manifest_without_splits(root):
    rows = [f"images/i{i}.png,masks/i{i}.png" for i in range(10)]
    manifest = write_manifest(root, *rows, head="image,mask")
    splits = open_splits(folder_config(root, **manifest), channels=3)
    assert [len(splits[split]) for split in ("train", "valid", "test")] == [7, 1, 2]


@pytest.mark.parametrize(
    ("head", "rows", "text"),
    [
        ("image,split", ["a,b"], "list.csv: has no column mask; its first line is 'image,split', "),
        ("image,mask", [], "list.csv: lists no images, so there is no data."),
        (
            "image,mask,split",
            ["images/i0.png,masks/i0.png,train"],
            "list.csv: no row has split test. Mark some rows test, or remove the column",
        ),
        (
            "image,mask,split",
            ["images/i0.png,masks/i0.png,test"],
            "list.csv: no row has split train. Mark some rows train, or remove the column",
        ),
        ("image,mask,split", ["images/i0.png,masks/i0.png,val"], "Did you mean valid?"),
        (
            "image,mask",
            ["images/x.png,masks/i0.png"],
            "x.png; paths start from data.folder.root",
        ),
        ("image,mask", ["images/i0.png,masks/x.png"], "i0.png has no mask"),
    ],
)
def test_manifests_that_make_no_sense(root, head, rows, text):
    with refused(text):
        open_splits(folder_config(root, **write_manifest(root, *rows, head=head)), channels=3)


def test_manifest_that_lists_an_image_twice(root):
    manifest = write_manifest(
        root, "images/i0.png,masks/i0.png,train", "images/i0.png,masks/i0.png,test"
    )
    lines = problems(root, **manifest)
    assert lines[1] == (
        f"  {root}/list.csv:3: {root}/images/i0.png is listed twice, first in line 2"
    )


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_manifest_that_cannot_be_read(root, content):
    if content is not None:
        (root / "list.csv").write_bytes(content)
    text = "cannot be read as CSV" if content else "no such file; data.folder.manifest names it."
    with refused(f"list.csv: {text}"):
        open_splits(folder_config(root, manifest="list.csv"), channels=3)


# Splits


def test_random_splits_are_disjoint_complete_and_seeded(root):
    def draw(**settings):
        splits = open_splits(folder_config(root, **settings), channels=3)
        return {split: [pair.name for pair in splits[split].pairs] for split in splits}

    first = draw(valid_fraction=0.25, test_fraction=0.2)

    assert list(first) == ["train", "valid", "test"]
    assert [len(first[split]) for split in first] == [6, 2, 2]
    assert sorted(name for names in first.values() for name in names) == [
        f"i{i}" for i in range(10)
    ]
    assert draw(valid_fraction=0.25, test_fraction=0.2) == first
    others = [draw(split_seed=seed)["test"] for seed in range(1, 5)]
    assert any(other != first["test"] for other in others)


def test_most_images_stay_in_their_split_when_others_are_added(root):
    def test_names(count):
        pairs = [Pair(f"n{i}", root / f"n{i}.png", root / "m.png", None) for i in range(count)]
        return {pair.name for pair in split_pairs(pairs, folder_config(root))["test"]}

    assert len(test_names(100)) == 15
    assert len(test_names(100) & test_names(104)) >= 13


def test_three_images_are_the_fewest(root):
    pairs = find_pairs(folder_config(root))[0]
    splits = split_pairs(pairs[:3], folder_config(root))
    assert [len(splits[split]) for split in splits] == [1, 1, 1]
    for few in (1, 2):
        with refused(f"{root}: {few} images are too few; train, valid and test need at least one"):
            split_pairs(pairs[:few], folder_config(root))


# Everything that is wrong, at once


def test_all_bad_files_are_listed_at_once(root):
    (root / "masks/i1.png").rename(root / "masks/i1_mask.png")
    write_png(root / "masks/i2.png", MASK[:, :5])
    data = (root / "images/i3.png").read_bytes()
    (root / "images/i3.png").write_bytes(data[: len(data) - 25])
    (root / "images/i4.png").write_bytes(b"")
    write_png(root / "masks/i5.png", MASK * 7)
    (root / "images/i6.png").unlink()
    np.save(root / "images/i6.npy", np.full((4, 6), np.nan))
    write_png(root / "images/i7.bmp", IMAGE)

    lines = problems(root)

    images, masks = root / "images", root / "masks"
    assert lines[0] == f"{root}: 7 problems in the images and masks:"
    expected = [
        f"{images}/i7.bmp and {images}/i7.png: the same name twice; rename or remove all but one",
        f"{images}/i1.png: has no mask {masks}/i1.png; is it i1_mask.png? The names must be equal",
        f"{masks}/i2.png: is 4x5 (height x width), but {images}/i2.png is 4x6; they must be equal.",
        f"{images}/i3.png: is broken or truncated (",
        f"{images}/i4.png: is not an image that can be read. Convert it to PNG, or remove it.",
        f"{masks}/i5.png: mask values outside the class map: 7 (12 pixels).",
        f"{images}/i6.npy: 24 of 24 values are NaN or infinite; expected numbers in [0, 1].",
    ]
    assert len(lines) == 9
    for line, text in zip(lines[1:-1], expected, strict=True):
        assert line.startswith(f"  {text}")
    assert lines[-1] == "Mend or remove these files, then start again."


def test_more_than_50_bad_files_are_counted(root):
    for i in range(53):
        write_png(root / f"images/bad{i:02}.png", IMAGE)
    lines = problems(root)
    assert lines[0] == f"{root}: 53 problems in the images and masks:"
    assert len(lines) == 53
    assert lines[-2] == "  and 3 more"


def test_no_image_has_a_mask(root):
    for path in root.glob("masks/*.png"):
        path.rename(path.with_name(f"mask_of_{path.stem[1:]}.png"))
    lines = problems(root)
    assert lines[0] == f"{root}: 10 problems in the images and masks:"


def test_a_jpeg_mask_gets_a_hint(root):
    noisy = np.random.default_rng(0).integers(0, 2, (4, 6), dtype=np.uint8) * 255
    (root / "masks/i0.png").unlink()
    Image.fromarray(noisy).save(root / "masks/i0.jpg", quality=30)
    with refused("JPEG and WebP change values; save masks as PNG."):
        open_splits(folder_config(root, class_map={"a": 0, "b": [1, 255]}), channels=3)


def test_many_unknown_values_are_summarised(root):
    write_png(root / "masks/i0.png", np.array([[9, 9, 8, 7, 6, 5]] * 4))
    (line,) = problems(root)[1:-1]
    assert line.endswith("9 (8 pixels), 5 (4 pixels), 6 (4 pixels), 7 (4 pixels) and 1 more.")


def test_unknown_colours_are_shown_as_colours(root):
    with refused("mask values outside the class map: #505050 (24 pixels)."):
        one_mask(root, IMAGE, {"a": "#000000", "b": "#ffffff"})


def test_scan_says_nothing_about_good_files(root):
    folder = folder_config(root)
    scan(FolderDataset(find_pairs(folder)[0], folder, channels=3), folder)


@pytest.mark.parametrize("empty", ["images", "masks"])
def test_empty_and_missing_folders(root, empty):
    for path in (root / empty).glob("*"):
        path.unlink()
    with refused(f"{root / empty}: holds no images (.png, .jpg"):
        open_splits(folder_config(root), channels=3)
    (root / empty).rmdir()
    with refused(f"{root / empty}: no such folder. data.folder.{empty} names it, relative to"):
        open_splits(folder_config(root), channels=3)


def test_root_that_is_not_there(root):
    with refused(f"data.folder.root={root}/absent: no such folder (seen from "):
        open_splits(folder_config(root / "absent"), channels=3)


def test_a_dataset_of_no_pairs(root):
    with refused(f"{root}: no image with a mask, so the dataset is empty."):
        FolderDataset([], folder_config(root), channels=3)


# From a configuration


def test_build_datasets_of_a_folder(root):
    data = DataConfig(kind="folder", folder=folder_config(root), channels=1)
    datasets = build_datasets(Config(data=data))
    assert list(datasets) == ["train", "valid", "test"]
    assert datasets["train"][0].image.shape == (1, 4, 6)


@pytest.mark.parametrize("channels", [1, 3])
def test_build_datasets_of_toy_shapes(channels):
    toy = ToyConfig(image_size=(16, 24), num_train=5, num_valid=3, num_test=2)
    datasets = build_datasets(Config(data=DataConfig(toy=toy, channels=channels)))
    assert [len(datasets[split]) for split in ("train", "valid", "test")] == [5, 3, 2]
    assert datasets["valid"][0].image.shape == (channels, 16, 24)
