"""Seeds repeat, states restore, the switches are set."""

import random

import numpy as np
import pytest
import torch

from maquette.training.seeding import (
    random_state,
    restore_random_state,
    seed_everything,
    untouched_random_state,
)


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), torch.rand(()).item()


@pytest.mark.parametrize("seed", [0, 7, 2**63 - 1])
def test_the_same_seed_draws_the_same(seed: int) -> None:
    seed_everything(seed)
    first = draw()
    seed_everything(seed)
    assert draw() == first


def test_deterministic_sets_every_switch_and_false_unsets_them() -> None:
    seed_everything(0, deterministic=True)
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark
    seed_everything(0, deterministic=False)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.benchmark


def test_states_go_through_json_and_come_back() -> None:
    import json

    seed_everything(1)
    draw()
    torch.randn(3)  # leaves half of a pair behind
    random.gauss(0, 1)
    state, tensors = random_state()
    state = json.loads(json.dumps(state))
    after = draw(), random.gauss(0, 1), torch.randn(2).tolist()

    restore_random_state(state, tensors)

    assert (draw(), random.gauss(0, 1), torch.randn(2).tolist()) == after


def test_draws_inside_the_block_leave_no_trace() -> None:
    seed_everything(1)
    expected = torch.rand(3).tolist()
    seed_everything(1)
    with untouched_random_state():
        torch.rand(100)
    assert torch.rand(3).tolist() == expected
