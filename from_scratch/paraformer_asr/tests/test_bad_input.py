"""Recordings and manifests that cannot be used: each is named with its line, and all at once."""

from __future__ import annotations

import struct
import wave

import numpy as np
import pytest
from make_recordings import RATE, config_for, write_csv, write_tone

from paraformer_asr.config import JoinConfig
from paraformer_asr.data.build import build_datasets
from paraformer_asr.data.check import check
from paraformer_asr.errors import AsrError


def write_pcm(path, values, *, rate=RATE):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.asarray(values, dtype="<i2").tobytes())


def write_float(path, values):
    data = np.asarray(values, dtype="<f4").tobytes()
    layout = struct.pack("<HHIIHH", 3, 1, RATE, 4 * RATE, 4, 32)
    chunks = b"fmt " + struct.pack("<I", 16) + layout + b"data" + struct.pack("<I", len(data))
    path.write_bytes(
        b"RIFF" + struct.pack("<I", 4 + len(chunks) + len(data)) + b"WAVE" + chunks + data
    )


def truncated(path):
    write_tone(path)
    path.write_bytes(path.read_bytes()[:2000])


def not_a_number(path):
    values = np.full(2400, 0.1, dtype=np.float32)
    values[7] = np.nan
    write_float(path, values)


BROKEN = {
    "zero length": (lambda path: write_pcm(path, []), "no samples|zero|empty"),
    "shorter than a window": (
        lambda path: write_tone(path, samples=150),
        r"has 150 samples at 8000 Hz, fewer than one window of 200 \(25 ms\)",
    ),
    "too low a rate": (
        lambda path: write_tone(path, rate=4000),
        "has 4000 samples per second and the model hears 8000",
    ),
    "NaN": (not_a_number, "1 of 2400 samples are NaN or infinite, the first at 7"),
    "truncated": (truncated, "cut off|truncated"),
    "no audio": (lambda path: path.write_text("hello"), "WAV"),
    "missing": (lambda path: None, "there is no file .*odd.wav; paths start from the manifest"),
}
ODD = {
    "stereo": (lambda path: write_tone(path, channels=2), "its 2 channels were averaged to one."),
    "clipped": (lambda path: write_pcm(path, [32767, -32768] + [32767] * 2398), "are clipped"),
    "silent": (lambda path: write_pcm(path, [0] * 2400), "it is silent"),
    "another rate": (lambda path: write_tone(path, rate=16000), "resampled from 16000 to 8000 Hz"),
}


def manifest_of(folder, rows=(), text="a"):
    listed = [["path", "text", "speaker", "split"]]
    for seed, split in enumerate(("train", "valid", "test")):
        write_tone(folder / f"{split}.wav", seed=seed)
        listed.append([f"{split}.wav", "abc", "s", split])
    return write_csv(folder / "m.csv", [*listed, ["odd.wav", text, "s", "train"], *rows])


@pytest.mark.parametrize("join", [None, JoinConfig()])
@pytest.mark.parametrize("kind", BROKEN)
def test_a_recording_that_cannot_be_used_stops_training_before_it_starts(tmp_path, kind, join):
    make, message = BROKEN[kind]
    make(tmp_path / "odd.wav")
    config = config_for(manifest_of(tmp_path), join=join)

    with pytest.raises(AsrError, match=rf"^{tmp_path}/m.csv:5: .*({message})"):
        build_datasets(config)


@pytest.mark.parametrize("kind", ODD)
def test_a_recording_that_is_odd_is_used_with_a_warning(tmp_path, kind):
    make, message = ODD[kind]
    make(tmp_path / "odd.wav")
    told = []
    datasets = build_datasets(config_for(manifest_of(tmp_path)), warn=told.append)

    assert len(told) == 1
    assert told[0].startswith(f"{tmp_path}/m.csv:5: odd.wav: ")
    assert message in told[0]
    assert len(datasets["train"].load(1).frames) > 10


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("", {}, "m.csv:5: the text of odd.wav is empty; write what is said, or delete the line"),
        ("ab?", {"data": {"characters": "abc"}}, r"m.csv:5: odd.wav has '\?' in its text, not in"),
        ("abc" * 20, {}, "m.csv:5: odd.wav has 60 tokens but only 28 encoder frames in 2400 samp"),
    ],
)
def test_a_text_that_cannot_be_learned_stops_training_before_it_starts(
    tmp_path, text, settings, message
):
    write_tone(tmp_path / "odd.wav")

    with pytest.raises(AsrError, match=message):
        build_datasets(config_for(manifest_of(tmp_path, text=text), **settings))


def test_problems_of_lines_and_of_recordings_are_listed_together(tmp_path):
    rows = [[f"{number}.wav", "a", "s", "train"] for number in range(len(BROKEN))]
    for number, (make, _) in enumerate(BROKEN.values()):
        make(tmp_path / f"{number}.wav")
    write_tone(tmp_path / "odd.wav")
    write_tone(tmp_path / "two.wav", channels=2)
    rows += [["two.wav", "a", "s", "train"], ["odd.wav", "", "s", "train"], ["odd.wav", "a"]]
    report = check(config_for(manifest_of(tmp_path, rows)))

    numbers = sorted(int(error.split(":")[1]) for error in report.errors)
    assert numbers == [*range(6, 6 + len(BROKEN)), 14, 15]
    assert [warning.split(":")[1] for warning in report.warnings] == ["13"]
    with pytest.raises(AsrError, match=r"^9 problems:\n"):
        report.raise_errors()


def test_a_low_rate_can_be_accepted(tmp_path):
    from dataclasses import replace

    write_tone(tmp_path / "odd.wav", rate=4000)
    config = config_for(manifest_of(tmp_path))
    config = replace(config, features=replace(config.features, allow_upsampling=True))

    assert check(config).errors == ()


def test_recordings_that_vanish_after_the_check_are_named(tmp_path):
    from paraformer_asr.data.manifest import ManifestSpeech, read_manifest

    write_tone(tmp_path / "odd.wav")
    config = config_for(manifest_of(tmp_path))
    lines = read_manifest(config.data.manifest)
    (tmp_path / "odd.wav").unlink()

    with pytest.raises(AsrError, match=r"odd.wav: there is no such file"):
        ManifestSpeech(config, lines, split="train").load(1)
