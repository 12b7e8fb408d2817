"""The SAN-M encoder, line by line, with the points that are easily missed."""

from __future__ import annotations

import pytest
import torch

from paraformer_asr.errors import AsrError
from paraformer_asr.positions import positions
from paraformer_asr.sanm import SanmEncoder, SanmLayer


def make(**changes):
    torch.manual_seed(0)
    settings = {
        "input_dim": 10,
        "dim": 8,
        "heads": 2,
        "ffn": 12,
        "layers": 3,
        "kernel": 5,
        "dropout": 0.0,
    }
    return SanmEncoder(**settings | changes)


def layer_by_hand(layer, x, residual):
    attention = layer.mixer.attention
    normed = layer.norm_attention(x)
    value = attention.query_key_value(normed)[..., 2 * attention.dim :]
    mixed = attention(normed) + layer.mixer.memory(value)
    x = x + mixed if residual else mixed
    return x + layer.ffn(layer.norm_ffn(x))


@pytest.mark.parametrize("input_dim", [10, 8])
def test_the_encoder_does_what_its_text_says(input_dim):
    encoder, feats = make(input_dim=input_dim), torch.randn(2, 6, input_dim)
    hidden, lens = encoder(feats, torch.tensor([6, 6]))
    x = feats * 8**0.5 + positions("concatenated", 1, 6, input_dim, feats)
    for index, layer in enumerate(encoder.layers):
        x = layer_by_hand(layer, x, residual=index > 0 or input_dim == 8)
    torch.testing.assert_close(hidden, encoder.norm(x))
    assert lens.tolist() == [6, 6]


def test_nothing_is_added_to_the_attention_where_the_width_changes():
    torch.manual_seed(0)
    layer = SanmLayer(dim=8, input_dim=10, heads=2, ffn=12, kernel=5, dropout=0.0)
    with torch.no_grad():
        layer.mixer.attention.query_key_value.weight.zero_()  # now attention and memory are 0
        layer.ffn.down.weight.zero_()
    assert layer(torch.randn(1, 4, 10)).eq(0).all()


def test_the_memory_looks_at_neighbours_only():
    encoder = make(layers=1, kernel=3)
    with torch.no_grad():
        encoder.layers[0].mixer.attention.out.weight.zero_()
    feats = torch.randn(1, 9, 10)
    moved = feats.clone()
    moved[0, 4] = torch.randn(10)  # adding one number to all channels would be normed away
    lens = torch.tensor([9])
    changed = (encoder(moved, lens)[0] - encoder(feats, lens)[0]).abs().amax(dim=2)[0] > 1e-6
    assert changed.tolist() == [False] * 3 + [True] * 3 + [False] * 3


def test_shift_moves_the_memory_to_the_past():
    encoder = make(layers=1, kernel=3, shift=1)
    memory = encoder.layers[0].mixer.memory
    assert (memory.left, memory.right) == (2, 0)


def test_an_odd_width_of_the_input_is_refused_before_training():
    with pytest.raises(AsrError, match=r"concatenated positions need an even width .* not 15"):
        make(input_dim=15)
