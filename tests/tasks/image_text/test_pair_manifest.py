"""Reading manifests and class folders: every form, every kind of bad row, by its message."""

import json
import subprocess
import sys

import pytest
from made_pairs import (
    PROMPTS,
    caption,
    data_of,
    loaded,
    made_rows,
    picture,
    png,
    refusal,
    write_manifest,
)

from maquette.errors import DataError
from maquette.tasks.image_text.data import check_pairs, load_labelled_pairs
from maquette.tasks.image_text.manifest import cell_of

# Forms


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.tsv", "pairs.jsonl", "pairs.parquet"])
def test_every_form_of_manifest_says_the_same(tmp_path, name):
    splits = loaded(write_manifest(tmp_path, made_rows(), name))
    found = {}
    for split in (splits.train, splits.valid, splits.test):
        found |= dict(zip(split.ids, split.texts, strict=True))
    assert found == {f"{number}.png": (caption(number),) for number in range(10)}
    assert [len(ids) for ids in splits.assignment.values()] == [7, 2, 1]
    first = {"pairs.csv": 2, "pairs.tsv": 2, "pairs.jsonl": 1, "pairs.parquet": 1}[name]
    places = sorted(
        place for split in (splits.train, splits.valid, splits.test) for place in split.places
    )
    assert places == sorted(f"{name}:{first + number}" for number in range(10))


def test_checking_does_not_import_torch():
    code = "import sys, maquette.tasks.image_text.data; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


def test_the_report_counts_what_was_found(tmp_path):
    rows = made_rows(10, topic=lambda number: ("cats", "dogs")[number % 2])
    rows[3]["text"] = rows[1]["text"]
    report = check_pairs(data_of(write_manifest(tmp_path, rows), label_column="topic"))
    assert report.num_samples == 10
    assert report.quarantined == []
    assert report.warnings == []
    assert len(report.summary.pop("sha256")) == 64
    assert report.summary == {
        "images": 10,
        "captions": 10,
        "distinct_captions": 9,
        "repeated_captions": 1,
        "words": {"smallest": 5, "median": 5, "largest": 5},
        "formats": {"PNG": 10},
        "height": {"smallest": 10, "largest": 10},
        "width": {"smallest": 12, "largest": 12},
        "cache": "not kept",
        "classes": {"cats": 5, "dogs": 5},
        "splits": {"train": 7, "valid": 2, "test": 1},
    }


def test_several_captions_of_an_image_are_several_samples_with_ids_of_their_own(tmp_path):
    rows = [{"image": f"{n // 3}.png", "text": caption(n)} for n in range(12)]
    splits = loaded(write_manifest(tmp_path, rows))
    ids = sorted(id for ids in splits.assignment.values() for id in ids)
    assert ids[:3] == ["0.png", "0.png#2", "0.png#3"]
    assert splits.report.summary["images"] == 4
    assert all(len(ids) % 3 == 0 for ids in splits.assignment.values())


def test_several_text_columns_and_json_lists_are_several_captions_of_a_sample(tmp_path):
    rows = made_rows(5, more=lambda n: "" if n == 2 else f"another {n}")
    samples = load_all(write_manifest(tmp_path / "csv", rows), text_columns=("more", "text"))
    assert samples.texts[0] == ("another 0", caption(0))
    assert samples.texts[2] == (caption(2),)
    listed = [{"image": f"{n}.png", "text": ["one", " two ", "", "one"]} for n in range(5)]
    samples = load_all(write_manifest(tmp_path / "json", listed, "pairs.jsonl"))
    assert samples.texts[0] == ("one", "two")


def load_all(path, **options):
    return load_labelled_pairs(data_of(path, **options), prompts=PROMPTS)


def test_where_keeps_the_rows_with_these_values(tmp_path):
    path = write_manifest(tmp_path, made_rows(10, domain=lambda n: "medical" if n < 6 else "other"))
    samples = load_all(path, where={"domain": "medical"})
    assert samples.ids == tuple(f"{n}.png" for n in range(6))
    assert refusal(path, where={"domain": "medcal"}) == (
        f"{path}: none of 10 rows has data.image_text.where {{domain: medcal}}; "
        "domain is medical, other."
    )


