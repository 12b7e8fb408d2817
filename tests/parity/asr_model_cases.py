"""The networks and inputs that both sides of the Paraformer parity tests use.

Sizes are those of the published models, made small; every tensor is filled by the formula of
`vision_numbers`. Imports torch alone, because it also runs beside the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from vision_numbers import fill, uniform

DIM, FFN, VOCAB, HEADS = 16, 24, 12, 4
LENS = (44, 27, 38)
GAIN = 2.0
"""Variance of a two-dimensional convolution's output per unit of its input's mean square."""

WIDTH = {"large": 28, "aishell": 20}
"""Features: 7 stacked frames of 4 mels, and 20 mels for the subsampling convolutions."""
CONFIG: dict[str, dict[str, Any]] = {
    "large": {
        "encoder": "SANMEncoder",
        "encoder_conf": {
            "output_size": DIM,
            "attention_heads": HEADS,
            "linear_units": FFN,
            "num_blocks": 3,
            "input_layer": "pe",
            "pos_enc_class": "SinusoidalPositionEncoder",
            "kernel_size": 11,
            "sanm_shfit": 0,
            "selfattention_layer_type": "sanm",
        },
        "decoder": "ParaformerSANMDecoder",
        "decoder_conf": {
            "attention_heads": HEADS,
            "linear_units": FFN,
            "num_blocks": 2,
            "att_layer_num": 2,
            "kernel_size": 11,
            "sanm_shfit": 0,
        },
        "predictor": "CifPredictorV2",
        "ctc_weight": 0.0,
        "predictor_bias": 1,
    },
    "aishell": {
        "encoder": "ConformerEncoder",
        "encoder_conf": {
            "output_size": DIM,
            "attention_heads": HEADS,
            "linear_units": FFN,
            "num_blocks": 2,
            "input_layer": "conv2d",
            "macaron_style": True,
            "rel_pos_type": "legacy",
            "pos_enc_layer_type": "rel_pos",
            "selfattention_layer_type": "rel_selfattn",
            "activation_type": "swish",
            "use_cnn_module": True,
            "cnn_module_kernel": 15,
        },
        "decoder": "ParaformerSANDecoder",
        "decoder_conf": {"attention_heads": HEADS, "linear_units": FFN, "num_blocks": 2},
        "predictor": "CifPredictor",
        "ctc_weight": 0.3,
    },
}
for _kind, _config in CONFIG.items():
    _config["predictor_conf"] = {
        "idim": DIM,
        "l_order": 1,
        "r_order": 1,
        "threshold": 1.0,
        "tail_threshold": 0.45,
    }
    _config |= {"input_size": WIDTH[_kind], "vocab_size": VOCAB, "sampling_ratio": 0.0}


def fill_state(shapes: Mapping[str, Any], seed: int) -> dict[str, Tensor]:
    """A whole state dict by FunASR's names, of the shape of each tensor."""
    return {
        name: fill(name, torch.empty(tuple(shape)), gain=GAIN, seed=seed)
        for name, shape in shapes.items()
    }


def feats(kind: str, seed: int) -> tuple[Tensor, Tensor]:
    """(B, T, F), 0 in the padding, and (B,) lengths."""
    lens = torch.tensor(LENS)
    mask = torch.arange(max(LENS)) < lens[:, None]
    values = uniform(f"{kind} feats", (len(LENS), max(LENS), WIDTH[kind]), seed=seed)
    return 1.7 * values * mask[..., None], lens


def memory(seed: int) -> tuple[Tensor, Tensor]:
    """Encoder frames for a decoder alone: (B, T, D) and (B,) lengths."""
    return 1.7 * uniform("memory", (3, 14, DIM), seed=seed), torch.tensor([14, 5, 9])


def vectors(seed: int) -> tuple[Tensor, Tensor]:
    """Acoustic vectors for a decoder alone: (B, K, D), 0 in the padding, and (B,) lengths."""
    lens = torch.tensor([3, 6, 1])
    mask = torch.arange(6) < lens[:, None]
    return uniform("vectors", (3, 6, DIM), seed=seed) * mask[..., None], lens


def probe(shape: tuple[int, ...]) -> Tensor:
    """What outputs are multiplied by before they are summed to a loss."""
    return uniform("probe", shape)


def condense(name: str, gradient: Tensor) -> list[float]:
    """Root mean square and a projection, which any permutation or sign changes."""
    direction = uniform(name, tuple(gradient.shape)).double()
    size = gradient.numel() ** 0.5
    return [
        (gradient.double().norm() / size).item(),
        ((gradient.double() * direction).sum() / size).item(),
    ]
