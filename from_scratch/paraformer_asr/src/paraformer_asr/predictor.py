"""The predictor: how many tokens an utterance has, and the acoustic vector of each.

Gao et al. 2022 (arXiv 2206.08317, section 2.2). A small convolution gives each encoder frame a
weight alpha; their sum is the number of tokens; integrate-and-fire (`cif.py`) cuts the frames into
tokens by them. In training the weights are scaled to the true number, so that every token of the
target gets a vector; the sum before scaling is what the quantity loss compares with it.

Two forms of the convolution, named as in `model.predictor`:

    full       relu(conv(h)) over all channels          FunASR's CifPredictorV2, its large model
    depthwise  relu(dropout(conv(h) + h)), each alone   FunASR's CifPredictor, its AISHELL recipe

In: encoder frames (B, T, D) and their lengths. Out: `Predicted`. Everything here is float32, also
under autocast: the sum of weights decides the number of tokens.

Letters: B utterances, T frames, D width, K tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from paraformer_asr.cif import integrate_and_fire
from paraformer_asr.contracts import expect
from paraformer_asr.errors import AsrError
from paraformer_asr.masks import zero_padding
from paraformer_asr.transformer import padding_mask, without_padding


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """What `CifPredictor` makes of a batch."""

    embeds: Tensor
    """(B, K, D) in the dtype of the frames, K = the largest count; 0 from each count on."""
    counts: Tensor
    """(B,) int64 tokens of each utterance: those asked for, or floor(total + tail)."""
    alphas: Tensor
    """(B, T) float32 >= 0, not scaled, exactly 0 in the padding."""
    total: Tensor
    """(B,) float32 sum of `alphas`; the quantity loss is its distance from the true count."""


class CifPredictor(nn.Module):
    """Frames to weights to tokens.

    Weights of the convolution and of the linear layer start as PyTorch draws them (uniform, bound
    1/sqrt(fan-in)), so each alpha starts near sigmoid(0) = 0.5.

    Args:
        dim: D.
        kind: "full" or "depthwise", see the table above.
        tail: at inference, added to the sum before rounding down; see `integrate_and_fire`.
        dropout: used by "depthwise" only, as in the reference.
        smooth: alpha = relu(sigmoid(.) * smooth - noise_threshold).
        noise_threshold: taken from each weight, so that silence can have exactly none.
    Raises:
        AsrError: another `kind`.
    """

    def __init__(
        self,
        *,
        dim: int,
        kind: Literal["full", "depthwise"],
        tail: float,
        dropout: float = 0.1,
        smooth: float = 1.0,
        noise_threshold: float = 0.0,
    ) -> None:
        super().__init__()
        if kind not in ("full", "depthwise"):
            raise AsrError(f"the predictor's kind={kind!r} must be 'full' or 'depthwise'.")
        self.kind, self.tail = kind, tail
        self.smooth, self.noise_threshold = smooth, noise_threshold
        self.conv = nn.Conv1d(dim, dim, 3, padding=1, groups=dim if kind == "depthwise" else 1)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(dim, 1)

    def alphas(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """The weight of each frame.

        Args:
            hidden: (B, T, D) float; padding is never read, it may hold NaN.
            mask: (B, T) bool, True where real.
        Returns:
            (B, T) float32 in [0, smooth - noise_threshold], exactly 0 where masked.
        """
        expect(("hidden", hidden, f"B T {self.output.in_features}"), ("mask", mask, "B T"))
        # FunASR does not zero the padding: there, an utterance's last alpha depends on what stands
        # after it, so the same utterance can differ between batches.
        return self.weigh(zero_padding(hidden, mask), mask)

    def weigh(self, hidden_BTD: Tensor, mask_BT: Tensor | None) -> Tensor:
        """`alphas` of frames whose padding is 0 already; mask None: there is no padding."""
        if not hidden_BTD.shape[1]:
            return hidden_BTD.new_zeros(hidden_BTD.shape[:2], dtype=torch.float32)
        with torch.autocast(hidden_BTD.device.type, enabled=False):
            x_BDT = hidden_BTD.to(self.output.weight.dtype).transpose(1, 2)
            context_BDT = self.conv(x_BDT)
            if self.kind == "depthwise":
                context_BDT = self.dropout(context_BDT + x_BDT)
            scores_BT = self.output(context_BDT.relu().transpose(1, 2)).squeeze(2)
            weights_BT = torch.relu(scores_BT.sigmoid() * self.smooth - self.noise_threshold)
            return without_padding(weights_BT.float(), mask_BT)

    def forward(self, hidden: Tensor, lens: Tensor, num_tokens: Tensor | None = None) -> Predicted:
        """Cut frames into tokens.

        Args:
            hidden: (B, T, D) float; padding is never read.
            lens: (B,) int64, 0 <= lens[b] <= T.
            num_tokens: (B,) int64 in training: the number of tokens of each target, end token
                included; None at inference.
        """
        expect(("hidden", hidden, f"B T {self.output.in_features}"), ("lens", lens, "B"))
        mask = padding_mask(lens, hidden.shape[1])
        frames = without_padding(hidden, mask)
        alphas = self.weigh(frames, mask)
        with torch.autocast(hidden.device.type, enabled=False):
            embeds, counts = integrate_and_fire(
                frames, alphas, num_tokens=num_tokens, tail=self.tail
            )
            return Predicted(embeds=embeds, counts=counts, alphas=alphas, total=alphas.sum(dim=1))
