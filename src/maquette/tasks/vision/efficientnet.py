"""EfficientNet: an image becomes class scores through seven stages of inverted residuals.

Tan & Le, "EfficientNet" (2019, arXiv 1905.11946). Parameter names are timm's, because they say what
each layer is (`blocks.2.0.se.conv_reduce`, where torchvision counts: `features.3.0.block.2.fc1`);
`weights.py` renames torchvision files on loading. Parts first, the whole last.

Shapes: B batch, C input channels, H W pixels, D channels, h w feature grid, N classes.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from maquette.nn.drop_path import DropPath
from maquette.nn.inputs import require_images


class Stage(NamedTuple):
    """One row of the paper's table 1, at width and depth 1."""

    expand: int
    """Channels inside a block per input channel."""
    kernel: int
    stride: int
    channels: int
    repeats: int


STAGES = (
    Stage(expand=1, kernel=3, stride=1, channels=16, repeats=1),
    Stage(expand=6, kernel=3, stride=2, channels=24, repeats=2),
    Stage(expand=6, kernel=5, stride=2, channels=40, repeats=2),
    Stage(expand=6, kernel=3, stride=2, channels=80, repeats=3),
    Stage(expand=6, kernel=5, stride=1, channels=112, repeats=3),
    Stage(expand=6, kernel=5, stride=2, channels=192, repeats=4),
    Stage(expand=6, kernel=3, stride=1, channels=320, repeats=1),
)
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280


