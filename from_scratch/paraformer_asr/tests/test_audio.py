"""Recordings as files: what is read, what is noted, what is refused."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from paraformer_asr.audio import load_audio, read_wav, write_wav
from paraformer_asr.config import FeatureConfig
from paraformer_asr.errors import AsrError
from paraformer_asr.resample import resample

RATE = 16000


def write_float(path: Path, samples: np.ndarray, rate: int = RATE, bits: int = 32) -> Path:
    """A float WAV of samples (N,) or (N, C)."""
    table = samples.reshape(len(samples), -1).astype(f"<f{bits // 8}")
    frame = table.shape[1] * bits // 8
    head = struct.pack("<HHIIHH", 3, table.shape[1], rate, rate * frame, frame, bits)
    body = b"WAVEfmt " + struct.pack("<I", 16) + head
    body += b"data" + struct.pack("<I", table.nbytes) + table.tobytes()
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


def sound(size: int = RATE, peak: float = 0.5, seed: int = 0) -> np.ndarray:
    return peak * np.random.default_rng(seed).uniform(-1, 1, size)


def sine(peak: float, hz: float = 440, rate: int = RATE) -> np.ndarray:
    return peak * np.sin(2 * np.pi * hz * np.arange(rate) / rate)


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_what_is_written_is_read_again(tmp_path: Path, bits: int, as_tensor: bool):
    samples = sound(101)
    given = torch.from_numpy(samples).requires_grad_() if as_tensor else samples
    write_wav(tmp_path / "a.wav", given, 8000, bits=bits)
    found = read_wav(str(tmp_path / "a.wav"))
    assert found.samples.dtype == np.float32
    assert np.abs(found.samples - samples).max() <= 2.0**-bits + 1e-7
    assert (found.sample_rate, found.channels, found.notes) == (8000, 1, ())


def test_channels_are_averaged_with_a_note(tmp_path: Path):
    left, right = sound(seed=1), sound(seed=2)
    found = read_wav(write_float(tmp_path / "a.wav", np.stack([left, right], axis=1)))
    np.testing.assert_allclose(found.samples, (left + right) / 2, atol=1e-7)
    assert found.channels == 2
    assert found.notes == ("its 2 channels were averaged to one",)


def test_a_clipped_recording_is_noted_with_the_share(tmp_path: Path):
    write_wav(tmp_path / "a.wav", sine(2.0).clip(-1, 1), RATE)
    (note,) = read_wav(tmp_path / "a.wav").notes
    assert note == "66.5 % of its samples are clipped; record it at a lower level"


def test_one_clipped_channel_of_two_is_noted_although_their_mean_is_not(tmp_path: Path):
    both = np.stack([sine(2.0).clip(-1, 1), np.zeros(RATE)], axis=1)
    notes = read_wav(write_float(tmp_path / "a.wav", both)).notes
    assert notes[0] == "66.5 % of its samples are clipped; record it at a lower level"


@pytest.mark.parametrize("bits", [16, 24])
def test_a_sound_at_full_scale_is_not_clipped(tmp_path: Path, bits: int):
    write_wav(tmp_path / "a.wav", sine(1.0), RATE, bits=bits)
    assert read_wav(tmp_path / "a.wav").notes == ()


def test_a_few_clipped_samples_are_not_worth_a_note(tmp_path: Path):
    for count, noted in ((16, 0), (17, 1)):  # of 16000: 0.1 % and a little more
        samples = sound()
        samples[500 : 500 + count] = -1
        write_wav(tmp_path / "a.wav", samples, RATE)
        assert len(read_wav(tmp_path / "a.wav").notes) == noted


def test_8_bit_clipping_is_noted(tmp_path: Path):
    write_wav(tmp_path / "a.wav", sine(1.5).clip(-1, 1), RATE, bits=8)
    assert "are clipped" in read_wav(tmp_path / "a.wav").notes[0]


def test_silence_is_noted(tmp_path: Path):
    write_wav(tmp_path / "a.wav", np.full(500, 0.25), RATE)
    assert read_wav(tmp_path / "a.wav").notes == ("all its samples are equal: it is silent",)


def test_channels_that_cancel_are_silence(tmp_path: Path):
    both = np.stack([sound(), -sound()], axis=1)
    notes = read_wav(write_float(tmp_path / "a.wav", both)).notes
    assert notes[1] == "all its samples are equal: it is silent"


def test_floats_beyond_full_scale_are_scaled_down_together(tmp_path: Path):
    samples = sine(1.6)
    found = read_wav(write_float(tmp_path / "a.wav", samples, bits=64))
    np.testing.assert_allclose(found.samples, samples / np.abs(samples).max(), atol=1e-7)
    assert found.notes == ("its samples reach 1.6; scaled down to 1",)


def test_floats_in_16_bit_units_are_refused(tmp_path: Path):
    path = write_float(tmp_path / "a.wav", 20000 * sine(1.0))
    with pytest.raises(
        AsrError,
        match=r"a\.wav: its float samples reach 20000; expected \[-1, 1\]: divide by 32768",
    ):
        read_wav(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinite_samples_are_refused_with_their_place(tmp_path: Path, bad: float):
    samples = np.stack([sound(), sound()], axis=1)
    samples[[8000, 9000], 1] = bad
    path = write_float(tmp_path / "a.wav", samples)
    expected = (
        r"a\.wav: 2 of 16000 samples are NaN or infinite, the first at 8000 \(0\.500 s\); export"
    )
    with pytest.raises(AsrError, match=expected):
        read_wav(path)


def test_a_problem_in_the_bytes_names_the_file(tmp_path: Path):
    (tmp_path / "a.wav").write_bytes(b"")
    with pytest.raises(AsrError, match=r"a\.wav: is empty; record or copy it again"):
        read_wav(tmp_path / "a.wav")
    write_wav(tmp_path / "b.wav", sound(), RATE)
    (tmp_path / "b.wav").write_bytes((tmp_path / "b.wav").read_bytes()[:-100])
    with pytest.raises(AsrError, match=r"b\.wav: is cut off: the header promises 32000 bytes of"):
        read_wav(tmp_path / "b.wav")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path):
    with pytest.raises(AsrError, match=r"none\.wav: there is no such file"):
        read_wav(tmp_path / "none.wav")
    with pytest.raises(AsrError, match=r"cannot be read \(Is a directory\)"):
        read_wav(tmp_path)


def test_notes_can_stand_after_a_warning(tmp_path: Path):
    """One line, no full stop, no capital: "warning: a.wav: its 2 channels were averaged ..."."""
    both = np.stack([1.5 * sine(1.0), sine(1.0)], axis=1)
    path = write_float(tmp_path / "a.wav", both, rate=22050)
    _, notes = load_audio(path, FeatureConfig(sample_rate=16000))
    assert len(notes) == 3
    for note in notes:
        assert note[0].islower()
        assert not note.endswith(".")
        assert "\n" not in note


def test_samples_at_the_models_rate_are_loaded_as_they_are(tmp_path: Path):
    write_wav(tmp_path / "a.wav", sound(), RATE)
    samples, notes = load_audio(tmp_path / "a.wav", FeatureConfig())
    assert samples.dtype == torch.float32
    assert samples.numpy().tolist() == read_wav(tmp_path / "a.wav").samples.tolist()
    assert notes == ()


def test_a_higher_rate_is_resampled_with_a_note(tmp_path: Path):
    write_wav(tmp_path / "a.wav", sound(), 44100)
    samples, notes = load_audio(tmp_path / "a.wav", FeatureConfig())
    source = torch.from_numpy(read_wav(tmp_path / "a.wav").samples)
    torch.testing.assert_close(samples, resample(source, 44100, RATE))
    assert notes == ("resampled from 44100 to 16000 Hz",)


def test_resampled_full_scale_stays_in_range(tmp_path: Path):
    write_wav(tmp_path / "a.wav", np.sign(sine(1.0, hz=100)), 48000)
    samples, _ = load_audio(tmp_path / "a.wav", FeatureConfig())
    assert float(samples.abs().max()) == 1


def test_a_lower_rate_is_refused_with_the_settings_that_help(tmp_path: Path):
    write_wav(tmp_path / "a.wav", sound(), 8000)
    expected = (
        r"a\.wav: has 8000 samples per second and the model hears 16000; what lies above 4000 Hz "
        r"is missing\. .*features\.sample_rate=8000.*features\.allow_upsampling=true"
    )
    with pytest.raises(AsrError, match=expected):
        load_audio(tmp_path / "a.wav", FeatureConfig())


def test_a_lower_rate_is_accepted_when_asked_for(tmp_path: Path):
    write_wav(tmp_path / "a.wav", sound(), 8000)
    samples, notes = load_audio(tmp_path / "a.wav", FeatureConfig(allow_upsampling=True))
    assert len(samples) == 2 * RATE
    assert notes == ("resampled from 8000 to 16000 Hz",)


def test_fewer_samples_than_a_window_are_refused_with_both_numbers(tmp_path: Path):
    write_wav(tmp_path / "a.wav", sound(400), RATE)
    assert len(load_audio(tmp_path / "a.wav", FeatureConfig())[0]) == 400
    write_wav(tmp_path / "a.wav", sound(399), RATE)
    expected = r"a\.wav: has 399 samples at 16000 Hz, fewer than one window of 400 \(25 ms\); leave"
    with pytest.raises(AsrError, match=expected):
        load_audio(tmp_path / "a.wav", FeatureConfig())


def test_samples_out_of_range_are_not_written(tmp_path: Path):
    path = tmp_path / "a.wav"
    with pytest.raises(AsrError, match=r"a\.wav: samples reach 1\.5; scale them to \[-1, 1\]"):
        write_wav(path, np.array([0.0, -1.5]), RATE)
    with pytest.raises(AsrError, match=r"a\.wav: samples reach nan; scale them"):
        write_wav(path, np.array([0.0, np.nan]), RATE)
    with pytest.raises(AsrError, match=r"a\.wav: samples are \(2, 2\) float64; expected \(N,\)"):
        write_wav(path, np.zeros((2, 2)), RATE)
    with pytest.raises(AsrError, match=r"a\.wav: samples are \(2,\) int16; expected \(N,\) float"):
        write_wav(path, np.zeros(2, np.int16), RATE)
    assert not path.exists()


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path):
    with pytest.raises(AsrError, match=r"none/a\.wav: cannot be written \(No such file"):
        write_wav(tmp_path / "none" / "a.wav", np.zeros(5), RATE)
