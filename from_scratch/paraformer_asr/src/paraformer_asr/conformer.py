"""Conformer encoder (Gulati et al. 2020, arXiv 2005.08100), as FunASR's AISHELL recipe has it.

In: feats, float (B, T, F), and their lengths. Out: hidden, float (B, T', D), 0 in the padding.

    x = subsampling(feats) * sqrt(D)                T' = T, or about T / 4
    each layer:  x = x + feed_forward(norm(x)) / 2
                 x = x + relative_attention(norm(x))
                 x = x + convolution(norm(x))
                 x = x + feed_forward(norm(x)) / 2
                 x = norm(x)
    hidden = norm(x)

Unlike FunASR's, padding changes nothing here: padded frames are 0 before every convolution and are
left out of the batch norm's statistics, and a subsampled frame counts if it was made of real frames
alone. Dropout follows the input and each sublayer and is inside the feed-forward layers; attention
weights are not dropped (see `transformer.py`). Linear layers start Xavier-uniform with biases 0,
convolutions uniform with bound 1 / sqrt(fan-in), as PyTorch's do.

Letters: B utterances, T frames, F features, D width, k width of the convolution.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paraformer_asr.attention import xavier
from paraformer_asr.contracts import expect
from paraformer_asr.dropout import Dropout
from paraformer_asr.errors import AsrError
from paraformer_asr.fsmn import depthwise
from paraformer_asr.relative import RelativeSelfAttention
from paraformer_asr.transformer import FeedForward, padding_mask, without_padding

SHORTEST = 7
"""Frames that the two convolutions of the subsampling need for one frame."""


class Subsampling(nn.Module):
    """Two 3 x 3 convolutions with stride 2 over time and features, then a linear layer."""

    def __init__(self, input_dim: int, dim: int) -> None:
        super().__init__()
        if input_dim < SHORTEST:
            raise AsrError(
                f"model.subsampling=conv2d needs features of width {SHORTEST} or more, not "
                f"{input_dim}; set features.num_mels higher or model.subsampling=none."
            )
        self.conv1 = nn.Conv2d(1, dim, kernel_size=3, stride=2)
        self.conv2 = nn.Conv2d(dim, dim, kernel_size=3, stride=2)
        self.out = xavier(nn.Linear(dim * subsampled(input_dim), dim))

    def forward(self, feats: Tensor) -> Tensor:
        """(B, T, F) -> (B, T', D), T >= 7."""
        maps = feats[:, None]  # (B, 1, T, F)
        if feats.device.type == "cpu":  # faster there
            maps = maps.contiguous(memory_format=torch.channels_last)
        maps = F.relu(self.conv2(F.relu(self.conv1(maps))))  # (B, D, T', F')
        output: Tensor = self.out(maps.transpose(1, 2).flatten(2))
        return output


def subsampled(length: int) -> int:
    """Positions left by the two convolutions."""
    return ((length - 1) // 2 - 1) // 2


class MaskedBatchNorm(nn.Module):
    """Batch norm (Ioffe and Szegedy 2015) over the real frames of a batch.

    Names and meaning of parameters and buffers are those of `nn.BatchNorm1d`.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, dim: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise each channel, (B, T, D) -> (B, T, D).

        Args:
            x: float, finite also in the padding.
            mask: (B, T) bool, True where real; None: all frames are.
        Returns:
            The dtype of x. Training: mean and variance are those of the real frames, computed in
            float32, and the running ones move towards them (the variance with n - 1, as usual; with
            a single frame it stays). Otherwise the running ones are used.
        """
        if self.training:
            wide = torch.promote_types(x.dtype, torch.float32)
            mean, variance, count = masked_moments(x.to(wide), mask)
            self._track(mean.detach(), variance.detach(), count)
        else:
            mean, variance = self.running_mean, self.running_var
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return torch.addcmul(self.bias - mean * scale, x, scale).to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        unbiased = variance * (count / (count - 1).clamp_min(1))
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(torch.where(count > 1, unbiased, self.running_var), self.momentum)
        self.num_batches_tracked += 1


def masked_moments(x_BTD: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (D,), variance (D,) with 1 / n, and number n () of the real frames, float."""
    if mask is None:
        variance, mean = torch.var_mean(x_BTD, dim=(0, 1), correction=0)
        return mean, variance, x_BTD.new_tensor(x_BTD.shape[0] * x_BTD.shape[1])
    real_BT1 = mask[..., None].to(x_BTD.dtype)
    count = real_BT1.sum()
    mean = (x_BTD * real_BT1).sum(dim=(0, 1)) / count.clamp_min(1)
    centred = (x_BTD - mean) * real_BT1
    return mean, centred.square().sum(dim=(0, 1)) / count.clamp_min(1), count


class ConvolutionModule(nn.Module):
    """Gate, depthwise convolution, batch norm, swish: (B, T, D) -> (B, T, D).

    Args:
        dim: D.
        kernel: k, odd.
    """

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise AsrError(f"the convolution's kernel={kernel} must be odd: try {kernel + 1}.")
        self.gate = xavier(nn.Linear(dim, 2 * dim), parts=2)
        self.filter = nn.Parameter(torch.empty(dim, 1, kernel))
        self.filter_bias = nn.Parameter(torch.empty(dim))
        for parameter in (self.filter, self.filter_bias):
            nn.init.uniform_(parameter, -1 / math.sqrt(kernel), 1 / math.sqrt(kernel))
        self.norm = MaskedBatchNorm(dim)
        self.out = xavier(nn.Linear(dim, dim))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Convolve along time; mask (B, T) bool, True where real."""
        side = self.filter.shape[2] // 2
        x = without_padding(F.glu(self.gate(x), dim=-1), mask)
        x = depthwise(F.pad(x, (0, 0, side, side)), self.filter, self.filter_bias)
        output: Tensor = self.out(F.silu(self.norm(x, mask)))
        return output


class ConformerLayer(nn.Module):
    """The four sublayers of the module's text.

    Args: as `ConformerEncoder`.
    """

    def __init__(
        self,
        *,
        dim: int,
        heads: int,
        ffn: int,
        kernel: int,
        dropout: float,
        norm_eps: float = 1e-5,
        relative: Literal["latest", "legacy"] = "latest",
    ) -> None:
        super().__init__()
        self.norm_ffn1 = nn.LayerNorm(dim, norm_eps)
        self.ffn1 = FeedForward(dim, ffn, dropout=dropout, swish=True)
        self.norm_attention = nn.LayerNorm(dim, norm_eps)
        self.attention = RelativeSelfAttention(dim=dim, heads=heads, dropout=0.0, kind=relative)
        self.norm_conv = nn.LayerNorm(dim, norm_eps)
        self.conv = ConvolutionModule(dim, kernel)
        self.norm_ffn2 = nn.LayerNorm(dim, norm_eps)
        self.ffn2 = FeedForward(dim, ffn, dropout=dropout, swish=True)
        self.norm = nn.LayerNorm(dim, norm_eps)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D); mask (B, T) bool, True where real."""
        key_mask = None if mask is None else mask[:, None]
        x = x.add(self.dropout(self.ffn1(self.norm_ffn1(x))), alpha=0.5)
        x = x + self.dropout(self.attention(self.norm_attention(x), key_mask))
        x = x + self.dropout(self.conv(self.norm_conv(x), mask))
        x = x.add(self.dropout(self.ffn2(self.norm_ffn2(x))), alpha=0.5)
        output: Tensor = self.norm(x)
        return output


class ConformerEncoder(nn.Module):
    """The whole encoder.

    Args:
        input_dim: F.
        dim: D, even and divisible by `heads`.
        heads: attention heads.
        ffn: hidden width of the feed-forward layers.
        layers: number of layers.
        kernel: k, odd.
        dropout: see the module's text.
        norm_eps: added to the variance in layer norms; FunASR's weights need 1e-12.
        subsampling: none (a linear layer) or conv2d.
        relative: latest, or legacy for older checkpoints.
    """

    def __init__(
        self,
        *,
        input_dim: int,
        dim: int,
        heads: int,
        ffn: int,
        layers: int,
        kernel: int,
        dropout: float,
        norm_eps: float = 1e-5,
        subsampling: Literal["none", "conv2d"] = "none",
        relative: Literal["latest", "legacy"] = "latest",
    ) -> None:
        super().__init__()
        self.dim, self.input_dim, self.subsampling = dim, input_dim, subsampling
        self.input = (
            Subsampling(input_dim, dim)
            if subsampling == "conv2d"
            else xavier(nn.Linear(input_dim, dim))
        )
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(
            ConformerLayer(
                dim=dim,
                heads=heads,
                ffn=ffn,
                kernel=kernel,
                dropout=dropout,
                norm_eps=norm_eps,
                relative=relative,
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim, norm_eps)

    def forward(self, feats: Tensor, feat_lens: Tensor) -> tuple[Tensor, Tensor]:
        """Encode utterances.

        Args:
            feats: (B, T, F) float, T >= 1 (conv2d: 7); padding is not read.
            feat_lens: (B,) int64, 1 (conv2d: 7) <= length <= T.
        Returns:
            hidden (B, T', D), 0 in the padding, and its lengths (B,), see `output_lengths`.
        Raises:
            AsrError: utterances too short for conv2d. Lengths are looked at on the CPU only;
                elsewhere such an utterance comes out with length 0.
        """
        expect(("feats", feats, f"B T {self.input_dim}"), ("feat_lens", feat_lens, "B"))
        if self.subsampling == "conv2d":
            self._refuse_short(feats, feat_lens)
        feats = without_padding(feats, padding_mask(feat_lens, feats.shape[1]))
        # The sum that runs through all layers keeps the input's precision under autocast.
        x = self.dropout(self.input(feats).to(feats.dtype) * math.sqrt(self.dim))
        lens = self.output_lengths(feat_lens)
        mask = padding_mask(lens, x.shape[1])
        x = without_padding(x, mask)
        for layer in self.layers:
            x = layer(x, mask)
        return without_padding(self.norm(x), mask), lens

    def output_lengths(self, feat_lens: Tensor) -> Tensor:
        """Frames of `hidden` for frames of `feats`, (B,) int64: as many, or with conv2d
        ((T - 1) // 2 - 1) // 2, at least 0."""
        if self.subsampling == "none":
            return feat_lens
        return (((feat_lens - 1) // 2 - 1) // 2).clamp_min(0)

    def _refuse_short(self, feats: Tensor, feat_lens: Tensor) -> None:
        shortest = feats.shape[1]
        if feat_lens.device.type == "cpu" and len(feat_lens):
            shortest = min(shortest, int(feat_lens.min()))
        if shortest < SHORTEST:
            raise AsrError(
                f"an utterance has {shortest} frames; model.subsampling=conv2d needs {SHORTEST} "
                "or more. Leave it out, or set model.subsampling=none."
            )
