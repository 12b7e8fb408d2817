"""Dealing pairs: no image in two splits, however the recipe asks; groups; the version hash."""

import numpy as np
import pytest
from made_pairs import (
    PROMPTS,
    caption,
    data_of,
    loaded,
    made_rows,
    picture,
    refusal,
    write_manifest,
)

from maquette.tasks.image_text.captions import normal_text
from maquette.tasks.image_text.data import check_pairs, load_labelled_pairs
from maquette.tasks.image_text.splitting import joined_groups

PARTS = ("train", "valid", "test")


def five_each(count=12, **columns):
    """Rows with five captions for each image, images mixed through each other."""
    return [
        {"image": f"{n % count}.png", "text": caption(n)}
        | {name: value(n % count) for name, value in columns.items()}
        for n in range(5 * count)
    ]


def images_of(splits):
    return [set(getattr(splits, name).images.tolist()) for name in PARTS]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_all_captions_of_an_image_are_in_one_split(tmp_path, seed):
    splits = loaded(write_manifest(tmp_path, five_each()), seed=seed)
    train, valid, test = images_of(splits)
    assert len(train | valid | test) == len(train) + len(valid) + len(test)
    assert [len(part) for part in (train, valid, test)] == [8, 2, 2]
    assert [len(splits.assignment[name]) for name in PARTS] == [40, 10, 10]


def test_copies_under_other_names_are_one_image(tmp_path):
    rows = made_rows(12)
    path = write_manifest(tmp_path, rows)
    for number in range(0, 12, 2):
        picture(number).save(tmp_path / f"{number + 1}.png")
    for seed in range(4):
        splits = loaded(path, seed=seed)
        train, valid, test = images_of(splits)
        assert len(train | valid | test) == len(train) + len(valid) + len(test)
        assert splits.report.summary["images"] == 6


def test_labels_are_spread_over_the_splits(tmp_path):
    path = write_manifest(tmp_path, five_each(20, kind=lambda n: "ab"[n % 2]))
    splits = loaded(path, label_column="kind")
    for name in PARTS:
        labels, counts = np.unique(getattr(splits, name).labels, return_counts=True)
        assert labels.tolist() == ["a", "b"]
        assert counts[0] == pytest.approx(counts[1], abs=5)


def test_a_class_with_one_image_is_dealt_at_random_unless_asked_otherwise(tmp_path):
    path = write_manifest(tmp_path, made_rows(10, kind=lambda n: "rare" if n == 4 else "often"))
    loaded(path, label_column="kind")
    text = refusal(path, label_column="kind", split={"method": "stratified"})
    assert text.startswith("1 class has one sample only: 'rare' (4.png).")
    assert "split.method is stratified" in refusal(
        write_manifest(tmp_path / "x", made_rows(10)), split={"method": "stratified"}
    )


def test_a_split_column_decides_and_validation_comes_out_of_train_by_images(tmp_path):
    path = write_manifest(tmp_path, five_each(12, fold=lambda n: "test" if n < 3 else "train"))
    splits = loaded(path, split={"method": "column", "column": "fold"})
    train, valid, test = images_of(splits)
    assert test == {0, 1, 2}
    assert not train & valid
    assert len(valid) == 2
    assert len(train) == 7
    assert len(splits.valid) == 10
    assert splits.report.warnings == []


def test_a_split_column_that_tears_an_image_apart_is_obeyed_and_warned_of(tmp_path):
    rows = made_rows(12, fold=lambda n: ("train", "valid", "test")[n % 3])
    path = write_manifest(tmp_path, [*rows, rows[0] | {"fold": "test", "text": "again"}])
    split = {"method": "column", "column": "fold"}
    splits = loaded(path, split=split)
    expected = [
        "1 picture found in several splits, so the results look better than they are: "
        "0.png (train) = 0.png#2 (test)"
    ]
    assert splits.report.warnings == expected
    assert check_pairs(data_of(path, split=split)).warnings == expected
    assert [len(splits.assignment[name]) for name in PARTS] == [4, 4, 5]


