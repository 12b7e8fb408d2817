"""Both decoders: the written-out order of their layers, padding, empty utterances, sharing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from paraformer_asr.config import ModelConfig
from paraformer_asr.decoder_layers import SanLayer, SanmLayer
from paraformer_asr.decoders import DECODERS, Decoder, build_decoder
from paraformer_asr.errors import AsrError
from paraformer_asr.masks import length_mask

TOKEN_LENS = torch.tensor([6, 1, 0, 3])
FRAME_LENS = torch.tensor([9, 4, 2, 7])
KINDS = tuple(DECODERS)


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance)


def made(kind: str, **options: object) -> Decoder:
    torch.manual_seed(0)
    settings = {"dim": 8, "heads": 2, "ffn": 12, "decoder_layers": 2, "kernel": 5} | options
    return build_decoder(ModelConfig(decoder=kind, **settings), 11).eval()


def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(4, 6, 8), TOKEN_LENS, torch.randn(4, 9, 8), FRAME_LENS


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_equals_its_utterances_alone_forward_and_backward(kind: str):
    decoder = made(kind)
    embeds, token_lens, memory, memory_lens = inputs()
    embeds.requires_grad_()
    memory.requires_grad_()
    logits = decoder(embeds, token_lens, memory, memory_lens)
    assert logits.shape == (4, 6, 11)
    mask = length_mask(token_lens, 6)
    logits[mask].pow(2).sum().backward()
    for b, (K, T) in enumerate(zip(token_lens.tolist(), memory_lens.tolist(), strict=True)):
        own = embeds[b : b + 1, :K].detach().requires_grad_()
        frames = memory[b : b + 1, :T].detach().requires_grad_()
        alone = decoder(own, token_lens[b : b + 1], frames, memory_lens[b : b + 1])
        close(logits[b, :K], alone[0])
        assert not embeds.grad[b, K:].any()
        assert not memory.grad[b, T:].any()
        if K:
            alone.pow(2).sum().backward()
            close(embeds.grad[b, :K], own.grad[0])
            close(memory.grad[b, :T], frames.grad[0])
    assert all(
        bool(torch.isfinite(p.grad).all()) for p in decoder.parameters() if p.grad is not None
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_utterances_does_not_matter(kind: str):
    decoder = made(kind)
    order = torch.tensor([2, 0, 3, 1])
    close(decoder(*[x[order] for x in inputs()])[1], decoder(*inputs())[0])


@pytest.mark.parametrize("kind", KINDS)
def test_no_tokens_at_all_give_no_logits_and_a_step_all_the_same(kind: str):
    decoder = made(kind)
    _, _, memory, memory_lens = inputs()
    nothing = torch.zeros(4, 0, 8, requires_grad=True)
    none = torch.zeros(4, dtype=torch.long)
    logits = decoder(nothing, none, memory, memory_lens)
    assert logits.shape == (4, 0, 11)
    logits.sum().backward()
    logits, weights = decoder.attend(nothing, none, memory, memory_lens)
    assert logits.shape == (4, 0, 11)
    assert weights.shape == (4, 2, 0, 9)


@pytest.mark.parametrize("kind", KINDS)
def test_an_utterance_without_frames_stays_finite(kind: str):
    decoder = made(kind)
    embeds, token_lens, memory, _ = inputs()
    frame_lens = torch.tensor([9, 0, 0, 7])
    logits = decoder(embeds, token_lens, memory, frame_lens)
    logits.sum().backward()
    assert bool(torch.isfinite(logits).all())
    assert all(
        bool(torch.isfinite(p.grad).all()) for p in decoder.parameters() if p.grad is not None
    )


@pytest.mark.parametrize("kind", KINDS)
def test_attend_gives_the_same_logits_and_weights_that_sum_to_one(kind: str):
    decoder = made(kind)
    logits, weights = decoder.attend(*inputs())
    assert torch.equal(logits, decoder(*inputs()))
    assert weights.shape == (4, 2, 6, 9)
    close(weights.sum(dim=3), torch.ones(4, 2, 6))
    beyond = ~length_mask(FRAME_LENS, 9)[:, None, None].expand_as(weights)
    assert not weights[beyond].any()


def test_all_tokens_see_each_other_in_both_directions():
    for kind, reach in (("san", 6), ("sanm", 3)):
        decoder = made(kind, decoder_layers=1)
        embeds, _, memory, memory_lens = inputs()
        embeds.requires_grad_()
        token_lens = torch.full((4,), 6)
        decoder(embeds, token_lens, memory, memory_lens)[0, 0].pow(2).sum().backward()
        assert (embeds.grad[0].abs().sum(dim=1) > 0).sum() == reach  # kernel 5: two to each side


def test_a_san_layer_is_three_residual_blocks():
    torch.manual_seed(0)
    layer = SanLayer(dim=8, heads=2, ffn=12, dropout=0.1, norm_eps=1e-5).eval()
    x, token_lens, memory, memory_lens = inputs()
    mask, frames = length_mask(token_lens, 6), length_mask(memory_lens, 9)
    y = x + layer.self_attention(layer.norm_self(x), mask[:, None])
    y = y + layer.cross_attention(layer.norm_cross(y), memory, frames[:, None])
    hidden = (layer.norm_ffn(y) @ layer.ffn.up.weight.T + layer.ffn.up.bias).relu()
    y = y + hidden @ layer.ffn.down.weight.T + layer.ffn.down.bias
    close(layer(x, mask, memory, frames), y)


def test_a_sanm_layer_has_one_residual_around_feed_forward_and_memory():
    torch.manual_seed(0)
    layer = SanmLayer(dim=8, heads=2, ffn=12, kernel=5, dropout=0.1, norm_eps=1e-5).eval()
    x, token_lens, memory, memory_lens = inputs()
    mask, frames = length_mask(token_lens, 6), length_mask(memory_lens, 9)
    inner = layer.ffn.down(layer.ffn.norm(layer.ffn.up(layer.norm_ffn(x)).relu()))
    assert layer.ffn.down.bias is None
    y = x + layer.memory(layer.norm_memory(inner), mask)
    y = y + layer.cross_attention(layer.norm_cross(y), memory, frames[:, None])
    close(layer(x, mask, memory, frames), y)


def test_the_sanm_decoder_ends_in_a_layer_without_residual():
    decoder = made("sanm", decoder_layers=1)
    embeds, token_lens, memory, memory_lens = inputs()
    mask, frames = length_mask(token_lens, 6), length_mask(memory_lens, 9)
    x = decoder.layers[0](embeds, mask, memory, frames)
    x = decoder.last.ffn(decoder.last.norm_ffn(x))
    expected = decoder.output(decoder.norm(x))
    close(decoder(embeds, token_lens, memory, memory_lens), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_norm_eps_reaches_every_norm(kind: str):
    norms = [m for m in made(kind, norm_eps=0.5).modules() if isinstance(m, torch.nn.LayerNorm)]
    assert len(norms) == (7 if kind == "san" else 11)
    assert all(norm.eps == 0.5 for norm in norms)


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_acts_in_training_only(kind: str):
    decoder, given = made(kind, dropout=0.5), inputs()
    assert torch.equal(decoder(*given), decoder(*given))
    decoder.train()
    assert not torch.allclose(decoder(*given), decoder(*given))


def test_embeddings_of_padding_are_zero():
    decoder = made("san")
    tokens = torch.tensor([[3, 0, -1], [10, -1, -1]])
    embeds = decoder.embed(tokens)
    assert torch.equal(embeds[0, :2], decoder.embedding.weight[[3, 0]])
    assert not embeds[tokens < 0].any()
    embeds.sum().backward()
    assert decoder.embedding.weight.grad.sum() == 3 * 8


def test_a_shared_table_is_one_parameter():
    own, shared = made("san"), made("san", share_embedding=True)
    assert shared.embedding is None
    assert shared.table is shared.output.weight
    count = [sum(p.numel() for p in d.parameters()) for d in (own, shared)]
    assert count[0] - count[1] == 11 * 8
    assert torch.equal(shared.embed(torch.tensor([[4]]))[0, 0], shared.output.weight[4])


def test_an_unknown_decoder_is_refused_with_the_nearest_name():
    with pytest.raises(AsrError, match=r"model.decoder='sann' is none of: san, sanm. Did you mean"):
        made("sann")


def test_tensors_that_do_not_belong_together_are_refused():
    decoder = made("san")
    embeds, token_lens, memory, memory_lens = inputs()
    with pytest.raises(AsrError, match=r"memory is \[3, 9, 8\]: axis 0 should be B=4 as in embeds"):
        decoder(embeds, token_lens, memory[:3], memory_lens)
    with pytest.raises(AsrError, match=r"embeds is \[4, 6, 7\]: axis 2 should be 8"):
        decoder(embeds[..., :7], token_lens, memory, memory_lens)
