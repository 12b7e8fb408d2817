"""Apple chips by name, and the rules that follow, without an Apple chip."""

import platform
import subprocess

import pytest
from fake_mac import GIB, M3_PRO, named

from maquette.device import apple


@pytest.mark.parametrize(
    ("name", "generation", "tier"),
    [
        ("Apple M1", 1, "base"),
        ("Apple M2 Pro", 2, "Pro"),
        ("Apple M3 Max", 3, "Max"),
        ("Apple M3 Ultra", 3, "Ultra"),
        ("Apple M12 Ultra", 12, "Ultra"),
        ("Apple M7 Turbo", 7, "base"),
        ("VirtualApple @ 2.50GHz processor", apple.NEWEST_GENERATION, "base"),
        ("Apple processor", apple.NEWEST_GENERATION, "base"),
    ],
)
def test_names_are_parsed_and_unknown_ones_are_the_newest(name, generation, tier):
    assert apple.parse_name(name) == (generation, tier)


def test_a_chip_as_the_system_describes_it(mac):
    assert apple.read_chip() == apple.Chip(
        name="Apple M3 Pro",
        generation=3,
        tier="Pro",
        memory=18 * GIB,
        performance_cores=6,
        macos=(14, 5),
        is_translated=False,
    )


def test_a_system_that_says_little(mac):
    mac({"machdep.cpu.brand_string": "Apple M1"}, macos="")
    chip = apple.read_chip()
    assert (chip.memory, chip.performance_cores, chip.macos) == (0, 0, (0, 0))
    mac(macos="15")
    assert apple.read_chip().macos == (15, 0)


def test_other_machines_have_no_apple_chip(mac, monkeypatch):
    mac(named("Intel(R) Core(TM) i9-9880H CPU @ 2.30GHz"))
    assert apple.read_chip() is None
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    assert apple.read_chip() is None
    assert not apple.is_translated()


@pytest.mark.parametrize(
    ("brand", "macos", "precision"),
    [
        ("Apple M1", "15.1", "fp32"),
        ("Apple M2 Ultra", "14.0", "fp32"),
        ("Apple M3", "13.6", "fp32"),
        ("Apple M3", "14.0", "bf16"),
        ("Apple M4 Max", "15.0", "bf16"),
        ("Apple M99", "26.1", "bf16"),
        ("Apple M4", "", "bf16"),
    ],
)
def test_bf16_is_chosen_where_it_is_there_and_faster(mac, brand, macos, precision):
    mac(named(brand), macos=macos)
    assert apple.best_precision(apple.read_chip()) == precision


def test_mps_without_a_known_chip_stays_with_fp32():
    assert apple.best_precision(None) == "fp32"
    assert apple.knows_bf16(None)


@pytest.mark.parametrize(
    ("recommended", "available", "allocated", "total", "budget"),
    [
        (10 * GIB, 100 * GIB, 0, 100 * GIB, 8 * GIB),  # Metal's limit
        (40 * GIB, 9 * GIB, 1 * GIB, 48 * GIB, 7 * GIB),  # other programs take the rest
        (8 * GIB, 20 * GIB, 0, 8 * GIB, 6 * GIB),  # the system keeps 2 GiB
        (10 * GIB, 100 * GIB, 0, 0, 8 * GIB),  # a total that is not known
        (2 * GIB, 2 * GIB, 0, 1 * GIB, 0),
    ],
)
def test_the_smallest_rule_gives_the_budget(recommended, available, allocated, total, budget):
    found = apple.memory_budget(
        recommended=recommended, available=available, allocated=allocated, total=total
    )
    assert found == pytest.approx(budget, abs=1)


def test_settings_only_for_macs(mac, monkeypatch):
    settings = apple.environment()
    assert settings["PYTORCH_ENABLE_MPS_FALLBACK"] == "1"
    # torch refuses a high mark below the low one.
    high = float(settings["PYTORCH_MPS_HIGH_WATERMARK_RATIO"])
    assert float(settings["PYTORCH_MPS_LOW_WATERMARK_RATIO"]) <= high <= 1
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    assert apple.environment() == {}


def test_the_command_line_sets_them_and_keeps_the_users(mac, monkeypatch, capsys):
    import os

    from maquette.cli import main

    monkeypatch.setattr(
        os, "environ", os.environ | {"PYTORCH_MPS_HIGH_WATERMARK_RATIO": "0.5", "COLUMNS": "80"}
    )
    with pytest.raises(SystemExit):
        main(["--version"])
    assert os.environ["PYTORCH_MPS_HIGH_WATERMARK_RATIO"] == "0.5"
    assert os.environ["PYTORCH_ENABLE_MPS_FALLBACK"] == "1"


def test_sysctl_is_asked_and_may_fail(monkeypatch):
    def answers(returncode, stdout):
        def run(command, **_):
            assert command == ["/usr/sbin/sysctl", "-n", "hw.memsize"]
            return subprocess.CompletedProcess(command, returncode, stdout=stdout)

        return run

    monkeypatch.setattr(subprocess, "run", answers(0, "8589934592\n"))
    assert apple._sysctl("hw.memsize") == "8589934592"
    monkeypatch.setattr(subprocess, "run", answers(1, "unknown oid"))
    assert apple._sysctl("hw.memsize") == ""

    def missing(*_, **__):
        raise FileNotFoundError("/usr/sbin/sysctl")

    monkeypatch.setattr(subprocess, "run", missing)
    assert apple._sysctl("hw.memsize") == ""


def test_rosetta_is_noticed(mac):
    mac(M3_PRO | {"sysctl.proc_translated": "1"})
    assert apple.is_translated()
    assert apple.read_chip().is_translated
