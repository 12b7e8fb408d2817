"""CLIP: an image and a text become two features that lie close together when they belong together.

Radford et al., "Learning transferable visual models from natural language supervision" (2021, arXiv
2103.00020). Parameter names are those of OpenAI's release and of open_clip, so their weights load
as they are (`checkpoints.py`). Parts first, the whole last; the ResNet image tower is in
`clip_resnet.py`.

Activations stay batch first and contiguous: a bfloat16 product with a transposed input is many
times slower on a CPU. The last block of each tower computes only the one token that is read. On a
CPU texts have no padding outside attention (`packing.py`): what is (B, T, D) below is then (N, D).

Shapes: B batch, T tokens (of a text, or the class token and the patches), D width of a tower,
N tokens of all texts, A attention heads, E embedding width, H W pixels, h w patch grid.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from maquette.nn.attention import attention
from maquette.nn.inputs import require_images
from maquette.tasks.image_text.architectures import ClipConfig
from maquette.tasks.image_text.clip_resnet import AttentionPool2d, ModifiedResNet
from maquette.tasks.image_text.packing import Packing, packing_of
from maquette.tasks.image_text.positions import resample_image_positions

INITIAL_LOGIT_SCALE = math.log(1 / 0.07)
"""Logarithm of the inverse temperature that CLIP starts with."""


class QuickGELU(nn.Module):
    """x·σ(1.702 x), an approximation of GELU (Hendrycks & Gimpel 2016, arXiv 1606.08415)."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same."""
        # SiLU is one kernel forward and one backward: x·σ(ax) = silu(ax) / a. Its backward needs
        # what went in, not what came out, so that may be scaled in place.
        return F.silu(1.702 * x).mul_(1 / 1.702)


class SelfAttention(nn.Module):
    """Multi-head self-attention with one matrix for queries, keys and values, in that order."""

    def __init__(self, *, width: int, num_heads: int, impl: str) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.impl = impl
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        self.low_rank = nn.ModuleDict()
        """LoRA's additions to "q", "k" or "v"; none until `finetune.py` puts them there."""
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        x_BTD: Tensor,
        *,
        is_causal: bool,
        read_B: Tensor | None = None,
        packing: Packing | None = None,
    ) -> Tensor:
        """Mix the tokens: (B, T, D) -> (B, T, D), or (B, 1, D) for the tokens `read_B` alone.

        Args:
            is_causal: a token sees itself and those before it.
            read_B: (B,) int64, the one token of each sequence whose result is wanted.
            packing: the tokens are (N, D), and so is the result unless it is of `read_B`.
        """
        if read_B is None:
            q, k, v = self._heads(self._project(x_BTD, "qkv"), 3, packing)
            mixed = attention(q, k, v, is_causal=is_causal, impl=self.impl)
        else:
            (q,) = self._heads(self._project(pick(x_BTD, read_B, packing), "q"), 1)
            k, v = self._heads(self._project(x_BTD, "kv"), 2, packing)
            mask = up_to(read_B, k.shape[2]) if is_causal else None
            mixed = attention(q, k, v, mask=mask, impl=self.impl)
        merged_BTD = mixed.transpose(1, 2).flatten(2)
        if packing is not None and read_B is None:
            merged_BTD = packing.pack(merged_BTD)
        result: Tensor = self.out_proj(merged_BTD)
        return result

    def _project(self, x_BTD: Tensor, parts: str) -> Tensor:
        """Return what "qkv", "q" or "kv" asks for side by side: (B, T, D) -> (B, T, parts · D)."""
        width = x_BTD.shape[-1]
        weight: Tensor = self.in_proj_weight
        bias: Tensor = self.in_proj_bias
        if parts != "qkv":
            rows = slice(width * "qkv".index(parts), width * ("qkv".index(parts) + len(parts)))
            weight, bias = weight[rows], bias[rows]
        projected = F.linear(x_BTD, weight, bias)
        for place, part in enumerate(parts):
            if part in self.low_rank:
                projected[..., place * width : (place + 1) * width] += self.low_rank[part](x_BTD)
        return projected

    def _heads(
        self, projected: Tensor, parts: int, packing: Packing | None = None
    ) -> tuple[Tensor, ...]:
        """(B, T, parts · D) or (N, parts · D) -> `parts` tensors (B, A, T, D / A).

        They are views, which attention reads as fast as copies; MPS reads some views wrongly.
        """
        if packing is not None:
            projected = packing.pad(projected)
        views = (
            part.view(*part.shape[:2], self.num_heads, part.shape[2] // self.num_heads).transpose(
                1, 2
            )
            for part in projected.chunk(parts, dim=2)
        )
        return tuple(x.contiguous() if x.device.type == "mps" else x for x in views)


def pick(x_BTD: Tensor, read_B: Tensor, packing: Packing | None = None) -> Tensor:
    """Take token read_B[b] of each sequence b: (B, T, D) or (N, D) -> (B, 1, D)."""
    if packing is not None:
        return x_BTD[packing.last_B][:, None]
    return x_BTD[torch.arange(x_BTD.shape[0], device=x_BTD.device), read_B][:, None]


