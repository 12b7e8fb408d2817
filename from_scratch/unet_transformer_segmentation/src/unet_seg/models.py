"""The networks, whole: U-Net, and U-Net with a transformer at its coarsest level.

In: images, float (B, C, H, W), normalised, any H and W. Out: logits, float (B, N, H, W).

    image -- stage 0 ----------------- skip --------------- up 0 -- head -- logits
                `-- stage 1 ---------- skip ------- up 1 ---'
                       `-- stage 2 -- [transformer] --'

`UNet.forward_all` is the whole computation; blocks.py and transformer.py hold its parts.

Letters: B batch, C image channels, N classes, H, W pixels, k image pixels along a side of a level's
pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from unet_seg import parsing
from unet_seg.blocks import DownBlock, Head, Stage, UpBlock, init_he, make_stem
from unet_seg.config import Config, DataConfig, ModelConfig, config_from_dict
from unet_seg.contracts import check_shape
from unet_seg.errors import SegError
from unet_seg.transformer import TransformerEncoder


class UNet(nn.Module):
    """U-Net (Ronneberger et al. 2015) with padded convolutions and norms.

    Args:
        widths: channels of each level, from the finest to the coarsest.
        stem_stride: 1, 2 or 4; the first level is this much smaller than the image.
        bottleneck: what the coarsest features pass through, (B, C, h, w) -> (B, C, h, w); None
            passes them on as they are.
        dropout: probability that a channel of the coarsest features is set to 0 while training.
        deep_supervision: give every decoder level a head, used while training.
        The other arguments are those of `ModelConfig`.

    Attributes:
        stride: k of the coarsest level. An image whose sides are no multiples of it is padded with
            zeros inside, right and bottom, and gives the same logits as if it had been before.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        widths: Sequence[int],
        convs_per_stage: int = 2,
        stem_stride: int = 1,
        residual: bool = False,
        norm: str = "batch",
        activation: str = "relu",
        down: str = "max_pool",
        up: str = "bilinear",
        dropout: float = 0.0,
        bottleneck: nn.Module | None = None,
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()

        def stage(channels: int, width: int) -> Stage:
            return Stage(
                channels,
                width,
                num_convs=convs_per_stage,
                norm=norm,
                activation=activation,
                residual=residual,
            )

        self.in_channels, self.stem_stride = in_channels, stem_stride
        self.stride = stem_stride * 2 ** (len(widths) - 1)
        pairs = list(pairwise(widths))
        stem = make_stem(stem_stride, stage(in_channels * stem_stride**2, widths[0]))
        downs = [DownBlock(fine, stage(fine, coarse), kind=down) for fine, coarse in pairs]
        ups = [UpBlock(coarse, fine, stage(2 * fine, fine), kind=up) for fine, coarse in pairs]

        self.encoder = nn.ModuleList([stem, *downs])
        self.dropout = nn.Dropout2d(dropout)
        self.bottleneck = nn.Identity() if bottleneck is None else bottleneck
        self.decoder = nn.ModuleList(ups[::-1])  # in the order they run, the coarsest first
        self.head = Head(widths[0], num_classes, stride=stem_stride)
        coarser_widths = widths[1:-1] if deep_supervision else []
        self.deep_heads = nn.ModuleList(Head(width, num_classes) for width in coarser_widths)
        init_he(self.encoder)
        init_he(self.decoder)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of images: (B, C, H, W) -> (B, N, H, W)."""
        return self.forward_all(image)[0]

    def forward_all(self, image: Tensor) -> list[Tensor]:
        """Logits at every supervised level, the finest first.

        Returns:
            [(B, N, H, W)] and, while training with deep supervision, for each coarser level of the
            decoder (B, N, ceil(H / k), ceil(W / k)).
        Raises:
            SegError: not (B, in_channels, H, W), or an image without pixels.
        """
        size = check_shape(image, f"B {self.in_channels} H W", name="image")
        x = pad_image(image, self.stride)

        features = []
        for stage in self.encoder:
            x = stage(x)
            features.append(x)
        x = self.bottleneck(self.dropout(features.pop()))
        decoded: list[Tensor] = []
        for up in self.decoder:
            x = up(x, features.pop())
            decoded.append(x)

        logits = [self.head(x)[..., : size["H"], : size["W"]]]
        if self.training:
            finest_first = decoded[-2::-1]  # without the finest of all, which the head above has
            for i, (head, level) in enumerate(zip(self.deep_heads, finest_first, strict=False)):
                k = self.stem_stride * 2 ** (i + 1)
                logits.append(head(level)[..., : -(-size["H"] // k), : -(-size["W"] // k)])
        return logits


def pad_image(image_BCHW: Tensor, stride: int) -> Tensor:
    """Pad right and bottom with zeros until both sides are multiples of `stride`.

    An image of one stride gets a second column of the coarsest grid, since a norm needs two values:
    one has no variance.
    """
    height, width = image_BCHW.shape[-2:]
    if image_BCHW.numel() == 0:
        raise SegError(
            f"image has shape {tuple(image_BCHW.shape)}, which holds no pixels; expected at least "
            "one image of one pixel."
        )
    rows, columns = -(-height // stride), -(-width // stride)
    if rows == columns == 1:
        columns = 2
    return F.pad(image_BCHW, (0, columns * stride - width, 0, rows * stride - height))


def unet(config: ModelConfig, in_channels: int, num_classes: int) -> UNet:
    """Convolutions alone."""
    return UNet(in_channels=in_channels, num_classes=num_classes, **_unet_arguments(config))


def unet_transformer(config: ModelConfig, in_channels: int, num_classes: int) -> UNet:
    """Convolutions, and a transformer over the pixels of the coarsest level (Chen et al. 2021)."""
    transformer = TransformerEncoder(
        config.widths[-1],
        dim=config.dim,
        depth=config.depth,
        heads=config.heads,
        mlp_ratio=config.mlp_ratio,
        dropout=config.dropout,
        window=config.window,
        attention=config.attention,
    )
    return UNet(
        in_channels=in_channels,
        num_classes=num_classes,
        bottleneck=transformer,
        **_unet_arguments(config),
    )


def _unet_arguments(config: ModelConfig) -> dict[str, Any]:
    names = (
        "widths convs_per_stage stem_stride residual norm activation down up dropout "
        "deep_supervision"
    )
    return {name: getattr(config, name) for name in names.split()}


MODELS: dict[str, Callable[[ModelConfig, int, int], UNet]] = {
    "unet": unet,
    "unet_transformer": unet_transformer,
}
"""Name in `model.name` -> function of the configuration, image channels and classes."""


def build_model(config: ModelConfig | Config | Mapping[str, Any]) -> UNet:
    """Build the network a configuration describes, with random weights.

    Args:
        config: a whole `Config`, or its `model` section alone, or either as nested plain values.
            A section alone needs num_classes; its in_channels is 3 if not given.
    Returns:
        A network of images (B, C, H, W) to logits (B, N, H, W), any H and W, in training mode.
    Raises:
        SegError: an unknown name, an unknown key or a missing number of classes.
    """
    model, in_channels, num_classes = _read(config)
    if model.name not in MODELS:
        near = get_close_matches(model.name, MODELS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise SegError(
            f"model.name={model.name!r} is unknown.{hint} Choose one of: {', '.join(MODELS)}."
        )
    if num_classes is None:
        raise SegError("model.num_classes is missing; give it, or a whole configuration.")
    for name, value in (("in_channels", in_channels), ("num_classes", num_classes)):
        if value < 1:
            raise SegError(f"model.{name}={value}: at least 1.")
    return MODELS[model.name](model, in_channels, num_classes)


def _read(config: ModelConfig | Config | Mapping[str, Any]) -> tuple[ModelConfig, int, int | None]:
    """The model section, its image channels and its number of classes."""
    if isinstance(config, Mapping):
        whole = isinstance(config.get("model"), Mapping) or "data" in config
        values = dict(config)
        config = config_from_dict(values) if whole else parsing.build(ModelConfig, values, "model")
    model, data = (config, None) if isinstance(config, ModelConfig) else (config.model, config.data)
    in_channels, num_classes = model.in_channels, model.num_classes
    if in_channels is None:
        in_channels = (data or DataConfig()).channels
    if num_classes is None and data is not None:
        num_classes = len(data.classes)
    return model, in_channels, num_classes


def count_parameters(model: nn.Module) -> int:
    """Number of trained numbers of a module."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
