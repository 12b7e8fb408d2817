"""The facts that a run records and `maquette doctor` prints."""

import platform

import pytest
import torch
from fake_mac import GIB, M3_PRO, named

from maquette.cli import main
from maquette.device import Device, describe, examine, facts
from maquette.device.selftest import SelfTest


@pytest.fixture
def doubtful(monkeypatch):
    """A self-test that found the fused attention wrong."""

    def tested(device):
        return SelfTest(
            device=device,
            attention="explicit",
            passed=True,
            lines=("training step, fp32: agrees", "fused attention: DIFFERS"),
            warning="The fused attention is wrong.",
        )

    monkeypatch.setattr(facts, "self_test", tested)


def test_what_a_run_records_here(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = describe()
    wanted = "maquette python system processor cores torch numpy device precision torch threads"
    assert " ".join(found) == wanted
    assert found["device"] == "cpu"
    assert found["processor"]


def test_the_doctor_looks_closer(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    main_exit(["doctor"])
    out = capsys.readouterr().out
    for start in ("memory free ", "memory budget ", "attention ", "self-test "):
        assert f"\n{start}" in out
    assert "GiB on the cpu" in out
    assert "self-test 1    training step, fp32: agrees" in out
    assert "warning" not in out


def main_exit(arguments):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 0


def test_a_cuda_card_is_named(monkeypatch):
    class Properties:
        total_memory = 24 * GIB

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 6))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A card")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Properties)
    found = describe()
    assert (found["gpu"], found["gpu memory"]) == ("A card", "24.0 GiB")
    assert (found["device"], found["precision"]) == ("cuda", "bf16")


def test_a_mac_says_its_chip_memory_and_warning(mac, doubtful, monkeypatch):
    monkeypatch.setattr(facts, "_processor_name", lambda: "Apple M3 Pro")
    found = examine()
    assert found["chip"] == "Apple M3 Pro, generation M3 Pro"
    assert found["unified memory"] == "18.0 GiB"
    assert found["macos"] == "14.5"
    assert found["memory budget"] == "7.0 GiB on the mps"
    assert found["attention"] == "explicit"
    assert found["self-test"] == "see the warning"
    assert found["self-test 2"] == "fused attention: DIFFERS"
    assert found["warning"] == "The fused attention is wrong."
    assert (found["device"], found["precision"]) == ("mps", "bf16")


def test_a_mac_under_rosetta_is_told(mac):
    mac(M3_PRO | {"sysctl.proc_translated": "1"})
    found = describe()
    assert found["device"] == "cpu"
    assert "cannot use MPS: install an arm64 one" in found["rosetta"]


def test_a_chip_that_says_little(mac):
    mac({"machdep.cpu.brand_string": "Apple processor"}, macos="")
    found = describe()
    assert found["chip"] == "Apple processor, generation M5 base"
    assert found["unified memory"] == "unknown"
    assert found["macos"] == "unknown"


def test_the_processors_name_where_linux_does_not_tell(mac, monkeypatch, tmp_path):
    monkeypatch.setattr(facts, "CPU_FACTS", tmp_path / "missing")
    assert facts._processor_name() == "Apple M3 Pro"
    mac(named("Intel(R) Core(TM) i9"))
    monkeypatch.setattr(platform, "processor", lambda: "i386")
    assert facts._processor_name() == "i386"
    (tmp_path / "missing").write_text("processor: 0\n")
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert facts._processor_name() == "arm64"


def test_devices_are_equal_by_value():
    assert Device(name="mps", precision="fp32").torch_device == torch.device("mps")
