"""Texts of different lengths without their padding.

Norms and linear layers treat every token alike, so they need no padding: the tokens of a batch lie
one behind the other. Only attention asks which of them belong together, and gets them side by side.
Of figure captions a third of the work is padding even when a batch is cut to its longest.

Letters: B texts, T tokens of the longest, N tokens of all texts, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

WORTH = 0.95
"""Share of real tokens from which on a batch stays as it is."""


class Packing:
    """Where the tokens of a batch lie: (B, T) side by side, (N,) one behind the other."""

    def __init__(self, last_B: Tensor, length: int) -> None:
        """Take the place of each text's last token.

        Args:
            last_B: (B,) int64, in [0, T).
            length: T.
        """
        is_token = (torch.arange(length, device=last_B.device) <= last_B[:, None]).flatten()
        self.last_B = (last_B + 1).cumsum(0) - 1
        """(B,) int64: the row of each text's last token among N."""
        self._shape = (len(last_B), length)
        self._places = is_token.nonzero()[:, 0]
        # In place of padding stands the token before it: finite, and out of sight of all tokens.
        self._rows = is_token.cumsum(0) - 1

    def pack(self, x_BTD: Tensor) -> Tensor:
        """Leave the padding out: (B, T, D) -> (N, D)."""
        return x_BTD.flatten(0, 1).index_select(0, self._places)

    def pad(self, x_ND: Tensor) -> Tensor:
        """Put the texts side by side: (N, D) -> (B, T, D). What stands behind a text's last token
        must not be looked at."""
        return x_ND.index_select(0, self._rows).reshape(*self._shape, x_ND.shape[1])


def packing_of(last_B: Tensor, length: int) -> Packing | None:
    """Return the packing of a batch, or None where it is not worth its copies.

    On a GPU the number of tokens would have to be waited for, and padding is computed at once.

    Args:
        last_B: (B,) int64, the place of each text's last token, in [0, T).
        length: T.
    """
    if last_B.device.type != "cpu":
        return None
    tokens, padded = int(last_B.sum()) + len(last_B), len(last_B) * length
    return Packing(last_B, length) if tokens < WORTH * padded else None
