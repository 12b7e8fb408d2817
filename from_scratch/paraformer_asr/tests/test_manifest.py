"""Manifests: what is read, how splits are made, what is refused, and recordings as utterances."""

from __future__ import annotations

import re

import pytest
import torch
from make_recordings import RATE, config_for, write_csv, write_digits, write_tone

from paraformer_asr.config import AugmentConfig, ManifestConfig
from paraformer_asr.data.manifest import (
    SHOWN,
    ManifestSpeech,
    listed,
    read_manifest,
    scan_manifest,
)
from paraformer_asr.data.recordings import Recordings, Store, samples_at_speed
from paraformer_asr.errors import AsrError
from paraformer_asr.features import fbank

HEADER = ["path", "text", "speaker", "split"]


def manifest_of(folder, rows, header=HEADER, **settings):
    """A manifest whose recordings exist."""
    for row in rows:
        if row and row[0]:
            write_tone(folder / row[0])
    file = write_csv(folder / "m.csv", [header, *rows])
    return ManifestConfig(path=str(file), **settings)


THREE = [["a.wav", "x", "s", "train"], ["b.wav", "x", "s", "valid"], ["c.wav", "x", "s", "test"]]


def test_a_line_has_all_that_the_manifest_says(tmp_path):
    rows = [*THREE, ["d.wav", "Hello,  you", "Eve", "train"]]
    line = read_manifest(manifest_of(tmp_path, rows))[3]

    assert (line.name, line.path) == ("d.wav", tmp_path / "d.wav")
    assert (line.text, line.speaker, line.split) == ("hello, you", "Eve", "train")
    assert line.line_number == 5


def test_a_byte_order_mark_other_columns_and_blank_lines_do_no_harm(tmp_path):
    for name in "abc":
        write_tone(tmp_path / f"{name}.wav")
    text = (
        "\ufeffid,Text,Path,Split\r\n\r\n7,A,a.wav,train\r\n8,B,b.wav,valid\r\n9,C,c.wav,TEST\r\n"
    )
    (tmp_path / "m.csv").write_bytes(text.encode())
    lines = read_manifest(ManifestConfig(path=str(tmp_path / "m.csv")))

    assert [(line.text, line.split, line.line_number) for line in lines] == [
        ("a", "train", 3),
        ("b", "valid", 4),
        ("c", "test", 5),
    ]


def test_a_quoted_text_may_span_lines_and_later_lines_keep_their_numbers(tmp_path):
    rows = [["a.wav", 'say "yes",\nthen', "s", "train"], *THREE[1:]]
    lines = read_manifest(manifest_of(tmp_path, rows))

    assert lines[0].text == 'say "yes", then'
    assert [line.line_number for line in lines] == [2, 4, 5]


def test_texts_that_look_the_same_become_the_same(tmp_path):
    rows = [["a.wav", "cafe\u0301", "s", "train"], ["b.wav", " CAFÉ ", "s", "valid"], THREE[2]]

    texts = [line.text for line in read_manifest(manifest_of(tmp_path, rows))]
    assert texts[:2] == ["café", "café"]
    kept = read_manifest(manifest_of(tmp_path, rows, lowercase=False))
    assert kept[1].text == "CAFÉ"


# Splits


def splits(config):
    return {line.name: line.split for line in read_manifest(config)}


def many(number=50):
    return [[f"{i}.wav", "x", f"s{i % 3}"] for i in range(number)]


def test_lines_without_a_split_are_dealt_in_the_wanted_shares(tmp_path):
    config = manifest_of(tmp_path, many(), HEADER[:3], test_fraction=0.2, valid_fraction=0.1)
    made = list(splits(config).values())

    assert [made.count(split) for split in ("test", "valid", "train")] == [10, 4, 36]


def test_splits_do_not_depend_on_the_order_of_lines_but_on_the_seed(tmp_path):
    forward = splits(manifest_of(tmp_path, many(), HEADER[:3]))
    backward = splits(manifest_of(tmp_path, many()[::-1], HEADER[:3]))
    other = splits(manifest_of(tmp_path, many(), HEADER[:3], split_seed=1))

    assert forward == backward
    assert forward != other


