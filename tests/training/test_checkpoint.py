"""Checkpoint files: exact, verified, whole or absent, two and the best."""

import hashlib
from pathlib import Path

import pytest
import torch

from maquette.errors import RunError
from maquette.training.checkpoint import (
    CheckpointFolder,
    DamagedError,
    Snapshot,
    read_snapshot,
    write_snapshot,
)


def snapshot(step: int, *, value: float = 0.0) -> Snapshot:
    tensors = {
        "model/weight": torch.full((3, 2), value),
        "model/steps": torch.tensor(7),
        "random/cpu": torch.arange(5, dtype=torch.uint8),
        "empty": torch.zeros(0, 4),
        "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    }
    return Snapshot({"step": step, "loss": [0.1 + 0.2, float("nan")]}, tensors)


def best(epoch: int) -> Snapshot:
    return Snapshot({"epoch": epoch, "value": 0.5}, {"weight": torch.full((2,), float(epoch))})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_what_is_written_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    transposed = torch.arange(6.0).reshape(2, 3).T
    write_snapshot(path, Snapshot({"x": 1e-17}, {"t": transposed, **snapshot(1).tensors}))

    back = read_snapshot(path)

    assert back.state == {"x": 1e-17}
    assert torch.equal(back.tensors["t"], transposed)
    for name, tensor in snapshot(1).tensors.items():
        assert back.tensors[name].dtype == tensor.dtype
        assert torch.equal(back.tensors[name], tensor)


def test_part_takes_the_names_apart() -> None:
    assert list(snapshot(1).part("model")) == ["weight", "steps"]


def test_a_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_snapshot(path, snapshot(1))
    flip_last_byte(path)
    with pytest.raises(DamagedError, match="does not have the checksum"):
        read_snapshot(path)


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"\x00" * 200])
def test_other_files_are_not_checkpoints(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(DamagedError, match="cannot be read"):
        read_snapshot(path)


def test_a_file_cut_short_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_snapshot(path, snapshot(1))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DamagedError, match="cannot be read"):
        read_snapshot(path)


def test_safetensors_of_something_else_are_not_checkpoints(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "a.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(DamagedError, match="its format is None"):
        read_snapshot(path)


def test_the_newest_two_and_the_best_they_name_are_kept(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    for step, epoch in ((1, None), (2, 1), (3, 1), (4, 3), (5, 4)):
        folder.save(snapshot(step), None if epoch is None else best(epoch))
    assert names(tmp_path) == [
        "best-epoch-0003.safetensors",
        "best-epoch-0004.safetensors",
        "step-000000004.safetensors",
        "step-000000005.safetensors",
    ]
    loaded = folder.load()
    assert loaded is not None
    newest, best_weights, complaints = loaded
    assert newest.state["step"] == 5
    assert best_weights is not None
    assert best_weights.state["epoch"] == 4
    assert complaints == []


@pytest.mark.parametrize("damaged", ["step-000000005", "best-epoch-0004"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    tmp_path: Path, damaged: str
) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(snapshot(4), best(3))
    folder.save(snapshot(5), best(4))
    flip_last_byte(tmp_path / f"{damaged}.safetensors")

    loaded = folder.load()

    assert loaded is not None
    used, best_weights, complaints = loaded
    assert used.state["step"] == 4
    assert best_weights is not None
    assert best_weights.state["epoch"] == 3
    assert len(complaints) == 1
    assert "step-000000005.safetensors was passed over: its content" in complaints[0]


def test_when_all_are_damaged_the_error_says_how_to_go_on(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(snapshot(4), None)
    flip_last_byte(tmp_path / "step-000000004.safetensors")
    with pytest.raises(
        RunError, match=r"No checkpoint is left\. Delete the folder .* resume again"
    ):
        folder.load()


def test_no_checkpoint_at_all_is_no_error(tmp_path: Path) -> None:
    assert CheckpointFolder(tmp_path / "none").load() is None


def test_clear_and_forget_leave_nothing_of_another_future(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(snapshot(4), best(3))
    folder.save(snapshot(5), best(4))
    (tmp_path / ".step-000000006.safetensors.x1.part").write_bytes(b"half")

    folder.forget_after(4, "best-epoch-0003.safetensors")
    assert names(tmp_path) == ["best-epoch-0003.safetensors", "step-000000004.safetensors"]

    folder.clear()
    assert names(tmp_path) == []


def test_a_failed_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(snapshot(4), None)
    before = hashlib.sha256((tmp_path / "step-000000004.safetensors").read_bytes()).digest()

    blocked = CheckpointFolder(tmp_path / "step-000000004.safetensors")  # a file, not a folder
    with pytest.raises(RunError, match="Could not write"):
        blocked.save(snapshot(5), None)

    assert names(tmp_path) == ["step-000000004.safetensors"]
    assert hashlib.sha256((tmp_path / "step-000000004.safetensors").read_bytes()).digest() == before