def test_json_values_are_spelt_as_text():
    assert [cell_of(value) for value in (3, True, None, "", " a ", ["b", " "], [1], {})] == [
        "3", "true", None, None, "a", ("b",), "[1]", "{}",
    ]  # fmt: skip


def test_labels_without_text_columns_become_prompts(tmp_path):
    rows = made_rows(10, label=lambda n: ("pin-hole", "good")[n % 2])
    samples = load_all(write_manifest(tmp_path, rows), text_columns=(), label_column="label")
    assert samples.is_prompted
    assert samples.texts[0] == ("a photo of a pin-hole", "a pin-hole.")
    assert samples.classes == ("good", "pin-hole")
    assert samples.text_groups.tolist() == [1, 0] * 5
    assert samples.labels.tolist() == ["pin-hole", "good"] * 5


def test_labels_beside_captions_leave_the_captions(tmp_path):
    rows = made_rows(4, label=lambda n: "ab"[n % 2])
    samples = load_all(write_manifest(tmp_path, rows), label_column="label")
    assert not samples.is_prompted
    assert samples.texts[1] == (caption(1),)
    assert samples.classes == ("a", "b")
    assert samples.text_groups.tolist() == [0, 1, 2, 3]


# Bad manifests


def test_a_missing_column_names_the_nearest(tmp_path):
    path = write_manifest(tmp_path, made_rows())
    columns = "Its columns: image, text."
    assert refusal(path, image_column="imag") == (
        f"{path} has no column 'imag' (data.image_text.image_column). Did you mean 'image'? "
        f"{columns}"
    )
    assert refusal(path, text_columns=("texts",)) == (
        f"{path} has no column 'texts' (data.image_text.text_columns). Did you mean 'text'? "
        f"{columns}"
    )
    assert refusal(path, label_column="topic") == (
        f"{path} has no column 'topic' (data.image_text.label_column). {columns}"
    )
    assert refusal(path, where={"domain": "x"}) == (
        f"{path} has no column 'domain' (data.image_text.where). {columns}"
    )
    assert refusal(path, split={"method": "column", "column": "fold"}) == (
        f"{path} has no column 'fold' (data.image_text.split.column). {columns}"
    )


def test_a_missing_manifest_names_the_nearest(tmp_path):
    write_manifest(tmp_path, made_rows())
    assert refusal(tmp_path / "pair.csv") == (
        f"There is no manifest, folder or shard {tmp_path}/pair.csv. Did you mean 'pairs.csv'? "
        "data.image_text.path takes a CSV, Parquet or JSONL file, a folder with one folder per "
        'class, or tar shards ("shards/*.tar").'
    )
    assert "There is no manifest, folder or shard" in refusal(tmp_path / "no" / "pair.csv")


def test_bad_rows_are_listed_with_their_places(tmp_path):
    rows = made_rows(10, fold=lambda n: "train")
    path = write_manifest(tmp_path, rows)
    lines = path.read_text().splitlines()
    lines[2] = f"1.png,{caption(1)},"
    lines[3] = "2.png,  ,train"
    lines[4] = f",{caption(3)},train"
    lines[5] = f"absent.png,{caption(4)},train"
    lines[6] = "5.png,a,b,c,train"
    lines[7] = f"folder,{caption(6)},train"
    path.write_text("\n".join(lines))
    (tmp_path / "folder").mkdir()
    (tmp_path / "7.png").write_bytes(png(7)[:70])
    (tmp_path / "8.png").write_bytes(b"no image")
    text = refusal(path, split={"method": "column", "column": "fold"}, tolerance=0.5)
    assert text.splitlines() == [
        f"{path} cannot be used as it is:",
        "  pairs.csv:7 has 5 cells, expected 3: '5.png,a,b,c,train'",
        "  pairs.csv:3 has no value in the column 'fold'",
        "  pairs.csv:4 has no text in 'text'",
        "  pairs.csv:5 has no value in the column 'image'",
        f"  pairs.csv:6 names absent.png, but there is no such file in {tmp_path}",
        "  pairs.csv:8 names folder, which is a folder",
        text.splitlines()[7],
        "  pairs.csv:10 8.png is not an image Maquette reads: it begins with b'no image', which is "
        "none of JPEG, PNG, WebP, BMP, TIFF, GIF",
        "8 of 10 pairs cannot be used (80.00%, data.image_text.tolerance is 50.00%). Repair or "
        "remove them, or set them aside with data.image_text.tolerance=0.8.",
    ]
    assert text.splitlines()[7].startswith("  pairs.csv:9 7.png is a truncated or corrupt PNG (")


