"""What a random stream is for: the last number of `stream(seed, epoch, index, purpose)`.

Two purposes never share draws, so switching one kind of change on or off leaves the others as they
were.
"""

from __future__ import annotations

from enum import IntEnum


class Purpose(IntEnum):
    """Recorded numbers: changing one changes what a seed trains on."""

    BUCKETS = 1
    """Order of utterances and of batches in an epoch."""
    SPEC_AUGMENT = 2
    SPEED = 3
    """Speeds of all utterances of an epoch."""
    WAVEFORM = 4
    """Gain, noise, warp, dither and frequency response of an utterance."""
    JOIN = 5
    """Which recordings and pauses make the utterances of an epoch."""
    PAUSE = 6
    """The noise that fills the pauses of an utterance."""