def test_groups_stay_together_with_the_images_they_share(tmp_path):
    rows = made_rows(30, patient=lambda n: f"p{n // 3}")
    rows.append({"image": "0.png", "text": "shared", "patient": "p9"})
    path = write_manifest(tmp_path, rows)
    splits = loaded(path, split={"method": "grouped", "column": "patient"})
    where = {id: name for name in PARTS for id in splits.assignment[name]}
    for patient in range(10):
        assert len({where[f"{n}.png"] for n in range(3 * patient, 3 * patient + 3)}) == 1
    assert where["0.png"] == where["27.png"] == where["0.png#2"]
    assert (
        loaded(path, split={"method": "grouped", "column": "patient"}).assignment
        == splits.assignment
    )


def test_joined_groups_follow_chains():
    images = np.array([0, 1, 1, 2, 3])
    assert len(set(joined_groups(images, ["a", "a", "b", "b", "c"]))) == 2
    names = joined_groups(np.arange(3), ["x", "y", "x"])
    assert names[0] == names[2] != names[1]


def test_the_latest_images_are_tested(tmp_path):
    rows = made_rows(10, day=lambda n: f"2024-05-{n + 1:02d}")
    rows.append(rows[0] | {"text": "seen again", "day": "2024-06-01"})
    path = write_manifest(tmp_path, rows)
    split = {"method": "time", "column": "day"}
    splits = loaded(path, split=split)
    assert set(splits.assignment["test"]) == {"0.png", "0.png#2", "9.png"}
    assert splits.assignment["train"] == tuple(f"{n}.png" for n in range(1, 8))
    rows[3]["day"] = "soon"
    write_manifest(tmp_path, rows)
    assert refusal(path, split=split) == (
        "The time column 'day' holds what is neither a number nor a date like 2024-05-31: "
        "'soon' of pairs.csv:5."
    )


def test_too_few_images_cannot_be_split(tmp_path):
    rows = [{"image": f"{n % 2}.png", "text": caption(n)} for n in range(10)]
    assert refusal(write_manifest(tmp_path, rows)).startswith("2 samples cannot fill train")


# Groups and the hash


def test_equal_texts_are_one_group_whatever_case_and_spaces(tmp_path):
    rows = made_rows(6)
    rows[2]["text"] = "A  RED thing number 0"
    samples = load_labelled_pairs(data_of(write_manifest(tmp_path, rows)), prompts=PROMPTS)
    assert samples.text_groups.tolist() == [0, 1, 0, 2, 3, 4]
    assert samples.images.tolist() == [0, 1, 2, 3, 4, 5]
    assert normal_text(" A\tb\n") == "a b"


def test_taking_rows_keeps_everything_together(tmp_path):
    path = write_manifest(tmp_path, made_rows(6, kind=lambda n: "ab"[n % 2]))
    samples = load_labelled_pairs(data_of(path, label_column="kind"), prompts=PROMPTS)
    taken = samples.take(np.array([4, 1]))
    assert taken.ids == ("4.png", "1.png")
    assert taken.places == ("pairs.csv:6", "pairs.csv:3")
    assert taken.texts == ((caption(4),), (caption(1),))
    assert taken.images.tolist() == [4, 1]
    assert taken.text_groups.tolist() == [4, 1]
    assert taken.labels.tolist() == ["a", "b"]
    assert len(taken) == 2


def sha(path, **options):
    return check_pairs(data_of(path, **options)).summary["sha256"]


def test_the_version_hash_names_the_data_not_its_order_or_place(tmp_path):
    rows = made_rows(8)
    first = sha(write_manifest(tmp_path / "a", rows))
    shuffled = write_manifest(tmp_path / "b", rows)
    lines = shuffled.read_text().splitlines()
    shuffled.write_text("\n".join([lines[0], *reversed(lines[1:])]))
    assert sha(shuffled) == first
    assert loaded(shuffled).report.summary["sha256"] == first
    rows[3]["text"] += "!"
    assert sha(write_manifest(tmp_path / "c", rows)) != first
    same = write_manifest(tmp_path / "d", made_rows(8))
    picture(99).save(tmp_path / "d" / "3.png")
    assert sha(same) != first
