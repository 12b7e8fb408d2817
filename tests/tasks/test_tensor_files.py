"""Weight files of any origin; tests/tasks/vision/test_weights.py has the damaged ones."""

from __future__ import annotations

import warnings

import pytest
import torch

from maquette.errors import DataError, UsageError
from maquette.tasks.tensor_files import read_tensors, refuse_not_finite, some


def test_wrappers_and_containers_are_taken_off(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"state_dict": {"module.model.a": torch.ones(2)}, "epoch": 3}, path)
    assert list(read_tensors(path)) == ["a"]


def test_a_torchscript_archive_is_refused_with_the_way_out(tmp_path):
    path = tmp_path / "ViT-B-32.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; OpenAI's files are not gone
        torch.jit.script(torch.nn.Linear(2, 2)).save(path)
    with pytest.raises(UsageError) as caught:
        read_tensors(path)
    message = str(caught.value)
    assert message.startswith(
        f"{path} is a TorchScript archive, a program with weights in it, so it was not opened. "
        "Take the weights out once, where you trust the file:\n"
    )
    command = message.partition("\n")[2].strip()
    assert command.startswith("python -c ")
    code = command.removeprefix('python -c "').removesuffix('"')
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(code, {})
    assert set(read_tensors(tmp_path / "ViT-B-32-weights.pt")) == {"weight", "bias"}


def test_not_finite_tensors_are_named():
    refuse_not_finite({"a": torch.ones(2)}, "here")
    with pytest.raises(DataError, match="here holds NaN or infinity in b; take another"):
        refuse_not_finite({"a": torch.ones(2), "b": torch.tensor([torch.nan])}, "here")


def test_long_lists_are_counted():
    assert some("abc") == "a, b, c"
    assert some(map(str, range(10))) == "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"