def test_splits_do_not_depend_on_the_folder(tmp_path):
    (tmp_path / "elsewhere").mkdir()

    assert splits(manifest_of(tmp_path, many(), HEADER[:3])) == splits(
        manifest_of(tmp_path / "elsewhere", many(), HEADER[:3])
    )


def test_lines_that_say_their_split_stay_there(tmp_path):
    rows = [[*row, "test" if i < 5 else ""] for i, row in enumerate(many())]
    made = splits(manifest_of(tmp_path, rows))

    assert {name for name, split in made.items() if split == "test"} == {
        f"{i}.wav" for i in range(5)
    }
    assert list(made.values()).count("valid") == round(0.1 * 45)


def test_training_lines_give_to_valid_where_no_line_says_valid(tmp_path):
    rows = [[*row, "test" if i < 5 else "train"] for i, row in enumerate(many())]

    assert list(splits(manifest_of(tmp_path, rows)).values()).count("valid") == round(0.1 * 45)


def test_a_speaker_held_out_is_the_test_and_nothing_else(tmp_path):
    rows = [[*row, "test" if i < 6 else ""] for i, row in enumerate(many())]
    scan = scan_manifest(manifest_of(tmp_path, rows, hold_out_speaker="s1"))
    speakers = {
        split: {line.speaker for line in scan.lines if line.split == split}
        for split in ("train", "valid", "test")
    }

    assert speakers["test"] == {"s1"}
    assert speakers["train"] | speakers["valid"] == {"s0", "s2"}
    assert sum(line.speaker == "s1" for line in scan.lines) == 17
    assert scan.notes == [
        f"{tmp_path}/m.csv: 4 lines with split=test are not used: they are not of s1."
    ]


@pytest.mark.parametrize(
    ("header", "found"),
    [(HEADER[:3], "speakers: s0, s1, s2."), (["path", "text", "who"], "it has no column speaker.")],
)
def test_an_unknown_speaker_to_hold_out_lists_those_there_are(tmp_path, header, found):
    config = manifest_of(tmp_path, many(6), header, hold_out_speaker="zoe")

    with pytest.raises(AsrError, match=r"hold_out_speaker='zoe' is no speaker") as caught:
        read_manifest(config)
    assert str(caught.value).endswith(found)


def test_a_split_that_stays_empty_is_an_error(tmp_path):
    with pytest.raises(AsrError, match=r"m.csv: no line is left for the train split; add"):
        read_manifest(manifest_of(tmp_path, many(2), HEADER[:3]))


# Problems


def problems_of(config):
    return [p.removeprefix(f"{config.path}:") for p in scan_manifest(config).problems]


def test_all_problems_of_a_manifest_are_listed_at_once_with_their_lines(tmp_path):
    rows = [
        *THREE,
        ["", "x", "s", "train"],
        ["d.wav", "  ", "s", "train"],
        ["e.wav", "x", "s", "trian"],
        ["f.wav", "x"],
        ["g.wav", "x, y", "s", "train", "z"],
    ]
    config = manifest_of(tmp_path, rows)
    (tmp_path / "c.wav").unlink()

    assert problems_of(config) == [
        f"4: there is no file {tmp_path}/c.wav; paths start from the manifest's folder.",
        "5: the path is empty; name a recording, or delete the line.",
        "6: the text of d.wav is empty; write what is said, or delete the line.",
        "7: split is 'trian'; expected train, valid or test, or nothing. Did you mean train?",
        "8: 2 values, but the header names 4 columns; put a text that holds a comma in double "
        "quotes.",
        "9: 5 values, but the header names 4 columns; put a text that holds a comma in double "
        "quotes.",
    ]
    with pytest.raises(AsrError, match=r"^6 problems:\n  .*m.csv:4: (.|\n)*m.csv:9: "):
        read_manifest(config)


