"""Convolutional parts of a U-Net: conv-norm-act, stages, down and up.

In and out: feature maps, float (B, C, H, W). Convolutions pad, so that only `down` and `up` change
the size: `down` halves H and W, `up` doubles them.

Letters: B batch, C channels, H, W pixels of the level, s stem stride.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unet_seg.errors import SegError

NORMS = ("batch", "group", "instance")
ACTIVATIONS = ("relu", "leaky_relu", "gelu", "silu")


def make_norm(kind: str, channels: int) -> nn.Module:
    """Normalise a feature map and give each channel a learned scale and shift.

    `batch` uses the statistics of the whole batch while training and running averages afterwards;
    `group` those of groups of channels of each image (as many groups as divide the channels, at
    most 8); `instance` those of each channel of each image, which is a group for each channel.
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        groups = max(g for g in range(1, 9) if channels % g == 0)
        return nn.GroupNorm(groups, channels)
    if kind == "instance":  # the same numbers as nn.InstanceNorm2d, without its copies
        return nn.GroupNorm(channels, channels)
    raise SegError(f"norm={kind!r} is unknown; expected one of {', '.join(NORMS)}.")


def make_activation(kind: str) -> nn.Module:
    """The nonlinearity after a norm; in place where its derivative follows from its output."""
    if kind == "relu":
        return nn.ReLU(inplace=True)
    if kind == "leaky_relu":
        return nn.LeakyReLU(0.01, inplace=True)
    if kind == "gelu":
        return nn.GELU()
    if kind == "silu":
        return nn.SiLU()
    raise SegError(f"activation={kind!r} is unknown; expected one of {', '.join(ACTIVATIONS)}.")


class ConvNormAct(nn.Module):
    """3x3 convolution, norm, activation: (B, in_channels, H, W) -> (B, out_channels, H, W)."""

    def __init__(
        self, in_channels: int, out_channels: int, *, norm: str, activation: str | None
    ) -> None:
        super().__init__()
        # No bias: the norm subtracts the mean, and with it whatever a bias had added.
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.norm = make_norm(norm, out_channels)
        self.act = nn.Identity() if activation is None else make_activation(activation)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW: Tensor = self.act(self.norm(self.conv(x_BCHW)))
        return y_BCHW


class Stage(nn.Module):
    """The convolutions of one level: (B, in_channels, H, W) -> (B, out_channels, H, W).

    With `residual` the input is added before the last activation (He et al. 2016), through a 1x1
    convolution where the number of channels changes.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        num_convs: int,
        norm: str,
        activation: str,
        residual: bool,
    ) -> None:
        super().__init__()
        layers = []
        for i in range(num_convs):
            last = residual and i == num_convs - 1
            act = None if last else activation
            channels = in_channels if i == 0 else out_channels
            layers.append(ConvNormAct(channels, out_channels, norm=norm, activation=act))
        self.layers = nn.Sequential(*layers)
        self.shortcut: nn.Module | None = None
        if residual:
            same = in_channels == out_channels
            self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)
            self.act = make_activation(activation)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW: Tensor = self.layers(x_BCHW)
        if self.shortcut is not None:
            y_BCHW = self.act(y_BCHW + self.shortcut(x_BCHW))
        return y_BCHW


def make_stem(stride: int, stage: Stage) -> nn.Module:
    """The first level, `stride` times smaller than the image: (B, C, sH, sW) -> (B, width, H, W).

    The s x s pixels of a block become s² C channels of one pixel (Shi et al. 2016, the other way
    round), so the stage reads all of the image at the cost of a small one.
    """
    return stage if stride == 1 else nn.Sequential(nn.PixelUnshuffle(stride), stage)


class DownBlock(nn.Module):
    """Halve the resolution, then a stage: (B, in, 2H, 2W) -> (B, out, H, W).

    Args:
        kind: `max_pool` keeps the largest of 2x2 pixels, `conv` learns a 2x2 convolution with
            stride 2.
        stage: the convolutions after it.
    """

    def __init__(self, in_channels: int, stage: Stage, *, kind: str) -> None:
        super().__init__()
        if kind == "max_pool":
            self.down: nn.Module = nn.MaxPool2d(2)
        elif kind == "conv":
            self.down = nn.Conv2d(in_channels, in_channels, kernel_size=2, stride=2)
        else:
            raise SegError(f"down={kind!r} is unknown; expected max_pool or conv.")
        self.stage = stage

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW: Tensor = self.stage(self.down(x_BCHW))
        return y_BCHW


class UpBlock(nn.Module):
    """Double the resolution, put the skip beside it, then a stage.

    (B, deep, H, W) and the encoder's (B, skip, 2H, 2W) -> (B, out, 2H, 2W). The deep map is brought
    to the skip's channels first; the stage gets [deep, skip], in this order.

    Args:
        kind: `transpose` learns a 2x2 transposed convolution; `bilinear` interpolates. A 1x1
            convolution and interpolation may change places (both are linear, and the weights of an
            interpolation add up to 1), so the convolution runs first, on a quarter of the pixels.
        stage: takes 2 skip channels.
    """

    def __init__(self, deep_channels: int, skip_channels: int, stage: Stage, *, kind: str) -> None:
        super().__init__()
        if kind == "transpose":
            self.up: nn.Module = nn.ConvTranspose2d(deep_channels, skip_channels, 2, stride=2)
        elif kind == "bilinear":
            self.up = nn.Conv2d(deep_channels, skip_channels, kernel_size=1)
        else:
            raise SegError(f"up={kind!r} is unknown; expected transpose or bilinear.")
        self.kind = kind
        self.stage = stage

    def forward(self, deep_BCHW: Tensor, skip_BCHW: Tensor) -> Tensor:
        x_BCHW: Tensor = self.up(deep_BCHW)
        if self.kind == "bilinear":
            x_BCHW = F.interpolate(x_BCHW, scale_factor=2, mode="bilinear", align_corners=False)
        y_BCHW: Tensor = self.stage(torch.cat([x_BCHW, skip_BCHW], dim=1))
        return y_BCHW


class Head(nn.Module):
    """Class logits of a feature map: (B, C, H, W) -> (B, N, sH, sW).

    A 1x1 convolution makes s² logits of each class for each pixel, which become the s x s pixels of
    a block (Shi et al. 2016). They start equal, so at first the block is simply enlarged. The
    classes start apart, with logits of variance about 1: from nearly equal weights they move
    together for long, and a plain U-Net then settles for telling things from background.
    """

    def __init__(self, channels: int, num_classes: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, num_classes * stride**2, kernel_size=1)
        self.stride = stride
        with torch.no_grad():
            weight = torch.randn(num_classes, channels, 1, 1) * channels**-0.5
            self.conv.weight.copy_(weight.repeat_interleave(stride**2, dim=0))
            self.conv.bias.zero_()  # type: ignore[union-attr]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        logits: Tensor = self.conv(x_BCHW)
        return logits if self.stride == 1 else F.pixel_shuffle(logits, self.stride)


def init_he(module: nn.Module) -> None:
    """Fill convolutions as He et al. 2015 do: variance 2 / fan-in, which ReLU halves. Bias 0."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            # Each output pixel of a 2x2 transposed convolution of stride 2 sees one input pixel,
            # so its fan-in is the number of its input channels, not what PyTorch would count.
            transposed = isinstance(part, nn.ConvTranspose2d)
            fan_in = part.in_channels if transposed else part.weight[0].numel()
            nn.init.normal_(part.weight, std=(2 / fan_in) ** 0.5)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
