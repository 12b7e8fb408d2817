"""Joined utterances: whose recordings, how often, with which pauses, and what stays the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from make_recordings import RATE, config_for, write_csv, write_digits, write_tone

from paraformer_asr.augment import augment_waveform
from paraformer_asr.config import AugmentConfig, JoinConfig
from paraformer_asr.data.join import LEAST_NOISE, JoinedSpeech, deal, quiet_level
from paraformer_asr.data.manifest import read_manifest
from paraformer_asr.errors import AsrError
from paraformer_asr.features import fbank

JOIN = JoinConfig(count=(1, 4), pause=(0.05, 0.2), num_train=60, num_valid=12, num_test=15)
CHANGES = AugmentConfig(speeds=(0.9, 1.0, 1.1), gain_db=6, noise_db=(10, 30), warp=0.1)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return write_digits(tmp_path_factory.mktemp("digits"), speakers=("ann", "bob", "cid"))


def joined(digits, split="train", join=JOIN, **settings):
    config = config_for(digits, join=join, **settings)
    return JoinedSpeech(config, read_manifest(config.data.manifest), split=split)


def same(first, second):
    return first.shape == second.shape and bool(torch.equal(first, second))


def test_the_text_is_that_of_the_pieces_in_order(digits):
    dataset = joined(digits, join=replace(JOIN, separator=" "))

    for index, joint in enumerate(dataset.plan(3)):
        texts = [dataset.lines[piece].text for piece in joint.pieces]
        if index < 10:
            assert dataset.load(index, epoch=3).text == " ".join(texts)
        assert 1 <= len(texts) <= 4
    assert set(dataset.texts()) == {"0", "1", "2", "3", "4", " "}
    alone = joined(digits, join=replace(JOIN, count=(1, 1), separator=" "))
    assert set(alone.texts()) == {"0", "1", "2", "3", "4"}


def test_the_waveform_is_the_pieces_with_pauses_between_and_around(digits):
    dataset = joined(digits)

    for index, joint in enumerate(dataset.plan(1)[:20]):
        waveform = dataset.waveform(index, epoch=1)
        at = 0
        for piece, pause in zip(joint.pieces, joint.pauses, strict=False):
            at += pause
            recording = dataset.recordings.waveform(dataset.lines[piece].path)
            assert torch.equal(waveform[at : at + len(recording)], recording)
            at += len(recording)
        assert len(waveform) == at + joint.pauses[-1]
        assert len(joint.pauses) == len(joint.pieces) + 1
        assert all(0.05 * RATE <= pause <= 0.2 * RATE for pause in joint.pauses)


def test_pauses_have_different_lengths(digits):
    pauses = [pause for joint in joined(digits).plan(0) for pause in joint.pauses]

    assert len(set(pauses)) > 0.5 * len(pauses)


def test_pieces_are_of_one_speaker_and_of_the_split(digits):
    for split in ("train", "valid", "test"):
        dataset = joined(digits, split)
        for joint in dataset.plan(0):
            pieces = [dataset.lines[piece] for piece in joint.pieces]
            assert len({line.speaker for line in pieces}) == 1
            assert {line.split for line in pieces} == {split}


def test_all_recordings_of_a_speaker_are_used_equally_often(digits):
    dataset = joined(digits, join=replace(JOIN, num_train=200))
    uses = Counter(piece for joint in dataset.plan(0) for piece in joint.pieces)
    by_speaker = {}
    for number, line in enumerate(dataset.lines):
        by_speaker.setdefault(line.speaker, []).append(uses[number])

    for counts in by_speaker.values():
        assert max(counts) - min(counts) <= 1
    means = [np.mean(counts) for counts in by_speaker.values()]
    assert max(means) - min(means) <= JOIN.count[1] / 20


def test_speakers_with_more_recordings_speak_more():
    speakers = ["a"] * 30 + ["b"] * 10
    plans = deal(speakers, 400, JOIN, RATE, np.random.default_rng(0))
    uses = Counter(speakers[piece] for joint in plans for piece in joint.pieces)

    assert uses["a"] / uses["b"] == pytest.approx(3, rel=0.02)


def test_more_pieces_than_a_speaker_has_recordings_use_them_again():
    plans = deal(["a", "a"], 3, replace(JOIN, count=(5, 5)), RATE, np.random.default_rng(0))

    assert [len(joint.pieces) for joint in plans] == [5, 5, 5]
    uses = Counter(piece for joint in plans for piece in joint.pieces)
    assert sorted(uses.values()) == [7, 8]


def test_training_joins_anew_in_each_epoch_and_by_the_seed(digits):
    dataset = joined(digits)

    assert dataset.plan(0) != dataset.plan(1)
    assert dataset.plan(0) != joined(digits, seed=1).plan(0)
    assert dataset.plan(1) == joined(digits).plan(1)


def test_an_utterance_does_not_depend_on_what_was_loaded_before(digits):
    dataset, again = (joined(digits, augment=CHANGES, dither=1.0) for _ in range(2))
    first = dataset.load(7, epoch=2)
    again.load(3, epoch=5)
    again.lengths(1)
    second = again.load(7, epoch=2)

    assert first.text == second.text
    assert torch.equal(first.frames, second.frames)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_valid_and_test_are_the_same_in_every_epoch_and_run(digits, split):
    plain = joined(digits, split)
    other = joined(
        digits,
        split,
        join=replace(JOIN, num_train=7),
        augment=CHANGES,
        seed=5,
        dither=1.0,
        data={"batch_frames": 100},
    )

    for index in range(len(plain)):
        first, second = plain.load(index), other.load(index, epoch=9)
        assert (first.name, first.text) == (second.name, second.text)
        assert torch.equal(first.frames, second.frames)
    assert plain.lengths(0) == other.lengths(9)


def test_valid_and_test_change_with_the_seed_of_the_splits(digits):
    assert joined(digits, "test").plan(0) != joined(digits, "test", split_seed=1).plan(0)


def test_splits_are_joined_by_streams_of_their_own(digits):
    # the same seed everywhere: pauses of valid must not be those of test or of training
    join = replace(JOIN, count=(1, 1), num_train=12, num_valid=12, num_test=12)
    pauses = [
        [joint.pauses for joint in joined(digits, split, join).plan(0)]
        for split in ("train", "valid", "test")
    ]

    assert pauses[0] != pauses[1] != pauses[2] != pauses[0]


@pytest.mark.parametrize("augment", [AugmentConfig(), CHANGES])
def test_lengths_are_those_of_the_frames(digits, augment):
    dataset = joined(digits, augment=augment)

    assert dataset.lengths(2) == [len(dataset.load(i, epoch=2).frames) for i in range(60)]


def test_training_changes_the_joined_waveform_as_a_whole(digits, monkeypatch):
    from paraformer_asr.data import recordings

    seen = []

    def spy(samples, *rest):
        seen.append(samples)
        return augment_waveform(samples, *rest)

    monkeypatch.setattr(recordings, "augment_waveform", spy)
    dataset = joined(digits, augment=CHANGES)
    utterance = dataset.load(5, epoch=1)

    assert len(seen) == 1
    assert torch.equal(seen[0], dataset.waveform(5, epoch=1))
    assert not same(utterance.frames, fbank(seen[0], RATE, num_mels=8))


def test_speeds_differ_between_utterances_and_all_are_used(digits):
    speeds = joined(digits, augment=CHANGES).speech.speeds(0, 60)

    assert set(speeds) == {0.9, 1.0, 1.1}


# Pauses


def test_a_pause_is_as_quiet_as_the_quietest_part_of_the_recordings_and_never_zero(digits):
    join = replace(JOIN, pause=(0.2, 0.2))
    dataset = joined(digits, join=join)

    for index, joint in enumerate(dataset.plan(0)[:10]):
        waveform = dataset.waveform(index)
        pieces = [dataset.recordings.waveform(dataset.lines[p].path) for p in joint.pieces]
        level = waveform[: joint.pauses[0]].square().mean().sqrt()
        assert (waveform != 0).float().mean() > 0.95
        assert level == pytest.approx(quiet_level(pieces[0], RATE), rel=0.1)


def test_between_a_noisy_and_a_quiet_recording_the_pause_is_quiet(tmp_path):
    rows = [["path", "text", "speaker", "split"]]
    for name, noise in (("loud", 0.1), ("soft", 0.001)):
        write_tone(tmp_path / f"{name}.wav", noise=noise)
        rows.append([f"{name}.wav", "a", "s", "train"])
    for split in ("valid", "test"):
        write_tone(tmp_path / f"{split}.wav")
        rows.append([f"{split}.wav", "a", "s", split])
    join = JoinConfig(count=(2, 2), pause=(0.2, 0.2), num_train=4)
    dataset = joined(write_csv(tmp_path / "m.csv", rows), join=join)
    first = dataset.lines[dataset.plan(0)[0].pieces[0]].path
    start = int(0.2 * RATE) + dataset.recordings.num_samples(first)
    pause = dataset.waveform(0)[start : start + int(0.2 * RATE)]

    assert pause.square().mean().sqrt() < 0.0015


def test_the_quietest_part_is_measured_without_offset_and_has_a_floor():
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal(8000)).float()
    half = torch.cat([0.01 * noise, 0.5 * noise])

    assert quiet_level(half + 0.2, RATE) == pytest.approx(0.01, rel=0.2)
    assert quiet_level(torch.zeros(8000), RATE) == LEAST_NOISE
    assert quiet_level(torch.ones(3), RATE) == LEAST_NOISE


def test_no_pause_joins_without_a_gap(digits):
    dataset = joined(digits, join=replace(JOIN, pause=(0, 0)))
    pieces = dataset.plan(0)[0].pieces
    expected = torch.cat([dataset.recordings.waveform(dataset.lines[p].path) for p in pieces])

    assert torch.equal(dataset.waveform(0), expected)


# Mistakes


def test_recordings_without_a_speaker_cannot_be_joined(tmp_path):
    file = write_digits(tmp_path, speakers=("ann", ""))

    with pytest.raises(AsrError, match=r"manifest.csv:34: .*wav has no speaker, and only record"):
        joined(file)


def test_joining_needs_its_settings(digits):
    config = config_for(digits)

    with pytest.raises(AsrError, match=r"needs data.manifest.join, such as \{count: \[1, 6\]\}"):
        JoinedSpeech(config, read_manifest(config.data.manifest), split="train")


def test_an_utterance_that_is_not_there_is_an_index_error(digits):
    with pytest.raises(IndexError, match="utterance 60 of 60"):
        joined(digits).load(60)


def test_numbers_of_utterances_and_names_are_as_configured(digits):
    for split, number in (("train", 60), ("valid", 12), ("test", 15)):
        dataset = joined(digits, split)
        assert len(dataset) == len(set(dataset.names)) == number
        assert dataset.load(3).name == dataset.names[3] == f"{split}-00003"
