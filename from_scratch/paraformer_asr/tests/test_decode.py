"""Greedy decoding: rows that count, special tokens, utterances without tokens, batches."""

from __future__ import annotations

import pytest
import torch

from paraformer_asr.config import Config, FeatureConfig, ModelConfig
from paraformer_asr.decode import Hypothesis, decode_batch, greedy, seconds_of_frame
from paraformer_asr.errors import AsrError
from paraformer_asr.models import Paraformer, Prediction, build_model
from paraformer_asr.tokenizer import UNKNOWN_MARK, Tokenizer

TOKENIZER = Tokenizer("abc")  # 3, 4, 5; <unk> is 6
NOTHING = Hypothesis(text="", tokens=[], ids=[], times=[], confidence=[])


def prediction(rows: list[list[int]], *, counts: list[int] | None = None) -> Prediction:
    """Logits whose most probable ids are `rows`, padded with `b`; half a token in each frame."""
    counts = counts or [len(row) for row in rows]
    longest = max(map(len, rows), default=0)
    ids = torch.tensor([row + [4] * (longest - len(row)) for row in rows]).view(len(rows), longest)
    frames = torch.tensor([2 * count + 1 for count in counts])
    positions = torch.arange(int(frames.max()))
    return Prediction(
        logits=2.0 * torch.nn.functional.one_hot(ids.long(), TOKENIZER.size).float(),
        counts=torch.tensor(counts),
        alphas=0.5 * (positions < frames[:, None] - 1).float(),
        hidden_lens=frames,
        attention=None,
    )


def test_text_tokens_times_and_confidence_belong_together():
    (found,) = greedy(prediction([[3, 5, 6]]), TOKENIZER, 0.1)
    assert found.text == f"ac{UNKNOWN_MARK}"
    assert (found.tokens, found.ids) == (["a", "c", UNKNOWN_MARK], [3, 5, 6])
    assert [end for _, end in found.times] == pytest.approx([0.2, 0.4, 0.6])
    probability = torch.tensor([2.0, 0, 0, 0, 0, 0, 0]).softmax(dim=0)[0]
    assert found.confidence == pytest.approx([float(probability)] * 3)


def test_equal_neighbours_are_two_tokens():
    assert greedy(prediction([[3, 3, 3, 4]]), TOKENIZER, 0.1)[0].text == "aaab"


def test_special_tokens_are_dropped_with_their_times_and_confidence():
    everything, dropped = greedy(prediction([[3, 4, 5, 3, 3], [3, 0, 5, 1, 2]]), TOKENIZER, 0.1)
    assert (dropped.text, dropped.ids) == ("ac", [3, 5])
    assert dropped.times == [everything.times[0], everything.times[2]]
    assert len(dropped.tokens) == len(dropped.confidence) == 2


def test_an_utterance_without_tokens_is_empty_and_leaves_the_others_alone():
    found = greedy(prediction([[3, 4], [], [5]]), TOKENIZER, 0.1)
    assert [each.text for each in found] == ["ab", "", "c"]
    assert found[1] == NOTHING
    assert found[0] == greedy(prediction([[3, 4]]), TOKENIZER, 0.1)[0]


def test_a_batch_in_which_no_utterance_has_a_token_is_empty():
    assert greedy(prediction([[], []]), TOKENIZER, 0.1) == [NOTHING, NOTHING]


def test_rows_and_frames_beyond_an_utterances_own_are_not_read():
    both = prediction([[3, 4, 5], [5, 3, 4]], counts=[3, 1])
    both.logits[1, 1:] = float("nan")
    both.alphas[1, 3:] = float("nan")
    assert greedy(both, TOKENIZER, 0.1)[1] == greedy(prediction([[5]]), TOKENIZER, 0.1)[0]


def test_times_end_with_the_recording():
    first, second = greedy(prediction([[3, 4], [5]]), TOKENIZER, 0.1, durations=[0.35, 9.0])
    assert first.times[-1][1] == 0.35
    assert second.times == [(0.0, pytest.approx(0.3))]  # three frames


def test_a_model_with_another_vocabulary_is_refused():
    with pytest.raises(AsrError, match=r"^the model names 7 tokens and the vocabulary has 8; use"):
        greedy(prediction([[3]]), Tokenizer("abcd"), 0.1)


def untrained(**model: object) -> Paraformer:
    torch.manual_seed(0)
    features = FeatureConfig(num_mels=20, stack=2, stride=2)
    small = {"dim": 16, "heads": 2, "ffn": 16, "encoder_layers": 1, "decoder_layers": 1, **model}
    config = Config(name="t", features=features, model=ModelConfig(**small))  # type: ignore[arg-type]
    return build_model(config).eval()


def test_a_batch_is_decoded_as_each_utterance_alone():
    model = untrained()
    generator = torch.Generator().manual_seed(0)
    feat_lens = torch.tensor([30, 1, 17])
    feats = torch.randn(3, 30, 40, generator=generator)
    feats *= (torch.arange(30) < feat_lens[:, None])[..., None]
    together = decode_batch(model, feats, feat_lens)
    counts = model.predict(feats, feat_lens).counts.tolist()
    assert counts[0] > counts[2] > 0
    for b, length in enumerate(feat_lens.tolist()):
        (alone,) = decode_batch(model, feats[b : b + 1, :length], feat_lens[b : b + 1])
        assert alone.ids == together[b].ids
        assert alone.confidence == pytest.approx(together[b].confidence, abs=1e-5)
        for one, other in zip(alone.times, together[b].times, strict=True):
            assert one == pytest.approx(other, abs=1e-5)
        assert all(end <= length * 0.02 for _, end in together[b].times)


def test_a_real_model_that_hears_nothing_gives_an_empty_text_beside_the_others():
    model = untrained()
    with torch.no_grad():
        model.predictor.output.bias -= 2  # small weights: three frames are not a token, forty are
    feats, feat_lens = torch.randn(3, 40, 40), torch.tensor([40, 3, 38])
    feats *= (torch.arange(40) < feat_lens[:, None])[..., None]
    first, second, third = decode_batch(model, feats, feat_lens)
    assert second == NOTHING
    assert min(len(first.ids), len(third.ids)) > 0  # special ones are dropped
    assert decode_batch(model, feats[1:2], feat_lens[1:2]) == [NOTHING]


def test_decoding_leaves_no_gradient_and_can_be_followed_by_training():
    model = untrained()
    found = decode_batch(model, torch.randn(1, 9, 40), torch.tensor([9]))
    assert isinstance(found[0].text, str)
    outputs = model(
        torch.randn(1, 9, 40), torch.tensor([9]), torch.tensor([[3, 4]]), torch.tensor([2])
    )
    outputs.logits.sum().backward()


def test_a_frame_lasts_a_stride_times_the_subsampling():
    assert seconds_of_frame(untrained()) == pytest.approx(0.02)
    conformer = untrained(encoder="conformer", subsampling="conv2d")
    assert seconds_of_frame(conformer) == pytest.approx(0.08)
