"""CLIP's modified ResNet: an image becomes a feature through four stages and attention pooling.

Radford et al. 2021 (arXiv 2103.00020, section 2.4): a stem of three convolutions, average pooling
instead of strides (Zhang 2019, arXiv 1904.11486), and attention instead of the final mean.
Parameter names are those of OpenAI's release. Parts first, the whole last.

Shapes: B batch, H W pixels, D channels, h w feature grid, T = 1 + h w tokens, A attention heads,
E embedding width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from maquette.nn.attention import attention
from maquette.tasks.image_text.positions import resample_image_positions

EXPANSION = 4
"""Channels of a block's output per unit of its width."""


class Bottleneck(nn.Module):
    """1×1 down to `width`, 3×3, average pooling instead of a stride, 1×1 up to 4 × `width`."""

    def __init__(self, *, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        out_channels = width * EXPANSION
        self.stride = stride
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        nn.init.zeros_(self.bn3.weight)  # each block begins as its shortcut
        self.downsample = (
            nn.Identity()
            if stride == 1 and in_channels == out_channels
            else nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
            )
        )

    def forward(self, x_BDhw: Tensor) -> Tensor:
        """(B, in_channels, h, w) -> (B, 4 width, h/stride, w/stride)."""
        branch = F.relu(self.bn1(self.conv1(x_BDhw)), inplace=True)
        branch = F.relu(self.bn2(self.conv2(branch)), inplace=True)
        branch = self.bn3(self.conv3(self._pool(branch)))
        return F.relu(branch + self.downsample(self._pool(x_BDhw)), inplace=True)

    def _pool(self, x_BDhw: Tensor) -> Tensor:
        return F.avg_pool2d(x_BDhw, self.stride) if self.stride > 1 else x_BDhw


class AttentionPool2d(nn.Module):
    """The mean of the grid asks the mean and every cell, each with its position; one answer."""

    def __init__(
        self,
        *,
        width: int,
        embed_dim: int,
        num_heads: int,
        grid: int,
        antialias_positions: bool,
        impl: str,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.antialias_positions = antialias_positions
        self.impl = impl
        self.positional_embedding = nn.Parameter(torch.randn(1 + grid**2, width) * width**-0.5)
        self.k_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.c_proj = nn.Linear(width, embed_dim)
        for linear in (self.q_proj, self.k_proj, self.v_proj, self.c_proj):
            nn.init.normal_(linear.weight, std=width**-0.5)

    def forward(self, x_BDhw: Tensor) -> Tensor:
        """(B, D, h, w) with h = w -> (B, E)."""
        cells_BTD = x_BDhw.flatten(2).transpose(1, 2)
        positions_TD = resample_image_positions(
            self.positional_embedding, grid=x_BDhw.shape[-1], antialias=self.antialias_positions
        )
        x_BTD = torch.cat([cells_BTD.mean(dim=1, keepdim=True), cells_BTD], dim=1) + positions_TD
        q = self._heads(self.q_proj(x_BTD[:, :1]))
        k, v = self._heads(self.k_proj(x_BTD)), self._heads(self.v_proj(x_BTD))
        mixed_BA1D = attention(q, k, v, impl=self.impl)
        features_BE: Tensor = self.c_proj(mixed_BA1D.flatten(1))
        return features_BE

    def _heads(self, projected: Tensor) -> Tensor:
        """(B, T, D) -> (B, A, T, D / A), contiguous."""
        batch, length, width = projected.shape
        split = projected.view(batch, length, self.num_heads, width // self.num_heads)
        return split.transpose(1, 2).contiguous()


class ModifiedResNet(nn.Module):
    """The image tower; ResNet-50 has layers (3, 4, 6, 3) and width 64."""

    def __init__(
        self,
        *,
        width: int,
        layers: tuple[int, int, int, int],
        num_heads: int,
        embed_dim: int,
        grid: int,
        antialias_positions: bool,
        impl: str,
        activation_checkpointing: bool,
    ) -> None:
        super().__init__()
        self.activation_checkpointing = activation_checkpointing
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, layers[0], stride=1)
        self.layer2 = _stage(width * 4, width * 2, layers[1], stride=2)
        self.layer3 = _stage(width * 8, width * 4, layers[2], stride=2)
        self.layer4 = _stage(width * 16, width * 8, layers[3], stride=2)
        self.attnpool = AttentionPool2d(
            width=width * 32,
            embed_dim=embed_dim,
            num_heads=num_heads,
            grid=grid,
            antialias_positions=antialias_positions,
            impl=impl,
        )

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """(B, 3, H, W) float, H = W a multiple of 32 -> (B, E)."""
        x_BDhw = F.relu(self.bn1(self.conv1(pixels_BCHW)), inplace=True)
        x_BDhw = F.relu(self.bn2(self.conv2(x_BDhw)), inplace=True)
        x_BDhw = F.relu(self.bn3(self.conv3(x_BDhw)), inplace=True)
        x_BDhw = F.avg_pool2d(x_BDhw, 2)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in stage:
                x_BDhw = self._run(block, x_BDhw)
        features_BE: Tensor = self.attnpool(x_BDhw)
        return features_BE

    def _run(self, block: nn.Module, x_BDhw: Tensor) -> Tensor:
        if not (self.activation_checkpointing and torch.is_grad_enabled()):
            result: Tensor = block(x_BDhw)
            return result

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), _counted_once(block)

        recomputed: Tensor = checkpoint(block, x_BDhw, use_reentrant=False, context_fn=contexts)
        return recomputed


def _stage(in_channels: int, width: int, blocks: int, *, stride: int) -> nn.Sequential:
    """Return the blocks of one stage; the first one changes the channels and the grid."""
    first = Bottleneck(in_channels=in_channels, width=width, stride=stride)
    others = (
        Bottleneck(in_channels=width * EXPANSION, width=width, stride=1) for _ in range(blocks - 1)
    )
    return nn.Sequential(first, *others)


@contextmanager
def _counted_once(block: nn.Module) -> Iterator[None]:
    """Keep running statistics as they are while a block is computed for the second time."""
    norms = [m for m in block.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.sub_(1)
