"""The bytes of a WAV file to its samples, and back.

In: a RIFF file as written by recorders, editors and streaming programs. Out: samples as numbers in
[-1, 1] per channel, and notes on what was unusual but harmless. Formats: PCM of 8, 16, 24 and 32
bits, float of 32 and 64 bits, also as WAVE_FORMAT_EXTENSIBLE (Microsoft, "Multiple channel audio
data and WAVE files", 2007). Start reading at `parse_wav`.

Letters: S samples of each channel, C channels.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paraformer_asr.errors import AsrError

PCM, FLOAT, EXTENSIBLE = 0x0001, 0x0003, 0xFFFE
CODECS = {2: "ADPCM", 6: "A-law", 7: "mu-law", 0x11: "ADPCM", 0x31: "GSM 6.10", 0x55: "MP3"}
GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
"""What follows the two bytes of the codec in the GUID of an extensible format."""
UNKNOWN_SIZE = 0x7FFFF000
"""Programs that write to a pipe do not know the length; they put a size from here up, or 0."""
OTHER_FILES = {
    b"fLaC": "a FLAC file",
    b"OggS": "an Ogg file",
    b"ID3": "an MP3 file",
    b"\xff\xfb": "an MP3 file",
    b"FORM": "an AIFF file",
    b"RIFX": "a big-endian WAV file",
    b"RF64": "an RF64 file",
    b"\x1aE\xdf\xa3": "a Matroska or WebM file",
}
CONVERT = "convert it, such as with: ffmpeg -i INPUT -c:a pcm_s16le OUTPUT.wav"


@dataclass(frozen=True)
class Layout:
    """What the "fmt " chunk says."""

    codec: int
    channels: int
    sample_rate: int
    bits: int

    @property
    def frame_bytes(self) -> int:
        return self.channels * self.bits // 8


def parse_wav(content: bytes) -> tuple[NDArray[np.float64], Layout, tuple[str, ...]]:
    """Samples (S, C) float64, where integers of the file become [-1, 1); layout and notes.

    Raises AsrError with what is wrong, without the file's name.
    """
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise AsrError(_not_wav(content))
    chunks: dict[bytes, tuple[int, int]] = {}
    for name, begin, size in _chunks(content):
        chunks.setdefault(name, (begin, size))
    for name, what in ((b"fmt ", "the format"), (b"data", "the samples")):
        if name not in chunks:
            raise AsrError(f'has no "{name.decode()}" chunk with {what}; export it again.')
    begin, size = chunks[b"fmt "]
    layout = _layout(content[begin : begin + size])
    begin, size = chunks[b"data"]
    data, notes = _data(content, begin, size, layout)
    return _decode(data, layout), layout, notes


def _not_wav(content: bytes) -> str:
    if not content:
        return "is empty; record or copy it again."
    for start, kind in OTHER_FILES.items():
        if content.startswith(start):
            return f"is {kind}, not a plain WAV file; {CONVERT}"
    if content[4:8] == b"ftyp":
        return f"is an MP4 or M4A file, not a WAV file; {CONVERT}"
    return f"is no WAV file (it begins with {content[:4]!r}, not b'RIFF'); {CONVERT}"


def _chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte and announced size of each chunk; the last one may announce too much."""
    position = 12
    while position + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, position)
        yield name, position + 8, size
        if name == b"data" and _is_open_ended(content, position + 8, size):
            return
        position += 8 + size + size % 2  # chunks begin at even places


def _is_open_ended(content: bytes, begin: int, size: int) -> bool:
    """The writer did not know the size: it put a huge one, or 0 although no chunk follows."""
    if size >= UNKNOWN_SIZE:
        return begin + size > len(content)
    return size == 0 and begin < len(content) and not _chunks_fit(content, begin)


def _chunks_fit(content: bytes, position: int) -> bool:
    """From here on, the file is made of chunks with readable names that end where it ends."""
    while position + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, position)
        if not all(32 <= byte < 127 for byte in name):
            return False
        position += 8 + size + size % 2
    return position in (len(content), len(content) + 1)


def _layout(chunk: bytes) -> Layout:
    if len(chunk) < 16:
        raise AsrError(f'has a "fmt " chunk of {len(chunk)} bytes; expected 16 or more.')
    codec, channels, rate, _, frame_bytes, bits = struct.unpack_from("<HHIIHH", chunk)
    if codec == EXTENSIBLE and len(chunk) >= 40 and chunk[26:40] == GUID_TAIL:
        (codec,) = struct.unpack_from("<H", chunk, 24)
    if (codec == PCM and bits in (8, 16, 24, 32)) or (codec == FLOAT and bits in (32, 64)):
        layout = Layout(codec, channels, rate, bits)
        if channels and rate and frame_bytes == layout.frame_bytes:
            return layout
        raise AsrError(
            f"says {channels} channels of {bits} bits at {rate} Hz in {frame_bytes} bytes, which "
            "do not fit together; export it again."
        )
    name = {PCM: "PCM", FLOAT: "float"}.get(codec) or CODECS.get(codec, f"codec {codec:#06x}")
    raise AsrError(
        f"holds {bits}-bit {name}; expected PCM of 8, 16, 24 or 32 bits or float of 32 or 64: "
        f"{CONVERT}"
    )


def _data(content: bytes, begin: int, size: int, layout: Layout) -> tuple[bytes, tuple[str, ...]]:
    """The bytes of whole samples, and notes."""
    notes = []
    there = len(content) - begin
    if _is_open_ended(content, begin, size):
        notes.append("the header does not say how long it is; read up to the end of the file")
        size = there
    elif size > there:
        raise AsrError(
            f"is cut off: the header promises {size} bytes of samples and {there} are there; copy "
            "or download it again."
        )
    rest = size % layout.frame_bytes
    if rest:
        notes.append("its last sample is incomplete and was left out")
    if size < layout.frame_bytes:
        raise AsrError("holds no samples; record it again or leave it out.")
    return content[begin : begin + size - rest], tuple(notes)


def _decode(data: bytes, layout: Layout) -> NDArray[np.float64]:
    values: NDArray[Any]
    if layout.codec == FLOAT:
        values = np.frombuffer(data, f"<f{layout.bits // 8}").astype(np.float64)
    elif layout.bits == 8:  # the only unsigned one
        values = (np.frombuffer(data, np.uint8) - 128.0) / 128
    elif layout.bits == 24:  # there is no such dtype: the three upper bytes of a 32-bit integer
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        values = wide.view("<i4")[:, 0] / 2.0**31
    else:
        values = np.frombuffer(data, f"<i{layout.bits // 8}") / 2.0 ** (layout.bits - 1)
    return values.reshape(-1, layout.channels)


def format_wav(samples: NDArray[Any], sample_rate: int, bits: int) -> bytes:
    """A whole mono PCM file of samples (S,) in [-1, 1]; 1 becomes the largest integer."""
    if bits not in (8, 16, 24, 32):
        raise AsrError(f"bits={bits}; expected 8, 16, 24 or 32.")
    full = 2.0 ** (bits - 1)
    rounded = np.round(samples.astype(np.float64) * full).clip(-full, full - 1).astype(np.int64)
    if bits == 8:
        data = (rounded + 128).astype(np.uint8).tobytes()
    else:  # the lower bytes of each 64-bit integer
        data = rounded.astype("<i8").view(np.uint8).reshape(-1, 8)[:, : bits // 8].tobytes()
    width = bits // 8
    head = struct.pack("<HHIIHH", PCM, 1, sample_rate, sample_rate * width, width, bits)
    body = b"WAVEfmt " + struct.pack("<I", len(head)) + head
    body += b"data" + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body
