"""The encoders by name; `build_encoder` makes the one a configuration asks for.

Every encoder has

    forward(feats (B, T, F), feat_lens (B,)) -> (hidden (B, T', D), lens (B,))
    output_lengths(feat_lens) -> lens, before running it
    dim, D

reads no padding, writes 0 there, and gives an utterance the same result in any batch. `transformer`
and `sanm` can also encode in chunks: `start`, `step` (see `chunked.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches

from torch import nn

from paraformer_asr.config import ModelConfig
from paraformer_asr.conformer import ConformerEncoder
from paraformer_asr.errors import AsrError
from paraformer_asr.sanm import SanmEncoder
from paraformer_asr.transformer import TransformerEncoder


def build_transformer(config: ModelConfig, input_dim: int) -> TransformerEncoder:
    """See `transformer.py`."""
    return TransformerEncoder(
        input_dim=input_dim,
        dim=config.dim,
        heads=config.heads,
        ffn=config.ffn,
        layers=config.encoder_layers,
        dropout=config.dropout,
        norm_eps=config.norm_eps,
        stream=config.stream,
    )


def build_conformer(config: ModelConfig, input_dim: int) -> ConformerEncoder:
    """See `conformer.py`."""
    return ConformerEncoder(
        input_dim=input_dim,
        dim=config.dim,
        heads=config.heads,
        ffn=config.ffn,
        layers=config.encoder_layers,
        kernel=config.kernel,
        dropout=config.dropout,
        norm_eps=config.norm_eps,
        subsampling=config.subsampling,
        relative=config.relative,
    )


def build_sanm(config: ModelConfig, input_dim: int) -> SanmEncoder:
    """See `sanm.py`."""
    return SanmEncoder(
        input_dim=input_dim,
        dim=config.dim,
        heads=config.heads,
        ffn=config.ffn,
        layers=config.encoder_layers,
        kernel=config.kernel,
        dropout=config.dropout,
        norm_eps=config.norm_eps,
        stream=config.stream,
    )


ENCODERS: Mapping[str, Callable[[ModelConfig, int], nn.Module]] = {
    "transformer": build_transformer,
    "conformer": build_conformer,
    "sanm": build_sanm,
}


def build_encoder(config: ModelConfig, input_dim: int) -> nn.Module:
    """Make the encoder called `config.encoder`, for features of width `input_dim`.

    Raises:
        AsrError: an unknown name; says the nearest and all of them.
    """
    if config.encoder not in ENCODERS:
        near = get_close_matches(config.encoder, ENCODERS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise AsrError(
            f"model.encoder={config.encoder!r} is unknown.{hint} "
            f"Available: {', '.join(sorted(ENCODERS))}."
        )
    return ENCODERS[config.encoder](config, input_dim)