def test_bad_rows_within_the_tolerance_are_set_aside(tmp_path):
    rows = made_rows(10)
    rows[4]["text"] = ""
    path = write_manifest(tmp_path, rows)
    splits = loaded(path, tolerance=0.1)
    assert splits.report.num_samples == 9
    assert splits.report.quarantined == [
        {"place": "pairs.csv:6", "reason": "has no text in 'text'"}
    ]
    assert refusal(path, tolerance=0.09).endswith("data.image_text.tolerance=0.1.")


def test_a_damaged_image_takes_all_its_rows_along(tmp_path):
    rows = [{"image": f"{n // 2}.png", "text": caption(n)} for n in range(20)]
    path = write_manifest(tmp_path, rows)
    (tmp_path / "3.png").write_bytes(b"")
    report = check_pairs(data_of(path, tolerance=0.2))
    assert report.quarantined == [
        {"place": "pairs.csv:8", "reason": "3.png is empty (0 bytes)"},
        {"place": "pairs.csv:9", "reason": "3.png is empty (0 bytes)"},
    ]


def test_many_bad_rows_are_counted(tmp_path):
    rows = made_rows(1200)
    path = write_manifest(tmp_path, rows, images=False)
    text = refusal(path)
    assert "  … and 200 more\n1200 of 1200 pairs cannot be used" in text
    assert text.endswith("Repair or remove them.")


def test_lists_where_one_value_is_needed_are_refused(tmp_path):
    rows = [{"image": ["a.png", "b.png"], "text": "x"}, {"image": "a\0", "text": "x"}]
    path = write_manifest(tmp_path, rows, "pairs.jsonl", images=False)
    assert refusal(path).splitlines()[1:3] == [
        "  pairs.jsonl:1 has a list in the column 'image', expected one text",
        "  pairs.jsonl:2 names an image with a NUL character",
    ]


def test_broken_json_lines_are_listed(tmp_path):
    path = write_manifest(tmp_path, made_rows(4), "pairs.jsonl")
    with path.open("a") as file:
        file.write('\n{"image": "0.png", "text"\n[1, 2]\n')
    lines = refusal(path).splitlines()
    assert (
        lines[1]
        == "  pairs.jsonl:6 is no JSON: Expecting ':' delimiter: line 1 column 26 (char 25)"
    )
    assert lines[2] == ('  pairs.jsonl:7 is [1, 2], expected an object {"image": …, "text": …}')
    assert lines[3].startswith("2 of 6 pairs cannot be used")


def test_a_json_list_is_told_how_to_become_lines(tmp_path):
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(made_rows(3)))
    assert refusal(path) == (
        f"{path} is one JSON list, expected JSON lines: one object per line, "
        '{"image": "a.jpg", "text": "a cat"}. With jq: jq -c ".[]" FILE > FILE.jsonl'
    )


