"""The whole model. Start here: `forward` is training, `predict` is recognition.

    recording -> frontend (features.py) -> encoder (encoders.py) -> predictor (predictor.py)
              -> [sampler (sampler.py), in training] -> decoder (decoders.py) -> logits

Gao et al. 2022, "Paraformer" (arXiv 2206.08317). The encoder turns features into frames; the
predictor sums frames into one vector for each token and so decides how many tokens there are; the
decoder names all tokens at once. In training the decoder runs twice: a first pass without gradient
shows how much it gets wrong, and the sampler puts that many embeddings of true tokens among the
acoustic vectors of the second pass.

Parameters start as the parts say: attention Xavier-uniform, all other layers with PyTorch's
defaults. Nothing is seeded here; the trainer does it before it builds.

Letters: B utterances, T frames (T' after the encoder), F features, K tokens, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paraformer_asr.config import Config
from paraformer_asr.contracts import expect
from paraformer_asr.decoders import Decoder, build_decoder
from paraformer_asr.encoders import build_encoder
from paraformer_asr.errors import AsrError
from paraformer_asr.features import Frontend
from paraformer_asr.predictor import CifPredictor
from paraformer_asr.sampler import glance
from paraformer_asr.tokenizer import PADDING, Tokenizer


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What the losses need of a training batch."""

    logits: Tensor
    """(B, K, V) of the pass that is trained."""
    first_logits: Tensor | None
    """(B, K, V) of the first pass, without gradient: what the model says without glancing. None
    where there was no first pass; `logits` are that then."""
    total: Tensor
    """(B,) float32 sum of the unscaled alphas, to be compared with `token_lens`."""
    ctc_logits: Tensor | None
    """(B, T', V) from the encoder frames, or None without a CTC head."""
    hidden_lens: Tensor
    """(B,) int64 frames after the encoder."""
    tokens: Tensor
    """(B, K) int64 what the decoder is to say, PADDING-padded: with `model.end_token`, </s> at the
    end of each. CTC takes the batch's own tokens, without it."""
    token_lens: Tensor
    """(B,) int64 lengths of `tokens`."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What recognition makes of a batch; `decode.py` turns it into text."""

    logits: Tensor
    """(B, K, V), K = the largest count, which may be 0; rows from a count on mean nothing."""
    counts: Tensor
    """(B,) int64 tokens, special ones included."""
    alphas: Tensor
    """(B, T') float32 weights of frames, 0 in the padding; they give the times of tokens."""
    hidden_lens: Tensor
    """(B,) int64 frames after the encoder."""
    attention: Tensor | None
    """(B, heads, K, T') where each token looks in the last decoder layer, if asked for."""


