"""Randomness repeats, streams are independent, and states can be put back."""

import os
import random

import numpy as np
import pytest
import torch

from paraformer_asr.seed import deterministic, random_state, seed_all, set_random_state, stream


def draws() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]


@pytest.fixture(autouse=True)
def _generators_are_put_back():
    before = random_state()
    yield
    set_random_state(before)


def test_a_seed_repeats_every_global_generator_and_another_changes_every_one():
    seed_all(7)
    first = draws()
    seed_all(7)
    assert draws() == first
    seed_all(8)
    assert all(a != b for a, b in zip(draws(), first, strict=True))


def test_a_seed_beyond_32_bits_is_taken():
    seed_all(2**40 + 3)
    assert len(draws()) == 3


def test_a_stream_is_named_by_its_numbers_alone():
    first = stream(1, 2, 3).random(4).tolist()
    draws()
    assert stream(1, 2, 3).random(4).tolist() == first
    others = [stream(1, 2, 4), stream(1, 3, 2), stream(1, 2), stream(1, 2, 3, 0), stream(2, 1, 3)]
    assert all(other.random(4).tolist() != first for other in others)


def test_streams_of_neighbouring_numbers_are_not_correlated():
    draws = np.array([stream(0, 0, index).standard_normal() for index in range(2000)])
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.08
    assert abs(draws.mean()) < 0.08
    assert abs(draws.std() - 1) < 0.05


def test_a_state_is_put_back_also_after_a_checkpoint(tmp_path):
    seed_all(3)
    np.random.standard_normal()  # leaves a second normal number waiting, which belongs to it
    random.gauss(0, 1)
    state = random_state()
    first = [*draws(), float(np.random.standard_normal()), random.gauss(0, 1)]
    torch.save(state, tmp_path / "state.pt")
    seed_all(99)
    set_random_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [*draws(), float(np.random.standard_normal()), random.gauss(0, 1)] == first


def test_the_switch_goes_both_ways(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = torch.are_deterministic_algorithms_enabled()
    try:
        deterministic(True)
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.deterministic
        assert not torch.backends.cudnn.benchmark
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        deterministic(False)
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.benchmark
    finally:
        deterministic(before)
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


def test_what_the_user_has_set_for_cublas_stays(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    before = torch.are_deterministic_algorithms_enabled()
    deterministic(True)
    deterministic(before)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
