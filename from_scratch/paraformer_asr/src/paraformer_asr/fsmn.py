"""FSMN memory: a learned weighted sum of each frame's neighbours, channel by channel.

Zhang et al. 2018 (Deep-FSMN, arXiv 1803.05030), as used in SAN-M (Gao et al. 2020, arXiv
2006.01713): beside (or instead of) attention, each channel sees a few frames to both sides,

    y_t = v_t + sum_i  a_i * v_{t - L + i},     i = 0 .. k - 1

with a filter of its own; L frames lie on the left. Frames beyond the ends and in the padding are 0.

In: float (B, T, D) and a bool mask (B, T), True = real. Out: (B, T, D), 0 in the padding.

Letters: B utterances, T frames, D channels, k = width of the filter.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paraformer_asr.contracts import expect
from paraformer_asr.errors import AsrError
from paraformer_asr.masks import zero_padding


class MemoryBlock(nn.Module):
    """The sum above, with the filters as weights.

    Args:
        dim: D.
        kernel: k, odd.
        shift: frames by which the filter is moved to the left; 0 is centred, (k - 1) / 2 looks at
            the past only.
    Raises:
        AsrError: an even kernel, or a shift beyond (k - 1) / 2.
    """

    def __init__(self, dim: int, kernel: int, shift: int = 0) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise AsrError(f"the memory's kernel={kernel} must be odd: try {kernel + 1}.")
        if not 0 <= shift <= (kernel - 1) // 2:
            raise AsrError(
                f"the memory's shift={shift} must be from 0 to {(kernel - 1) // 2} "
                f"for kernel={kernel}."
            )
        self.left = (kernel - 1) // 2 + shift
        self.right = kernel - 1 - self.left
        self.weight = nn.Parameter(torch.empty(dim, 1, kernel))
        # The range of PyTorch's convolutions: each channel's sum has k terms.
        nn.init.uniform_(self.weight, -1 / math.sqrt(kernel), 1 / math.sqrt(kernel))

    def forward(self, values: Tensor, mask: Tensor | None = None, *, context: int = 0) -> Tensor:
        """Add each frame's memory to it.

        Args:
            values: (B, context + T, D) float; padding is not read.
            mask: (B, context + T) bool, True where real; None: all frames are.
            context: frames at the start that are looked at, but get no output; up to `left`.
        Returns:
            (B, T, D), 0 where masked.
        """
        D = self.weight.shape[0]
        expect(("values", values, f"B T {D}"))
        if mask is not None:
            expect(("values", values, "B T D"), ("mask", mask, "B T"))
            values = zero_padding(values, mask)
        padded = F.pad(values, (0, 0, self.left - context, self.right))
        output = depthwise(padded, self.weight) + values[:, context:]
        return output if mask is None else zero_padding(output, mask[:, context:])


def depthwise(x_BTD: Tensor, weight_D1k: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve each channel with its own filter, without padding.

    Args:
        x_BTD: (B, T + k - 1, D).
        weight_D1k: (D, 1, k).
        bias: (D,).
    Returns:
        (B, T, D).
    """
    # As an image of height 1. Its memory is "channels last" already, for which PyTorch has fast
    # kernels; a 1-D convolution would copy it to channels first and back.
    x_BD1T = x_BTD.transpose(1, 2).unsqueeze(2)
    y_BD1T = F.conv2d(x_BD1T, weight_D1k.unsqueeze(2), bias, groups=x_BTD.shape[2])
    return y_BD1T.squeeze(2).transpose(1, 2)
