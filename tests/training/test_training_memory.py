"""The search for a batch size on machines made of a formula, and what it leaves behind."""

import random
import time
import weakref
from collections.abc import Callable
from types import TracebackType

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from maquette.device import Device
from maquette.device.memory import PeakMemory, used_memory
from maquette.errors import RunError
from maquette.training import memory as training_memory
from maquette.training.memory import Found, find_batch_size, release_memory, untouched
from maquette.training.optim import Optimizer

MIB = 2**20


class Machine:
    """Memory that a step takes by a formula; more than `limit` raises."""

    def __init__(self, taken: Callable[[int], float], idle: int = 0, limit: float = float("inf")):
        self.taken, self.idle, self.limit = taken, idle, limit
        self.now = idle
        self.tried: list[int] = []

    def step(self, batch_size: int) -> None:
        self.tried.append(batch_size)
        self.now = self.idle + round(self.taken(batch_size))
        if self.now > self.limit:
            raise torch.OutOfMemoryError("out of memory")

    def peak(self) -> "Meter":
        return Meter(self)

    def find(self, budget: int, largest: int = 10_000, **options: object) -> Found:
        return find_batch_size(
            self.step,
            budget=budget,
            peak=self.peak,
            largest=largest,
            **({"release": int} | options),  # type: ignore[arg-type]
        )


class Meter:
    """What `Machine` says was in use at the peak."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.bytes = machine, 0

    def __enter__(self) -> "Meter":
        self.machine.now = self.machine.idle
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.bytes = self.machine.now


def linear(fixed: float, each: float) -> Callable[[int], float]:
    return lambda batch_size: fixed + each * batch_size


@pytest.mark.parametrize("careful", [True, False])
def test_a_linear_machine_is_filled_to_85_percent(careful: bool) -> None:
    machine = Machine(linear(100 * MIB, 3 * MIB), idle=50 * MIB)
    found = machine.find(1000 * MIB, careful=careful)
    assert found.batch_size == (850 - 150) // 3 // 8 * 8
    assert found.probes[-1].bytes == (150 + 3 * found.probes[-1].batch_size) * MIB
    assert [probe.batch_size for probe in found.probes][:2] == [1, 2]


def test_two_steps_give_the_line_where_a_failure_may_raise() -> None:
    machine = Machine(linear(100 * MIB, 30 * MIB))
    assert machine.find(1000 * MIB, careful=False).batch_size == 24
    assert machine.tried == [1, 1, 2, 24]  # the first warms up, the last verifies


@given(
    idle=st.integers(0, 300),
    fixed=st.integers(0, 300),
    each=st.floats(0.01, 200),
    pairs=st.floats(0, 5),
    largest=st.integers(1, 5000),
)
def test_a_careful_search_never_leaves_the_budget(
    idle: int, fixed: int, each: float, pairs: float, largest: int
) -> None:
    """Memory with a part quadratic in the batch, such as a matrix of all pairs."""
    budget = 2000 * MIB

    def taken(batch_size: int) -> float:
        return MIB * (fixed + each * batch_size + pairs * batch_size**2)

    machine = Machine(taken, idle=idle * MIB)
    if idle * MIB + 4 * taken(1) > budget:  # the smallest steps are not for the search to choose
        return
    found = machine.find(budget, largest)
    assert all(idle * MIB + taken(size) <= budget for size in machine.tried)
    assert 1 <= found.batch_size <= largest
    assert found.batch_size < 8 or found.batch_size % 8 == 0 or found.batch_size == largest


@given(fixed=st.integers(0, 500), each=st.floats(0.2, 100), seed=st.integers(0, 100))
def test_a_careful_search_with_noise_fills_most_of_the_room(
    fixed: int, each: float, seed: int
) -> None:
    noise = random.Random(seed)
    machine = Machine(lambda b: MIB * (fixed + each * b + noise.uniform(0, 5)))
    found = machine.find(2000 * MIB)
    possible = (0.85 * 2000 - fixed) / each
    assert found.batch_size <= 2000 / each
    assert found.batch_size >= min(0.6 * possible, possible - 8) or found.batch_size == 10_000


def test_memory_that_does_not_grow_is_no_obstacle() -> None:
    found = Machine(linear(100 * MIB, 0)).find(1000 * MIB, largest=500)
    assert found.batch_size == 500
    assert found.lines[0] == "a step with 1 sample: 100 MiB in use"
    assert found.lines[-1] == (
        "500 samples at once fit in the 1000 MiB that the training may take; more are not needed"
    )


def test_a_step_that_runs_out_halves_the_batch() -> None:
    """The machine holds far less than the budget says."""
    machine = Machine(linear(0, 10 * MIB), limit=300 * MIB)
    found = machine.find(10_000 * MIB, careful=False)
    assert found.batch_size <= 30
    assert found.batch_size > 15
    assert any("out of memory" in line for line in found.lines)


def test_a_step_above_the_budget_halves_the_batch() -> None:
    machine = Machine(lambda b: MIB * (10 * b + b**3))
    found = machine.find(4000 * MIB, careful=False)
    assert found.probes[-1].bytes <= 4000 * MIB
    assert max(machine.tried) > found.batch_size


def test_the_second_step_waits_for_room_where_failure_kills() -> None:
    machine = Machine(linear(0, 600 * MIB))
    assert machine.find(1000 * MIB).batch_size == 1
    assert machine.tried == [1, 1]


def test_steps_of_at_least_two_samples() -> None:
    machine = Machine(linear(0, 100 * MIB))
    assert machine.find(1000 * MIB, smallest=2).batch_size == 8
    assert min(machine.tried) == 2


def test_everything_is_released_after_each_step() -> None:
    released: list[int] = []
    machine = Machine(linear(0, 100 * MIB), limit=150 * MIB)
    found = machine.find(1000 * MIB, careful=False, release=lambda: released.append(1))
    assert found.batch_size == 1
    assert len(released) == len(machine.tried)


def test_the_tensors_of_a_failed_step_are_free_when_memory_is_released() -> None:
    held: list[weakref.ref[nn.Module]] = []
    alive: list[bool] = []

    def step(batch_size: int) -> None:
        activation = nn.Identity()
        held.append(weakref.ref(activation))
        if batch_size > 1:
            raise RuntimeError("CUDA out of memory")

    find_batch_size(
        step,
        budget=MIB,
        peak=Machine(linear(0, 1)).peak,
        largest=4,
        release=lambda: alive.append(held[-1]() is not None),
    )
    assert not any(alive)


def test_one_sample_above_the_budget_is_an_error_that_helps() -> None:
    with pytest.raises(RunError) as caught:
        Machine(linear(0, 3 * 2**30)).find(2 * 2**30)
    assert str(caught.value) == (
        "training.batch_size is auto, and a step with 1 sample already has 3.00 GiB in use; the "
        "training may take 2.00 GiB. Allow more with training.memory_budget, or use a smaller "
        "image size or model; image_text: model.architecture.activation_checkpointing=true needs "
        "less."
    )


def test_two_samples_that_run_out_of_memory_are_an_error_that_helps() -> None:
    with pytest.raises(RunError, match="a step with 2 samples already runs out of memory"):
        Machine(linear(0, 3), limit=1).find(MIB, smallest=2)


def test_other_errors_pass() -> None:
    def step(batch_size: int) -> None:
        raise RuntimeError(f"no such kernel for {batch_size}")

    with pytest.raises(RuntimeError, match="no such kernel"):
        find_batch_size(step, budget=MIB, peak=Machine(linear(0, 0)).peak, largest=4)


class Net(nn.Module):
    """Batch statistics, dropout, a frozen part and a part in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(4, 8).requires_grad_(False)
        self.norm = nn.BatchNorm1d(8)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.head(self.dropout(self.norm(self.frozen(x))))
        return result


