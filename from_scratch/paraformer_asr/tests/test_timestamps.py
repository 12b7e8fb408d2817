"""Times of tokens: where weight is collected, edges of the speech, order, limits."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from paraformer_asr.errors import AsrError
from paraformer_asr.timestamps import EDGE, token_spans


def flat(spans: list[tuple[float, float]]) -> list[float]:
    return [edge for span in spans for edge in span]


def test_tokens_span_from_fire_to_fire_by_hand():
    """0.5 a frame: the fires are after frames 2, 4 and 6, so each token lasts two frames."""
    spans = token_spans(torch.full((6,), 0.5), 3, 0.01)
    expected = [EDGE / 0.5 * 0.01, 0.02, 0.02, 0.04, 0.04, 0.06]
    assert flat(spans) == pytest.approx(expected, abs=1e-7)


def test_a_fire_inside_of_a_frame_is_interpolated():
    spans = token_spans(torch.tensor([0.8, 0.8, 0.4]), 2, 1.0)
    assert flat(spans)[1:3] == pytest.approx([1.25, 1.25])  # 0.2 of the 0.8 of frame 2 is missing
    assert spans[1][1] == pytest.approx(3.0)


def test_silence_before_and_after_the_speech_belongs_to_no_token():
    alphas = torch.tensor([0.0] * 10 + [0.5] * 4 + [0.0] * 10)
    spans = token_spans(alphas, 2, 0.01)
    assert 0.10 <= spans[0][0] < 0.11
    assert spans[1][1] == pytest.approx(0.14)


def test_an_incomplete_last_token_ends_where_its_weight_does():
    alphas = torch.tensor([0.5, 0.5, 0.4, 0.3, 0.0, 0.0, 0.0])  # the second token has 0.7
    spans = token_spans(alphas, 2, 1.0)
    assert spans[0][1] == pytest.approx(2.0)
    assert 3.7 < spans[1][1] < 4.0


def test_a_last_token_of_hardly_any_weight_does_not_end_before_it_starts():
    """0.02 of a token becomes one only with a tail of 0.98; less than EDGE is left to take off."""
    spans = token_spans(torch.tensor([0.5, 0.5, 0.02, 0.0]), 2, 1.0)
    assert spans[1][0] == pytest.approx(2.0)
    assert spans[1][1] >= spans[1][0]


def test_a_total_a_hair_below_a_whole_number_fires_all_the_same():
    alphas = torch.tensor([0.5, 0.5 - 1e-7, 0.0, 0.0])
    assert token_spans(alphas, 1, 1.0)[0][1] == pytest.approx(2.0)


def test_two_tokens_in_a_frame_share_it():
    spans = token_spans(torch.tensor([0.0, 2.0, 0.0]), 2, 1.0)
    assert flat(spans) == pytest.approx([1 + EDGE / 2, 1.5, 1.5, 2.0])


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
    if seed % 3 < 2:  # alphas of at most 1: no token is shorter than the frame it takes to collect
        complete = int(alphas.double().sum() + 1e-6)
        assert all(end > start for start, end in spans[:complete])


def test_a_recording_that_ends_inside_of_the_last_stacked_frame_limits_the_times():
    alphas = torch.full((4,), 0.5)
    assert token_spans(alphas, 2, 0.06)[1][1] == pytest.approx(0.24)
    assert token_spans(alphas, 2, 0.06, duration=0.21)[1][1] == 0.21


def test_no_tokens_no_frames_and_no_weight_are_no_errors():
    assert token_spans(torch.rand(5), 0, 0.01) == []
    assert token_spans(torch.zeros(0), 0, 0.01) == []
    assert token_spans(torch.zeros(0), 2, 0.01) == [(0.0, 0.0)] * 2
    assert token_spans(torch.zeros(3), 1, 1.0) == [(3.0, 3.0)]


def test_a_batch_of_alphas_is_refused():
    with pytest.raises(AsrError, match=r"^alphas is \[1, 5\]; expected 1 axes \(T\)\.$"):
        token_spans(torch.rand(1, 5), 2, 0.01)
