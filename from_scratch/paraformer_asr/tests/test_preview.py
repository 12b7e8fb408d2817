"""The picture of a dataset before training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from untrained import png_size

from paraformer_asr.config import ToyConfig
from paraformer_asr.data.toy import ToySpeech
from paraformer_asr.data.utterance import Utterance
from paraformer_asr.errors import AsrError
from paraformer_asr.preview import preview


@pytest.fixture
def dataset() -> ToySpeech:
    return ToySpeech(ToyConfig(num_train=10), 20, split="train", seed=0)


class Recorder:
    """A dataset that notes which utterances were asked for."""

    split = "train"

    def __init__(self, dataset: ToySpeech) -> None:
        self.dataset = dataset
        self.names = dataset.names
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.dataset)

    def load(self, index: int, *, epoch: int = 0) -> Utterance:
        self.asked.append(index)
        return self.dataset.load(index, epoch=epoch)

    def lengths(self, epoch: int) -> list[int]:
        return self.dataset.lengths(epoch)

    def texts(self) -> list[str]:
        return list(self.dataset.texts())


def test_the_preview_grows_with_the_number_of_utterances(dataset: ToySpeech, tmp_path: Path):
    assert preview(dataset, tmp_path / "two.png", 2) == 2
    assert preview(dataset, tmp_path / "four.png", 4) == 4
    assert png_size(tmp_path / "four.png")[1] > png_size(tmp_path / "two.png")[1]


def test_utterances_are_spread_over_the_split_and_none_is_drawn_twice(
    dataset: ToySpeech, tmp_path: Path
):
    recorder = Recorder(dataset)
    preview(recorder, tmp_path / "a.png", 4)
    assert recorder.asked == [0, 3, 6, 9]


def test_a_small_split_is_drawn_whole(dataset: ToySpeech, tmp_path: Path):
    recorder = Recorder(dataset)
    assert preview(recorder, tmp_path / "a.png", 50) == 10
    assert recorder.asked == list(range(10))


@pytest.mark.parametrize("count", [0, -1, 51])
def test_counts_that_make_no_picture_are_refused(dataset: ToySpeech, tmp_path: Path, count: int):
    with pytest.raises(AsrError, match=f"preview of {count} utterances: choose from 1 to 50"):
        preview(dataset, tmp_path / "a.png", count)
    assert not list(tmp_path.iterdir())


def test_folders_above_the_picture_are_made(dataset: ToySpeech, tmp_path: Path):
    preview(dataset, tmp_path / "new" / "a.png", 1)
    png_size(tmp_path / "new" / "a.png")


def test_a_place_that_cannot_be_written_to_is_named(dataset: ToySpeech, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AsrError, match="file: no folder can be made there"):
        preview(dataset, tmp_path / "file" / "a.png", 1)


def test_silence_and_a_text_in_any_letters_are_drawn(tmp_path: Path):
    class Silence(Recorder):
        def load(self, index: int, *, epoch: int = 0) -> Utterance:
            return Utterance("你 $x$", "", torch.full((3, 20), -15.94))

    silence = Silence(ToySpeech(ToyConfig(num_train=2), 20, split="train", seed=0))
    assert preview(silence, tmp_path / "a.png", 2) == 2
    png_size(tmp_path / "a.png")
