"""The trainer sets global switches of PyTorch; every test here leaves them as it found them."""

from collections.abc import Iterator

import pytest
import torch

from maquette.training.seeding import random_state, restore_random_state


@pytest.fixture(autouse=True)
def untouched_globals() -> Iterator[None]:
    deterministic = torch.get_deterministic_debug_mode()
    benchmark, threads = torch.backends.cudnn.benchmark, torch.get_num_threads()
    state = random_state()
    torch.set_num_threads(1)  # the same sums in the same order in every process
    yield
    restore_random_state(*state)
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode(deterministic)
    torch.backends.cudnn.benchmark = benchmark
