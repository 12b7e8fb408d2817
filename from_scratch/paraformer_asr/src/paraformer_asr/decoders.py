"""The decoder: acoustic vectors of all tokens, with a look back at the encoder, to logits.

Two forms, named as in `model.decoder`; `DECODERS` below is the whole list:

    san   layers of self-attention and cross-attention          FunASR's ParaformerSANDecoder
    sanm  layers of FSMN memory and cross-attention, then one   FunASR's ParaformerSANMDecoder
          feed-forward layer

In: vectors (B, K, D) and encoder frames (B, T, D) with their lengths. Out: logits (B, K, V). The
same vectors can be embeddings of true tokens in part (`sampler.py`); `Decoder.embed` makes those.
An utterance without tokens or without frames is no special case: what it would look at is masked.

Letters: B utterances, K tokens, T encoder frames, D width, H heads, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from torch import Tensor, nn

from paraformer_asr.config import ModelConfig
from paraformer_asr.contracts import expect
from paraformer_asr.decoder_layers import FfnLayer, SanLayer, SanmLayer
from paraformer_asr.errors import AsrError
from paraformer_asr.masks import zero_padding
from paraformer_asr.settings import nearest
from paraformer_asr.transformer import padding_mask


class Decoder(nn.Module):
    """Layers, a last norm and the output layer; and the table of token embeddings.

    Embeddings start normal with standard deviation 1, about as long as the encoder's normalised
    frames that they replace; a shared table starts as the output layer does, uniform up to D^-0.5.

    Args:
        layers: `SanLayer` or `SanmLayer`, at least one.
        last: between the layers and the norm: `FfnLayer`, or `nn.Identity()`.
        dim: D.
        vocab_size: V.
        norm_eps: of the last norm.
        share_embedding: the output layer's weight is the table of embeddings too.
    """

    def __init__(
        self,
        *,
        layers: list[SanLayer] | list[SanmLayer],
        last: nn.Module,
        dim: int,
        vocab_size: int,
        norm_eps: float,
        share_embedding: bool,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.last = last
        self.norm = nn.LayerNorm(dim, norm_eps)
        self.output = nn.Linear(dim, vocab_size)
        self.embedding = None if share_embedding else nn.Embedding(vocab_size, dim)

    @property
    def table(self) -> Tensor:
        """(V, D): the embedding of each token."""
        return self.output.weight if self.embedding is None else self.embedding.weight

    def embed(self, tokens: Tensor) -> Tensor:
        """Embeddings of tokens, (B, K) int64 -> (B, K, D) float; negative ids (padding) give 0."""
        return zero_padding(self.table[tokens.clamp_min(0)], tokens >= 0)

    def forward(
        self, embeds: Tensor, token_lens: Tensor, memory: Tensor, memory_lens: Tensor
    ) -> Tensor:
        """Score the vocabulary for each token.

        Args:
            embeds: (B, K, D) float, finite also in the padding; K may be 0.
            token_lens: (B,) int64, 0 <= token_lens[b] <= K.
            memory: (B, T, D) float encoder frames, finite also in the padding.
            memory_lens: (B,) int64, 0 <= memory_lens[b] <= T.
        Returns:
            (B, K, V) logits; those of padded tokens mean nothing.
        """
        mask, memory_mask = self.masks(embeds, token_lens, memory, memory_lens)
        x = embeds
        if embeds.shape[1]:
            for layer in self.layers:
                x = layer(x, mask, memory, memory_mask)
            x = self.last(x)
        logits: Tensor = self.output(self.norm(x))
        return logits

    def attend(
        self, embeds: Tensor, token_lens: Tensor, memory: Tensor, memory_lens: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As `forward`, and also where the last layer's tokens look: (B, H, K, T) weights.

        Rows of padded tokens mean nothing; columns of padded frames are 0.
        """
        mask, memory_mask = self.masks(embeds, token_lens, memory, memory_lens)
        *layers, final = cast("list[SanLayer | SanmLayer]", list(self.layers))
        if not embeds.shape[1]:
            heads = final.cross_attention.heads
            weights = embeds.new_zeros(len(embeds), heads, 0, memory.shape[1])
            return self.output(self.norm(embeds)), weights
        x = embeds
        for layer in layers:
            x = layer(x, mask, memory, memory_mask)
        x, weights = final.attend(x, mask, memory, memory_mask)
        return self.output(self.norm(self.last(x))), weights

    def masks(
        self, embeds: Tensor, token_lens: Tensor, memory: Tensor, memory_lens: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        """(B, K) and (B, T) bool of what is real, or None where nothing is padded.

        Raises:
            AsrError: tensors that do not belong together.
        """
        D = self.norm.normalized_shape[0]
        expect(
            ("embeds", embeds, f"B K {D}"),
            ("token_lens", token_lens, "B"),
            ("memory", memory, f"B T {D}"),
            ("memory_lens", memory_lens, "B"),
        )
        return (
            padding_mask(token_lens, embeds.shape[1]),
            padding_mask(memory_lens, memory.shape[1]),
        )


def build_san(config: ModelConfig, vocab_size: int) -> Decoder:
    """Pre-norm transformer layers, all tokens seeing each other."""
    layers = [
        SanLayer(
            dim=config.dim,
            heads=config.heads,
            ffn=config.ffn,
            dropout=config.dropout,
            norm_eps=config.norm_eps,
        )
        for _ in range(config.decoder_layers)
    ]
    return Decoder(
        layers=layers,
        last=nn.Identity(),
        dim=config.dim,
        vocab_size=vocab_size,
        norm_eps=config.norm_eps,
        share_embedding=config.share_embedding,
    )


def build_sanm(config: ModelConfig, vocab_size: int) -> Decoder:
    """SAN-M layers and one feed-forward layer that does not count in `decoder_layers`."""
    layers = [
        SanmLayer(
            dim=config.dim,
            heads=config.heads,
            ffn=config.ffn,
            kernel=config.kernel,
            dropout=config.dropout,
            norm_eps=config.norm_eps,
        )
        for _ in range(config.decoder_layers)
    ]
    last = FfnLayer(
        dim=config.dim, ffn=config.ffn, dropout=config.dropout, norm_eps=config.norm_eps
    )
    return Decoder(
        layers=layers,
        last=last,
        dim=config.dim,
        vocab_size=vocab_size,
        norm_eps=config.norm_eps,
        share_embedding=config.share_embedding,
    )


DECODERS: Mapping[str, Callable[[ModelConfig, int], Decoder]] = {
    "san": build_san,
    "sanm": build_sanm,
}


def build_decoder(config: ModelConfig, vocab_size: int) -> Decoder:
    """Build the decoder that `model.decoder` names.

    Args:
        config: `decoder`, `dim`, `heads`, `ffn`, `decoder_layers`, `kernel` (sanm), `dropout`,
            `norm_eps` and `share_embedding` are read.
        vocab_size: V.
    Raises:
        AsrError: a name that is not in `DECODERS`.
    """
    if config.decoder not in DECODERS:
        raise AsrError(
            f"model.decoder={config.decoder!r} is none of: {', '.join(DECODERS)}."
            f"{nearest(config.decoder, DECODERS)}"
        )
    return DECODERS[config.decoder](config, vocab_size)