def test_long_lists_end_with_the_number_of_the_rest():
    text = listed([f"problem {i}" for i in range(SHOWN + 5)])

    assert text.count("problem ") == SHOWN
    assert text.startswith("25 problems:\n  problem 0\n")
    assert text.endswith(f"problem {SHOWN - 1}\n  ... and 5 more")
    assert listed(["one"]) == "one"


def test_a_recording_in_two_splits_is_a_leak(tmp_path):
    config = manifest_of(tmp_path, [*THREE, ["./c.wav", "x", "s", "train"]])

    assert problems_of(config) == [
        "5: c.wav stands in line 4 too, there in test and here in train: what is tested must not "
        "be trained on. Delete one."
    ]


def test_a_recording_twice_in_a_split_is_noted_and_with_two_texts_refused(tmp_path):
    config = manifest_of(tmp_path, [*THREE, ["a.wav", "x", "s", "train"]])
    assert problems_of(config) == []
    assert scan_manifest(config).notes == [
        f"{config.path}:5: a.wav stands in line 2 too; it counts twice."
    ]

    config = manifest_of(tmp_path, [*THREE, ["a.wav", "y", "s", "train"]])
    assert problems_of(config) == [
        "5: a.wav stands in line 2 too with another text, 'x'; delete the wrong one."
    ]


def test_random_splits_never_put_a_repeated_recording_into_two(tmp_path):
    config = manifest_of(tmp_path, [*many(30), *many(30)], HEADER[:3])

    assert scan_manifest(config).problems == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"m.csv:1: the header has no column path. Found: nothing. The first line names"),
        (b"paths,text\n", r"m.csv:1: the header has no column path. Did you mean paths\? Found: "),
        (b"path,words\na,b\n", r"no column text. Found: path, words."),
        (b"path,text,Text\n", r"m.csv:1: the header has the column text twice"),
        (b"path,text\n", r"m.csv: there is no line below the header; add lines of path,text"),
        (b"path,text\na.wav,\xff\n", r"m.csv: byte 16 is not UTF-8; save the file as CSV UTF-8"),
        (b'path,text\na.wav,"x\nb.wav,y\n', r"m.csv:2: not CSV \(unexpected end of data\); close"),
        (b'path,text\na.wav,"x"y\n', r"m.csv:2: not CSV .* write a quote inside"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path, content, message):
    (tmp_path / "m.csv").write_bytes(content)

    with pytest.raises(AsrError, match=message):
        read_manifest(ManifestConfig(path=str(tmp_path / "m.csv")))


def test_a_manifest_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(AsrError, match=r"none.csv: there is no such file; data.manifest.path nam"):
        read_manifest(ManifestConfig(path=str(tmp_path / "none.csv")))


# Utterances


def speech(config, split="train", **given):
    return ManifestSpeech(config, read_manifest(config.data.manifest), split=split, **given)


CHANGES = AugmentConfig(speeds=(0.9, 1.0, 1.1), gain_db=6, noise_db=(10, 30), warp=0.1)


def test_an_utterance_is_the_features_and_text_of_its_recording(tmp_path):
    config = config_for(write_digits(tmp_path))
    dataset = speech(config, "test")
    waveform = Recordings(config.features).waveform(tmp_path / "3_ann_0.wav")
    utterance = dataset.load(3)

    assert len(dataset) == 10
    assert (utterance.name, utterance.text) == ("3_ann_0.wav", "3")
    assert utterance.name == dataset.names[3]
    assert torch.equal(utterance.frames, fbank(waveform, RATE, num_mels=8))
    assert sorted(set(dataset.texts())) == list("01234")


@pytest.mark.parametrize("augment", [AugmentConfig(), CHANGES])
@pytest.mark.parametrize("epoch", [0, 4])
def test_lengths_are_those_of_the_frames(tmp_path, augment, epoch):
    dataset = speech(config_for(write_digits(tmp_path), augment=augment))
    frames = [len(dataset.load(i, epoch=epoch).frames) for i in range(len(dataset))]

    assert dataset.lengths(epoch) == frames


