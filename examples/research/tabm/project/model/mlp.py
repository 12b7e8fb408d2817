"""One network of the shape that a member of TabM has."""

from itertools import pairwise

from torch import Tensor, nn


class MLP(nn.Module):
    r"""Hidden layers with ReLU and dropout, then a linear head.

    $$ z(x) = W_3 h_2 + b_3, \quad h_j = \mathrm{relu}(W_j h_{j-1} + b_j), \quad h_0 = x $$
    """

    def __init__(self, features: int, classes: int, *, width: int = 128, depth: int = 2) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        for inputs, outputs in pairwise([features, *[width] * depth]):
            self.layers.extend([nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(0.1)])
        self.head = nn.Linear(width, classes)

    def forward(self, x_BP: Tensor) -> Tensor:
        """Return logits like an ensemble of one, (B rows, P features) -> (B, 1, C classes)."""
        return self.head(self.layers(x_BP))[:, None]
