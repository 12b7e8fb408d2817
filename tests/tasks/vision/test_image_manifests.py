"""Manifests, CSV files of image paths and labels: rows, columns, and the splits they name."""

import pytest
from pets import data_of, refusal

from maquette.errors import DataError
from maquette.tasks.vision.data import check_images, load_images


def write_manifest(folder, rows, header="image,label", name="index.csv"):
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.fixture
def rows(folder):
    """Manifest rows for the images of `folder`; animals are the labels."""
    return [f"{label}/{i}.png,{label[:-1]}" for label in ("cats", "dogs") for i in range(5)]


def test_a_manifest_is_read(folder, rows):
    splits = load_images(data_of(write_manifest(folder, rows)), seed=0)
    assert splits.report.num_samples == 10
    assert splits.report.summary["classes"] == {"cat": 5, "dog": 5}
    assert set(splits.train.ids) < {row.split(",")[0] for row in rows}
    for name, path in zip(splits.train.ids, splits.train.paths, strict=True):
        assert path == folder / name


def test_other_column_names(folder, rows):
    path = write_manifest(folder, rows, header="file,animal")
    data = data_of(path, image_column="file", label_column="animal")
    assert check_images(data).num_samples == 10


def test_a_column_that_is_not_there(folder, rows):
    path = write_manifest(folder, rows, header="images,label")
    assert refusal(path) == (
        f"{path} has no column 'image' (data.image.image_column). Did you mean 'images'? "
        "Its columns: images, label."
    )
    assert "has no column 'set' (data.image.split.column)." in refusal(
        write_manifest(folder, rows), split={"method": "column", "column": "set"}
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",cat", "index.csv row 12 has no value in the column 'image'"),
        ("cats/0.png,", "index.csv row 12 has no value in the column 'label'"),
        ("cats/9.png,cat", "index.csv row 12 names cats/9.png, but there is no such file in "),
        ("cats,cat", "index.csv row 12 names cats, which is a folder"),
        ("cats/0.png,cat", "index.csv row 12 names cats/0.png, which row 2 already has"),
        ("cats/0.png,cat,3", "index.csv row 12: 3 cells, expected 2: 'cats/0.png,cat,3'"),
    ],
)
def test_a_bad_row(folder, rows, row, reason):
    path = write_manifest(folder, [*rows, row])
    text = refusal(path)
    assert f"\n  {reason}" in text
    assert "1 of 11 images cannot be used" in text
    assert check_images(data_of(path, tolerance=0.1)).num_samples == 10


def test_a_manifest_that_is_no_table(folder):
    assert "header" in refusal(write_manifest(folder, []))
    (folder / "empty.csv").write_bytes(b"")
    assert "empty" in refusal(folder / "empty.csv")


# Splits


def test_a_given_split_is_kept(folder, rows):
    marks = ["train", "train", "train", "validation", "test"] * 2
    path = write_manifest(
        folder,
        [f"{row},{mark}" for row, mark in zip(rows, marks, strict=True)],
        header="image,label,set",
    )
    data = data_of(path, split={"method": "column", "column": "set"})
    assert load_images(data, seed=0).assignment == {
        "train": tuple(f"{label}/{i}.png" for label in ("cats", "dogs") for i in range(3)),
        "valid": ("cats/3.png", "dogs/3.png"),
        "test": ("cats/4.png", "dogs/4.png"),
    }


def test_groups_stay_together(folder, rows):
    lines = [f"{row},g{index % 5}" for index, row in enumerate(rows)]
    path = write_manifest(folder, lines, header="image,label,person")
    data = data_of(path, split={"method": "grouped", "column": "person"})
    splits = load_images(data, seed=0)
    people = [{int(name[5]) for name in ids} for ids in splits.assignment.values()]
    assert sum(map(len, people)) == len(set().union(*people)) == 5


def test_time_gives_the_latest_to_test(folder, rows):
    lines = [f"{row},2024-05-{1 + index % 5:02}" for index, row in enumerate(rows)]
    path = write_manifest(folder, lines, header="image,label,taken")
    data = data_of(path, split={"method": "time", "column": "taken"})
    assert load_images(data, seed=0).assignment["test"] == ("cats/4.png", "dogs/4.png")
    numbered = [f"{row},{index % 5}" for index, row in enumerate(rows)]
    write_manifest(folder, numbered, header="image,label,taken")
    assert load_images(data, seed=0).assignment["test"] == ("cats/4.png", "dogs/4.png")


def test_times_that_cannot_be_read(folder, rows):
    lines = [f"{row},2024-05-{1 + index:02}" for index, row in enumerate(rows)]
    lines[3] = f"{rows[3]},yesterday"
    path = write_manifest(folder, lines, header="image,label,taken")
    with pytest.raises(DataError) as caught:
        load_images(data_of(path, split={"method": "time", "column": "taken"}), seed=0)
    assert str(caught.value) == (
        "The time column 'taken' holds what is neither a number nor a date like 2024-05-31: "
        "'yesterday' of cats/3.png."
    )


def test_a_class_that_training_never_sees(folder, rows):
    marks = ["train"] * 4 + ["valid"] + ["test"] * 5
    lines = [f"{row},{mark}" for row, mark in zip(rows, marks, strict=True)]
    path = write_manifest(folder, lines, header="image,label,set")
    with pytest.raises(DataError) as caught:
        load_images(data_of(path, split={"method": "column", "column": "set"}), seed=0)
    assert str(caught.value) == (
        "The test split has images of dog, but the train split has none; give train some of each "
        "class, or leave the class out."
    )