class Paraformer(nn.Module):
    """All parts, with the configuration and the vocabulary they were made for.

    Use `build_model`; the state dict holds the weights and the features' mean and variance.
    """

    def __init__(
        self,
        *,
        config: Config,
        tokenizer: Tokenizer,
        frontend: Frontend,
        encoder: nn.Module,
        predictor: CifPredictor,
        decoder: Decoder,
        ctc: nn.Linear | None,
    ) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.frontend = frontend
        self.encoder = encoder
        self.predictor = predictor
        self.decoder = decoder
        self.ctc = ctc

    def encode(self, feats: Tensor, feat_lens: Tensor) -> tuple[Tensor, Tensor]:
        """Features to encoder frames.

        Args:
            feats: (B, T, F) float32, normalised, 0 in the padding.
            feat_lens: (B,) int64.
        Returns:
            (B, T', D) frames and (B,) their lengths.
        """
        expect(("feats", feats, f"B T {self.frontend.dim}"), ("feat_lens", feat_lens, "B"))
        hidden, lens = self.encoder(feats, feat_lens)
        return hidden, lens

    def target_lens(self, token_lens: Tensor) -> Tensor:
        """What `Outputs.token_lens` will be: one more than in the batch with `model.end_token`."""
        return token_lens + 1 if self.config.model.end_token else token_lens

    def forward(
        self, feats: Tensor, feat_lens: Tensor, tokens: Tensor, token_lens: Tensor
    ) -> Outputs:
        """A step of training, or its loss on validation data.

        In train mode with `model.sampling_ratio` above 0 the decoder runs twice, dropout on both
        times. In eval mode it runs once and sees no true token, so a validation loss is not
        helped by them and needs no random numbers.

        Args:
            feats, feat_lens: as in `encode`.
            tokens: (B, K) int64 true tokens, PADDING-padded, without an end token.
            token_lens: (B,) int64; 0 is allowed.
        """
        expect(
            ("feats", feats, "B _ _"), ("tokens", tokens, "B K"), ("token_lens", token_lens, "B")
        )
        config = self.config.model
        hidden, hidden_lens = self.encode(feats, feat_lens)
        ctc_logits = None if self.ctc is None else self.ctc(hidden)
        if config.end_token:
            tokens, token_lens = add_end_token(tokens, token_lens, self.tokenizer.end)

        predicted = self.predictor(hidden, hidden_lens, token_lens)
        embeds = pad_tokens(predicted.embeds, tokens.shape[1])
        first_logits = None
        if self.training and config.sampling_ratio > 0:
            with torch.no_grad():
                first_logits = self.decoder(embeds, token_lens, hidden, hidden_lens)
            embeds = glance(
                embeds,
                self.decoder.embed(tokens),
                first_logits,
                tokens,
                token_lens,
                config.sampling_ratio,
            )
        logits = self.decoder(embeds, token_lens, hidden, hidden_lens)
        return Outputs(
            logits=logits,
            first_logits=first_logits,
            total=predicted.total,
            ctc_logits=ctc_logits,
            hidden_lens=hidden_lens,
            tokens=tokens,
            token_lens=token_lens,
        )

    @torch.inference_mode()
    def predict(self, feats: Tensor, feat_lens: Tensor, *, attention: bool = False) -> Prediction:
        """Recognise a batch in one pass, without gradients; call `eval()` before.

        Args:
            feats, feat_lens: as in `encode`.
            attention: return the last decoder layer's weights too.
        """
        hidden, hidden_lens = self.encode(feats, feat_lens)
        predicted = self.predictor(hidden, hidden_lens)
        given = (predicted.embeds, predicted.counts, hidden, hidden_lens)
        weights = None
        if attention:
            logits, weights = self.decoder.attend(*given)
        else:
            logits = self.decoder(*given)
        return Prediction(
            logits=logits,
            counts=predicted.counts,
            alphas=predicted.alphas,
            hidden_lens=hidden_lens,
            attention=weights,
        )


def build_model(config: Config, *, tokenizer: Tokenizer | None = None) -> Paraformer:
    """Build an untrained model.

    Args:
        config: a whole one; `features`, `model` and, without a tokenizer, `data` are read.
        tokenizer: the vocabulary; None takes `data.characters`, or the toy alphabet.
    Raises:
        AsrError: no vocabulary is given or configured; an encoder or decoder that does not exist.
    """
    tokenizer = tokenizer or configured_tokenizer(config)
    frontend = Frontend(config.features)
    model = config.model
    return Paraformer(
        config=config,
        tokenizer=tokenizer,
        frontend=frontend,
        encoder=build_encoder(model, frontend.dim),
        predictor=CifPredictor(
            dim=model.dim, kind=model.predictor, tail=model.tail, dropout=model.dropout
        ),
        decoder=build_decoder(model, tokenizer.size),
        ctc=nn.Linear(model.dim, tokenizer.size) if model.ctc else None,
    )


def configured_tokenizer(config: Config) -> Tokenizer:
    """The vocabulary that the configuration alone decides."""
    if config.data.characters is not None:
        return Tokenizer(config.data.characters)
    if config.data.kind == "toy":
        return Tokenizer(config.data.toy.alphabet)
    raise AsrError(
        "the vocabulary of data.kind=manifest comes from its training texts: set data.characters, "
        "or give build_model the tokenizer that data.build.build_tokenizer makes."
    )


def add_end_token(tokens: Tensor, token_lens: Tensor, end: int) -> tuple[Tensor, Tensor]:
    """Append the id `end` to each utterance's tokens.

    Args:
        tokens: (B, K) int64, PADDING-padded.
        token_lens: (B,) int64.
    Returns:
        (B, K + 1) and (B,), PADDING-padded.
    """
    longer = nn.functional.pad(tokens, (0, 1), value=PADDING)
    return longer.scatter(1, token_lens[:, None], end), token_lens + 1


def pad_tokens(embeds: Tensor, size: int) -> Tensor:
    """(B, K, D) to (B, size, D) with rows of 0, for tokens padded beyond the batch's longest."""
    return nn.functional.pad(embeds, (0, 0, 0, size - embeds.shape[1]))
