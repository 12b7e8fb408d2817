"""Checkpoints: whole or absent, read without running code, refused by name when they do not fit."""

from __future__ import annotations

import pickle

import pytest
import torch

from unet_seg import checkpoints
from unet_seg.config import config_to_dict
from unet_seg.errors import SegError
from unet_seg.models import build_model


@pytest.fixture
def saved(make_config, tmp_path):
    """A run folder with a best.pt, and the model in it."""
    config = make_config()
    model = build_model(config)
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    state = {"config": config_to_dict(config), "step": 5, "model": model.state_dict()}
    checkpoints.save(folder / "best.pt", state)
    return tmp_path / "run", config, model


def test_a_model_comes_back_bit_for_bit(saved):
    run, config, model = saved
    loaded = checkpoints.load_model(run, device="cpu")
    assert (loaded.config, loaded.step, loaded.classes) == (config, 5, config.data.classes)
    assert not loaded.model.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor), name


def test_averaged_weights_are_preferred(saved):
    run, config, model = saved
    average = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    name = next(iter(average))
    average[name] += 1
    state = {"config": config_to_dict(config), "step": 5, "model": model.state_dict()}
    checkpoints.save(run / "checkpoints" / "best.pt", state | {"ema": average})
    loaded = checkpoints.load_model(run, device="cpu")
    assert torch.equal(loaded.model.state_dict()[name], average[name])


def test_a_run_without_a_best_gives_its_last(saved):
    run, _, _ = saved
    (run / "checkpoints" / "best.pt").rename(run / "checkpoints" / "last.pt")
    assert checkpoints.load_model(run, device="cpu").path.name == "last.pt"


def test_a_failed_write_leaves_the_old_checkpoint(saved, monkeypatch):
    run, _, model = saved
    path = run / "checkpoints" / "best.pt"
    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(OSError, match="no space left"):
        checkpoints.save(path, {"model": model.state_dict()})
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["best.pt"]


def test_a_damaged_last_falls_back_to_the_previous(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for step in (1, 2):
        checkpoints.save(folder / "last.pt", {"model": {}, "step": step})
    assert checkpoints.load_last(tmp_path)["step"] == 2
    (folder / "last.pt").write_bytes((folder / "last.pt").read_bytes()[:100])
    assert checkpoints.load_last(tmp_path)["step"] == 1
    (folder / "last.pt").unlink()
    assert checkpoints.load_last(tmp_path)["step"] == 1
    (folder / "previous.pt").unlink()
    with pytest.raises(SegError, match=r"has no checkpoints/last.pt to resume from; start the run"):
        checkpoints.load_last(tmp_path)


def test_a_damaged_last_alone_is_named(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.pt").write_bytes(b"nothing")
    with pytest.raises(SegError, match=r"last.pt: is damaged or no checkpoint"):
        checkpoints.load_last(tmp_path)


class Code:
    """A pickle that would run something when it is read."""

    def __reduce__(self):
        return (print, ("this must not be printed",))


def test_code_in_a_checkpoint_is_not_run(tmp_path, capsys):
    path = tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps(Code()))
    with pytest.raises(SegError, match="is damaged or no checkpoint"):
        checkpoints.load(path)
    torch.save({"format": 1, "model": Code()}, path)
    with pytest.raises(SegError, match="is damaged or no checkpoint"):
        checkpoints.load(path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ([1, 2], "was not written by unet_seg; it lacks 'format' and 'model'."),
        ({"model": {}}, "was not written by unet_seg"),
        ({"format": 99, "model": {}}, "has format 99, this version reads 1."),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, state, message):
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(SegError, match=message):
        checkpoints.load(tmp_path / "x.pt")


def test_a_missing_file_and_a_folder_that_is_no_run_are_named(tmp_path):
    with pytest.raises(SegError, match=r"x.pt: no such checkpoint."):
        checkpoints.load(tmp_path / "x.pt")
    with pytest.raises(SegError, match=r"is no run folder: it has no checkpoints/\."):
        checkpoints.load_model(tmp_path)


def test_the_weights_of_another_architecture_are_refused_by_name(make_config, saved):
    _, _, model = saved
    wider = build_model(make_config(model={"widths": [4, 8, 12]}))
    deeper = build_model(make_config(model={"widths": [4, 8, 8, 8]}))
    with pytest.raises(SegError) as error:
        checkpoints.fill(wider, model.state_dict(), source="a.pt")
    message = str(error.value)
    assert message.startswith("a.pt: holds the weights of another architecture: ")
    assert "expected (12," in message
    assert "Use the configuration it was trained with (config.yaml of its run folder)." in message
    with pytest.raises(SegError, match=r"missing .* and [0-9]+ more"):
        checkpoints.fill(deeper, model.state_dict(), source="a.pt")
    with pytest.raises(SegError, match="unexpected extra"):
        checkpoints.fill(model, {**model.state_dict(), "extra": torch.zeros(1)}, source="a.pt")