def train(model: nn.Module, optimizer: Optimizer, batch_size: int) -> None:
    model.train()
    model(torch.randn(batch_size, 4)).square().mean().backward()
    optimizer.step(optimizer.gradients(), 0.1)
    optimizer.zero_grad()


def everything(model: nn.Module, optimizer: Optimizer) -> dict[str, torch.Tensor]:
    return {
        name: tensor.clone() for name, tensor in (model.state_dict() | optimizer.tensors()).items()
    }


def test_untouched_restores_weights_state_modes_and_generators_bit_for_bit() -> None:
    torch.manual_seed(0)
    model = Net()
    optimizer = Optimizer(model, name="adamw", weight_decay=0.1, rates={"head.weight": 0.5})
    train(model, optimizer, 4)
    model.norm.eval()
    before, generator = everything(model, optimizer), torch.get_rng_state()
    python, numpy = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]

    with untouched(model, optimizer):
        train(model, optimizer, 8)
        model.norm.train()
        random.random()
        np.random.rand()
        model.head.weight.grad = torch.ones_like(model.head.weight)
        changed = everything(model, optimizer)

    after = everything(model, optimizer)
    moved = {name for name in before if not torch.equal(before[name], changed[name])}
    assert {"head.weight", "norm.running_mean", "norm.num_batches_tracked"} <= moved
    assert {"first_moment/head.weight", "second_moment/norm.bias"} <= moved
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert optimizer.steps == 1
    assert model.head.weight.grad is None
    assert not model.norm.training
    assert model.dropout.training
    assert torch.equal(torch.get_rng_state(), generator)
    assert random.getstate() == python
    assert np.random.get_state()[1].tolist() == numpy


def test_a_search_in_between_changes_nothing_in_the_training_that_follows() -> None:
    results = []
    for search in (False, True):
        torch.manual_seed(0)
        model = Net()
        optimizer = Optimizer(model, name="adamw")
        if search:
            with untouched(model, optimizer):
                find_batch_size(
                    lambda size: train(model, optimizer, size),  # noqa: B023
                    budget=MIB,
                    peak=Machine(linear(0, 100)).peak,
                    largest=16,
                    smallest=2,
                )
        for _ in range(3):
            train(model, optimizer, 4)
        results.append(everything(model, optimizer))
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_untouched_restores_after_an_error_too() -> None:
    model = Net()
    optimizer = Optimizer(model, name="sgd")
    before = everything(model, optimizer)

    def fail() -> None:
        with untouched(model, optimizer):
            train(model, optimizer, 4)
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail()
    after = everything(model, optimizer)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_real_memory_of_this_process_is_measured_and_kept_within_a_budget() -> None:
    """Each sample takes 4 MiB for longer than the meter's interval."""
    device = Device(name="cpu", precision="fp32")

    def step(batch_size: int) -> None:
        held = torch.ones(batch_size, MIB)
        time.sleep(0.03)
        del held

    release_memory(torch.device("cpu"))
    budget = used_memory(device) + 256 * MIB
    found = find_batch_size(
        step,
        budget=budget,
        peak=lambda: PeakMemory(device),
        largest=1000,
        release=lambda: release_memory(torch.device("cpu")),
    )
    # 64 would fit by the numbers; a busy process may hold more for reasons of its own
    assert 4 <= found.batch_size <= 64
    assert found.probes[-1].bytes <= budget


def test_release_memory_empties_the_cache_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    emptied: list[str] = []
    monkeypatch.setattr(training_memory, "empty_cache", lambda device: emptied.append(device.name))
    release_memory(torch.device("cpu"))
    assert emptied == ["cpu"]
