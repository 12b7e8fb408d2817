"""The bytes of WAV files, built here by hand: every width, unusual chunks, damaged headers."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from paraformer_asr.errors import AsrError
from paraformer_asr.wav import GUID_TAIL, format_wav, parse_wav

RATE = 16000


def chunk(name: bytes, body: bytes, *, size: int | None = None) -> bytes:
    announced = len(body) if size is None else size
    return name + struct.pack("<I", announced) + body + b"\0" * (len(body) % 2)


def fmt(codec: int, bits: int, channels: int = 1, rate: int = RATE, extra: bytes = b"") -> bytes:
    frame = channels * bits // 8
    head = struct.pack("<HHIIHH", codec, channels, rate, rate * frame, frame, bits)
    return chunk(b"fmt ", head + extra)


def extensible(codec: int, bits: int, valid_bits: int, channels: int = 1) -> bytes:
    guid = struct.pack("<H", codec) + GUID_TAIL
    return fmt(0xFFFE, bits, channels, extra=struct.pack("<HHI", 22, valid_bits, 0) + guid)


def riff(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


INTEGERS = [-32768, -20000, -1, 0, 1, 12345, 32767]
"""Of 16 bits; other widths hold the same numbers shifted."""
PCM16 = struct.pack("<7h", *INTEGERS)


def as_bytes(bits: int) -> bytes:
    if bits == 8:
        return bytes((i >> 8) + 128 for i in INTEGERS)
    shift = bits - 16
    return b"".join((i << shift).to_bytes(bits // 8, "little", signed=True) for i in INTEGERS)


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
@pytest.mark.parametrize("wrapped", [False, True])
def test_integers_of_every_width_become_fractions_of_full_scale(bits: int, wrapped: bool):
    head = extensible(1, bits, bits) if wrapped else fmt(1, bits)
    samples, layout, notes = parse_wav(riff(head, chunk(b"data", as_bytes(bits))))
    steps = [i >> 8 for i in INTEGERS] if bits == 8 else INTEGERS
    assert samples[:, 0].tolist() == [i / (128 if bits == 8 else 32768) for i in steps]
    assert (layout.sample_rate, layout.channels, layout.bits) == (RATE, 1, bits)
    assert notes == ()


def test_the_low_bits_of_wide_integers_count():
    data = (0x123456).to_bytes(3, "little") + (-2).to_bytes(3, "little", signed=True)
    samples, _, _ = parse_wav(riff(fmt(1, 24), chunk(b"data", data)))
    assert samples[:, 0].tolist() == [0x123456 / 2**23, -2 / 2**23]


@pytest.mark.parametrize(("bits", "code"), [(32, "f"), (64, "d")])
@pytest.mark.parametrize("wrapped", [False, True])
def test_floats_are_taken_as_they_are(bits: int, code: str, wrapped: bool):
    head = extensible(3, bits, bits) if wrapped else fmt(3, bits, extra=b"\0\0")
    data = struct.pack(f"<3{code}", -1.5, 0.25, 1.0)
    samples, _, _ = parse_wav(riff(head, chunk(b"data", data)))
    assert samples[:, 0].tolist() == [-1.5, 0.25, 1.0]


def test_20_bits_in_24_are_scaled_by_their_container():
    data = (0x40000 << 4).to_bytes(3, "little")
    samples, _, _ = parse_wav(riff(extensible(1, 24, 20), chunk(b"data", data)))
    assert samples[:, 0].tolist() == [0.5]


def test_channels_are_columns():
    data = struct.pack("<6h", 0, 16384, -16384, 8192, -8192, 0)
    samples, layout, _ = parse_wav(riff(fmt(1, 16, channels=3), chunk(b"data", data)))
    assert samples.tolist() == [[0, 0.5, -0.5], [0.25, -0.25, 0]]
    assert layout.channels == 3


@pytest.mark.parametrize("text", [b"INFOISFT\4\0\0\0Lavf", b"odd"])
def test_chunks_around_the_samples_are_skipped(text: bytes):
    """Chunks of odd size are padded by a byte, which their size does not count."""
    expected = [i / 32768 for i in INTEGERS]
    data = chunk(b"data", PCM16)
    for order in (
        [chunk(b"JUNK", text), fmt(1, 16), chunk(b"LIST", text), data],
        [fmt(1, 16), data, chunk(b"LIST", text)],
        [data, fmt(1, 16)],
    ):
        samples, _, notes = parse_wav(riff(*order))
        assert samples[:, 0].tolist() == expected
        assert notes == ()


def test_an_odd_number_of_8_bit_samples_needs_its_padding_or_the_end():
    data = bytes([128, 255, 0])
    for tail in (b"\0" + chunk(b"LIST", b"INFO"), b"\0", b""):
        content = riff(fmt(1, 8), b"data" + struct.pack("<I", 3) + data + tail)
        assert parse_wav(content)[0][:, 0].tolist() == [0, 127 / 128, -1]


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000, 0x80000000])
@pytest.mark.parametrize("riff_size", [None, 0, 36, 0xFFFFFFFF])
def test_a_stream_without_a_length_is_read_to_the_end(size: int, riff_size: int | None):
    content = riff(fmt(1, 16), chunk(b"data", PCM16, size=size))
    if riff_size is not None:
        content = content[:4] + struct.pack("<I", riff_size) + content[8:]
    samples, _, notes = parse_wav(content)
    assert samples[:, 0].tolist() == [i / 32768 for i in INTEGERS]
    assert notes == ("the header does not say how long it is; read up to the end of the file",)


def test_a_stream_that_ends_within_a_sample_loses_that_sample():
    content = riff(fmt(1, 16), chunk(b"data", PCM16, size=0xFFFFFFFF)) + b"\1"
    samples, _, notes = parse_wav(content)
    assert len(samples) == len(INTEGERS)
    assert notes[1:] == ("its last sample is incomplete and was left out",)


@pytest.mark.parametrize("tail", [b"", chunk(b"LIST", b"INFO"), chunk(b"LIST", b"odd")])
def test_no_samples_is_an_error_even_when_chunks_follow(tail: bytes):
    with pytest.raises(AsrError, match=r"^holds no samples; record it again or leave it out"):
        parse_wav(riff(fmt(1, 16), chunk(b"data", b""), tail))


def test_less_than_one_sample_is_an_error():
    with pytest.raises(AsrError, match=r"^holds no samples"):
        parse_wav(riff(fmt(1, 16), chunk(b"data", b"\1")))


@pytest.mark.parametrize("kept", [0, 1, 6, 13])
def test_truncated_samples_are_an_error_with_both_sizes(kept: int):
    whole = riff(fmt(1, 16), chunk(b"data", PCM16))
    cut = whole[: len(whole) - len(PCM16) + kept]
    expected = f"^is cut off: the header promises 14 bytes of samples and {kept} are there; copy"
    with pytest.raises(AsrError, match=expected):
        parse_wav(cut)


def test_a_header_cut_anywhere_is_an_error_and_never_another_exception():
    whole = riff(chunk(b"LIST", b"INFO"), extensible(1, 16, 16), chunk(b"data", PCM16))
    for size in range(len(whole)):
        with pytest.raises(AsrError):
            parse_wav(whole[:size])


def test_random_damage_gives_samples_or_an_error():
    rng = np.random.default_rng(0)
    whole = np.frombuffer(riff(fmt(1, 16, channels=2), chunk(b"data", PCM16 * 4)), np.uint8)
    for _ in range(500):
        damaged = whole.copy()
        damaged[rng.integers(0, 44, size=3)] = rng.integers(0, 256, size=3)
        try:
            samples, layout, _ = parse_wav(damaged.tobytes())
        except AsrError:
            continue
        assert samples.shape[0] >= 1
        assert samples.shape[1] == layout.channels


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"fLaC", "a FLAC file"),
        (b"OggS", "an Ogg file"),
        (b"ID3\4", "an MP3 file"),
        (b"FORM", "an AIFF file"),
        (b"RIFX", "a big-endian WAV file"),
        (b"RF64", "an RF64 file"),
        (b"\0\0\0\x20ftypM4A ", "an MP4 or M4A file"),
    ],
)
def test_other_audio_files_are_named_with_a_way_to_convert_them(start: bytes, kind: str):
    with pytest.raises(AsrError, match=rf"^is {kind}, not a .*WAV file; convert it.*ffmpeg -i"):
        parse_wav(start + b"\0" * 40)


def test_what_is_no_audio_at_all_shows_its_first_bytes():
    with pytest.raises(AsrError, match=r"^is no WAV file \(it begins with b'path', not b'RIFF'\)"):
        parse_wav(b"path,text\n")
    with pytest.raises(AsrError, match=r"^is empty; record or copy it again"):
        parse_wav(b"")


@pytest.mark.parametrize(
    ("codec", "bits", "name"),
    [(7, 8, "mu-law"), (6, 8, "A-law"), (0x55, 0, "MP3"), (1, 12, "PCM"), (3, 16, "float")],
)
def test_other_codecs_are_refused_by_name(codec: int, bits: int, name: str):
    with pytest.raises(AsrError, match=rf"^holds {bits}-bit {name}; expected PCM of 8, 16, 24"):
        parse_wav(riff(fmt(codec, bits), chunk(b"data", PCM16)))


def test_an_unknown_codec_shows_its_number():
    with pytest.raises(AsrError, match=r"^holds 16-bit codec 0x0123; expected PCM"):
        parse_wav(riff(fmt(0x123, 16), chunk(b"data", PCM16)))
    foreign = (
        extensible(1, 16, 16)[:-1] + b"\0"
    )  # another GUID: the codec is not what it looks like
    with pytest.raises(AsrError, match=r"^holds 16-bit codec 0xfffe; expected PCM"):
        parse_wav(riff(foreign, chunk(b"data", PCM16)))


def test_a_format_that_contradicts_itself_is_an_error():
    with pytest.raises(AsrError, match=r"^says 0 channels of 16 bits at 16000 Hz in 0 bytes"):
        parse_wav(riff(fmt(1, 16, channels=0), chunk(b"data", PCM16)))
    with pytest.raises(AsrError, match=r"^says 1 channels of 16 bits at 0 Hz in 2 bytes"):
        parse_wav(riff(fmt(1, 16, rate=0), chunk(b"data", PCM16)))
    with pytest.raises(AsrError, match=r'^has a "fmt " chunk of 4 bytes; expected 16 or more'):
        parse_wav(riff(chunk(b"fmt ", b"\1\0\1\0"), chunk(b"data", PCM16)))


def test_a_missing_chunk_is_named():
    with pytest.raises(AsrError, match=r'^has no "fmt " chunk with the format; export it again'):
        parse_wav(riff(chunk(b"data", PCM16)))
    with pytest.raises(AsrError, match=r'^has no "data" chunk with the samples; export it again'):
        parse_wav(riff(fmt(1, 16)))


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_written_files_come_back_within_half_a_step(bits: int):
    samples = np.concatenate([np.random.default_rng(0).uniform(-1, 1, 101), [-1, 0, 1]])
    found, layout, notes = parse_wav(format_wav(samples, 8000, bits))
    step = 2.0 ** (1 - bits)
    assert np.abs(found[:-1, 0] - samples[:-1]).max() <= step / 2
    assert found[-1, 0] == 1 - step  # there is no code for 1
    assert (layout.sample_rate, layout.bits, notes) == (8000, bits, ())


def test_other_widths_cannot_be_written():
    with pytest.raises(AsrError, match="bits=12; expected 8, 16, 24 or 32"):
        format_wav(np.zeros(3), 8000, 12)
