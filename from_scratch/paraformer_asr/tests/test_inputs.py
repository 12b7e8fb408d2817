"""Names on the command line become files, and files become frames or a message."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from untrained import NUM_MELS, features, recording, tiny_model, tone

from paraformer_asr.audio import write_wav
from paraformer_asr.errors import AsrError
from paraformer_asr.features import fbank
from paraformer_asr.inputs import check_length, find_inputs, frames_from, output_names, read_sound

MODEL = tiny_model()


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_files_folders_and_globs_are_found_in_order_and_each_file_once(tmp_path: Path):
    touch(tmp_path, "b.wav", "in/a.WAV", "in/deep/c.npy", "in/notes.txt", "in/._a.wav", "d1.wav")
    found, errors = find_inputs([tmp_path / "b.wav", tmp_path / "in", str(tmp_path / "[bd]*.wav")])
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "b.wav",
        "in/a.WAV",
        "in/deep/c.npy",
        "d1.wav",
    ]
    assert errors == []


def test_a_file_whose_name_looks_like_a_pattern_is_taken_as_a_file(tmp_path: Path):
    touch(tmp_path, "take[1].wav")
    assert find_inputs([tmp_path / "take[1].wav"]) == ([tmp_path / "take[1].wav"], [])


def test_each_input_without_files_is_named_and_the_others_are_found(tmp_path: Path):
    touch(tmp_path, "a.wav", "empty/x.txt")
    found, errors = find_inputs(
        [tmp_path / "none.wav", tmp_path / "a.wav", tmp_path / "empty", str(tmp_path / "*.flac")]
    )
    assert found == [tmp_path / "a.wav"]
    assert errors == [
        f"{tmp_path}/none.wav: there is no such file or folder.",
        f"{tmp_path}/empty: the folder holds no .wav or .npy file.",
        f"{tmp_path}/*.flac: no file matches this pattern.",
    ]


def test_files_of_one_name_get_results_of_their_own(tmp_path: Path):
    paths = [tmp_path / name for name in ("a/x.wav", "b/x.wav", "b/x.npy", "b/deep/x.wav")]
    assert [str(name) for name in output_names(paths)] == [
        "a/x.wav",
        "b/x.wav",
        "b/x.npy",
        "b/deep/x.wav",
    ]
    assert [str(name) for name in output_names(paths[2:])] == ["x.npy", "deep/x.wav"]
    assert [str(name) for name in output_names(paths[:1])] == ["x.wav"]


def test_a_recording_becomes_the_frames_of_fbank(tmp_path: Path):
    samples = tone(0.5)
    write_wav(tmp_path / "a.wav", samples, 16000, bits=32)
    sound = read_sound(MODEL, tmp_path / "a.wav")
    expected = fbank(torch.from_numpy(samples), 16000, num_mels=NUM_MELS)
    torch.testing.assert_close(sound.frames, expected, atol=1e-4, rtol=1e-4)
    assert sound.seconds == pytest.approx(0.5)
    assert sound.notes == ()


def test_a_recording_at_a_higher_rate_is_read_with_a_note(tmp_path: Path):
    write_wav(tmp_path / "a.wav", tone(0.5, rate=22050), 22050)
    sound = read_sound(MODEL, tmp_path / "a.wav")
    assert sound.seconds == pytest.approx(0.5, abs=0.001)
    assert sound.notes == ("resampled from 22050 to 16000 Hz",)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_features_of_any_float_type_are_read_as_float32(tmp_path: Path, dtype: type):
    frames = np.random.default_rng(0).normal(size=(30, NUM_MELS)).astype(dtype)
    np.save(tmp_path / "a.npy", frames)
    sound = read_sound(MODEL, tmp_path / "a.npy")
    assert sound.frames.dtype == torch.float32
    np.testing.assert_array_equal(sound.frames.numpy(), frames.astype(np.float32))
    assert sound.seconds == pytest.approx(0.3)


def test_arrays_that_are_no_frames_are_refused_with_the_fix():
    good = np.zeros((30, NUM_MELS), dtype=np.float32)

    def message(array: np.ndarray) -> str:
        with pytest.raises(AsrError) as caught:
            frames_from(array, NUM_MELS, where="a.npy")
        return str(caught.value)

    assert message(good[0]) == "a.npy: the shape is [20]; expected (frames, 20)."
    assert message(good[None]) == "a.npy: the shape is [1, 30, 20]; expected (frames, 20)."
    assert message(good[:0]) == "a.npy: there are no frames; the shape is [0, 20]."
    assert message(good.T) == (
        "a.npy: the shape is [20, 30]; expected (frames, 20): it seems transposed: give array.T."
    )
    assert message(np.zeros((30, 3 * NUM_MELS))) == (
        "a.npy: the shape is [30, 60]; expected (frames, 20): give frames of 20 log-mel values "
        "each, before stacking."
    )
    assert message(good.astype(int)) == (
        "a.npy: the values are int64; expected log-mel values as float32."
    )
    assert "complex128; expected log-mel values" in message(good.astype(complex))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_features_that_are_not_finite_as_float32_are_refused(bad: float):
    array = np.zeros((30, NUM_MELS))
    array[4, 7] = array[5, 1] = bad
    with pytest.raises(AsrError) as caught:
        frames_from(array, NUM_MELS, where="a.npy")
    assert str(caught.value) == (
        "a.npy: 2 values are NaN or infinite, the first in frame 4, band 7; look at what made them."
    )


def test_files_that_are_no_arrays_are_refused_by_name(tmp_path: Path):
    text, objects, archive = (tmp_path / f"{name}.npy" for name in ("text", "objects", "archive"))
    text.write_text("hello")
    np.save(objects, np.array([{}, []], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "archive", a=np.zeros(3))
    (tmp_path / "archive.npz").rename(archive)
    whole = features(tmp_path / "whole.npy")
    cut = tmp_path / "cut.npy"
    cut.write_bytes(whole.read_bytes()[:500])
    for path in (text, objects, cut):
        with pytest.raises(AsrError, match=rf"{path}: not a readable \.npy file of numbers \("):
            read_sound(MODEL, path)
    with pytest.raises(AsrError, match=r"archive\.npy: holds several arrays; save one with"):
        read_sound(MODEL, archive)
    with pytest.raises(AsrError, match=r"none\.npy: there is no such file"):
        read_sound(MODEL, tmp_path / "none.npy")


def test_other_kinds_of_files_are_refused_with_the_command_that_converts_them(tmp_path: Path):
    touch(tmp_path, "talk.mp3")
    with pytest.raises(
        AsrError, match=r"talk\.mp3: expected a \.wav.*ffmpeg -i talk\.mp3 talk\.wa"
    ):
        read_sound(MODEL, tmp_path / "talk.mp3")


def test_a_recording_that_the_encoder_makes_no_frame_of_is_refused_with_the_least(tmp_path: Path):
    model = tiny_model(encoder="conformer", subsampling="conv2d")
    with pytest.raises(AsrError) as caught:
        read_sound(model, features(tmp_path / "short.npy", 12))
    assert str(caught.value) == (
        f"{tmp_path}/short.npy: 12 frames of 10 ms are too short for this encoder, which needs 13; "
        "give a longer recording."
    )
    assert len(read_sound(model, features(tmp_path / "enough.npy", 13)).frames) == 13


def test_a_recording_beyond_the_memory_for_attention_is_refused_before_it_is_tried():
    with pytest.raises(AsrError) as caught:
        check_length(MODEL, 60_000, where="lecture.wav")
    text = str(caught.value)
    assert text.startswith("lecture.wav: 600 s are 30000 encoder frames, whose attention needs")
    limit = int(text.split("below ")[1].split(" s")[0])
    check_length(MODEL, 100 * limit, where="piece.wav")
    with pytest.raises(AsrError, match="piece"):
        check_length(MODEL, 100 * (limit + 2), where="piece.wav")
    streaming = tiny_model(stream={"chunk": 4, "left": 4, "right": 2})
    check_length(streaming, 60_000, where="lecture.wav")


def test_what_is_wrong_with_a_recording_is_said_with_its_name(tmp_path: Path):
    low = tmp_path / "low.wav"
    write_wav(low, tone(0.5, rate=8000), 8000)
    with pytest.raises(AsrError, match=r"low\.wav: has 8000 samples per second and the model hear"):
        read_sound(MODEL, low)
    short = tmp_path / "short.wav"
    write_wav(short, tone(0.02), 16000)
    with pytest.raises(
        AsrError, match=r"short\.wav: has 320 samples at 16000 Hz, fewer than one w"
    ):
        read_sound(MODEL, short)
    cut = recording(tmp_path / "cut.wav")
    cut.write_bytes(cut.read_bytes()[:1000])
    with pytest.raises(AsrError, match=r"cut\.wav: is cut off"):
        read_sound(MODEL, cut)
