"""The conformer encoder: its layer by its text, subsampling, masked batch norm, short input."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from paraformer_asr.conformer import (
    ConformerEncoder,
    ConvolutionModule,
    MaskedBatchNorm,
    Subsampling,
    subsampled,
)
from paraformer_asr.errors import AsrError

MASK = torch.tensor([[True] * 6, [True] * 4 + [False] * 2, [True] + [False] * 5])


def make(**changes):
    torch.manual_seed(0)
    settings = {
        "input_dim": 11,
        "dim": 8,
        "heads": 2,
        "ffn": 12,
        "layers": 2,
        "kernel": 5,
        "dropout": 0.0,
    }
    return ConformerEncoder(**settings | changes)


def test_the_encoder_does_what_its_text_says():
    encoder, feats = make().eval(), torch.randn(2, 6, 11)
    hidden, _ = encoder(feats, torch.tensor([6, 6]))
    x = encoder.input(feats) * 8**0.5
    for layer in encoder.layers:
        x = x + layer.ffn1(layer.norm_ffn1(x)) / 2
        x = x + layer.attention(layer.norm_attention(x))
        x = x + layer.conv(layer.norm_conv(x))
        x = x + layer.ffn2(layer.norm_ffn2(x)) / 2
        x = layer.norm(x)
    torch.testing.assert_close(hidden, encoder.norm(x))


def test_the_convolution_module_equals_pytorchs_parts():
    torch.manual_seed(0)
    module, x = ConvolutionModule(6, 5), torch.randn(2, 9, 6)
    conv = nn.Conv1d(6, 6, 5, padding=2, groups=6)
    norm = nn.BatchNorm1d(6)
    with torch.no_grad():
        conv.weight.copy_(module.filter)
        conv.bias.copy_(module.filter_bias)
    inner = nn.functional.glu(module.gate(x), dim=-1).transpose(1, 2)
    inner = nn.functional.silu(norm(conv(inner))).transpose(1, 2)
    torch.testing.assert_close(module(x), module.out(inner))


@pytest.mark.parametrize("masked", [False, True])
def test_batch_norm_equals_pytorchs_on_the_real_frames_alone(masked):
    torch.manual_seed(0)
    ours, theirs = MaskedBatchNorm(4), nn.BatchNorm1d(4)
    with torch.no_grad():
        ours.weight.copy_(torch.randn(4))
        ours.bias.copy_(torch.randn(4))
    theirs.load_state_dict(ours.state_dict())
    mask = MASK if masked else torch.ones(3, 6, dtype=torch.bool)
    for _ in range(3):  # the running numbers move each time
        x = (3 * torch.randn(3, 6, 4) + 2).requires_grad_()
        twin = x.detach().clone().requires_grad_()
        output, expected = ours(x, MASK if masked else None)[mask], theirs(twin[mask])
        torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)
        gradient = torch.randn_like(output)
        output.backward(gradient)
        expected.backward(gradient)
        torch.testing.assert_close(x.grad, twin.grad, atol=1e-5, rtol=1e-5)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(x, mask)[mask], theirs(x[mask]))


def test_one_frame_leaves_the_running_variance_and_stays_finite():
    norm = MaskedBatchNorm(4)
    output = norm(torch.full((1, 1, 4), 5.0))
    assert output.eq(0).all()  # it is its own mean
    assert norm.running_var.eq(1).all()
    assert norm.running_mean.allclose(torch.tensor(0.5))


def test_padding_does_not_move_the_running_numbers_nor_the_result_in_training():
    feats, lens = torch.randn(2, 12, 11), torch.tensor([12, 7])
    short, long = make(), make()
    expected, _ = short(feats, lens)
    padded = torch.cat([feats, torch.full((2, 9, 11), float("nan"))], dim=1)
    hidden, _ = long(padded, lens)
    torch.testing.assert_close(hidden[:, :12], expected, atol=1e-5, rtol=1e-5)
    for name, value in short.named_buffers():
        torch.testing.assert_close(dict(long.named_buffers())[name], value)


@pytest.mark.parametrize("length", [7, 8, 10, 11, 14, 15, 40])
def test_subsampling_leaves_as_many_frames_as_announced(length):
    encoder = make(subsampling="conv2d").eval()
    lens = torch.tensor([length])
    hidden, out_lens = encoder(torch.randn(1, length, 11), lens)
    assert hidden.shape[1] == out_lens == subsampled(length) == encoder.output_lengths(lens)


def test_subsampling_equals_its_layers_in_any_memory_format():
    torch.manual_seed(0)
    module, feats = Subsampling(11, 8), torch.randn(2, 15, 11)
    maps = module.conv1(feats[:, None].contiguous()).clamp_min(0)
    maps = module.conv2(maps).clamp_min(0)  # (B, D, T', F')
    flat = torch.stack([maps[:, :, t].flatten(1) for t in range(maps.shape[2])], dim=1)
    torch.testing.assert_close(module(feats), module.out(flat))


def test_a_subsampled_frame_counts_only_if_all_it_saw_was_real():
    encoder = make(subsampling="conv2d")
    lengths = torch.tensor([1, 3, 6, 7, 10, 11])
    assert encoder.output_lengths(lengths).tolist() == [0, 0, 0, 1, 1, 2]
    assert make().output_lengths(lengths) is lengths


def test_utterances_too_short_for_subsampling_are_refused():
    encoder = make(subsampling="conv2d")
    with pytest.raises(AsrError, match=r"has 6 frames; model.subsampling=conv2d needs 7 or more"):
        encoder(torch.randn(2, 9, 11), torch.tensor([9, 6]))
    with pytest.raises(AsrError, match=r"has 5 frames; .* or set model.subsampling=none"):
        encoder(torch.randn(1, 5, 11), torch.tensor([5]))


def test_features_too_narrow_for_subsampling_are_refused():
    with pytest.raises(AsrError, match=r"needs features of width 7 or more, not 6"):
        make(input_dim=6, subsampling="conv2d")


def test_an_even_kernel_is_refused():
    with pytest.raises(AsrError, match=r"kernel=4 must be odd: try 5"):
        ConvolutionModule(8, 4)
