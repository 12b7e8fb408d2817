"""Random changes: what each does to a sound, that it repeats, and that it stays in range."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from paraformer_asr.augment import (
    add_noise,
    augment_waveform,
    change_speed,
    draw_response,
    draw_warp,
    gain,
    spec_augment,
)
from paraformer_asr.config import AugmentConfig
from paraformer_asr.errors import AsrError
from paraformer_asr.seed import stream

EVERYTHING = AugmentConfig(speeds=(0.9, 1.0, 1.1), gain_db=6, noise_db=(0, 20))


def tone(hz: float = 400, peak: float = 0.5, seconds: float = 0.5) -> torch.Tensor:
    return peak * torch.sin(2 * math.pi * hz * torch.arange(int(16000 * seconds)) / 16000)


def loudest_hz(samples: torch.Tensor) -> float:
    return int(torch.fft.rfft(samples).abs().argmax()) * 16000 / len(samples)


@pytest.mark.parametrize("speed", [0.5, 0.9, 1.1, 1.25, 2.0])
def test_speed_changes_length_and_pitch_together(speed: float):
    found = change_speed(tone(), speed)
    assert len(found) == math.ceil(8000 / speed)
    assert loudest_hz(found) == pytest.approx(400 * speed, abs=4)


def test_speed_one_changes_nothing():
    assert torch.equal(change_speed(tone(), 1.0), tone())


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan")])
def test_a_speed_that_is_not_above_0_is_refused(speed: float):
    with pytest.raises(AsrError, match=r"speed=.* must be above 0, such as 0\.9 or 1\.1"):
        change_speed(tone(), speed)


@pytest.mark.parametrize("decibels", [-20, -6, 0, 3])
def test_gain_multiplies_by_decibels(decibels: float):
    torch.testing.assert_close(gain(tone(), decibels), tone() * 10 ** (decibels / 20))


def test_gain_ends_at_full_scale_without_clipping():
    torch.testing.assert_close(gain(tone(), 40), tone() / tone().abs().max())


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 20.0])
def test_noise_has_the_power_asked_for(snr_db: float):
    quiet = tone(peak=0.05, seconds=2)
    added = add_noise(quiet, snr_db, np.random.default_rng(0)) - quiet
    ratio = float(quiet.square().mean() / added.square().mean())
    assert 10 * math.log10(ratio) == pytest.approx(snr_db, abs=0.2)


def test_loud_noise_stays_in_range_and_keeps_its_ratio():
    loud = tone(peak=1.0, seconds=2)
    found = add_noise(loud, 0.0, np.random.default_rng(0))
    assert float(found.abs().max()) == pytest.approx(1)
    share = float((found * loud).sum() / loud.square().sum())  # what is left of the tone
    rest = found - share * loud
    ratio = share**2 * float(loud.square().mean() / rest.square().mean())
    assert 10 * math.log10(ratio) == pytest.approx(0, abs=0.2)


def test_silence_gets_no_noise():
    assert torch.equal(add_noise(torch.zeros(50), 0, np.random.default_rng(0)), torch.zeros(50))


def test_every_change_keeps_an_empty_waveform_empty():
    empty, rng = torch.zeros(0), np.random.default_rng(0)
    for changed in (change_speed(empty, 0.9), gain(empty, 6), add_noise(empty, 0, rng)):
        assert changed.shape == (0,)


def test_nothing_configured_changes_nothing():
    found = augment_waveform(tone(), 16000, AugmentConfig(), np.random.default_rng(0))
    assert torch.equal(found, tone())


def test_changes_depend_on_the_stream_alone_and_leave_the_input_as_it_is():
    samples = tone()
    draws = [augment_waveform(samples, 16000, EVERYTHING, stream(0, 1, i)) for i in (5, 5, 6)]
    assert torch.equal(draws[0], draws[1])
    assert draws[0].shape != draws[2].shape or not torch.equal(draws[0], draws[2])
    assert torch.equal(samples, tone())


def test_changed_waveforms_stay_in_range_and_all_speeds_are_drawn():
    lengths = set()
    for i in range(40):
        found = augment_waveform(tone(peak=0.9), 16000, EVERYTHING, stream(0, 0, i))
        assert found.dtype == torch.float32
        assert float(found.abs().max()) <= 1
        lengths.add(len(found))
    assert lengths == {math.ceil(8000 / 0.9), 8000, math.ceil(8000 / 1.1)}


def test_a_speed_that_would_leave_less_than_a_window_is_not_applied():
    faster = AugmentConfig(speeds=(1.1,))
    rng = np.random.default_rng(0)
    assert len(augment_waveform(torch.rand(400), 16000, faster, rng)) == 400
    assert len(augment_waveform(torch.rand(441), 16000, faster, rng)) == 401


def test_warps_cover_their_range_in_steps_of_a_hundredth():
    rng = np.random.default_rng(0)
    drawn = {draw_warp(AugmentConfig(warp=0.03), rng) for _ in range(200)}
    assert sorted(drawn) == pytest.approx([0.97, 0.98, 0.99, 1.0, 1.01, 1.02, 1.03])
    assert draw_warp(AugmentConfig(), rng) == 1


def hidden_of(feats: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
    """True where hidden; what is not hidden must be what it was."""
    hidden = masked == 0
    assert torch.equal(masked[~hidden], feats[~hidden])
    return hidden


def test_a_band_is_hidden_in_every_frame_of_every_stack():
    feats = torch.rand(9, 3 * 20) + 1
    config = AugmentConfig(freq_masks=1, freq_width=8)
    widths = set()
    for i in range(100):
        hidden = hidden_of(feats, spec_augment(feats, 20, config, stream(i))).view(9, 3, 20)
        band = hidden[0, 0]
        assert (hidden == band).all()
        widths.add(int(band.sum()))
        assert (band.int().diff() == 1).sum() <= 1  # one stretch
    assert widths == set(range(9))


def test_a_stretch_of_time_is_hidden_in_all_channels():
    feats = torch.rand(40, 6) + 1
    config = AugmentConfig(time_masks=1, time_width=5)
    lengths, everywhere = set(), torch.zeros(40, dtype=torch.bool)
    for i in range(300):
        hidden = hidden_of(feats, spec_augment(feats, 6, config, stream(i)))
        assert (hidden == hidden[:, :1]).all()
        lengths.add(int(hidden[:, 0].sum()))
        everywhere |= hidden[:, 0]
    assert lengths == set(range(6))
    assert everywhere.all()  # the ends too


def test_a_time_mask_takes_a_quarter_of_a_short_utterance_at_most():
    config = AugmentConfig(time_masks=1, time_width=8)
    for size, most in ((0, 0), (1, 0), (3, 0), (4, 1), (11, 2)):
        feats = torch.rand(size, 6) + 1
        counts = {
            int(hidden_of(feats, spec_augment(feats, 6, config, stream(i)))[:, 0].sum())
            for i in range(60)
        }
        assert max(counts) == most


def test_a_band_wider_than_all_channels_is_cut_to_them():
    config = AugmentConfig(freq_masks=1, freq_width=30)
    feats = torch.rand(5, 4) + 1
    widths = {int((spec_augment(feats, 4, config, stream(i))[0] == 0).sum()) for i in range(60)}
    assert widths == {0, 1, 2, 3, 4}


def test_several_masks_add_up_and_the_input_is_left_as_it_is():
    feats = torch.rand(60, 80) + 1
    before = feats.clone()
    one = AugmentConfig(freq_masks=1, time_masks=1)
    many = AugmentConfig(freq_masks=4, time_masks=4)
    hidden = {
        config: np.mean(
            [
                (spec_augment(feats, 80, config, stream(i)) == 0).float().mean().item()
                for i in range(50)
            ]
        )
        for config in (one, many)
    }
    assert hidden[many] > 2 * hidden[one] > 0
    assert torch.equal(feats, before)
    assert torch.equal(spec_augment(feats, 80, AugmentConfig(), stream(0)), feats)


def test_features_that_are_no_stacks_of_mel_channels_are_refused():
    with pytest.raises(AsrError, match=r"feats are \[5, 81\]; expected \(T, m \* 80 mel channels"):
        spec_augment(torch.zeros(5, 81), 80, AugmentConfig(), np.random.default_rng(0))


def test_a_response_is_smooth_and_within_its_limit():
    config = AugmentConfig(response_db=6)
    curves = torch.stack([draw_response(40, config, stream(0, i)) for i in range(200)])
    assert curves.shape == (200, 40)
    assert curves.dtype == torch.float32
    assert curves.abs().max() <= 0.6 * math.log(10) + 1e-6
    assert curves.abs().amax(dim=1).mean() > 0.2 * math.log(10)
    steps = curves.diff(dim=1).abs().amax(dim=1)
    assert bool((steps <= 0.25 * curves.abs().amax(dim=1) + 1e-6).all())
    assert torch.equal(curves[3], draw_response(40, config, stream(0, 3)))


def test_no_response_leaves_frames_alone():
    assert torch.equal(draw_response(40, AugmentConfig(), stream(0, 1)), torch.zeros(40))
