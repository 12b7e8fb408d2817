"""scripts/speak_toy.py: features become sound whose features they are."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from paraformer_asr.audio import read_wav
from paraformer_asr.config import ToyConfig
from paraformer_asr.data.export import write_features
from paraformer_asr.data.toy import ToySpeech
from paraformer_asr.errors import AsrError
from paraformer_asr.features import fbank

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import speak_toy


@pytest.fixture(scope="module")
def toy() -> ToySpeech:
    return ToySpeech(ToyConfig(num_test=3), 40, split="test", seed=0)


def test_the_sound_has_the_features_that_were_spoken(toy):
    for index in range(3):
        frames = toy.load(index).frames
        samples = speak_toy.speak(frames)
        heard = fbank(samples, 16000, num_mels=40)
        assert heard.shape == frames.shape
        assert float(samples.abs().max()) <= 1
        loud = frames > frames.mean()  # windows overlap, so silence beside speech is not silent
        assert float((heard - frames)[loud].abs().mean()) < 0.3
        assert float(torch.corrcoef(torch.stack([heard.flatten(), frames.flatten()]))[0, 1]) > 0.9


def test_files_of_features_become_wav_files(toy, tmp_path, monkeypatch, capsys):
    files = write_features(toy, tmp_path / "toy")
    out = tmp_path / "spoken"
    monkeypatch.setattr(sys, "argv", ["speak_toy.py", *map(str, files), "--out", str(out)])
    speak_toy.main()
    assert capsys.readouterr().out.split() == [str(out / f"{file.stem}.wav") for file in files]
    recording = read_wav(out / "test-00000.wav")
    assert recording.sample_rate == 16000
    assert len(recording.samples) == 400 + 160 * (len(np.load(files[0])) - 1)


def test_an_array_of_another_shape_is_named(tmp_path, monkeypatch):
    path = tmp_path / "one.npy"
    np.save(path, np.zeros(5, dtype=np.float32))
    monkeypatch.setattr(sys, "argv", ["speak_toy.py", str(path)])
    with pytest.raises(AsrError, match=r"one\.npy: the shape is \[5\]; expected \(frames, bands\)"):
        speak_toy.main()
