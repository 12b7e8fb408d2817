"""Weight files of any origin; tests/tasks/vision/test_weights.py has the damaged ones."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path

import pytest
import torch

from maquette.errors import DataError
from maquette.tasks.tensor_files import read_tensors, refuse_not_finite, some


def test_wrappers_and_containers_are_taken_off(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"state_dict": {"module.model.a": torch.ones(2)}, "epoch": 3}, path)
    assert list(read_tensors(path)) == ["a"]


class Small(torch.nn.Module):
    """Has what OpenAI's archives have: nested modules, half precision, sizes, a transposed view."""

    def __init__(self):
        super().__init__()
        self.visual = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2), torch.nn.BatchNorm2d(4))
        self.logit_scale = torch.nn.Parameter(torch.tensor(2.5))
        self.turned = torch.nn.Parameter(torch.randn(3, 4).T)
        self.register_buffer("input_resolution", torch.tensor(224))
        self.sizes = [1, 2, 3]

    def forward(self, x):
        return self.visual(x) * self.logit_scale * self.turned.sum() * len(self.sizes)


def archive(path: Path, model: torch.nn.Module) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; OpenAI's files are still there
        torch.jit.script(model).save(path)
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_tensors_of_a_torchscript_archive(tmp_path, dtype):
    model = Small().to(dtype).eval()
    found = read_tensors(archive(tmp_path / "ViT.pt", model))
    assert found.keys() == model.state_dict().keys()
    for key, value in model.state_dict().items():
        assert found[key].dtype == value.dtype
        assert torch.equal(found[key], value), key


def rewritten(path: Path, name: str, change) -> Path:
    """Copy an archive with one member changed."""
    other = path.with_name("changed.pt")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w") as new:
        for member in old.namelist():
            content = old.read(member)
            new.writestr(member, change(content) if member.endswith(name) else content)
    return other


def test_a_torchscript_archive_runs_nothing(tmp_path, capfd):
    path = archive(tmp_path / "w.pt", Small())
    code = pickle.dumps({"a": Code()}, protocol=2)
    with pytest.raises(DataError) as caught:
        read_tensors(rewritten(path, "/data.pkl", lambda _: code))
    assert "holds Python objects besides tensors (" in str(caught.value)
    assert "could run code, so it was not opened" in str(caught.value)
    assert "never be printed" not in capfd.readouterr().out


class Code:
    def __reduce__(self):
        return (print, ("this must never be printed",))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("/data/3", lambda content: content[:4], "changed.pt is damaged: storage 3 is cut short."),
        ("/byteorder", lambda _: b"big", "changed.pt is damaged: its numbers are big-endian."),
        ("/data.pkl", lambda content: content[:50], "changed.pt is damaged: "),
    ],
)
def test_damaged_torchscript_archives(tmp_path, name, change, message):
    path = archive(tmp_path / "w.pt", Small())
    with pytest.raises(DataError) as caught:
        read_tensors(rewritten(path, name, change))
    assert message in str(caught.value)
    assert str(caught.value).endswith("compare its checksum.")


def test_not_finite_tensors_are_named():
    refuse_not_finite({"a": torch.ones(2)}, "here")
    with pytest.raises(DataError, match="here holds NaN or infinity in b; take another"):
        refuse_not_finite({"a": torch.ones(2), "b": torch.tensor([torch.nan])}, "here")


def test_long_lists_are_counted():
    assert some("abc") == "a, b, c"
    assert some(map(str, range(10))) == "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"
