"""Utterances, what a dataset is, and writing one to a folder of arrays."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

from paraformer_asr.config import ToyConfig
from paraformer_asr.data.export import write_features
from paraformer_asr.data.toy import ToySpeech
from paraformer_asr.data.utterance import Dataset, Utterance
from paraformer_asr.errors import AsrError


class Spoken:
    """A dataset written down here, with texts that are hard on a CSV file."""

    split = "valid"
    names = ("one, two", "../three")

    def __len__(self) -> int:
        return 2

    def load(self, index: int, *, epoch: int = 0) -> Utterance:
        text = list(self.texts())[index]
        return Utterance(self.names[index], text, torch.full((4 + index, 3), float(index)))

    def lengths(self, epoch: int) -> list[int]:
        return [4, 5]

    def texts(self) -> Iterable[str]:
        return ['a, "b"', "七 é"]


class Broken(Spoken):
    """Its second recording cannot be read."""

    def load(self, index: int, *, epoch: int = 0) -> Utterance:
        if index == 1:
            raise AsrError("broken.wav is cut off.")
        return super().load(index, epoch=epoch)


def read_table(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_an_utterance_cannot_be_changed() -> None:
    utterance = Spoken().load(0)

    with pytest.raises(dataclasses.FrozenInstanceError):
        utterance.text = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    "dataset", [Spoken(), ToySpeech(ToyConfig(num_valid=3), 20, split="valid", seed=5)]
)
def test_written_features_are_the_frames_and_the_manifest_has_the_texts(
    dataset: Dataset, tmp_path: Path
) -> None:
    folder = tmp_path / "new" / "features"

    paths = write_features(dataset, folder)

    table = read_table(folder)
    assert [folder / row["path"] for row in table] == paths
    assert [row["text"] for row in table] == list(dataset.texts())
    assert len(paths) == len(dataset)
    for i, path in enumerate(paths):
        frames = np.load(path)
        assert frames.dtype == np.float32
        torch.testing.assert_close(torch.from_numpy(frames), dataset.load(i).frames, rtol=0, atol=0)
    assert {p.name for p in folder.iterdir()} == {"manifest.csv", *(p.name for p in paths)}


@pytest.mark.parametrize(("count", "written"), [(0, 0), (1, 1), (9, 2), (None, 2)])
def test_only_the_first_utterances_are_written_on_request(
    count: int | None, written: int, tmp_path: Path
) -> None:
    paths = write_features(Spoken(), tmp_path, count=count)

    names = ["valid-00000.npy", "valid-00001.npy"][:written]
    assert [path.name for path in paths] == names
    assert [row["path"] for row in read_table(tmp_path)] == names


def test_an_error_on_the_way_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(AsrError, match=r"broken\.wav is cut off"):
        write_features(Broken(), tmp_path / "features")

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("mine")

    with pytest.raises(AsrError, match=r"exists and is not an empty folder; name another one\."):
        write_features(Spoken(), tmp_path)

    assert (tmp_path / "manifest.csv").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "features").write_text("mine")

    with pytest.raises(AsrError, match="features exists and is not an empty folder"):
        write_features(Spoken(), tmp_path / "features")
    with pytest.raises(AsrError, match=r"below cannot be written: (Not a directory|File exists)\."):
        write_features(Spoken(), tmp_path / "features" / "below")
