"""Small steps run on one thread; counting them changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from maquette.tasks.base import Batch
from maquette.training.threads import SMALL_STEP, count_multiply_adds, fitting_threads


class Images:
    """Random images, as a Source."""

    def __init__(self, side: int, count: int = 4) -> None:
        self.pixels = torch.randn(count, 3, side, side)
        self.ids = [str(index) for index in range(count)]

    def __len__(self) -> int:
        return len(self.ids)

    def batches(self, order: Tensor, batch_size: int, *, epoch: int) -> Iterator[Batch]:
        for rows in order.split(batch_size):
            yield Batch((self.pixels[rows],), torch.zeros(len(rows)), rows)


@pytest.fixture
def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, stride=2),
        nn.BatchNorm2d(8),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )


@pytest.fixture
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_counts_by_hand(network):
    source = Images(10)
    batch = next(source.batches(torch.arange(4), 4, epoch=0))
    convolution = 4 * 8 * 5 * 5 * (3 * 3 * 3)
    linear = 4 * 5 * 8
    assert count_multiply_adds(network, batch) == convolution + linear


def test_counting_leaves_no_trace(network):
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    batch = next(Images(10).batches(torch.arange(4), 4, epoch=0))
    random_state = torch.get_rng_state()
    count_multiply_adds(network, batch)
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())
    assert torch.equal(random_state, torch.get_rng_state())
    for name, value in network.state_dict().items():
        assert torch.equal(before[name], value), name


@pytest.mark.usefixtures("_two_threads")
def test_small_steps_take_one_thread_and_large_ones_all(network):
    with fitting_threads(network, Images(8), batch_size=64) as threads:
        assert threads == torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    large = Images(1024, count=4)
    batch = next(large.batches(torch.arange(4), 4, epoch=0))
    assert count_multiply_adds(network, batch) > SMALL_STEP
    with fitting_threads(network, large, batch_size=4) as threads:
        assert threads == torch.get_num_threads() == 2


@pytest.mark.usefixtures("_two_threads")
def test_the_threads_come_back_after_an_error(network):
    def fail() -> None:
        with fitting_threads(network, Images(8), batch_size=2):
            raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        fail()
    assert torch.get_num_threads() == 2
