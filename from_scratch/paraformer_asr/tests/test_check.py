"""The check of the data: sizes against texts, characters, leaks, and how findings are shown."""

from __future__ import annotations

import pytest
from make_recordings import RATE, WINDOW, config_for, write_csv, write_digits, write_tone

from paraformer_asr.config import (
    AugmentConfig,
    Config,
    DataConfig,
    FeatureConfig,
    JoinConfig,
    LossConfig,
    ModelConfig,
    ToyConfig,
)
from paraformer_asr.data.check import Report, check, encoder_frames
from paraformer_asr.data.recordings import Recordings
from paraformer_asr.errors import AsrError
from paraformer_asr.features import stack_frames


def samples_of(frames):
    """Samples that make so many 10 ms frames."""
    return WINDOW + (frames - 1) * RATE // 100


def manifest_of(folder, *rows):
    """Good lines of three splits, then (name, text, split, samples) on lines 5, 6, ..."""
    listed = [["path", "text", "split"]]
    for seed, split in enumerate(("train", "valid", "test")):
        write_tone(folder / f"{split}.wav", seed=seed)
        listed.append([f"{split}.wav", "abc", split])
    for seed, (name, text, split, samples) in enumerate(rows):
        write_tone(folder / name, samples=samples, seed=10 + seed)
        listed.append([name, text, split])
    return write_csv(folder / "m.csv", listed)


def test_good_data_has_no_findings_and_its_amount_is_told(tmp_path):
    report = check(config_for(write_digits(tmp_path)))

    assert report.errors == report.warnings == ()
    assert [(s.split, s.recordings, s.speakers) for s in report.shares] == [
        ("train", 40, 2),
        ("valid", 10, 2),
        ("test", 10, 2),
    ]
    seconds = sum(share.seconds for share in report.shares)
    files = list(tmp_path.glob("*.wav"))
    assert seconds == pytest.approx(sum((p.stat().st_size - 44) / 2 / RATE for p in files))
    assert str(report).startswith("train: 40 recordings, 0.2 minutes, 2 speakers\n")
    assert str(report).endswith("errors: none\nwarnings: none")
    report.raise_errors()


@pytest.mark.parametrize(
    ("frames", "settings", "tokens"),
    [
        (6, {}, 6),
        (12, {"stack": (3, 3)}, 4),
        (13, {"stack": (3, 3)}, 5),
        (15, {"model": ModelConfig(encoder="conformer", subsampling="conv2d")}, 3),
        (6, {"model": ModelConfig(end_token=True)}, 5),
        (11, {"augment": AugmentConfig(speeds=(1.0, 1.1))}, 9),
    ],
)
def test_a_text_may_have_as_many_tokens_as_there_are_encoder_frames(
    tmp_path, frames, settings, tokens
):
    fits = "abcabcabc"[:tokens]
    rows = [("fits.wav", fits, "train", samples_of(frames))]
    assert check(config_for(manifest_of(tmp_path, *rows), **settings)).errors == ()

    rows.append(("long.wav", fits + "x", "train", samples_of(frames)))
    (error,) = check(config_for(manifest_of(tmp_path, *rows), **settings)).errors
    end = settings.get("model", ModelConfig()).end_token
    included = " tokens, the end token included," if end else " tokens"
    assert error.startswith(f"{tmp_path}/m.csv:6: long.wav has {tokens + 1 + end}{included} but ")
    assert f"only {tokens + end} encoder frames in " in error
    assert "Mend it or delete the line" in error


def test_speed_counts_for_training_lines_only(tmp_path):
    file = manifest_of(tmp_path, ("t.wav", "abcabcabca", "test", samples_of(10)))

    assert check(config_for(file, augment=AugmentConfig(speeds=(1.5,)))).errors == ()


def test_frames_are_counted_as_features_and_convolutions_make_them():
    import torch

    for frames in range(1, 60):
        feats = torch.zeros(frames, 2)
        config = Config(name="x", features=FeatureConfig(stack=7, stride=6))
        assert encoder_frames(frames, config) == len(stack_frames(feats, 7, 6))

        config = Config(name="x", model=ModelConfig(encoder="conformer", subsampling="conv2d"))
        made = feats.new_zeros(1, frames)
        for _ in range(2):
            made = made.unfold(1, 3, 2)[..., 0] if made.shape[1] >= 3 else made[:, :0]
        assert encoder_frames(frames, config) == made.shape[1]


def test_ctc_needs_a_frame_between_equal_tokens(tmp_path):
    rows = [
        ("a.wav", "aabb", "train", samples_of(5)),
        ("b.wav", "aabb", "train", samples_of(6)),
        ("c.wav", "aabb", "test", samples_of(5)),
    ]
    file = manifest_of(tmp_path, *rows)

    assert check(config_for(file)).warnings == (
        f"{file}:5: a.wav: has 5 encoder frames, and CTC needs 6 for its text; CTC skips it.",
    )
    assert check(config_for(file, loss=LossConfig(ctc=0))).warnings == ()


def test_characters_that_the_vocabulary_lacks_are_errors(tmp_path):
    file = manifest_of(tmp_path, ("a.wav", "a?c!", "train", 2400), ("b.wav", "d", "test", 2400))

    assert check(config_for(file, data={"characters": "abc"})).errors == (
        f"{file}:5: a.wav has '?' '!' in its text, not in data.characters; add them there or "
        "change the text.",
        f"{file}:6: b.wav has 'd' in its text, not in data.characters; add them there or change "
        "the text.",
    )
    errors = check(config_for(file, data={"characters": "ABCD?!"})).errors
    assert errors[0].endswith("not in data.characters; set data.manifest.lowercase=false.")


