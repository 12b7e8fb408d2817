"""Encoding in chunks: steps equal whole utterances, and both equal plain layers under a mask."""

from __future__ import annotations

import pytest
import torch

from paraformer_asr.chunked import Windows, cut
from paraformer_asr.config import ModelConfig, StreamConfig
from paraformer_asr.encoders import build_encoder
from paraformer_asr.errors import AsrError

F = 6
EVERYTHING = 10**9
STREAMS = [
    StreamConfig(chunk=4, left=3, right=2),
    StreamConfig(chunk=3, left=0, right=0),
    StreamConfig(chunk=2, left=5, right=5),
    StreamConfig(chunk=1, left=1, right=1),
    StreamConfig(chunk=5, left=EVERYTHING, right=3),
    StreamConfig(chunk=50, left=10, right=10),
]


def make(name, stream, **changes):
    torch.manual_seed(0)
    settings = {"dim": 8, "heads": 2, "ffn": 12, "encoder_layers": 3, "kernel": 5}
    config = ModelConfig(encoder=name, stream=stream, **settings | changes)
    return build_encoder(config, F).eval()


def steps(encoder, feats):
    """Feed (B, T, F) window by window; NaN stands where the recording has ended."""
    stream, T = encoder.stream, feats.shape[1]
    size = stream.chunk + stream.right
    state, outputs = encoder.start(len(feats)), []
    for start in range(0, T, stream.chunk):
        window = feats.new_full((len(feats), size, F), float("nan"))
        known = feats[:, start : start + size]
        window[:, : known.shape[1]] = known
        last = start + size >= T
        hidden, state = encoder.step(window, known.shape[1], state, last=last)
        outputs.append(hidden)
    return torch.cat(outputs, dim=1)


@pytest.mark.parametrize("name", ["transformer", "sanm"])
@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("frames", [1, 4, 19])
def test_steps_equal_the_whole_utterance(name, stream, frames):
    encoder = make(name, stream)
    feats = torch.randn(2, frames, F)
    whole, _ = encoder(feats, torch.tensor([frames] * 2))
    torch.testing.assert_close(steps(encoder, feats), whole, atol=1e-5, rtol=1e-5)


def chunk_mask(frames, chunk, left):
    """(1, T, T): a frame sees its own chunk and `left` frames before it."""
    index = torch.arange(frames)
    begin = index // chunk * chunk
    return ((index < begin[:, None] + chunk) & (index >= begin[:, None] - left))[None]


