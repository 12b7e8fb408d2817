"""ResNet: an image becomes class scores through four stages of residual blocks.

He et al., "Deep residual learning for image recognition" (2015, arXiv 1512.03385), with the stride
on the 3×3 convolution of a bottleneck, as torchvision and timm have it. Parameter names and outputs
equal theirs, so their weight files load as they are (`weights.py`). Parts first, the whole last.

Shapes: B batch, C input channels, H W pixels, D channels, h w feature grid, N classes.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from maquette.nn.drop_path import DropPath
from maquette.nn.inputs import require_images


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut: the block of ResNet-18 and ResNet-34."""

    expansion: ClassVar[int] = 1
    """Output channels per unit of width."""

    def __init__(self, *, in_channels: int, width: int, stride: int, drop_path: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(in_channels, width, stride)
        self.drop_path = DropPath(drop_path)

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The norm whose weight scales the whole branch."""
        return self.bn2

    def forward(self, x_BDhw: Tensor) -> Tensor:
        """(B, in_channels, h, w) -> (B, width, ceil(h/stride), ceil(w/stride))."""
        branch = F.relu(self.bn1(self.conv1(x_BDhw)), inplace=True)
        branch = self.bn2(self.conv2(branch))
        return F.relu(self.drop_path(branch) + self.downsample(x_BDhw), inplace=True)


class Bottleneck(nn.Module):
    """1×1 down to `width`, 3×3, 1×1 up to 4 × `width`, beside a shortcut: ResNet-50's block."""

    expansion: ClassVar[int] = 4

    def __init__(self, *, in_channels: int, width: int, stride: int, drop_path: float) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = _shortcut(in_channels, out_channels, stride)
        self.drop_path = DropPath(drop_path)

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The norm whose weight scales the whole branch."""
        return self.bn3

    def forward(self, x_BDhw: Tensor) -> Tensor:
        """(B, in_channels, h, w) -> (B, 4 width, ceil(h/stride), ceil(w/stride))."""
        branch = F.relu(self.bn1(self.conv1(x_BDhw)), inplace=True)
        branch = F.relu(self.bn2(self.conv2(branch)), inplace=True)
        branch = self.bn3(self.conv3(branch))
        return F.relu(self.drop_path(branch) + self.downsample(x_BDhw), inplace=True)


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """The other path: the identity where the shape stays, else a 1×1 projection."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
        nn.BatchNorm2d(out_channels),
    )


class ResNet(nn.Module):
    """The whole network; `models.MODELS` lists the depths."""

    stem_key: ClassVar[str] = "conv1"
    """The convolution that sees the image: what other stems and channel counts change."""
    head_key: ClassVar[str] = "fc"
    """The layer that knows the number of classes."""

    def __init__(
        self,
        *,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, int, int, int],
        num_classes: int,
        in_channels: int = 3,
        base_width: int = 64,
        stem: Literal["standard", "small"] = "standard",
        dropout: float = 0.0,
        drop_path: float = 0.0,
        zero_init_last: bool = False,
    ) -> None:
        """Build the network with new random weights.

        Args:
            block: BasicBlock or Bottleneck.
            depths: blocks in each stage.
            base_width: width of the first stage; each stage doubles it (64 is the paper's).
            stem: `standard` divides the sides by 4 (7×7 stride 2, max-pool) and the network by 32;
                `small` keeps them (3×3 stride 1) and the network divides by 8.
            dropout: before the classifier.
            drop_path: probability of skipping the last block; it grows linearly from 0.
            zero_init_last: start each block as its shortcut (Goyal et al. 2017, arXiv 1706.02677).
        """
        super().__init__()
        self.in_channels = in_channels
        self.small_stem = stem == "small"
        kernel, stride = (3, 1) if self.small_stem else (7, 2)
        self.conv1 = nn.Conv2d(
            in_channels, base_width, kernel, stride=stride, padding=kernel // 2, bias=False
        )
        self.bn1 = nn.BatchNorm2d(base_width)

        last = max(1, sum(depths) - 1)
        drop_rates = iter([drop_path * index / last for index in range(sum(depths))])
        channels = base_width
        stages = []
        for stage, depth in enumerate(depths):
            blocks: list[nn.Module] = []
            for index in range(depth):
                width = base_width * 2**stage
                stride = 2 if stage > 0 and index == 0 else 1
                rate = next(drop_rates)
                blocks.append(
                    block(in_channels=channels, width=width, stride=stride, drop_path=rate)
                )
                channels = width * block.expansion
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages

        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)
        self._initialise(zero_init_last)

    def _initialise(self, zero_init_last: bool) -> None:
        """He et al. 2015 (arXiv 1502.01852) by fan-out; norms 1 and 0; `fc` keeps torch's own."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif zero_init_last and isinstance(module, BasicBlock | Bottleneck):
                nn.init.zeros_(module.last_norm.weight)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Score normalised images, (B, C, H, W) float of any size -> (B, N) logits.

        Raises:
            ValueError: the input is not a batch of images with `in_channels` channels first.
        """
        require_images(image_BCHW, in_channels=self.in_channels)
        x_BDhw = F.relu(self.bn1(self.conv1(image_BCHW)), inplace=True)
        if not self.small_stem:
            x_BDhw = F.max_pool2d(x_BDhw, kernel_size=3, stride=2, padding=1)
        x_BDhw = self.layer1(x_BDhw)
        x_BDhw = self.layer2(x_BDhw)
        x_BDhw = self.layer3(x_BDhw)
        x_BDhw = self.layer4(x_BDhw)
        # The mean is adaptive average pooling to 1×1 with a deterministic backward on CUDA.
        pooled_BD = x_BDhw.mean(dim=(2, 3))
        logits_BN: Tensor = self.fc(self.dropout(pooled_BD))
        return logits_BN
