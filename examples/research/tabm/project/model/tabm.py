"""TabM (Gorishniy et al. 2025): an ensemble of MLPs that share their weights, in one network.

Shapes: B rows, P features, K members, D width, C classes.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.batch_ensemble import BatchEnsemble


class TabM(nn.Module):
    r"""Members share their hidden layers; each has a head of its own.

    $$ \hat{p}(x) = \frac{1}{k} \sum_{i=1}^{k} \mathrm{softmax}(z_i(x)) $$

    `forward` returns the z_i, as the loss is of each; `testing.evaluator` takes the mean.
    """

    def __init__(
        self, features: int, classes: int, *, members: int = 8, width: int = 128, depth: int = 2
    ) -> None:
        super().__init__()
        self.members = members
        self.layers = nn.ModuleList(
            BatchEnsemble(inputs, outputs, members, random_signs=index == 0)
            for index, (inputs, outputs) in enumerate(pairwise([features, *[width] * depth]))
        )
        heads = [nn.Linear(width, classes) for _ in range(members)]
        self.head_weight = nn.Parameter(torch.stack([head.weight.detach() for head in heads]))
        self.head_bias = nn.Parameter(torch.stack([head.bias.detach() for head in heads]))

    def forward(self, x_BP: Tensor) -> Tensor:
        """Return every member's logits, (B, P) -> (B, K, C)."""
        h_BKD = x_BP[:, None].expand(-1, self.members, -1)
        for layer in self.layers:
            h_BKD = functional.dropout(layer(h_BKD).relu(), 0.1, self.training)
        return torch.einsum("bkd,kcd->bkc", h_BKD, self.head_weight) + self.head_bias
