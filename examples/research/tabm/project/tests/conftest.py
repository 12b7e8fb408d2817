"""The tables, read once; a test that needs them is skipped where they cannot be had."""

import pytest
import torch

from data.dataset import load_adult, load_wine_quality

torch.set_num_threads(1)  # as in run.py


def load_or_skip(load):
    try:
        return load()
    except SystemExit as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def adult():
    return load_or_skip(load_adult)


@pytest.fixture(scope="session")
def wine():
    return load_or_skip(load_wine_quality)