def up_to(read_B: Tensor, length: int) -> Tensor:
    """Return the mask (B, 1, 1, T), True for the tokens from the first to read_B[b]."""
    return (torch.arange(length, device=read_B.device) <= read_B[:, None])[:, None, None]


class MLP(nn.Module):
    """Two linear layers, four times as wide between."""

    def __init__(self, *, width: int, activation: str) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.activation = QuickGELU() if activation == "quick_gelu" else nn.GELU()
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        result: Tensor = self.c_proj(self.activation(self.c_fc(x_BTD)))
        return result


class Block(nn.Module):
    """One pre-norm block: x + attention(norm(x)), then x + MLP(norm(x))."""

    def __init__(self, *, width: int, num_heads: int, activation: str, impl: str) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = SelfAttention(width=width, num_heads=num_heads, impl=impl)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = MLP(width=width, activation=activation)

    def forward(
        self,
        x_BTD: Tensor,
        *,
        is_causal: bool,
        read_B: Tensor | None = None,
        packing: Packing | None = None,
    ) -> Tensor:
        """(B, T, D) -> (B, T, D), or (B, 1, D) for the tokens `read_B` (B,) alone."""
        mixed = self.attn(self.ln_1(x_BTD), is_causal=is_causal, read_B=read_B, packing=packing)
        x_BTD = mixed + (x_BTD if read_B is None else pick(x_BTD, read_B, packing))
        result: Tensor = x_BTD + self.mlp(self.ln_2(x_BTD))
        return result


class Transformer(nn.Module):
    """A stack of blocks of which one token per sequence is read."""

    def __init__(
        self,
        *,
        width: int,
        num_layers: int,
        num_heads: int,
        activation: str,
        is_causal: bool,
        impl: str,
        activation_checkpointing: bool,
    ) -> None:
        super().__init__()
        self.is_causal = is_causal
        self.activation_checkpointing = activation_checkpointing
        self.resblocks = nn.ModuleList(
            Block(width=width, num_heads=num_heads, activation=activation, impl=impl)
            for _ in range(num_layers)
        )

    def forward(self, x_BTD: Tensor, read_B: Tensor, packing: Packing | None = None) -> Tensor:
        """Return token read_B[b] after all blocks: (B, T, D), (B,) int64 -> (B, D).

        Args:
            packing: the tokens are (N, D), and read_B[b] is the last one of each sequence.
        """
        saves = self.activation_checkpointing and torch.is_grad_enabled()
        last = len(self.resblocks) - 1
        for index, block in enumerate(self.resblocks):
            options: dict[str, Any] = {
                "is_causal": self.is_causal,
                "read_B": read_B if index == last else None,
                "packing": packing,
            }
            if saves:
                x_BTD = checkpoint(block, x_BTD, use_reentrant=False, **options)
            else:
                x_BTD = block(x_BTD, **options)
        return x_BTD[:, 0]


class VisionTransformer(nn.Module):
    """The image tower: square patches and a class token through a transformer."""

    def __init__(
        self, config: ClipConfig, *, num_layers: int, impl: str, activation_checkpointing: bool
    ) -> None:
        super().__init__()
        width, patch = config.vision_width, config.stride
        self.antialias_positions = config.antialias_positions
        self.conv1 = nn.Conv2d(3, width, kernel_size=patch, stride=patch, bias=False)
        scale = width**-0.5
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(1 + config.grid**2, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(
            width=width,
            num_layers=num_layers,
            num_heads=config.vision_heads,
            activation=config.activation,
            is_causal=False,
            impl=impl,
            activation_checkpointing=activation_checkpointing,
        )
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, config.embed_dim))

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """(B, 3, H, W) float, H = W a multiple of the patch -> (B, E)."""
        patch = self.conv1.kernel_size[0]
        # The convolution's steps are as long as its kernel, so it is one product of matrices.
        rows_BTI = patches_of(pixels_BCHW, patch)
        patches_BTD = F.linear(rows_BTI, self.conv1.weight.flatten(1))
        batch, _, width = patches_BTD.shape
        class_B1D = self.class_embedding.to(patches_BTD.dtype).expand(batch, 1, width)
        positions_TD = resample_image_positions(
            self.positional_embedding,
            grid=pixels_BCHW.shape[-1] // patch,
            antialias=self.antialias_positions,
        )
        x_BTD = torch.cat([class_B1D, patches_BTD], dim=1) + positions_TD
        first_B = torch.zeros(batch, dtype=torch.int64, device=x_BTD.device)
        pooled_BD = self.ln_post(self.transformer(self.ln_pre(x_BTD), first_B))
        features_BE: Tensor = pooled_BD @ self.proj
        return features_BE


def patches_of(pixels_BCHW: Tensor, size: int) -> Tensor:
    """Cut images into squares, row by row: (B, C, H, W) -> (B, h·w, C · size · size)."""
    batch, channels, height, width = pixels_BCHW.shape
    rows, columns = height // size, width // size
    cut = pixels_BCHW.reshape(batch, channels, rows, size, columns, size)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, channels * size * size)


