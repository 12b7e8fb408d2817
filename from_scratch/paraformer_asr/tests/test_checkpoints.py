"""Checkpoints are written whole and refused with a reason."""

from __future__ import annotations

import pickle

import pytest
import torch
from small import small_config

from paraformer_asr import checkpoints
from paraformer_asr.config import config_to_dict
from paraformer_asr.errors import AsrError
from paraformer_asr.models import build_model
from paraformer_asr.optim import Average


def state_of(model, step=1):
    return {
        "model": model.state_dict(),
        "config": config_to_dict(model.config),
        "characters": list(model.tokenizer.characters),
        "step": step,
    }


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build_model(small_config())


def test_what_was_saved_is_loaded_in_evaluation_mode(tmp_path, model):
    checkpoints.save(tmp_path / "x.pt", state_of(model, step=7))
    loaded = checkpoints.load_model(tmp_path / "x.pt", "cpu")
    assert loaded.step == 7
    assert not loaded.model.training
    assert loaded.config == model.config
    assert loaded.model.tokenizer.characters == model.tokenizer.characters
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.model.state_dict()[name])


def test_a_run_folder_gives_its_best_and_else_its_last(tmp_path, model):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    checkpoints.save(folder / "last.pt", state_of(model, step=2))
    assert checkpoints.load_model(tmp_path, "cpu").step == 2
    checkpoints.save(folder / "best.pt", state_of(model, step=1))
    assert checkpoints.load_model(tmp_path, "cpu").step == 1


def test_a_folder_without_checkpoints_is_no_run(tmp_path):
    with pytest.raises(AsrError, match=r"is no run folder: there is no checkpoints/best\.pt"):
        checkpoints.load_model(tmp_path, "cpu")


def test_a_last_checkpoint_becomes_the_previous_one(tmp_path, model):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for step in (1, 2):
        checkpoints.save(folder / "last.pt", state_of(model, step=step))
    assert checkpoints.load(folder / "previous.pt")["step"] == 1
    assert checkpoints.load_newest(tmp_path)["step"] == 2
    whole = (folder / "last.pt").read_bytes()
    (folder / "last.pt").write_bytes(whole[: len(whole) // 2])
    assert checkpoints.load_newest(tmp_path)["step"] == 1
    (folder / "previous.pt").unlink()
    with pytest.raises(AsrError, match="damaged, or no checkpoint"):
        checkpoints.load_newest(tmp_path)


def test_a_last_checkpoint_is_used_with_its_average_where_there_is_one(tmp_path, model):
    average = Average(model, 0.5)
    for weight in model.parameters():
        weight.data += 1
    average.update(model)
    state = state_of(model, step=1) | {"averaging": average.state_dict()}
    checkpoints.save(tmp_path / "last.pt", state)
    loaded = checkpoints.load_model(tmp_path / "last.pt", "cpu").model.state_dict()
    for name, value in average.copy.state_dict().items():
        torch.testing.assert_close(loaded[name], value, rtol=0, atol=0)
    assert not torch.equal(loaded["decoder.norm.weight"], model.state_dict()["decoder.norm.weight"])


def test_a_run_without_a_checkpoint_cannot_be_resumed(tmp_path):
    with pytest.raises(AsrError, match="no checkpoint to resume from; start the run again"):
        checkpoints.load_newest(tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path, model, monkeypatch):
    path = tmp_path / "best.pt"
    checkpoints.save(path, state_of(model, step=1))

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(path, state_of(model, step=2))
    assert checkpoints.load(path)["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["best.pt"]


def test_code_in_a_file_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    (tmp_path / "x.pt").write_bytes(pickle.dumps({"version": 1, "model": Evil()}))
    with pytest.raises(AsrError, match="damaged, or no checkpoint"):
        checkpoints.load(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {}}, "was not written by paraformer_asr. A FunASR checkpoint is made one by"),
        ({"version": 99}, "has version 99; this program reads 1"),
        ({"version": 1, "model": {}, "step": 1}, "lacks config, characters; it cannot be used"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(AsrError, match=message):
        checkpoints.load(tmp_path / "x.pt")


@pytest.mark.parametrize("content", [b"", b"PK\3\4 not a zip", b"\x80\x02garbage"])
def test_damaged_files_are_named(tmp_path, content):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(AsrError, match=r"x\.pt: damaged, or no checkpoint"):
        checkpoints.load(tmp_path / "x.pt")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(AsrError, match=r"x\.pt: there is no such checkpoint"):
        checkpoints.load(tmp_path / "x.pt")


def test_another_vocabulary_is_refused(model):
    other = build_model(small_config(data={"toy": {"alphabet": "abce"}}))
    with pytest.raises(AsrError, match="another vocabulary: 4 characters where this model has 4, "):
        checkpoints.fill(model, other.state_dict(), other.tokenizer.characters, source="x.pt")
    with pytest.raises(AsrError, match="in another order"):
        checkpoints.fill(model, model.state_dict(), "dcba", source="x.pt")


def test_another_architecture_is_refused_by_name(model):
    deeper = build_model(small_config(model={"encoder_layers": 2, "dim": 18}))
    with pytest.raises(AsrError) as caught:
        checkpoints.fill(model, deeper.state_dict(), "abcd", source="x.pt")
    message = str(caught.value)
    assert "holds another architecture" in message
    assert "encoder.layers.1" in message
    assert "more. Use the model and features settings of its config.yaml" in message