def test_a_json_file_without_objects_holds_nothing(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("1\n2\n")
    assert refusal(path) == (
        f"{path} has no column 'image' (data.image_text.image_column). Its columns: none."
    )


def test_copies_and_repeated_pairs_are_warned_of(tmp_path):
    rows = made_rows(10)
    path = write_manifest(tmp_path, [*rows, rows[2], rows[5] | {"image": "copy.bmp"}])
    picture(5).save(tmp_path / "copy.bmp")
    assert check_pairs(data_of(path)).warnings == [
        "1 picture found more than once: 5.png = copy.bmp",
        "2 pairs with the same picture and text as another: pairs.csv:12 = pairs.csv:4, "
        "pairs.csv:13 = pairs.csv:7",
    ]


def test_very_long_pictures_are_warned_of(tmp_path):
    path = write_manifest(tmp_path, made_rows(5))
    picture(9, size=(90, 10)).save(tmp_path / "3.png")
    assert check_pairs(data_of(path)).warnings == [
        "1 picture more than 8 times as long as wide or as wide as long: 3.png"
    ]


# Class folders


@pytest.fixture
def folder(tmp_path):
    for number in range(12):
        place = tmp_path / "parts" / ("good", "short")[number % 2] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(png(number))
    return tmp_path / "parts"


def test_class_folders_become_prompted_pairs(folder):
    samples = load_all(folder)
    assert samples.is_prompted
    assert samples.ids[:2] == ("good/0.png", "good/10.png")
    assert samples.texts[0] == ("a photo of a good", "a good.")
    assert samples.classes == ("good", "short")
    splits = loaded(folder)
    for split in (splits.train, splits.valid, splits.test):
        assert set(split.labels) == {"good", "short"}


def test_a_recipes_templates_are_used_when_checking(folder):
    words = check_pairs(data_of(folder, templates=("one two three four {}",))).summary["words"]
    assert words["largest"] == 5


def test_bad_files_of_class_folders_are_listed_once(folder):
    (folder / "good" / "0.png").write_bytes(b"")
    assert refusal(folder).splitlines()[1] == "  good/0.png is empty (0 bytes)"
    (folder / "none").mkdir()
    assert refusal(folder) == (
        f"{folder} cannot be used as it is: none/ is a class folder without images; put some in, "
        "or remove it."
    )


def test_folders_have_no_columns(folder):
    assert refusal(folder, split={"method": "grouped", "column": "patient"}) == (
        f"data.image_text.split.column names columns, but {folder} is a folder, which has none. "
        "Give data.image_text.path a manifest with them, or leave the key out."
    )
    assert refusal(folder, where={"a": "b"}).startswith("data.image_text.where names columns")


def test_a_folder_of_shards_is_told_its_pattern(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"")
    assert refusal(tmp_path) == (
        f"{tmp_path} is a folder of tar shards (a.tar, …); give data.image_text.path their names: "
        f"{tmp_path}/*.tar"
    )


def test_an_empty_folder_names_the_key(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert f"try data.image_text.path={tmp_path}/a" in refusal(tmp_path)


# Other labelled data


def test_other_data_must_have_known_classes(folder, tmp_path):
    data = data_of(folder)
    samples = load_labelled_pairs(data, prompts=PROMPTS, classes=("best", "good", "short"))
    assert samples.classes == ("best", "good", "short")
    assert samples.text_groups.tolist() == [1] * 6 + [2] * 6
    with pytest.raises(DataError) as caught:
        load_labelled_pairs(data, prompts=PROMPTS, classes=("good", "open"))
    assert str(caught.value) == (
        f"{folder} has images of short, which the model was not trained on; its classes are good, "
        "open."
    )
    path = write_manifest(tmp_path / "flat", made_rows(3))
    with pytest.raises(DataError) as caught:
        load_labelled_pairs(data_of(path), prompts=PROMPTS, classes=("good", "short"))
    assert str(caught.value) == (
        f"{path} has no classes, and this model sorts images into good, short; set "
        "data.image_text.label_column."
    )
    labelled = write_manifest(tmp_path / "two", made_rows(4, kind=lambda n: "good"))
    samples = load_labelled_pairs(
        data_of(labelled, label_column="kind"), prompts=PROMPTS, classes=("good", "short")
    )
    assert samples.text_groups.tolist() == [0, 1, 2, 3]


def test_nothing_at_all_is_refused(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"image": "a.png", "text": "x"}\n')
    assert refusal(path, where={"image": "b.png"}).startswith(f"{path}: none of 1 rows has")
