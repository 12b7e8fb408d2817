"""A small contrastive problem: two views of hidden numbers, an encoder for each, dropout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maquette.recipe import Recipe
from maquette.tasks.base import Batch
from maquette.tasks.batching import batch_slices

VIEWS, WIDTH = 6, 5


@dataclass
class PairsSource:
    """Two views of the same hidden numbers, in tensors; cuts its batches where it is told to."""

    first: Tensor
    second: Tensor
    largest: int = 10_000
    stream: Tensor | None = None
    asked: list[list[int]] = field(default_factory=list)

    @property
    def ids(self) -> Sequence[str]:
        return [f"pair {index}" for index in range(len(self))]

    def __len__(self) -> int:
        return len(self.first)

    def epoch_order(self, epoch: int) -> Tensor | None:
        return self.stream

    def batches(self, order: Tensor, batch_size: int, *, epoch: int) -> Iterator[Batch]:
        for part in batch_slices(len(order), batch_size):
            rows = order[part]
            batch = Batch((self.first[rows], self.second[rows]), torch.stack([rows, rows], 1), rows)
            for piece in batch.pieces(self.largest):
                self.asked.append(piece.rows.tolist())
                yield piece


def pairs_source(size: int, *, seed: int = 0, largest: int = 10_000) -> PairsSource:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(size, VIEWS, generator=generator)
    mixing = torch.randn(VIEWS, VIEWS, generator=generator)
    noise = 0.1 * torch.randn(size, VIEWS, generator=generator)
    return PairsSource(hidden, torch.tanh(hidden @ mixing) + noise, largest)


class TwoTowers(nn.Module):
    """(B, VIEWS) and (B, VIEWS) -> (B, 2, WIDTH), of length 1."""

    def __init__(self, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.towers = nn.ModuleList(
            nn.Sequential(
                nn.Linear(VIEWS, 16), nn.GELU(), nn.Dropout(dropout), nn.Linear(16, WIDTH)
            )
            for _ in range(2)
        )
        self.logit_scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        views = [tower(x) for tower, x in zip(self.towers, (first, second), strict=True)]
        return F.normalize(torch.stack(views, 1), dim=2)


class Similarities:
    """Mean cosine of the pairs."""

    def __init__(self) -> None:
        self.values: list[Tensor] = []

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.values.append((outputs[:, 0] * outputs[:, 1]).sum(1))

    def compute(self) -> dict[str, float]:
        return {"similarity": float(torch.cat(self.values).mean())}


@dataclass
class CoupledTinyTask:
    """The part of a coupled task that the trainer asks for: InfoNCE, written out."""

    recipe: Recipe
    rates: Mapping[str, float] = field(default_factory=dict)
    calls: int = 0

    def represent(self, model: nn.Module, batch: Batch) -> tuple[Tensor, ...]:
        outputs: Tensor = model(*batch.inputs)
        return outputs[:, 0], outputs[:, 1]

    def coupled_loss(
        self, model: Any, representations: tuple[Tensor, ...], targets: Tensor
    ) -> tuple[Tensor, float]:
        self.calls += 1
        first, second = representations
        logits = model.logit_scale.exp() * first @ second.T
        truth = torch.arange(len(logits))
        loss = (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)) / 2
        return loss * len(logits), float(len(logits))

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, float]:
        return self.coupled_loss(model, self.represent(model, batch), batch.targets)

    def learning_rates(self, model: nn.Module) -> Mapping[str, float]:
        return self.rates

    def after_update(self, model: Any) -> None:
        with torch.no_grad():
            model.logit_scale.clamp_(0, 4)

    def readings(self, model: Any, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        return {"temperature": float((-model.logit_scale.detach()).exp())}

    def metrics(self, preprocessor: Any) -> Similarities:
        return Similarities()

    def finish(self, model: Any, preprocessor: Any, *, evaluate: Any) -> dict[str, Any]:
        return {}
