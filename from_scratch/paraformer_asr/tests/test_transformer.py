"""The transformer encoder, line by line, and its parts."""

from __future__ import annotations

import pytest
import torch

from paraformer_asr.positions import positions
from paraformer_asr.transformer import FeedForward, TransformerEncoder, padding_mask


def make(**changes):
    torch.manual_seed(0)
    settings = {"input_dim": 6, "dim": 8, "heads": 2, "ffn": 12, "layers": 2, "dropout": 0.0}
    return TransformerEncoder(**settings | changes)


def test_the_encoder_does_what_its_text_says():
    encoder, feats = make(), torch.randn(2, 5, 6)
    hidden, lens = encoder(feats, torch.tensor([5, 5]))
    x = encoder.input(feats) * 8**0.5 + positions("interleaved", 0, 5, 8, feats)
    for layer in encoder.layers:
        x = x + layer.attention(layer.norm_attention(x))
        x = x + layer.ffn.down(layer.ffn.up(layer.norm_ffn(x)).clamp_min(0))
    torch.testing.assert_close(hidden, encoder.norm(x))
    assert lens.tolist() == [5, 5]


def test_positions_tell_frames_apart():
    hidden, _ = make()(torch.ones(1, 4, 6), torch.tensor([4]))
    assert (hidden[0, 0] - hidden[0, 3]).abs().max() > 1e-2


@pytest.mark.parametrize("swish", [False, True])
def test_feed_forward_is_two_linear_layers_with_the_activation_between(swish):
    torch.manual_seed(0)
    ffn, x = FeedForward(4, 6, dropout=0.0, swish=swish), torch.randn(2, 3, 4)
    inner = ffn.up(x)
    inner = inner * inner.sigmoid() if swish else inner.clamp_min(0)
    torch.testing.assert_close(ffn(x), ffn.down(inner))


def test_norm_eps_reaches_every_norm():
    norms = [m for m in make(norm_eps=1e-12).modules() if isinstance(m, torch.nn.LayerNorm)]
    assert len(norms) == 5
    assert all(norm.eps == 1e-12 for norm in norms)


def test_no_mask_is_made_where_every_utterance_is_full():
    assert padding_mask(torch.tensor([4, 4]), 4) is None
    assert padding_mask(torch.tensor([4, 2]), 4).tolist() == [
        [True] * 4,
        [True, True, False, False],
    ]
