"""Training, validation and test part, which share no person; batches of the first."""

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from data.dataset import SignDigits
from data.preprocess import normalise

CUTS = (0.6, 0.8)  # where validation and test begin, as shares of the persons


def divide_persons(persons: Tensor, seed: int) -> list[Tensor]:
    """Return the indices of each part's photos; all photos of a person are in the same part."""
    everyone = persons.unique()
    order = everyone[torch.randperm(len(everyone), generator=torch.Generator().manual_seed(seed))]
    groups = order.tensor_split([round(cut * len(order)) for cut in CUTS])
    return [torch.isin(persons, group).nonzero()[:, 0] for group in groups]


def split_by_person(data: SignDigits, seed: int) -> list[TensorDataset]:
    """Return images (N, 3, S, S), normalised by the training part, and labels (N,) of each part."""
    parts = divide_persons(data.persons, seed)
    seen = data.pixels[parts[0]]
    return [TensorDataset(normalise(data.pixels[part], seen), data.labels[part]) for part in parts]


def batches_of(part: TensorDataset, batch_size: int, seed: int) -> DataLoader[tuple[Tensor, ...]]:
    """Return whole batches in a new order every epoch; the seed alone decides which."""
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(part, batch_size, shuffle=True, drop_last=True, generator=generator)
