"""A look at the data before training: log-mel features of some utterances with their texts.

In: any dataset. Out: a PNG, one row for each utterance, all on the same time axis, so that lengths
compare at a glance. Bad labels, silence and wrong sample rates are easier to see than to compute.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from paraformer_asr.data.utterance import Dataset
from paraformer_asr.errors import AsrError
from paraformer_asr.features import FRAME_SECONDS
from paraformer_asr.infer import make_folder
from paraformer_asr.picture import figure, plural, shorten, show_mels

MOST = 50
"""Rows of a picture that can still be opened and read."""


def preview(dataset: Dataset, path: Path, count: int = 8) -> int:
    """Draw `count` utterances, spread evenly over the split, as training would see them.

    Returns:
        How many were drawn: `count`, or all of a smaller dataset.
    Raises:
        AsrError: a count outside 1..50, an utterance that cannot be loaded, or a path that
            cannot be written to.
    """
    if not 1 <= count <= MOST:
        raise AsrError(f"a preview of {count} utterances: choose from 1 to {MOST}.")
    make_folder(path.parent)
    count = min(count, len(dataset))
    indices = np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist()
    utterances = [dataset.load(index) for index in indices]
    seconds = [len(utterance.frames) * FRAME_SECONDS for utterance in utterances]
    longest = max(seconds)
    width = float(np.clip(3 + 2.5 * longest, 7, 20))
    with figure(width, 1.5 * count + 0.8) as (made, save):
        axes = made.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
        for axis, utterance, duration in zip(axes, utterances, seconds, strict=True):
            show_mels(axis, utterance.frames.numpy(), FRAME_SECONDS)
            axis.set_xlim(0, longest)
            tokens = plural(len(utterance.text), "token")
            says = f"{shorten(utterance.name, 40)}: {shorten(utterance.text) or '(no text)'}"
            axis.set_title(f"{says}   [{duration:.2f} s, {tokens}]", loc="left", fontsize=9)
        axes[-1].set_xlabel("seconds")
        made.suptitle(f"{dataset.split}: {count} of {plural(len(dataset), 'utterance')}")
        save(path)
    return count
