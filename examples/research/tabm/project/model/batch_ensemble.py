"""A linear layer for k members that share one weight matrix (BatchEnsemble, Wen et al. 2020).

Shapes: B rows, K members, I features in, O features out.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class BatchEnsemble(nn.Module):
    r"""One weight matrix W for all members; vectors r, s and a bias b of each member's own.

    $$ l_i(x) = s_i \odot W (r_i \odot x) + b_i $$
    """

    def __init__(self, inputs: int, outputs: int, members: int, *, random_signs: bool) -> None:
        super().__init__()
        linear = nn.Linear(inputs, outputs)  # for its initialisation
        self.weight = linear.weight  # (O, I), shared
        self.bias = nn.Parameter(linear.bias.detach().repeat(members, 1))  # (K, O), equal at first
        self.s = nn.Parameter(torch.ones(members, outputs))
        r = torch.ones(members, inputs)
        # Random signs in the first layer: without them the members would start alike.
        self.r = nn.Parameter(r.bernoulli_(0.5) * 2 - 1 if random_signs else r)

    def forward(self, x_BKI: Tensor) -> Tensor:
        """Map each member's own features, (B, K, I) -> (B, K, O)."""
        return self.s * functional.linear(self.r * x_BKI, self.weight) + self.bias
