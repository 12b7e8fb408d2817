"""Toy speech: a nearest-spectrum reader proves that frames and texts belong together."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from paraformer_asr.config import ToyConfig
from paraformer_asr.data import toy
from paraformer_asr.data.toy import ToySpeech, decode_by_templates, templates
from paraformer_asr.data.utterance import Dataset
from paraformer_asr.errors import AsrError

DEFAULT = ToyConfig()
CLEAN = ToyConfig(noise=0.0, speakers=0.0)


def make(
    config: ToyConfig, num_mels: int = 80, *, split: str = "train", seed: int = 0
) -> ToySpeech:
    return ToySpeech(config, num_mels, split=split, seed=seed)


def edits(reference: str, hypothesis: str) -> int:
    """Levenshtein distance, row by row."""
    row = list(range(len(hypothesis) + 1))
    for i, expected in enumerate(reference, start=1):
        above, row[0] = row[0], i
        for j, found in enumerate(hypothesis, start=1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (expected != found))
    return row[-1]


def token_error_rate(config: ToyConfig, num: int = 60, *, seed: int = 0) -> float:
    """Of the reader that knows the spectra but not the voice."""
    spoken = [make(config, seed=seed).load(i) for i in range(num)]
    wrong = sum(edits(u.text, decode_by_templates(u.frames, config)) for u in spoken)
    return wrong / sum(len(u.text) for u in spoken)


def test_clean_speech_is_read_without_a_mistake() -> None:
    dataset = make(CLEAN, seed=3)
    texts = list(dataset.texts())[:400]

    assert [decode_by_templates(dataset.load(i).frames, CLEAN) for i in range(400)] == texts
    assert sum(a == b for text in texts for a, b in pairwise(text)) > 50


@pytest.mark.parametrize(
    "changes",
    [
        {"coarticulation": 0},
        {"coarticulation": 1},
        {"coarticulation": 2},
        {"alphabet": "ab"},
        {"alphabet": "abcdefghijklmnopqrstuvwxyz0123456789"},
        {"silence": (0, 0)},
        {"silence": (0, 1)},
        {"silence": (20, 40)},
        {"tokens": (1, 1)},
        {"tokens": (40, 60)},
        {"duration": (2, 2), "coarticulation": 1},
        {"duration": (10, 30), "coarticulation": 5},
    ],
)
def test_clean_speech_is_read_without_a_mistake_at_other_settings(
    changes: dict[str, object],
) -> None:
    config = replace(CLEAN, **changes)  # type: ignore[arg-type]
    dataset = make(config)
    for i in range(40):
        utterance = dataset.load(i)
        assert decode_by_templates(utterance.frames, config) == utterance.text


@pytest.mark.parametrize("text", ["aaaaaaaaaa", "aabb", "bbaabbaa"])
def test_repeated_tokens_are_counted_because_each_has_an_onset(text: str) -> None:
    config = replace(CLEAN, alphabet="ab", tokens=(len(text), len(text)), num_train=4000)
    dataset = make(config)
    found = [i for i, spoken in enumerate(dataset.texts()) if spoken == text]

    assert found
    for i in found:
        assert decode_by_templates(dataset.load(i).frames, config) == text


def test_the_default_difficulty_leaves_some_errors_to_a_reader_that_ignores_the_voice() -> None:
    assert 0.005 < token_error_rate(DEFAULT, 150) < 0.1


def test_frames_of_other_utterances_do_not_give_the_text() -> None:
    dataset = make(DEFAULT)
    texts = list(dataset.texts())
    wrong = sum(
        edits(texts[i + 1], decode_by_templates(dataset.load(i).frames, DEFAULT)) for i in range(60)
    )

    assert wrong / sum(len(text) for text in texts[1:61]) > 0.8


def test_more_noise_never_helps_the_reader() -> None:
    levels = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0)
    rates = [token_error_rate(replace(CLEAN, noise=noise)) for noise in levels]

    assert rates == sorted(rates)
    assert rates[0] == 0
    assert rates[-1] > 0.3


def test_more_varied_voices_never_help_the_reader() -> None:
    rates = [token_error_rate(replace(CLEAN, speakers=s)) for s in (0.0, 0.25, 0.5, 0.75, 1.0)]

    assert rates == sorted(rates)
    assert rates[0] == 0
    assert rates[-1] > 0.2


def test_more_coarticulation_never_helps_the_reader() -> None:
    hard = replace(CLEAN, noise=3.0)
    rates = [token_error_rate(replace(hard, coarticulation=c), 150) for c in (0, 3)]

    assert rates[0] < rates[1]


def test_noise_scales_and_changes_nothing_else() -> None:
    clean, one, two = (make(replace(DEFAULT, noise=noise)).load(7) for noise in (0.0, 1.0, 2.0))

    assert clean.text == one.text == two.text
    torch.testing.assert_close(two.frames - clean.frames, 2 * (one.frames - clean.frames))
    assert float((one.frames - clean.frames).std()) == pytest.approx(1.0, abs=0.1)


def test_the_voice_changes_neither_text_nor_timing() -> None:
    plain, varied = (make(replace(DEFAULT, speakers=s)).load_with_alignment(7) for s in (0.0, 1.0))

    assert plain[0].text == varied[0].text
    assert plain[1] == varied[1]
    assert float((plain[0].frames - varied[0].frames).abs().mean()) > 0.1


def test_the_alignment_points_at_the_tokens() -> None:
    config = replace(CLEAN, coarticulation=0)
    dataset = make(config)
    spectra = templates(config.alphabet, 80) + toy.LEVEL
    low, high = config.duration
    for i in range(20):
        utterance, spans = dataset.load_with_alignment(i)
        assert len(spans) == len(utterance.text)
        assert all(before[1] <= after[0] for before, after in pairwise(spans))
        in_silence = torch.ones(len(utterance.frames), dtype=torch.bool)
        for character, (start, end) in zip(utterance.text, spans, strict=True):
            assert low <= end - start <= high
            in_silence[start:end] = False
            spectrum = torch.from_numpy(spectra[config.alphabet.index(character)])
            body = utterance.frames[start + toy.onset(config) : end]
            torch.testing.assert_close(body, spectrum.expand_as(body))
            dip = utterance.frames[start : start + toy.onset(config)]
            torch.testing.assert_close(dip, (spectrum - toy.DIP).expand_as(dip))
        assert float(utterance.frames[in_silence].max()) < 9.5


def test_neighbours_blend_over_as_many_frames_as_told() -> None:
    sharp, soft = (make(replace(CLEAN, coarticulation=c, silence=(0, 0))) for c in (0, 3))
    (utterance, spans), (blended, _) = sharp.load_with_alignment(2), soft.load_with_alignment(2)
    differs = (utterance.frames - blended.frames).abs().amax(dim=1) > 1e-3
    border = [
        start
        for i, (start, _) in enumerate(spans)
        if i and utterance.text[i] != utterance.text[i - 1]
    ]

    expected = {frame for start in border for frame in (start - 1, start, start + 1)}
    assert set(differs.nonzero().flatten().tolist()) == expected
    start, before = border[0], utterance.frames[border[0] - 1]
    after = utterance.frames[start] + toy.DIP
    torch.testing.assert_close(blended.frames[start - 1], 0.75 * before + 0.25 * after)
    torch.testing.assert_close(blended.frames[start + 1] + toy.DIP, 0.25 * before + 0.75 * after)


def test_values_have_the_scale_of_log_mel_speech() -> None:
    frames = torch.cat([make(DEFAULT).load(i).frames for i in range(100)])

    assert 9 < float(frames.mean()) < 13
    assert 1 < float(frames.std()) < 3
    assert float(frames.min()) > 3
    assert float(frames.max()) < 20


def test_an_utterance_is_the_same_in_any_order_and_epoch() -> None:
    one, other = make(DEFAULT), make(DEFAULT)
    backwards = {i: other.load(i, epoch=i) for i in reversed(range(10))}
    for i in range(10):
        utterance = one.load(i)
        assert utterance.name == backwards[i].name == one.names[i]
        assert utterance.text == backwards[i].text
        assert torch.equal(utterance.frames, backwards[i].frames)


def test_an_utterance_is_the_same_in_another_process() -> None:
    program = (
        "from paraformer_asr.config import ToyConfig\n"
        "from paraformer_asr.data.toy import ToySpeech\n"
        "u = ToySpeech(ToyConfig(), 80, split='test', seed=4).load(9)\n"
        "print(u.text, u.frames.double().sum().item())"
    )
    there = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    here = make(DEFAULT, split="test", seed=4).load(9)

    assert there.stdout.split() == [here.text, str(here.frames.double().sum().item())]


def test_seeds_splits_and_indices_give_different_utterances() -> None:
    spoken = [
        make(DEFAULT, split=split, seed=seed).load(i).frames
        for split in toy.SPLITS
        for seed in (0, 1)
        for i in (0, 1)
    ]
    sums = {float(frames.double().sum()) for frames in spoken}

    assert len(sums) == len(spoken)


def test_all_seeds_and_splits_speak_one_language() -> None:
    for split in toy.SPLITS:
        for seed in (1, 2):
            utterance = make(CLEAN, split=split, seed=seed).load(0)
            assert decode_by_templates(utterance.frames, CLEAN) == utterance.text


@pytest.mark.parametrize(("split", "num"), [("train", 5), ("valid", 3), ("test", 4)])
def test_a_split_has_as_many_utterances_as_configured(split: str, num: int) -> None:
    dataset: Dataset = make(ToyConfig(num_train=5, num_valid=3, num_test=4), split=split)
    utterances = [dataset.load(i) for i in range(num)]

    assert len(dataset) == num
    assert dataset.split == split
    assert list(dataset.names) == [utterance.name for utterance in utterances]
    assert len(set(dataset.names)) == num
    assert list(dataset.texts()) == [utterance.text for utterance in utterances]
    assert dataset.lengths(0) == [len(utterance.frames) for utterance in utterances]
    for utterance in utterances:
        assert utterance.frames.shape[1] == 80
        assert utterance.frames.dtype == torch.float32


@pytest.mark.parametrize("index", [-1, 5])
def test_an_index_outside_of_the_split_is_refused(index: int) -> None:
    with pytest.raises(IndexError, match=f"utterance {index} of 5 in the train split"):
        make(ToyConfig(num_train=5)).load(index)


def test_numbers_of_tokens_and_frames_stay_within_their_ranges() -> None:
    config = replace(DEFAULT, tokens=(2, 4), duration=(5, 7), coarticulation=2, silence=(3, 6))
    dataset = make(config)
    counts, durations, ends, pauses = set(), set(), set(), set()
    for i in range(300):
        utterance, spans = dataset.load_with_alignment(i)
        counts.add(len(spans))
        durations |= {end - start for start, end in spans}
        ends |= {spans[0][0], len(utterance.frames) - spans[-1][1]}
        pauses |= {b[0] - a[1] for a, b in pairwise(spans)}

    assert counts == {2, 3, 4}
    assert durations == {5, 6, 7}
    assert ends == {3, 4, 5, 6}
    assert pauses == {0, 1, 2, 3}


def test_spectra_depend_on_the_character_and_look_alike_at_other_resolutions() -> None:
    spectra = templates("abcdefgh", 80)
    coarse = templates("abcdefgh", 40)

    assert np.array_equal(templates("abcd", 80), spectra[:4])
    np.testing.assert_allclose(spectra.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(spectra.std(axis=1), 1, atol=1e-5)
    assert -3 < spectra.min() < -1.5
    assert 1.5 < spectra.max() < 3
    pairs = spectra.reshape(8, 40, 2).mean(axis=2)
    assert all(np.corrcoef(a, b)[0, 1] > 0.99 for a, b in zip(pairs, coarse, strict=True))


def test_spectra_of_the_default_alphabet_are_far_apart() -> None:
    spectra = templates(DEFAULT.alphabet, 80)
    distances = ((spectra[:, None] - spectra) ** 2).mean(axis=2)

    assert distances[~np.eye(len(spectra), dtype=bool)].min() > 0.5


def test_shared_spectra_cannot_be_overwritten() -> None:
    with pytest.raises(ValueError, match="read-only"):
        templates("ab", 80)[0] = 0


def test_silence_alone_is_an_empty_text() -> None:
    assert decode_by_templates(torch.full((30, 80), 8.5), CLEAN) == ""
    assert decode_by_templates(torch.empty(0, 80), CLEAN) == ""


def test_too_few_channels_for_the_alphabet_are_refused() -> None:
    message = r"features\.num_mels=2 channels cannot tell 20 toy characters apart; raise features\."
    with pytest.raises(AsrError, match=message):
        make(DEFAULT, 2)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(AsrError, match="split='dev' is none of: train, valid, test"):
        make(DEFAULT, split="dev")


def test_frames_with_a_batch_axis_are_refused() -> None:
    with pytest.raises(AsrError, match=r"frames is \[1, 9, 80\]; expected 2 axes \(T, M\)"):
        decode_by_templates(torch.zeros(1, 9, 80), CLEAN)
