"""From a configuration to checked datasets and a tokenizer."""

from __future__ import annotations

import logging

import pytest
import torch
from make_recordings import config_for, load_script, write_digits, write_tone

from paraformer_asr.config import AugmentConfig, Config, DataConfig, JoinConfig, ToyConfig
from paraformer_asr.data.batches import Batches
from paraformer_asr.data.build import build_datasets, build_tokenizer
from paraformer_asr.data.join import JoinedSpeech
from paraformer_asr.data.manifest import ManifestSpeech
from paraformer_asr.data.toy import ToySpeech
from paraformer_asr.errors import AsrError
from paraformer_asr.features import Frontend

SMALL = ToyConfig(alphabet="xyz", num_train=5, num_valid=3, num_test=4)


def test_toy_data_has_three_splits_and_the_toy_alphabet():
    config = Config(name="x", data=DataConfig(toy=SMALL))
    datasets = build_datasets(config)

    assert {split: len(dataset) for split, dataset in datasets.items()} == {
        "train": 5,
        "valid": 3,
        "test": 4,
    }
    assert all(isinstance(d, ToySpeech) and d.split == s for s, d in datasets.items())
    assert build_tokenizer(config, datasets).characters == ("x", "y", "z")
    assert datasets["test"].load(0).frames.shape[1] == config.features.num_mels


def test_recordings_are_read_as_they_are_or_joined(tmp_path):
    file = write_digits(tmp_path)
    single = build_datasets(config_for(file))
    joined = build_datasets(config_for(file, join=JoinConfig(num_train=7)))

    assert all(isinstance(d, ManifestSpeech) and d.split == s for s, d in single.items())
    assert all(isinstance(d, JoinedSpeech) and d.split == s for s, d in joined.items())
    assert (len(single["train"]), len(joined["train"])) == (40, 7)


def test_the_vocabulary_is_what_training_texts_have(tmp_path):
    file = write_digits(tmp_path)
    config = config_for(file, join=JoinConfig(separator=" "))

    assert build_tokenizer(config, build_datasets(config)).characters == tuple(" 01234")


def test_a_given_vocabulary_is_taken_in_its_order(tmp_path):
    config = config_for(write_digits(tmp_path), data={"characters": "9876543210"})

    assert build_tokenizer(config, build_datasets(config)).characters == tuple("9876543210")
    config = Config(name="x", data=DataConfig(toy=SMALL, characters="zyxw"))
    assert build_tokenizer(config, {}).characters == tuple("zyxw")


def test_splits_share_what_was_read(tmp_path):
    datasets = build_datasets(config_for(write_digits(tmp_path)))
    for path in tmp_path.glob("*.wav"):
        path.unlink()

    for dataset in datasets.values():
        assert len(dataset.load(0).frames) > 0


def test_errors_in_the_data_stop_and_warnings_are_told(tmp_path, caplog):
    config = config_for(write_digits(tmp_path))
    write_tone(tmp_path / "0_ann_3.wav", channels=2)
    with caplog.at_level(logging.WARNING):
        build_datasets(config)
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}/manifest.csv:5: 0_ann_3.wav: its 2 channels were averaged to one."
    ]

    (tmp_path / "0_ann_3.wav").unlink()
    with pytest.raises(AsrError, match=r"manifest.csv:5: there is no file .*0_ann_3.wav"):
        build_datasets(config)


def test_an_epoch_of_joined_and_changed_recordings_makes_good_batches(tmp_path):
    changes = AugmentConfig(
        speeds=(0.9, 1.1), gain_db=6, noise_db=(10, 30), warp=0.1, freq_masks=1, time_masks=1
    )
    config = config_for(
        write_digits(tmp_path),
        join=JoinConfig(count=(1, 6), num_train=50),
        augment=changes,
        stack=(7, 6),
        data={"batch_frames": 150, "max_batch": 8},
    )
    datasets = build_datasets(config)
    frontend = Frontend(config.features)
    frontend.fit(datasets["train"].load(index).frames for index in range(20))
    tokenizer = build_tokenizer(config, datasets)
    batches = Batches(datasets["train"], frontend, tokenizer, config, train=True)
    made = [batches.get(2, position) for position in range(batches.num(2))]

    assert sorted(name for batch in made for name in batch.names) == datasets["train"].names
    for batch in made:
        assert batch.feats.shape[0] * batch.feats.shape[1] <= 150
        assert torch.isfinite(batch.feats).all()
        assert (batch.token_lens <= batch.feat_lens).all()
        texts = [tokenizer.decode(row) for row in batch.tokens.tolist()]
        assert texts == list(batch.texts)


@pytest.mark.data
def test_spoken_digits_are_good_data(fsdd_zip, tmp_path):
    load_script("prepare_fsdd").prepare(fsdd_zip, tmp_path / "fsdd")
    config = config_for(tmp_path / "fsdd" / "manifest.csv", join=JoinConfig())
    told = []
    datasets = build_datasets(config, warn=told.append)

    assert told == []
    assert build_tokenizer(config, datasets).characters == tuple("0123456789")
    lengths = datasets["test"].lengths(0)
    assert lengths == [len(datasets["test"].load(i).frames) for i in range(len(lengths))]

    unseen = build_datasets(
        config_for(tmp_path / "fsdd" / "manifest.csv", hold_out_speaker="theo"), warn=told.append
    )
    assert {line.speaker for line in unseen["test"].lines} == {"theo"}
    assert len(unseen["test"]) == 500
    assert len(unseen["train"]) == 1600
    assert len(told) == 1
    assert "200 lines with split=test are not used" in told[0]
