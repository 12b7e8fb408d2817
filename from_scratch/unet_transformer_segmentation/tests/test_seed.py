"""Seeds: generators that depend on their keys alone, and the determinism switch."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
import torch

from unet_seg.seed import generator_for, seed_everything, set_deterministic


def test_a_generator_depends_on_its_keys_alone():
    first = generator_for(3, 1, 4).random(5)
    np.random.seed(9)
    random.seed(9)
    assert np.array_equal(generator_for(3, 1, 4).random(5), first)
    others = [generator_for(*keys).random(5) for keys in ((3, 1), (3, 1, 5), (3, 4, 1), (4, 1, 4))]
    assert all(not np.array_equal(other, first) for other in others)


def test_every_global_generator_is_seeded():
    def draws() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    seed_everything(5)
    first = draws()
    seed_everything(5)
    assert draws() == first
    seed_everything(6)
    assert all(a != b for a, b in zip(draws(), first, strict=True))


@pytest.fixture
def _settings(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
    )
    yield
    torch.use_deterministic_algorithms(before[0])
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before[1:]
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


@pytest.mark.usefixtures("_settings")
def test_the_switch_goes_both_ways_and_keeps_what_the_user_has_set(monkeypatch):
    set_deterministic(False)
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.benchmark
    set_deterministic(True)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert torch.are_deterministic_algorithms_enabled()
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == (True, False)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    set_deterministic(True)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
