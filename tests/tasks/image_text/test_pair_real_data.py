"""The real pairs of the catalogue: read whole, dealt by their columns, no image in two splits."""

import pytest
from made_pairs import loaded

pytestmark = pytest.mark.data


def test_medical_figures_are_dealt_as_their_sections_were():
    splits = loaded(
        "catalogue:openstax_figures",
        image_column="file",
        text_columns=("alt", "caption"),
        label_column="topic",
        where={"domain": "medical"},
        split={"method": "column", "column": "split"},
        image_size=32,
    )
    assert splits.report.quarantined == []
    assert splits.report.warnings == []
    assert splits.report.summary["classes"] == {"anatomy": 552, "nursing": 278}
    assert splits.train.texts[0][0].endswith(".")
    assert {len(texts) for texts in splits.train.texts} <= {1, 2}
    assert len(splits.train) + len(splits.valid) + len(splits.test) == 830


def test_photos_with_five_captions_are_dealt_by_photo():
    splits = loaded("catalogue:coco_captions_mini", image_column="file", text_columns=("caption",))
    assert splits.report.summary["images"] == 65
    assert splits.report.summary["captions"] == 325
    parts = [set(split.images) for split in (splits.train, splits.valid, splits.test)]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 65


def test_board_patches_become_prompted_classes():
    splits = loaded(
        "catalogue:deeppcb_patches",
        label_column="label",
        text_columns=(),
        where={"board": "20085"},
        split={"method": "stratified"},
    )
    assert splits.train.is_prompted
    assert "pin-hole" in splits.train.classes
    assert splits.train.texts[0][0].startswith("a photo of a ")
