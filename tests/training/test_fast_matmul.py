"""float32 products: what is measured, chosen, recorded and put back."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from maquette.device import Device
from maquette.runs import RunFolder
from maquette.tasks.base import Batch
from maquette.training import fast_matmul as module
from maquette.training.fast_matmul import (
    EXACT,
    MatmulChoice,
    choice_file,
    choose_matmul,
    fast_matmul,
    kept_choice,
    linear_products,
    recorded_choice,
)

CPU = Device(name="cpu", precision="fp32")
MEDIUM = MatmulChoice(precision="medium", speedup=2.0, error=5e-7)


class Rows:
    """Twenty rows of numbers, as a Source."""

    ids = tuple(map(str, range(20)))

    def __len__(self) -> int:
        return 20

    def batches(self, order, batch_size, *, epoch):
        for rows in order.split(batch_size):
            yield Batch((torch.ones(len(rows), 6),), torch.zeros(len(rows)), rows)


@pytest.fixture(autouse=True)
def _precision_comes_back() -> Iterator[None]:
    assert torch.get_float32_matmul_precision() == "highest"
    yield
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.fixture
def network() -> nn.Module:
    layers = [nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 40)]
    return nn.Sequential(*layers, nn.Linear(40, 1), nn.Linear(1, 1))


def timer(*, highest: float, medium: float):
    seconds = {"highest": highest, "medium": medium}

    def take(run) -> float:
        run()
        return seconds[torch.get_float32_matmul_precision()]

    return take


def test_the_products_with_most_work_come_first(network, monkeypatch):
    monkeypatch.setattr(module, "LARGE", 300)
    batch = next(Rows().batches(torch.arange(8), 8, epoch=0))
    # Two layers of 40 × 40 count together; the smallest of the four shapes is left out.
    assert linear_products(network, batch) == [(8, 40, 40), (8, 6, 40), (8, 40, 1)]


def test_faster_and_exact_is_taken(monkeypatch):
    monkeypatch.setattr(module, "_error", lambda *_: 5e-7)
    assert choose_matmul([(8, 40, 40)], timer=timer(highest=2.0, medium=1.0)) == MEDIUM


@pytest.mark.parametrize(("medium", "error"), [(1.8, 5e-7), (1.0, 2e-3), (4.0, 5e-7)])
def test_hardly_faster_or_rounded_is_not(monkeypatch, medium, error):
    monkeypatch.setattr(module, "_error", lambda *_: error)
    chosen = choose_matmul([(8, 40, 40)], timer=timer(highest=2.0, medium=medium))
    assert chosen.precision == "highest"
    assert chosen.error == error
    assert chosen.speedup == pytest.approx(2.0 / medium, abs=1e-3)


def test_the_measured_error_tells_float32_from_bfloat16():
    x, weight, gradient = module._operands((256, 64, 32))
    assert module._error(x, weight, gradient) < EXACT
    exact, rounded = x @ weight.T, x.bfloat16() @ weight.bfloat16().T
    assert (rounded - exact).norm() / exact.norm() > 100 * EXACT


def test_the_whole_measurement_on_this_machine():
    state = torch.get_rng_state()
    chosen = choose_matmul([(64, 32, 48), (64, 48, 32)])
    assert torch.equal(state, torch.get_rng_state())
    assert chosen.speedup is not None
    assert chosen.speedup > 0
    assert chosen.error is not None
    assert 0 < chosen.error < 1e-2
    assert (chosen.precision == "medium") == (
        chosen.speedup >= module.WORTH and chosen.error <= EXACT
    )


def test_longer_batches_share_a_measurement(network, monkeypatch):
    monkeypatch.setattr(module, "LARGE", 150)
    monkeypatch.setattr(module, "MOST_ROWS", 4)
    for rows in (5, 8):
        batch = next(Rows().batches(torch.arange(rows), 8, epoch=0))
        assert linear_products(network, batch) == [(4, 40, 40), (4, 6, 40), (4, 40, 1)]


def test_small_products_do_not_count(network):
    batch = next(Rows().batches(torch.arange(8), 8, epoch=0))
    assert linear_products(network, batch) == []


def test_a_network_without_large_products_has_nothing_to_gain():
    assert kept_choice([]) == MatmulChoice(precision="highest")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MAQUETTE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fp32_products"


def test_a_measurement_is_kept_for_the_next_run(cache, monkeypatch):
    monkeypatch.setattr(module, "choose_matmul", lambda _: MEDIUM)
    assert kept_choice([(8, 40, 40)]) == MEDIUM
    monkeypatch.setattr(module, "choose_matmul", lambda _: MatmulChoice(precision="highest"))
    assert kept_choice([(8, 40, 40)]) == MEDIUM
    assert kept_choice([(9, 40, 40)]).precision == "highest"  # other products are another matter
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"way": 1}'])
def test_a_damaged_measurement_is_taken_again(cache, monkeypatch, content):
    choice_file([(8, 40, 40)]).parent.mkdir(parents=True)
    choice_file([(8, 40, 40)]).write_text(content)
    monkeypatch.setattr(module, "choose_matmul", lambda _: MEDIUM)
    assert kept_choice([(8, 40, 40)]) == MEDIUM
    assert json.loads(choice_file([(8, 40, 40)]).read_text())["precision"] == "medium"


def test_a_cache_that_cannot_be_written_does_not_stop_the_run(cache, monkeypatch):
    cache.parent.write_text("a file in the way")
    monkeypatch.setattr(module, "choose_matmul", lambda _: MEDIUM)
    assert kept_choice([(8, 40, 40)]) == MEDIUM


def test_words():
    assert str(MEDIUM) == (
        "fp32 products: medium (medium is 2.00 times as fast here, with a relative error of 5e-07)"
    )
    assert str(MatmulChoice(precision="highest")) == "fp32 products: highest"


def in_force(network, folder, *, device=CPU) -> tuple[MatmulChoice, str]:
    with fast_matmul(network, Rows(), batch_size=64, device=device, folder=folder) as choice:
        return choice, torch.get_float32_matmul_precision()


def test_the_choice_holds_for_the_block_and_is_recorded(tmp_path, network, monkeypatch):
    seen = []

    def choose(products):
        seen.extend(products)
        return MEDIUM

    monkeypatch.setattr(module, "LARGE", 1000)
    monkeypatch.setattr(module, "kept_choice", choose)
    folder = RunFolder(tmp_path)
    assert in_force(network, folder) == (MEDIUM, "medium")
    assert seen[0] == (20, 40, 40)  # a batch is no larger than the split
    (line,) = folder.log_file.read_text().splitlines()
    entry = json.loads(line)
    assert entry["event"] == "fp32 products"
    assert (entry["precision"], entry["speedup"], entry["error"]) == ("medium", 2.0, 5e-7)


def test_a_resumed_run_keeps_to_what_it_began_with(tmp_path, network, monkeypatch):
    folder = RunFolder(tmp_path)
    folder.log("run started", recipe="x")
    folder.log("fp32 products", precision="medium", speedup=2.0, error=5e-7)
    assert recorded_choice(folder) == MEDIUM
    monkeypatch.setattr(module, "choose_matmul", None)  # nothing is measured
    before = folder.log_file.read_text()
    assert in_force(network, folder) == (MEDIUM, "medium")
    assert folder.log_file.read_text() == before


def test_without_a_record_there_is_none(tmp_path):
    folder = RunFolder(tmp_path)
    assert recorded_choice(folder) is None
    folder.log("run started", recipe="x")
    assert recorded_choice(folder) is None


@pytest.mark.parametrize(
    "device", [Device(name="cpu", precision="bf16"), Device(name="cuda", precision="fp32")]
)
def test_only_fp32_on_a_cpu_is_measured(tmp_path, network, monkeypatch, device):
    monkeypatch.setattr(module, "choose_matmul", None)
    choice, precision = in_force(network, RunFolder(tmp_path), device=device)
    assert choice == MatmulChoice(precision="highest")
    assert precision == "highest"


def test_who_has_chosen_already_is_left_with_it(tmp_path, network):
    torch.set_float32_matmul_precision("high")
    try:
        choice, precision = in_force(network, RunFolder(tmp_path))
        assert choice == MatmulChoice(precision="high")
        assert precision == torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_the_precision_comes_back_after_an_error(tmp_path, network, monkeypatch):
    monkeypatch.setattr(module, "choose_matmul", lambda _: MEDIUM)

    def fail() -> None:
        folder = RunFolder(tmp_path)
        with fast_matmul(network, Rows(), batch_size=4, device=CPU, folder=folder):
            raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        fail()
