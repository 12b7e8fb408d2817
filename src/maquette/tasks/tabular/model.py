"""A multi-layer perceptron over numbers and embedded categories.

Letters: B batch, F numbers, K embedded categories, D width of the first layer's input, N outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from maquette.nn.activations import ACTIVATIONS, gain

NORMALIZATIONS: Mapping[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm1d,
    "layer": nn.LayerNorm,
}
"""Name in a recipe -> what follows each hidden linear layer; "none" adds nothing."""

OUTPUT_SHRINK = 0.1
"""The output layer starts ten times smaller than the others: the loss then starts near ln N (or
near the target's variance), and no step is spent on unlearning confident noise."""

EMBEDDING_DEVIATION = 0.1
"""Embeddings start small, so that rarely seen categories start, and stay, near "no effect"."""


def embedding_width(num_categories: int) -> int:
    """Width of the embedding of a column with this many slots: min(50, round(1.6 n^0.56))."""
    return min(50, round(1.6 * math.pow(num_categories, 0.56)))


class TabularMLP(nn.Module):
    """Numbers and category embeddings side by side, hidden layers, one linear output layer.

    Each hidden layer is linear, normalisation, activation, dropout, in this order.
    """

    def __init__(
        self,
        *,
        num_numbers: int,
        category_sizes: Sequence[int] = (),
        embedding_dim: int | Literal["auto"] = "auto",
        hidden_layers: Sequence[int] = (128, 64),
        num_outputs: int,
        activation: str = "relu",
        dropout: float = 0.0,
        normalization: str = "none",
    ) -> None:
        """Build the layers.

        Args:
            num_numbers: F, at least 0.
            category_sizes: slots of each of the K embedded columns; codes are below them.
            embedding_dim: width of every embedding, or auto for `embedding_width`.
            num_outputs: N classes, or 1 for a number.
        Raises:
            ValueError: there are no inputs at all, or a name is unknown.
        """
        super().__init__()
        hidden_gain = gain(activation)  # refuses unknown names
        if normalization != "none" and normalization not in NORMALIZATIONS:
            raise ValueError(
                f"Unknown normalization {normalization!r}. "
                f"Available: none, {', '.join(NORMALIZATIONS)}."
            )
        widths = [
            embedding_width(size) if embedding_dim == "auto" else embedding_dim
            for size in category_sizes
        ]
        width = num_numbers + sum(widths)
        if width == 0:
            raise ValueError("TabularMLP has no inputs: num_numbers is 0 and no category_sizes.")
        self.embeddings = nn.ModuleList(
            nn.Embedding(size, wide) for size, wide in zip(category_sizes, widths, strict=True)
        )
        self.hidden = nn.Sequential()
        for hidden in hidden_layers:
            # Batch normalisation subtracts each unit's mean, and with it any bias before it.
            self.hidden.append(nn.Linear(width, hidden, bias=normalization != "batch"))
            if normalization != "none":
                self.hidden.append(NORMALIZATIONS[normalization](hidden))
            self.hidden.append(ACTIVATIONS[activation]())
            if dropout:
                self.hidden.append(nn.Dropout(dropout))
            width = hidden
        self.output = nn.Linear(width, num_outputs)
        self._initialise(hidden_gain)

    def forward(self, numbers_BF: Tensor, categories_BK: Tensor | None = None) -> Tensor:
        """Return logits (B, N), or (B,) when there is one output.

        Args:
            numbers_BF: (B, F) float.
            categories_BK: (B, K) int64 slots; needed exactly when K > 0.
        """
        inputs_BD = numbers_BF
        if categories_BK is not None:
            embedded = [
                embed(codes)
                for embed, codes in zip(self.embeddings, categories_BK.unbind(1), strict=True)
            ]
            inputs_BD = torch.cat([numbers_BF, *embedded], dim=1)
        outputs_BN: Tensor = self.output(self.hidden(inputs_BD))
        return outputs_BN.squeeze(1) if outputs_BN.shape[1] == 1 else outputs_BN

    def _initialise(self, hidden_gain: float) -> None:
        """Weights N(0, gain²/fan_in) (He et al. 2015), biases 0; see the constants above.

        The first layer sees standardised inputs, which no activation has shrunk: its gain is 1.
        """
        layers = [layer for layer in self.hidden if isinstance(layer, nn.Linear)]
        gains = [1.0] + [hidden_gain] * len(layers)
        gains[-1] *= OUTPUT_SHRINK
        for layer, layer_gain in zip([*layers, self.output], gains, strict=True):
            nn.init.normal_(layer.weight, std=layer_gain / math.sqrt(layer.in_features))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        for table in self.embeddings.parameters():
            nn.init.normal_(table, std=EMBEDDING_DEVIATION)
