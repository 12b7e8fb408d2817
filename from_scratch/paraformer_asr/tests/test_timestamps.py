"""Times of tokens: where weight is, order, limits."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from small import small_config

from paraformer_asr.data.toy import ToySpeech
from paraformer_asr.errors import AsrError
from paraformer_asr.timestamps import token_peaks, token_spans


def flat(spans: list[tuple[float, float]]) -> list[float]:
    return [edge for span in spans for edge in span]


def test_a_peak_is_the_centre_of_a_tokens_weight():
    alphas = torch.tensor([0.5, 0.5, 0.0, 1.0, 0.25, 0.75])
    assert token_peaks(alphas, 3).tolist() == pytest.approx([1.0, 3.5, 0.25 * 4.5 + 0.75 * 5.5])


def test_a_frame_that_two_tokens_share_counts_for_each_by_its_part():
    alphas = torch.tensor([0.8, 0.8, 0.4])  # the second frame gives 0.2 and 0.6
    expected = [0.8 * 0.5 + 0.2 * 1.5, 0.6 * 1.5 + 0.4 * 2.5]
    assert token_peaks(alphas, 2).tolist() == pytest.approx(expected)


def test_a_peak_does_not_depend_on_the_weight_that_is_missing_for_a_whole():
    """0.99 in two frames: the hundredth that is missing must not come from the next peak alone."""
    sharp = torch.tensor([0.0, 0.5, 0.49, 0, 0, 0, 0, 0, 0, 0.5, 0.5, 0.0])
    assert token_peaks(sharp, 2).tolist() == pytest.approx([2.0, 10.0], abs=0.1)


def test_spans_meet_half_way_between_peaks_and_are_as_wide_at_the_ends():
    alphas = torch.zeros(20)
    alphas[[4, 8, 14]] = 1.0
    assert flat(token_spans(alphas, 3, 0.1)) == pytest.approx([0.25, 0.65, 0.65, 1.15, 1.15, 1.75])


def test_a_single_token_has_the_whole_recording():
    alphas = torch.tensor([0.0, 0.9, 0.1, 0.0])
    assert token_spans(alphas, 1, 0.06) == [(0.0, pytest.approx(0.24))]
    assert token_spans(alphas, 1, 0.06, duration=0.2) == [(0.0, 0.2)]


def test_spans_of_true_weights_are_near_the_truth():
    """Weight spread evenly over each token's frames gives back where the toy tokens lie."""
    config = small_config(data={"toy": {"num_test": 40, "tokens": [3, 8]}})
    dataset = ToySpeech(config.data.toy, config.features.num_mels, split="test", seed=0)
    errors = []
    for index in range(40):
        utterance, truth = dataset.load_with_alignment(index)
        alphas = torch.zeros(len(utterance.frames))
        for start, end in truth:
            alphas[start:end] = 1 / (end - start)
        spans = token_spans(alphas, len(truth), 0.01)
        errors += [
            abs(a - 0.01 * b)
            for s, t in zip(spans, truth, strict=True)
            for a, b in zip(s, t, strict=True)
        ]
    assert sum(errors) / len(errors) < 0.015


@pytest.mark.parametrize("seed", range(60))
def test_spans_are_in_order_do_not_overlap_and_lie_within_the_recording(seed: int):
    generator = torch.Generator().manual_seed(seed)
    T = int(torch.randint(1, 80, (), generator=generator))
    alphas = torch.rand(T, generator=generator) * (torch.rand(T, generator=generator) < 0.6)
    alphas *= [0.3, 1.0, 2.5][seed % 3]  # 2.5: several tokens in a frame
    count = int(torch.floor(alphas.double().sum() + 0.45))
    whole = T * 0.06
    duration = whole - 0.04 if seed % 2 else None
    spans = token_spans(alphas, count, 0.06, duration=duration)
    assert len(spans) == count
    edges = flat(spans)
    assert edges == sorted(edges)
    assert all(left[1] == right[0] for left, right in pairwise(spans))
    if count:
        assert edges[0] >= 0
        assert edges[-1] <= (duration or whole)


def test_a_recording_that_ends_inside_of_the_last_stacked_frame_limits_the_times():
    alphas = torch.full((4,), 0.5)
    assert token_spans(alphas, 2, 0.06)[1][1] == pytest.approx(0.24)
    assert token_spans(alphas, 2, 0.06, duration=0.21)[1][1] == 0.21


def test_tokens_without_weight_are_where_the_one_before_them_is():
    assert token_peaks(torch.tensor([0.5, 0.5, 0.0]), 3).tolist() == pytest.approx([1.0] * 3)
    assert token_peaks(torch.zeros(3), 2).tolist() == [3, 3]
    assert token_spans(torch.zeros(3), 2, 1.0) == [(3.0, 3.0)] * 2


def test_no_tokens_and_no_frames_are_no_errors():
    assert token_spans(torch.rand(5), 0, 0.01) == []
    assert token_spans(torch.zeros(0), 0, 0.01) == []
    assert token_spans(torch.zeros(0), 2, 0.01) == [(0.0, 0.0)] * 2


def test_a_batch_of_alphas_is_refused():
    with pytest.raises(AsrError, match=r"^alphas is \[1, 5\]; expected 1 axes \(T\)\.$"):
        token_spans(torch.rand(1, 5), 2, 0.01)
