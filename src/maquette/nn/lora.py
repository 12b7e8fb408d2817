"""Low-rank additions to frozen matrices (LoRA).

Hu et al. 2021, "LoRA: low-rank adaptation of large language models" (arXiv 2106.09685, equation 3):
a frozen W (out, in) becomes

    W + (α/r) B A,   A (r, in), B (out, r), r far below out and in

and only A and B learn. B is zero at the start, so the network begins as it was, bit for bit.
`add_to_linear` puts an addition beside a layer, `merged` returns the plain layer of the same
outputs. A module that holds a matrix itself (queries, keys and values in one) keeps `LowRank`s of
its own and folds them in with `LowRank.matrix`.

Names in a state dict: the frozen `weight` and `bias` keep theirs, A and B are `low_rank.down` and
`low_rank.up`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LowRank(nn.Module):
    """(α/r) B A x, and nothing else."""

    def __init__(
        self,
        *,
        in_features: int,
        out_features: int,
        rank: int,
        alpha: float,
        dropout: float = 0.0,
    ) -> None:
        """Draw A (Kaiming uniform, as the layers of PyTorch), and set B to zero.

        Args:
            rank: r, 1 <= r <= in_features and out_features.
            alpha: α > 0.
            dropout: share of the input's values set to zero in training, in [0, 1); the frozen
                matrix sees the input whole.
        Raises:
            ValueError: rank, alpha or dropout is outside its range.
        """
        super().__init__()
        largest = min(in_features, out_features)
        if not 1 <= rank <= largest:
            raise ValueError(
                f"rank is {rank}; a matrix of {out_features} × {in_features} takes 1 to {largest}."
            )
        if not alpha > 0:
            raise ValueError(f"alpha is {alpha:g}, expected a number above 0.")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout:g}, expected a share in [0, 1).")
        self.scale = alpha / rank
        self.dropout = dropout
        self.down = nn.Parameter(torch.empty(rank, in_features))
        self.up = nn.Parameter(torch.zeros(out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) -> (…, out)."""
        x = F.dropout(x, self.dropout, training=self.training)
        # α/r scales the narrow product, not the wide one.
        return F.linear(F.linear(x, self.down) * self.scale, self.up)

    def matrix(self) -> Tensor:
        """Return (α/r) B A, (out, in), as it is without dropout."""
        return self.scale * (self.up @ self.down)

    def extra_repr(self) -> str:
        rank, in_features = self.down.shape
        return f"{in_features}, {self.up.shape[0]}, rank={rank}, scale={self.scale:g}"


class LoraLinear(nn.Module):
    """A linear layer with a low-rank addition; the layer itself is frozen."""

    def __init__(self, linear: nn.Linear, *, rank: int, alpha: float, dropout: float = 0.0) -> None:
        """Take over the parameters of `linear` and freeze them; see `LowRank` for the others."""
        super().__init__()
        linear.requires_grad_(requires_grad=False)
        self.weight, self.bias = linear.weight, linear.bias
        self.low_rank = LowRank(
            in_features=linear.in_features,
            out_features=linear.out_features,
            rank=rank,
            alpha=alpha,
            dropout=dropout,
        ).to(device=linear.weight.device, dtype=linear.weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) -> (…, out)."""
        addition: Tensor = self.low_rank(x)
        return F.linear(x, self.weight, self.bias) + addition


def add_to_linear(
    parent: nn.Module, name: str, *, rank: int, alpha: float, dropout: float = 0.0
) -> None:
    """Replace the linear layer `parent.name` by one with a low-rank addition."""
    linear = parent.get_submodule(name)
    assert isinstance(linear, nn.Linear), f"{name} is a {type(linear).__name__}, not a linear layer"
    setattr(parent, name, LoraLinear(linear, rank=rank, alpha=alpha, dropout=dropout))


@torch.no_grad()
def merged(layer: LoraLinear) -> nn.Linear:
    """Return the plain layer of the same outputs; it takes over the weight, which changes."""
    out_features, in_features = layer.weight.shape
    plain = nn.Linear(in_features, out_features, device="meta")
    plain.weight, plain.bias = layer.weight, layer.bias
    plain.weight.add_(layer.low_rank.matrix())
    return plain.train(layer.training)
