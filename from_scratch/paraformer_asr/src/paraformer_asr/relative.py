"""Self-attention with relative positions (Dai et al. 2019, arXiv 1901.02860, section 3.3).

The score of query i and key j looks at both frames and at their distance i - j:

    score_ij = ((q_i + u) k_j + (q_i + v) W r(i - j)) / sqrt(P)

r is a sinusoidal vector, u and v are learned for each head. `latest` is this formula. `legacy` is
what ESPnet and FunASR trained for a while: a table of T rows instead of 2T - 1 is shifted with the
same trick, so that only keys up to the query get their distance; see `legacy_shift`.

In: float (B, T, D) and a bool mask (B, 1, T). Out: (B, T, D).

Letters: B utterances, T frames, D width, H heads, P = D / H width of a head, R rows of positions.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paraformer_asr.attention import (
    check_mask,
    mix_values,
    nothing_where_blind,
    split_heads,
    xavier,
)
from paraformer_asr.positions import legacy_positions, relative_positions


class RelativeSelfAttention(nn.Module):
    """The formula above.

    u and v start at 0: at first no key is preferred whatever the query is.

    Args:
        dim: D, divisible by `heads`.
        heads: H.
        dropout: probability of dropping a weight in training.
        kind: latest or legacy.
    """

    def __init__(
        self, *, dim: int, heads: int, dropout: float, kind: Literal["latest", "legacy"] = "latest"
    ) -> None:
        super().__init__()
        self.heads, self.dropout, self.kind = heads, dropout, kind
        self.query_key_value = xavier(nn.Linear(dim, 3 * dim), parts=3)
        self.position = xavier(nn.Linear(dim, dim, bias=False))
        self.content_bias = nn.Parameter(torch.zeros(heads, dim // heads))  # u
        self.position_bias = nn.Parameter(torch.zeros(heads, dim // heads))  # v
        self.out = xavier(nn.Linear(dim, dim))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix frames, (B, T, D) -> (B, T, D).

        Args:
            x: float, finite also in the padding.
            mask: (B, 1, T) bool, True where real; for `legacy` the real frames come first.
        """
        check_mask(("x", x), ("x", x), mask)
        B, _, D = x.shape
        query_BTD, key_BTD, value_BTD = self.query_key_value(x).chunk(3, dim=-1)
        query = split_heads(query_BTD + self.content_bias.flatten(), self.heads)
        query_pos = split_heads(query_BTD + self.position_bias.flatten(), self.heads)
        key = split_heads(key_BTD, self.heads)
        scale = (D // self.heads) ** -0.5

        if self.kind == "latest":
            places = self._projected(relative_positions(x.shape[1], x))  # (H, R, P)
            places = places.repeat(B, 1, 1)
            by_distance = shift_to_keys(torch.bmm(query_pos, places.transpose(1, 2)))
        else:
            by_distance = self._legacy(x, query_pos, mask)
        scores = torch.baddbmm(by_distance, query, key.transpose(1, 2), beta=scale, alpha=scale)
        if mask is not None:
            allowed = mask.repeat_interleave(self.heads, dim=0)
            scores = scores.masked_fill_(~allowed, torch.finfo(scores.dtype).min)
        dropout = self.dropout if self.training else 0.0
        mixed, _ = mix_values(scores, value_BTD, heads=self.heads, dropout=dropout)
        return nothing_where_blind(self.out(mixed), mask)

    def _projected(self, table_RD: Tensor) -> Tensor:
        """W r of every row and head, (H, R, P)."""
        return split_heads(self.position(table_RD)[None], self.heads)

    def _legacy(self, x: Tensor, query_pos: Tensor, mask: Tensor | None) -> Tensor:
        """The position scores (B H, T, T), of each utterance by its own length.

        The table's rows that a pair gets depend on the length. Taking the padded length instead,
        as the originals do, would make an utterance's result depend on its neighbours.
        """
        T = x.shape[1]
        lengths = [T] * len(x) if mask is None else mask[:, 0].sum(dim=1).tolist()
        places = self._projected(legacy_positions(T, x))
        if all(length == T for length in lengths):
            return legacy_shift(torch.bmm(query_pos, places.repeat(len(x), 1, 1).mT))
        each = []
        per_utterance = query_pos.view(len(x), self.heads, T, -1)
        for query, length in zip(per_utterance, lengths, strict=True):
            shifted = legacy_shift(torch.bmm(query[:, :length], places[:, :length].mT))
            each.append(F.pad(shifted, (0, T - length, 0, T - length)))
        return torch.cat(each)


def shift_to_keys(by_row_NTR: Tensor) -> Tensor:
    """From rows of distances to keys: (N, T, 2T - 1) -> (N, T, T), a view.

    Row r of the table is the distance T - 1 - r, so key j of query i is at column T - 1 - i + j.
    Counted through the flattened matrix that is T - 1 + i (2T - 2) + j: rows of 2T - 2 numbers,
    beginning T - 1 late, of which the first T count.
    """
    N, T, _ = by_row_NTR.shape
    if T == 1:
        return by_row_NTR
    late = by_row_NTR.flatten(1)[:, T - 1 : T - 1 + T * (2 * T - 2)]
    return late.view(N, T, 2 * T - 2)[:, :, :T]


def legacy_shift(by_row_NTT: Tensor) -> Tensor:
    """What older code made of a table with T rows: (N, T, T) -> (N, T, T).

    With s = the input: for keys j <= i it is s[i, T - 1 - i + j], which depends on the distance
    alone; the next key gets 0; later keys get s[i + 1, j - i - 2], scores of the following query.
    The originals were trained with this, so their weights need it.
    """
    N, T, _ = by_row_NTT.shape
    return F.pad(by_row_NTT, (1, 0)).view(N, T + 1, T)[:, 1:]