def scaled_channels(channels: int, width: float) -> int:
    """Scale a channel count and round it to a multiple of 8, never down by more than 10 %."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


class SqueezeExcite(nn.Module):
    """Scale each channel by what the whole image says about it (Hu et al. 2018, 1709.01507)."""

    def __init__(self, channels: int, reduced: int) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, reduced, 1)
        self.conv_expand = nn.Conv2d(reduced, channels, 1)

    def forward(self, x_BDhw: Tensor) -> Tensor:
        """(B, D, h, w) -> same shape."""
        squeezed_BD11 = x_BDhw.mean(dim=(2, 3), keepdim=True)
        gate_BD11: Tensor = self.conv_expand(F.silu(self.conv_reduce(squeezed_BD11))).sigmoid()
        return x_BDhw * gate_BD11


class DepthwiseSeparable(nn.Module):
    """Depthwise k×k, squeeze-excite, 1×1: a block that does not expand."""

    def __init__(
        self, *, in_channels: int, out_channels: int, kernel: int, stride: int, drop_path: float
    ) -> None:
        super().__init__()
        self.conv_dw = _depthwise(in_channels, kernel, stride)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.se = SqueezeExcite(in_channels, in_channels // 4)
        self.conv_pw = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.has_shortcut = stride == 1 and in_channels == out_channels
        self.drop_path = DropPath(drop_path)

    def forward(self, x_BDhw: Tensor) -> Tensor:
        """(B, in_channels, h, w) -> (B, out_channels, ceil(h/stride), ceil(w/stride))."""
        branch: Tensor = self.se(F.silu(self.bn1(self.conv_dw(x_BDhw))))
        branch = self.bn2(self.conv_pw(branch))
        return self.drop_path(branch) + x_BDhw if self.has_shortcut else branch


class InvertedResidual(nn.Module):
    """1×1 up, depthwise k×k, squeeze-excite, 1×1 down (Sandler et al. 2018, 1801.04381)."""

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        expand: int,
        kernel: int,
        stride: int,
        drop_path: float,
    ) -> None:
        super().__init__()
        inner = in_channels * expand
        self.conv_pw = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv_dw = _depthwise(inner, kernel, stride)
        self.bn2 = nn.BatchNorm2d(inner)
        # The squeeze is a quarter of the block's input, not of its expanded width.
        self.se = SqueezeExcite(inner, in_channels // 4)
        self.conv_pwl = nn.Conv2d(inner, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.has_shortcut = stride == 1 and in_channels == out_channels
        self.drop_path = DropPath(drop_path)

    def forward(self, x_BDhw: Tensor) -> Tensor:
        """(B, in_channels, h, w) -> (B, out_channels, ceil(h/stride), ceil(w/stride))."""
        branch: Tensor = F.silu(self.bn1(self.conv_pw(x_BDhw)))
        branch = self.se(F.silu(self.bn2(self.conv_dw(branch))))
        branch = self.bn3(self.conv_pwl(branch))
        return self.drop_path(branch) + x_BDhw if self.has_shortcut else branch


def _depthwise(channels: int, kernel: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(
        channels, channels, kernel, stride=stride, padding=kernel // 2, groups=channels, bias=False
    )


class EfficientNet(nn.Module):
    """The whole network; `models.MODELS` lists the sizes."""

    stem_key: ClassVar[str] = "conv_stem"
    """The convolution that sees the image: what other channel counts change."""
    head_key: ClassVar[str] = "classifier"
    """The layer that knows the number of classes."""

    def __init__(
        self,
        *,
        width: float,
        depth: float,
        num_classes: int,
        in_channels: int = 3,
        stem: Literal["standard", "small"] = "standard",
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        """Build the network with new random weights.

        Args:
            width: factor on the channel counts of `STAGES`.
            depth: factor on the repeats of `STAGES`.
            stem: `standard` divides the sides by 32; `small` leaves out the first two halvings
                (stem and second stage) and divides by 8. Both have the same parameters.
            dropout: before the classifier; the paper has 0.2 for B0 and B1, 0.3 for B2 and B3.
            drop_path: stochastic depth; block i of n is skipped with probability drop_path · i/n
                (the paper has 0.2).
        """
        super().__init__()
        self.in_channels = in_channels
        small = stem == "small"
        channels = scaled_channels(STEM_CHANNELS, width)
        self.conv_stem = nn.Conv2d(
            in_channels, channels, 3, stride=1 if small else 2, padding=1, bias=False
        )
        self.bn1 = nn.BatchNorm2d(channels)

        repeats = [math.ceil(stage.repeats * depth) for stage in STAGES]
        drop_rates = iter([drop_path * index / sum(repeats) for index in range(sum(repeats))])
        stages = []
        for number, stage in enumerate(STAGES):
            out_channels = scaled_channels(stage.channels, width)
            stage_stride = 1 if small and number == 1 else stage.stride
            blocks = []
            for index in range(repeats[number]):
                stride = stage_stride if index == 0 else 1
                blocks.append(_block(stage, channels, out_channels, stride, next(drop_rates)))
                channels = out_channels
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)

        head_channels = scaled_channels(HEAD_CHANNELS, width)
        self.conv_head = nn.Conv2d(channels, head_channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(head_channels)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(head_channels, num_classes)
        self._initialise()

    def _initialise(self) -> None:
        """He et al. 2015 by fan-out; in a depthwise convolution that is k², as in the original.

        The original draws the classifier from ±1/√N, meant for N = 1000 classes; with a handful
        its first logits would be far from equal, so it is ±1/√D here (nearly the same for 1000).
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] ** 2 * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        bound = 1 / math.sqrt(self.classifier.in_features)
        nn.init.uniform_(self.classifier.weight, -bound, bound)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Score normalised images, (B, C, H, W) float of any size -> (B, N) logits.

        Raises:
            ValueError: the input is not a batch of images with `in_channels` channels first.
        """
        require_images(image_BCHW, in_channels=self.in_channels)
        x_BDhw = F.silu(self.bn1(self.conv_stem(image_BCHW)))
        x_BDhw = self.blocks(x_BDhw)
        x_BDhw = F.silu(self.bn2(self.conv_head(x_BDhw)))
        logits_BN: Tensor = self.classifier(self.dropout(x_BDhw.mean(dim=(2, 3))))
        return logits_BN


def _block(
    stage: Stage, in_channels: int, out_channels: int, stride: int, drop_path: float
) -> DepthwiseSeparable | InvertedResidual:
    if stage.expand == 1:
        return DepthwiseSeparable(
            in_channels=in_channels,
            out_channels=out_channels,
            kernel=stage.kernel,
            stride=stride,
            drop_path=drop_path,
        )
    return InvertedResidual(
        in_channels=in_channels,
        out_channels=out_channels,
        expand=stage.expand,
        kernel=stage.kernel,
        stride=stride,
        drop_path=drop_path,
    )