@pytest.mark.parametrize("settings", [{"augment": CHANGES}, {"dither": 1.0}])
def test_training_varies_by_seed_epoch_and_index_and_by_nothing_else(tmp_path, settings):
    file = write_digits(tmp_path)
    dataset, again = (speech(config_for(file, **settings)) for _ in range(2))
    other = speech(config_for(file, seed=1, **settings))
    first = dataset.load(4, epoch=2).frames
    again.load(1, epoch=5)

    assert torch.equal(first, again.load(4, epoch=2).frames)
    for different in (dataset.load(4, epoch=3).frames, other.load(4, epoch=2).frames):
        assert different.shape != first.shape or not torch.equal(different, first)


def test_valid_and_test_are_never_changed(tmp_path):
    file = write_digits(tmp_path)
    plain = speech(config_for(file), "valid")
    changed = speech(config_for(file, augment=CHANGES, dither=1.0, seed=9), "valid")

    for index in range(len(plain)):
        expected = plain.load(index).frames
        assert torch.equal(changed.load(index, epoch=7).frames, expected)
    assert changed.lengths(3) == plain.lengths(0)


def test_the_same_recording_twice_has_two_names(tmp_path):
    config = manifest_of(tmp_path, [*THREE, ["a.wav", "x", "s", "train"]])

    assert speech(config_for(tmp_path / "m.csv")).names == ["a.wav", "a.wav#5"]
    assert len(read_manifest(config)) == 4


def test_a_recording_is_read_once(tmp_path, monkeypatch):
    from paraformer_asr.data import recordings

    read = []
    load = recordings.load_audio
    monkeypatch.setattr(recordings, "load_audio", lambda p, f: read.append(p.name) or load(p, f))
    dataset = speech(config_for(write_digits(tmp_path), augment=CHANGES))
    dataset.lengths(0)
    for epoch in range(2):
        dataset.load(0, epoch=epoch)

    assert sorted(read) == sorted(dataset.names)


def test_notes_of_a_recording_are_there_without_asking_for_its_samples(tmp_path):
    write_tone(tmp_path / "a.wav", channels=2)
    recordings = Recordings(config_for(tmp_path / "m.csv").features)

    assert recordings.notes(tmp_path / "a.wav") == ("its 2 channels were averaged to one",)


def test_what_does_not_fit_in_memory_is_read_again_and_is_the_same(tmp_path):
    config = config_for(write_digits(tmp_path))
    small = speech(config, recordings=Recordings(config.features, Store(limit=10_000)))
    large = speech(config)

    for _ in range(2):
        for index in range(len(large)):
            assert torch.equal(small.load(index).frames, large.load(index).frames)
    assert 0 < small.recordings.store.used <= 10_000


def test_an_utterance_that_is_not_there_is_an_index_error(tmp_path):
    dataset = speech(config_for(write_digits(tmp_path)))

    for index in (-1, len(dataset)):
        with pytest.raises(IndexError, match=re.escape(f"utterance {index} of {len(dataset)}")):
            dataset.load(index)


def test_a_split_without_lines_is_an_error(tmp_path):
    config = config_for(write_digits(tmp_path))

    with pytest.raises(AsrError, match="there are no lines of the test split among 0 lines"):
        ManifestSpeech(config, [], split="test")


@pytest.mark.parametrize("speed", [0.5, 0.9, 0.95, 1.0, 1.05, 1.1, 1.3333, 2.0])
def test_the_length_at_a_speed_is_what_augmentation_makes(speed):
    import numpy as np

    from paraformer_asr.augment import augment_waveform

    for samples in [*range(200, 230), 399, 400, 401, 2000, 2001, 2002, 2003]:
        made = augment_waveform(
            torch.zeros(samples), RATE, AugmentConfig(speeds=(speed,)), np.random.default_rng(0)
        )
        assert samples_at_speed(samples, speed, RATE) == len(made)
