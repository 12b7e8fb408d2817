"""Utterances of any dataset as files: a folder of feature arrays and a manifest with their texts.

`infer` reads the arrays as it reads recordings, so the whole way can be tried without a microphone.
"""

from __future__ import annotations

import csv
import shutil
import tempfile
from pathlib import Path

import numpy as np

from paraformer_asr.data.utterance import Dataset
from paraformer_asr.errors import AsrError


def write_features(dataset: Dataset, folder: Path, *, count: int | None = None) -> list[Path]:
    """Save frames as `<split>-00000.npy`, ... and `manifest.csv` with the columns path and text.

    The folder appears at once when all is written; an error on the way leaves nothing behind.

    Args:
        dataset: its utterances of epoch 0 are written.
        folder: made with its parents; it must not exist, or be empty.
        count: only the first `count` utterances, all by default.
    Returns:
        The array files, (T0, M) float32 each, in the order of the dataset.
    Raises:
        AsrError: the folder holds something, or cannot be written.
    """
    num = len(dataset) if count is None else min(count, len(dataset))
    names = [f"{dataset.split}-{i:05d}.npy" for i in range(num)]
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise AsrError(f"{folder} exists and is not an empty folder; name another one.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            _write(dataset, temporary, names)
            temporary.chmod(0o755)  # mkdtemp makes it private
            temporary.replace(folder)
        except BaseException:
            shutil.rmtree(temporary)
            raise
    except OSError as error:
        raise AsrError(f"{folder} cannot be written: {error.strerror}.") from error
    return [folder / name for name in names]


def _write(dataset: Dataset, folder: Path, names: list[str]) -> None:
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["path", "text"])
        for index, name in enumerate(names):
            utterance = dataset.load(index)
            np.save(folder / name, utterance.frames.numpy())
            table.writerow([name, utterance.text])
