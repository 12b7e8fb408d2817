"""The whole model: training and recognition, glancing, end token, padding, every combination."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from paraformer_asr.config import Config, config_from_dict
from paraformer_asr.decoders import DECODERS, build_decoder
from paraformer_asr.encoders import ENCODERS, build_encoder
from paraformer_asr.errors import AsrError
from paraformer_asr.masks import length_mask
from paraformer_asr.models import Paraformer, add_end_token, build_model
from paraformer_asr.predictor import CifPredictor
from paraformer_asr.tokenizer import Tokenizer

FEAT_LENS = torch.tensor([30, 12, 21])
TOKENS = torch.tensor([[3, 4, 5, 6], [7, -1, -1, -1], [8, 9, 3, -1]])
TOKEN_LENS = torch.tensor([4, 1, 3])
PAIRS = [(encoder, decoder) for encoder in ENCODERS for decoder in DECODERS]


def configured(**model: object) -> Config:
    small = {"dim": 8, "heads": 2, "ffn": 12, "encoder_layers": 2, "decoder_layers": 1, "kernel": 5}
    values = {"model": small | {"dropout": 0.2} | model, "features": {"num_mels": 10}}
    return config_from_dict({"name": "test", "loss": {"ctc": 0.0}} | values)


def made(**model: object) -> Paraformer:
    torch.manual_seed(0)
    return build_model(configured(**model)).eval()


def feats() -> Tensor:
    torch.manual_seed(1)
    mask = length_mask(FEAT_LENS, 30)
    return torch.randn(3, 30, 10) * mask[..., None]


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(("encoder", "decoder"), PAIRS)
def test_a_batch_is_recognised_as_its_utterances_alone(encoder: str, decoder: str):
    model = made(encoder=encoder, decoder=decoder)
    batch = model.predict(feats(), FEAT_LENS, attention=True)
    assert batch.logits.shape == (3, int(batch.counts.max()), model.tokenizer.size)
    assert torch.equal(batch.logits, model.predict(feats(), FEAT_LENS).logits)
    for b, T in enumerate(FEAT_LENS.tolist()):
        alone = model.predict(feats()[b : b + 1, :T], FEAT_LENS[b : b + 1], attention=True)
        K, frames = int(alone.counts), int(alone.hidden_lens)
        assert batch.counts[b] == K
        assert frames == batch.hidden_lens[b]
        close(batch.logits[b, :K], alone.logits[0])
        close(batch.alphas[b, :frames], alone.alphas[0])
        close(batch.attention[b, :, :K, :frames], alone.attention[0])
        assert not batch.alphas[b, frames:].any()


@pytest.mark.parametrize(("encoder", "decoder"), PAIRS)
def test_a_training_step_reaches_every_parameter(encoder: str, decoder: str):
    model = made(encoder=encoder, decoder=decoder, sampling_ratio=1.0).train()
    outputs = model(feats(), FEAT_LENS, TOKENS, TOKEN_LENS)
    assert outputs.logits.shape == (3, 4, model.tokenizer.size)
    assert outputs.ctc_logits.shape == (3, 30, model.tokenizer.size)
    assert outputs.total.dtype == torch.float32
    mask = length_mask(outputs.token_lens, 4)
    loss = torch.nn.functional.cross_entropy(outputs.logits[mask], TOKENS[mask])
    ctc = outputs.ctc_logits[length_mask(outputs.hidden_lens, 30)]
    (loss + ctc.pow(2).mean() + (outputs.total - TOKEN_LENS).abs().mean()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name


def test_training_after_a_prediction_works():
    """Tables kept from a pass without gradients must not end up in a graph."""
    for encoder in ENCODERS:
        model = made(encoder=encoder, ctc=False)
        model.predict(feats(), FEAT_LENS)
        model.train()(feats(), FEAT_LENS, TOKENS, TOKEN_LENS).logits.sum().backward()


def test_eval_runs_one_pass_that_sees_no_true_tokens():
    model = made(sampling_ratio=1.0)
    outputs = model(feats(), FEAT_LENS, TOKENS, TOKEN_LENS)
    other = model(feats(), FEAT_LENS, TOKENS.clamp_min(3).flip(0), TOKEN_LENS)
    assert outputs.first_logits is None
    assert torch.equal(outputs.logits, other.logits)


def test_the_first_pass_has_no_gradient_and_its_own_dropout():
    model = made(sampling_ratio=0.5).train()
    outputs = model(feats(), FEAT_LENS, TOKENS, TOKEN_LENS)
    assert not outputs.first_logits.requires_grad
    assert outputs.first_logits.shape == outputs.logits.shape
    assert not torch.allclose(outputs.first_logits, outputs.logits)


def test_without_glancing_there_is_no_first_pass():
    model = made(sampling_ratio=0.0).train()
    assert model(feats(), FEAT_LENS, TOKENS, TOKEN_LENS).first_logits is None


def test_the_second_pass_sees_true_tokens_in_place_of_wrong_guesses():
    """With ratio 1 and all guesses wrong, every acoustic vector is replaced."""
    model = made(sampling_ratio=1.0, dropout=0.0).train()
    with torch.no_grad():
        model.decoder.output.bias[0] = 100  # always guesses <blank>
    outputs = model(feats(), FEAT_LENS, TOKENS, TOKEN_LENS)
    hidden, hidden_lens = model.encode(feats(), FEAT_LENS)
    expected = model.decoder(model.decoder.embed(TOKENS), TOKEN_LENS, hidden, hidden_lens)
    mask = length_mask(TOKEN_LENS, 4)
    close(outputs.logits[mask], expected[mask])
    outputs.logits.sum().backward()
    assert bool(model.decoder.embedding.weight.grad[TOKENS[mask]].any())


def test_an_end_token_lengthens_the_targets_of_decoder_and_predictor():
    model = made(end_token=True).train()
    outputs = model(feats(), FEAT_LENS, TOKENS, TOKEN_LENS)
    assert outputs.tokens.tolist() == [[3, 4, 5, 6, 2], [7, 2, -1, -1, -1], [8, 9, 3, 2, -1]]
    assert outputs.token_lens.tolist() == [5, 2, 4]
    assert torch.equal(outputs.token_lens, model.target_lens(TOKEN_LENS))
    assert outputs.logits.shape[1] == outputs.first_logits.shape[1] == 5
    plain = made()
    assert torch.equal(plain.target_lens(TOKEN_LENS), TOKEN_LENS)
    assert torch.equal(plain(feats(), FEAT_LENS, TOKENS, TOKEN_LENS).tokens, TOKENS)


def test_add_end_token_follows_the_last_token_also_of_empty_utterances():
    tokens, lens = add_end_token(torch.full((2, 0), -1), torch.tensor([0, 0]), 2)
    assert tokens.tolist() == [[2], [2]]
    assert lens.tolist() == [1, 1]


@pytest.mark.parametrize("decoder", DECODERS)
def test_utterances_without_tokens_beside_others_and_a_batch_of_them(decoder: str):
    model = made(decoder=decoder)
    silent = torch.zeros(3, 30, 10)
    with torch.no_grad():
        model.predictor.output.weight.zero_()
        model.predictor.output.bias.fill_(-9.0)  # almost no weight anywhere
    nothing = model.predict(silent, FEAT_LENS, attention=True)
    assert nothing.counts.tolist() == [0, 0, 0]
    assert nothing.logits.shape == (3, 0, model.tokenizer.size)
    assert nothing.attention.shape == (3, 2, 0, 30)

    with torch.no_grad():
        model.predictor.output.bias.fill_(-3.2)  # sigmoid 0.039: 21 frames make a token, 12 none
    some = model.predict(silent, FEAT_LENS)
    assert some.counts.tolist() == [1, 0, 1]
    alone = model.predict(silent[:1], FEAT_LENS[:1])
    close(some.logits[0], alone.logits[0])

    model.train()
    lens = torch.tensor([4, 0, 0])
    outputs = model(feats(), FEAT_LENS, TOKENS.masked_fill(~length_mask(lens, 4), -1), lens)
    outputs.logits[0].sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)
    outputs = model(feats(), FEAT_LENS, TOKENS[:, :0], torch.tensor([0, 0, 0]))
    assert outputs.logits.shape == (3, 0, model.tokenizer.size)
    (outputs.logits.sum() + outputs.total.sum()).backward()


def test_tokens_padded_beyond_the_longest_change_nothing():
    model = made()
    outputs = model(feats(), FEAT_LENS, TOKENS, TOKEN_LENS)
    wider = model(feats(), FEAT_LENS, torch.nn.functional.pad(TOKENS, (0, 3), value=-1), TOKEN_LENS)
    mask = length_mask(TOKEN_LENS, 4)
    close(wider.logits[:, :4][mask], outputs.logits[mask])


def test_more_tokens_than_frames_train_without_a_fault():
    model = made().train()
    tokens = torch.full((1, 12), 3)
    outputs = model(feats()[:1, :5], torch.tensor([5]), tokens, torch.tensor([12]))
    outputs.logits.sum().backward()
    assert bool(torch.isfinite(outputs.logits).all())


def test_subsampling_shortens_what_the_predictor_sees():
    model = made(encoder="conformer", subsampling="conv2d")
    prediction = model.predict(feats(), FEAT_LENS)
    assert prediction.hidden_lens.tolist() == [6, 2, 4]
    assert prediction.alphas.shape == (3, 6)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_bfloat16_training_gives_finite_logits_and_float32_counts(encoder: str):
    model = made(encoder=encoder).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = model(feats(), FEAT_LENS, TOKENS, TOKEN_LENS)
    assert outputs.total.dtype == torch.float32
    (outputs.logits.float().sum() + outputs.total.sum()).backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)


def test_the_large_sizes_give_the_published_numbers_of_parameters():
    large = {"dim": 512, "ffn": 2048, "encoder_layers": 50, "decoder_layers": 16, "kernel": 11}
    with torch.device("meta"):  # shapes alone, no memory
        config = configured(encoder="sanm", decoder="sanm", heads=4, **large).model
        parts = [
            build_encoder(config, 560),
            CifPredictor(dim=512, kind="full", tail=0.45),
            build_decoder(config, 8404),
        ]
    counts = [sum(p.numel() for p in part.parameters()) for part in parts]
    assert counts == [157_975_648, 787_457, 61_321_428]


def test_the_state_is_the_model():
    model, other = made(), made()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    model.frontend.set_cmvn(torch.full((10,), 0.5), torch.full((10,), 2.0))
    other.load_state_dict(model.state_dict())
    assert torch.equal(
        other.predict(feats(), FEAT_LENS).logits, model.predict(feats(), FEAT_LENS).logits
    )
    assert torch.equal(other.frontend.shift, torch.full((10,), 0.5))


def test_a_shared_embedding_trains_from_both_uses():
    model = made(share_embedding=True, sampling_ratio=1.0).train()
    assert not any("embedding" in name for name in model.state_dict())
    model(feats(), FEAT_LENS, TOKENS, TOKEN_LENS).logits.sum().backward()
    assert model.decoder.output.weight.grad is not None


def test_without_ctc_there_is_no_head():
    model = made(ctc=False)
    assert model.ctc is None
    assert model(feats(), FEAT_LENS, TOKENS, TOKEN_LENS).ctc_logits is None


def test_the_vocabulary_is_given_or_configured_or_the_toy_alphabet():
    assert build_model(configured()).tokenizer.size == 24
    values = {"name": "test", "data": {"characters": "abc"}}
    assert build_model(config_from_dict(values)).tokenizer.characters == ("a", "b", "c")
    given = Tokenizer(["x"])
    assert build_model(config_from_dict(values), tokenizer=given).tokenizer is given
    config = config_from_dict(
        {"name": "test", "data": {"kind": "manifest", "manifest": {"path": "m.csv"}}}
    )
    with pytest.raises(AsrError, match=r"set data\.characters, or give build_model the tokenizer"):
        build_model(config)


def test_what_does_not_fit_is_refused():
    model = made()
    with pytest.raises(AsrError, match=r"feats is \[3, 30, 9\]: axis 2 should be 10"):
        model.predict(feats()[..., :9], FEAT_LENS)
    with pytest.raises(AsrError, match=r"tokens is \[2, 4\]: axis 0 should be B=3 as in feats"):
        model(feats(), FEAT_LENS, TOKENS[:2], TOKEN_LENS)
    with pytest.raises(AsrError, match="a length of 30 is longer than the padded size 29"):
        model.predict(feats()[:, :29], FEAT_LENS)