class CLIP(nn.Module):
    """Both towers and the temperature."""

    def __init__(
        self,
        config: ClipConfig,
        *,
        attention: str = "fused",
        activation_checkpointing: bool = False,
    ) -> None:
        """Build the model with new random weights.

        Args:
            config: every shape, the activation, and how positions are resampled.
            attention: how attention is computed, see `maquette.nn.attention.attention`; all ways
                give the same numbers.
            activation_checkpointing: keep only the inputs of each block and compute the rest again
                in the backward pass: less memory, about a third more time.
        """
        super().__init__()
        self.config = config
        self._attention = attention
        if config.vision == "resnet":
            assert isinstance(config.vision_layers, tuple), "ClipConfig guarantees four stages"
            self.visual: nn.Module = ModifiedResNet(
                width=config.vision_width,
                layers=config.vision_layers,
                num_heads=config.vision_heads,
                embed_dim=config.embed_dim,
                grid=config.grid,
                antialias_positions=config.antialias_positions,
                impl=attention,
                activation_checkpointing=activation_checkpointing,
            )
        else:
            assert isinstance(config.vision_layers, int), "ClipConfig guarantees a number of blocks"
            self.visual = VisionTransformer(
                config,
                num_layers=config.vision_layers,
                impl=attention,
                activation_checkpointing=activation_checkpointing,
            )
        width = config.text_width
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context_length, width))
        self.transformer = Transformer(
            width=width,
            num_layers=config.text_layers,
            num_heads=config.text_heads,
            activation=config.activation,
            is_causal=True,
            impl=attention,
            activation_checkpointing=activation_checkpointing,
        )
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, config.embed_dim))
        self.logit_scale = nn.Parameter(torch.tensor(INITIAL_LOGIT_SCALE))
        """The logarithm of the inverse temperature, 0-d."""
        self._initialise_text()

    def _initialise_text(self) -> None:
        """Scales of OpenAI's release: attention and MLP of the text tower, see the paper's code."""
        width = self.positional_embedding.shape[1]
        residual = (2 * len(self.transformer.resblocks)) ** -0.5
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        for block in self.transformer.resblocks:
            assert isinstance(block, Block), "Transformer builds blocks"
            nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
            nn.init.normal_(block.attn.out_proj.weight, std=width**-0.5 * residual)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=width**-0.5 * residual)
        nn.init.normal_(self.text_projection, std=width**-0.5)

    @property
    def attention(self) -> str:
        """How attention is computed; may be set at any time."""
        return self._attention

    @attention.setter
    def attention(self, impl: str) -> None:
        self._attention = impl
        for module in self.modules():
            if isinstance(module, SelfAttention | AttentionPool2d):
                module.impl = impl

    def encode_image(self, pixels_BCHW: Tensor) -> Tensor:
        """Encode normalised RGB images, (B, 3, H, W) float -> (B, E), not normalised.

        H = W is any multiple of `config.stride`; at another size than `config.image_size` the
        table of positions is resampled from the original one.

        Raises:
            ValueError: the images are not square, or of another size.
        """
        require_images(pixels_BCHW, in_channels=3)
        height, width = pixels_BCHW.shape[2:]
        stride = self.config.stride
        if height != width or height < stride or height % stride:
            raise ValueError(
                f"images are {height} × {width} pixels; expected squares with a side that is a "
                f"multiple of {stride}, as {max(stride, round(width / stride) * stride)}."
            )
        features: Tensor = self.visual(pixels_BCHW)
        return features

    def encode_text(self, ids_BT: Tensor) -> Tensor:
        """Encode token ids, (B, T) int64, T up to `config.context_length` -> (B, E).

        The feature is that of the end token, the first one with the largest id. What follows it is
        never seen, because attention is causal, so ids may be cut to the longest text of the batch.

        Raises:
            ValueError: the ids are not two-dimensional, or longer than the table of positions.
        """
        if ids_BT.ndim != 2 or not 1 <= ids_BT.shape[1] <= self.config.context_length:
            raise ValueError(
                f"ids_BT is {tuple(ids_BT.shape)}, expected (B, T) with T from 1 to "
                f"{self.config.context_length}, the model's context length."
            )
        end_B = ids_BT.argmax(dim=1)
        if ids_BT.device.type == "cpu" and len(ids_BT):  # a GPU would have to wait for the length
            ids_BT = ids_BT[:, : int(end_B.max()) + 1]
        packing = packing_of(end_B, ids_BT.shape[1])
        x_BTD = self.token_embedding(ids_BT) + self.positional_embedding[: ids_BT.shape[1]]
        if packing is not None:
            x_BTD = packing.pack(x_BTD)
        pooled_BD = self.ln_final(self.transformer(x_BTD, end_B, packing))
        features_BE: Tensor = pooled_BD @ self.text_projection
        return features_BE

    def forward(self, pixels_BCHW: Tensor, ids_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Encode pairs: (B, 3, H, W), (B, T) -> image and text features, each (B, E)."""
        return self.encode_image(pixels_BCHW), self.encode_text(ids_BT)