@pytest.mark.parametrize("left", [EVERYTHING, 3, 0])
def test_without_look_ahead_the_transformer_is_the_plain_one_under_a_mask(left):
    encoder = make("transformer", StreamConfig(chunk=4, left=left, right=0))
    feats = torch.randn(2, 19, F)
    x, mask = encoder._embed(feats, first=0), chunk_mask(19, 4, left)
    for layer in encoder.layers:
        x = layer(x, mask.expand(2, -1, -1))
    hidden, _ = encoder(feats, torch.tensor([19, 19]))
    torch.testing.assert_close(hidden, encoder.norm(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["transformer", "sanm"])
def test_one_chunk_over_everything_is_the_plain_encoder(name):
    feats, lens = torch.randn(2, 11, F), torch.tensor([11, 7])
    chunked, plain = make(name, StreamConfig(chunk=20, left=2, right=4)), make(name, None)
    expected, _ = plain(feats, lens)
    torch.testing.assert_close(chunked(feats, lens)[0], expected, atol=1e-5, rtol=1e-5)


def frames_seen(encoder, position, frames=24):
    """Frames of the input on which the output at `position` depends."""
    feats = torch.randn(1, frames, F, requires_grad=True)
    hidden, _ = encoder(feats, torch.tensor([frames]))
    (gradient,) = torch.autograd.grad(hidden[0, position].square().sum(), feats)
    return gradient[0].abs().amax(dim=1).nonzero().flatten().tolist()


@pytest.mark.parametrize("name", ["transformer", "sanm"])
def test_the_look_ahead_does_not_grow_with_depth(name):
    encoder = make(name, StreamConfig(chunk=4, left=EVERYTHING, right=2), encoder_layers=4)
    assert max(frames_seen(encoder, 8)) == 13  # chunk 8..11 and two more
    assert max(frames_seen(encoder, 11)) == 13


def test_the_left_context_is_that_of_each_layer():
    encoder = make("transformer", StreamConfig(chunk=4, left=2, right=0), encoder_layers=1)
    assert frames_seen(encoder, 9) == list(range(6, 12))
    # Frame 7, seen from 8..11, has itself seen its chunk 4..7 and 2, 3 in the layer below.
    encoder = make("transformer", StreamConfig(chunk=4, left=2, right=0), encoder_layers=2)
    assert frames_seen(encoder, 9) == list(range(2, 12))


def test_the_memory_looks_back_even_where_attention_may_not():
    encoder = make("sanm", StreamConfig(chunk=4, left=0, right=0), encoder_layers=1)
    assert frames_seen(encoder, 8) == list(range(6, 12))


def test_gradients_reach_every_weight_through_the_windows():
    for name in ("transformer", "sanm"):
        encoder = make(name, STREAMS[0]).train()
        hidden, _ = encoder(torch.randn(2, 9, F), torch.tensor([9, 4]))
        (hidden * torch.randn_like(hidden)).sum().backward()
        assert all(p.grad.isfinite().all() and p.grad.ne(0).any() for p in encoder.parameters())


def test_windows_overlap_by_the_look_ahead():
    x = torch.arange(1, 8).view(1, 7, 1)
    windows = cut(x, chunk=3, right=2)[..., 0]
    assert windows.tolist() == [[1, 2, 3, 4, 5], [4, 5, 6, 7, 0], [7, 0, 0, 0, 0]]


def test_the_past_of_windows_comes_from_the_cache_and_from_own_frames():
    mask = torch.ones(2, 4, dtype=torch.bool)
    windows = Windows(batch=1, start=6, chunk=3, left=2, mask=mask)
    values = torch.tensor([[7, 8, 9, 90], [10, 11, 12, 120]])[..., None]
    cache = torch.tensor([[3, 4, 5, 6]])[..., None]
    found, kept = windows.with_left(values, cache, keep=4)
    assert found[..., 0].tolist() == [[3, 4, 5, 6, 7, 8, 9, 90], [6, 7, 8, 9, 10, 11, 12, 120]]
    assert kept[..., 0].tolist() == [[9, 10, 11, 12]]
    seen = [False, False, True, True] + [True] * 4  # attention may see two of the four
    assert windows.key_mask(4)[:, 0].tolist() == [seen, seen]


def test_a_stream_keeps_no_more_than_it_needs():
    encoder = make("sanm", StreamConfig(chunk=4, left=3, right=1))
    state, window = encoder.start(), torch.randn(1, 5, F)
    for _ in range(3):
        _, state = encoder.step(window, 5, state, last=False)
        assert [cache.shape for cache in state.caches] == [(1, 3, 16)] * 3
    assert state.start == 12


def test_steps_that_cannot_be_taken_are_refused():
    plain = make("transformer", None)
    with pytest.raises(AsrError, match=r"sees whole utterances .* model.stream={chunk: 10, left"):
        plain.step(torch.randn(1, 6, F), 6, plain.start(), last=False)
    for name in ("transformer", "sanm"):
        encoder = make(name, StreamConfig(chunk=4, left=3, right=2))
        window = torch.randn(1, 6, F)
        with pytest.raises(AsrError, match=r"5 frames of 6 \(chunk \+ right\); wait for more"):
            encoder.step(window, 5, encoder.start(), last=False)
        with pytest.raises(AsrError, match=r"window_len=7 must be from 1 to chunk \+ right = 6"):
            encoder.step(window, 7, encoder.start(), last=True)
        with pytest.raises(AsrError, match=r"feats_window is \[1, 5, 6\]: axis 1 should be 6"):
            encoder.step(window[:, :5], 5, encoder.start(), last=True)
