"""A device that does not compute what the CPU computes is not used, and the run says so."""

from __future__ import annotations

import json

import pytest

from maquette import lifecycle
from maquette.device import Device
from maquette.device.selftest import SelfTest
from maquette.recipe import make_recipe
from maquette.runs import RunFolder


@pytest.fixture
def folder(tmp_path):
    recipe = make_recipe(
        {
            "name": "x",
            "runs_dir": str(tmp_path),
            "data": {"tabular": {"path": "x.csv", "target_column": "y"}},
            "model": {"type": "tabular", "name": "mlp"},
        }
    )
    return RunFolder.create(recipe)


def pretend(monkeypatch, result: SelfTest) -> None:
    monkeypatch.setattr(lifecycle, "choose_device", lambda *_: result_device)
    monkeypatch.setattr(lifecycle, "self_test", lambda _device: result)


result_device = Device(name="mps", precision="fp32")


def test_a_wrong_device_is_replaced_with_a_warning(folder, monkeypatch, capsys):
    cpu = Device(name="cpu", precision="fp32")
    warning = "mps does not agree with the CPU, so the CPU is used."
    pretend(
        monkeypatch,
        SelfTest(device=cpu, attention="fused", passed=False, lines=("off",), warning=warning),
    )
    assert lifecycle._trusted_device(folder.recipe(), folder) == cpu
    assert f"warning: {warning}" in capsys.readouterr().err
    event = json.loads(folder.log_file.read_text().splitlines()[-1])
    assert event["event"] == "self-test"
    assert event["passed"] is False


def test_a_right_device_is_used(folder, monkeypatch, capsys):
    pretend(
        monkeypatch,
        SelfTest(
            device=result_device, attention="fused", passed=True, lines=("right",), warning=None
        ),
    )
    assert lifecycle._trusted_device(folder.recipe(), folder) == result_device
    assert capsys.readouterr().err == ""


def test_the_cpu_is_not_asked_about_itself(folder, monkeypatch):
    monkeypatch.setattr(lifecycle, "self_test", None)
    assert lifecycle._trusted_device(folder.recipe(), folder).name == "cpu"
