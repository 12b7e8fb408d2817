"""What all encoders promise: padding, order and size of a batch, short input, gradients."""

from __future__ import annotations

import pytest
import torch

from paraformer_asr.config import ModelConfig, StreamConfig
from paraformer_asr.encoders import ENCODERS, build_encoder
from paraformer_asr.errors import AsrError

F = 20
STREAM = StreamConfig(chunk=4, left=3, right=2)
VARIANTS = {
    "transformer": {},
    "sanm": {},
    "conformer": {"relative": "latest"},
    "conformer legacy": {"relative": "legacy"},
    "conformer conv2d": {"subsampling": "conv2d"},
    "transformer in chunks": {"stream": STREAM},
    "sanm in chunks": {"stream": STREAM},
}


def make(variant, **changes):
    torch.manual_seed(0)
    settings = {"dim": 16, "heads": 2, "ffn": 24, "encoder_layers": 3, "kernel": 5}
    name = variant.split()[0]
    config = ModelConfig(encoder=name, **settings | VARIANTS[variant] | changes)
    return build_encoder(config, F)


def batch(lengths, frames=None, fill=float("nan")):
    """Random features with `fill` in the padding."""
    generator = torch.Generator().manual_seed(1)
    feats = torch.randn(len(lengths), frames or max(lengths), F, generator=generator)
    for feat, length in zip(feats, lengths, strict=True):
        feat[length:] = fill
    return feats, torch.tensor(lengths)


def shortest(variant):
    return 7 if "conv2d" in variant else 1


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("training", [False, True])
def test_nan_in_the_padding_changes_nothing(variant, training):
    encoder = make(variant, dropout=0.0).train(training)
    results = []
    for fill in (0.0, float("nan")):
        feats, lens = batch([23, 9, 14], fill=fill)
        hidden, out_lens = encoder(feats, lens)
        encoder.zero_grad()
        hidden.square().sum().backward()
        results.append([hidden, *(p.grad.clone() for p in encoder.parameters())])
    for with_zeros, with_nan in zip(*results, strict=True):
        assert torch.equal(with_zeros, with_nan)
        assert with_nan.isfinite().all()
    for hidden, length in zip(results[0][0], out_lens.tolist(), strict=True):
        assert hidden[length:].eq(0).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_utterance_gets_the_same_alone_and_in_a_batch(variant):
    encoder = make(variant).eval()
    feats, lens = batch([23, 7, 14, shortest(variant)], frames=26)
    hidden, out_lens = encoder(feats, lens)
    assert torch.equal(out_lens, encoder.output_lengths(lens))
    for b, length in enumerate(lens.tolist()):
        alone, alone_lens = encoder(feats[b : b + 1, :length], lens[b : b + 1])
        assert alone_lens == out_lens[b]
        assert alone.shape[1] == out_lens[b]
        torch.testing.assert_close(hidden[b, : out_lens[b]], alone[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_order_of_a_batch_does_not_matter(variant):
    encoder = make(variant).eval()
    feats, lens = batch([12, 23, 8])
    order = torch.tensor([2, 0, 1])
    hidden, out_lens = encoder(feats, lens)
    shuffled, shuffled_lens = encoder(feats[order], lens[order])
    torch.testing.assert_close(shuffled, hidden[order], atol=1e-5, rtol=1e-5)
    assert torch.equal(shuffled_lens, out_lens[order])


@pytest.mark.parametrize("variant", VARIANTS)
def test_full_utterances_give_the_same_with_and_without_masks(variant):
    encoder = make(variant).eval()
    feats, lens = batch([16, 16])
    longer, _ = batch([16, 16], frames=17, fill=0.0)
    longer[:, :16] = feats
    unmasked, masked = encoder(feats, lens)[0], encoder(longer, lens)[0]
    frames = unmasked.shape[1]
    torch.testing.assert_close(masked[:, :frames], unmasked, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_shortest_utterance_is_encoded_and_can_be_trained_on(variant):
    encoder = make(variant)
    feats, lens = batch([shortest(variant)])
    hidden, out_lens = encoder(feats, lens)
    assert hidden.shape == (1, 1, 16)
    assert out_lens.tolist() == [1]
    hidden.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_weight_gets_a_gradient(variant):
    encoder = make(variant)
    hidden, _ = encoder(*batch([23, 9]))
    (hidden * torch.randn_like(hidden)).sum().backward()
    silent = [n for n, p in encoder.named_parameters() if p.grad is None or p.grad.eq(0).all()]
    assert silent == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_dropout_acts_in_training_only(variant):
    encoder = make(variant, dropout=0.5).eval()
    feats, lens = batch([12, 12])
    assert torch.equal(encoder(feats, lens)[0], encoder(feats, lens)[0])
    encoder.train()
    assert not torch.allclose(encoder(feats, lens)[0], encoder(feats, lens)[0], atol=1e-3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_same_seed_makes_the_same_encoder(variant):
    first, second = make(variant).state_dict(), make(variant).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("variant", VARIANTS)
def test_bf16_autocast_stays_close(variant):
    encoder = make(variant).eval()
    feats, lens = batch([23, 9])
    expected, _ = encoder(feats, lens)
    with torch.autocast("cpu", torch.bfloat16):
        hidden, _ = encoder(feats, lens)
    assert hidden.dtype == torch.float32
    torch.testing.assert_close(hidden, expected, atol=0.2, rtol=0.2)


@pytest.mark.parametrize("variant", VARIANTS)
def test_features_of_another_width_are_refused(variant):
    with pytest.raises(AsrError, match=r"feats is \[2, 9, 21\]: axis 2 should be 20"):
        make(variant)(torch.randn(2, 9, 21), torch.tensor([9, 9]))
    with pytest.raises(AsrError, match=r"feat_lens is \[1\]: axis 0 should be B=2 as in feats"):
        make(variant)(torch.randn(2, 9, 20), torch.tensor([9]))
    with pytest.raises(AsrError, match=r"a length of 10 is longer than the padded size 9"):
        make(variant)(torch.randn(2, 9, 20), torch.tensor([9, 10]))


def test_the_table_lists_every_encoder():
    assert sorted(ENCODERS) == ["conformer", "sanm", "transformer"]


def test_an_unknown_encoder_is_refused_with_the_nearest_name():
    with pytest.raises(
        AsrError,
        match=r"model.encoder='conformr' is unknown. Did you mean 'conformer'\? "
        r"Available: conformer, sanm, transformer.",
    ):
        build_encoder(ModelConfig(encoder="conformr"), F)