def test_characters_that_only_tests_have_are_warnings_without_a_given_vocabulary(tmp_path):
    file = manifest_of(tmp_path, ("a.wav", "abz", "test", 2400), ("b.wav", "q", "train", 2400))
    report = check(config_for(file))

    assert report.errors == ()
    assert report.warnings == (
        f"{file}:5: a.wav: has 'z' in its text, which no training text has; it becomes <unk>.",
    )


def test_the_separator_must_be_in_the_given_vocabulary(tmp_path):
    file = write_digits(tmp_path)
    join = JoinConfig(separator=" ")

    assert check(config_for(file, join=join, data={"characters": "01234"})).errors == (
        "data.manifest.join.separator=' ' is not in data.characters; add it there.",
    )
    assert check(config_for(file, join=join, data={"characters": "01234 "})).errors == ()


def test_the_same_samples_in_two_splits_are_noticed_under_other_names(tmp_path):
    file = manifest_of(tmp_path, ("a.wav", "abc", "test", 2400), ("b.wav", "abc", "train", 2400))
    (tmp_path / "a.wav").write_bytes((tmp_path / "train.wav").read_bytes())
    (tmp_path / "b.wav").write_bytes((tmp_path / "train.wav").read_bytes())

    assert check(config_for(file)).warnings == (
        f"{file}:5: a.wav: holds the same samples as train.wav in line 2, which is in train while "
        "this is in test; what is tested should not be trained on.",
    )


def test_a_recording_longer_than_a_batch_is_noticed(tmp_path):
    file = manifest_of(tmp_path, ("a.wav", "abc", "train", samples_of(61)))

    assert check(config_for(file, data={"batch_frames": 60})).warnings == (
        f"{file}:5: a.wav: has 61 frames, more than data.batch_frames=60; it is a batch of its own "
        "and needs memory for them all.",
    )


def test_the_same_note_on_many_recordings_is_one_warning(tmp_path):
    file = manifest_of(tmp_path)
    for seed, name in enumerate(("train", "valid", "test")):
        write_tone(tmp_path / f"{name}.wav", channels=2, seed=seed)
    warnings = check(config_for(file)).warnings
    assert warnings[0] == f"{file}:2: train.wav: its 2 channels were averaged to one."
    assert len(warnings) == 3

    rows = [(f"{i}.wav", "abc", "train", 2400) for i in range(9)]
    file = manifest_of(tmp_path, *rows)
    for i in range(9):
        write_tone(tmp_path / f"{i}.wav", channels=2, seed=50 + i)
    assert check(config_for(file)).warnings == (
        f"{file}:5: 0.wav: its 2 channels were averaged to one. So are 8 more.",
    )


def test_notes_of_the_manifest_are_warnings(tmp_path):
    file = manifest_of(tmp_path)
    file.write_text(file.read_text() + "train.wav,abc,train\n")

    assert check(config_for(file)).warnings == (
        f"{file}:5: train.wav stands in line 2 too; it counts twice.",
    )


def test_errors_and_warnings_are_listed_apart_and_long_lists_end_with_a_number():
    report = Report(errors=tuple(f"e{i}" for i in range(30)), warnings=("w0", "w1"))

    assert str(report).startswith("errors: 30 problems:\n  e0\n  e1\n")
    assert "  e19\n  ... and 10 more\nwarnings: 2 problems:\n  w0\n  w1" in str(report)
    with pytest.raises(AsrError, match=r"^30 problems:\n  e0\n(.|\n)*and 10 more$"):
        report.raise_errors()


def test_what_the_check_reads_is_kept_for_training(tmp_path):
    config = config_for(write_digits(tmp_path))
    recordings = Recordings(config.features)
    check(config, recordings)
    for path in tmp_path.glob("*.wav"):
        path.unlink()

    assert recordings.num_samples(tmp_path / "0_ann_0.wav") > 0
    assert len(recordings.waveform(tmp_path / "4_bob_5.wav")) > 0


# Made-up speech


def toy(characters=None, features=None, model=None, **settings):
    return Config(
        name="x",
        data=DataConfig(toy=ToyConfig(alphabet="abc", **settings), characters=characters),
        features=features or FeatureConfig(),
        model=model or ModelConfig(),
    )


def test_the_default_toy_data_is_good():
    assert check(Config(name="x")) == Report(errors=(), warnings=())


def test_a_vocabulary_without_the_toy_alphabet_is_an_error():
    assert check(toy(characters="ax")).errors == (
        "data.characters lacks 'b' 'c' of data.toy.alphabet; add them, or leave data.characters "
        "out.",
    )


def test_toy_tokens_too_short_for_the_frame_rate_are_found():
    slow = FeatureConfig(stack=7, stride=6)
    short = {"tokens": (4, 9), "duration": (2, 4), "silence": (0, 0), "coarticulation": 0}
    report = check(toy(features=slow, **short))
    assert report.errors[0] == (
        "Usual utterances of 4 tokens, as data.toy.tokens allows, can have 2 encoder frames only; "
        "raise data.toy.duration or lower features.stride or subsampling."
    )
    assert len(report.errors) == 2

    report = check(toy(features=slow, **(short | {"duration": (4, 9)})))
    assert report.errors == ()
    assert report.warnings[0].startswith("The shortest utterances of 4 tokens, as data.toy.tokens ")
