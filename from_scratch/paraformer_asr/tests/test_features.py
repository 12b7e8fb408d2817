"""Log-mel features: a slow version frame by frame as the oracle, and what each step is for."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from paraformer_asr import features as module
from paraformer_asr.config import FeatureConfig
from paraformer_asr.errors import AsrError
from paraformer_asr.features import Frontend, fbank, frame_sizes, num_frames, stack_frames
from paraformer_asr.mel import hz_to_mel, mel_filters, warp_hz


def noise(size: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(size, generator=torch.Generator().manual_seed(seed))


def mel(hz: float) -> float:
    return 1127 * math.log(1 + hz / 700)


def fbank_by_hand(waveform: Tensor, sample_rate: int, num_mels: int) -> Tensor:
    """Each number of each frame by its definition, in float64, without a fast transform."""
    window, hop = sample_rate * 25 // 1000, sample_rate // 100
    size = 2 ** math.ceil(math.log2(window))
    top = mel(sample_rate / 2)
    step = (top - mel(20)) / (num_mels + 1)
    rows = []
    for begin in range(0, len(waveform) - window + 1, hop):
        x = waveform[begin : begin + window].double() * 32768
        x = x - x.mean()
        y = torch.stack([x[i] - 0.97 * x[max(i - 1, 0)] for i in range(window)])
        i = torch.arange(window, dtype=torch.float64)
        y = y * (0.54 - 0.46 * torch.cos(2 * math.pi * i / (window - 1)))
        angles = 2 * math.pi * torch.arange(size // 2)[:, None] * i / size
        power = (y * angles.cos()).sum(dim=1) ** 2 + (y * angles.sin()).sum(dim=1) ** 2
        row = []
        for m in range(num_mels):
            left, centre, right = (mel(20) + (m + k) * step for k in range(3))
            energy = 0.0
            for f in range(size // 2):
                at = mel(f * sample_rate / size)
                if left < at <= centre:
                    energy += float(power[f]) * (at - left) / (centre - left)
                elif centre < at < right:
                    energy += float(power[f]) * (right - at) / (right - centre)
            row.append(math.log(max(energy, 1.1920929e-07)))
        rows.append(row)
    return torch.tensor(rows)


@pytest.mark.parametrize(("rate", "num_mels"), [(16000, 80), (8000, 80), (8000, 40), (11025, 23)])
def test_fbank_is_its_definition(rate: int, num_mels: int):
    waveform = noise(rate // 20)
    found = fbank(waveform, rate, num_mels=num_mels)
    torch.testing.assert_close(found, fbank_by_hand(waveform, rate, num_mels), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100])
def test_frames_do_not_reach_beyond_the_recording(rate: int):
    window, hop = frame_sizes(rate)
    for extra, frames in ((0, 1), (hop - 1, 1), (hop, 2), (5 * hop, 6)):
        assert fbank(noise(window + extra), rate).shape == (frames, 80)
        assert num_frames(window + extra, rate) == frames
    assert num_frames(window - 1, rate) == 0


def test_a_frame_depends_on_its_own_samples_alone():
    waveform = noise(16000)
    whole = fbank(waveform, 16000)
    torch.testing.assert_close(fbank(waveform[160 * 30 :][:400], 16000), whole[30:31])


def test_blocks_of_frames_equal_one_block(monkeypatch: pytest.MonkeyPatch):
    waveform = noise(16000)
    whole = fbank(waveform, 16000)
    monkeypatch.setattr(module, "BLOCK", 7)
    torch.testing.assert_close(fbank(waveform, 16000), whole)


def test_ten_times_louder_adds_the_logarithm_of_a_hundred():
    waveform = noise(4000)
    louder = fbank(10 * waveform, 16000) - fbank(waveform, 16000)
    torch.testing.assert_close(louder, torch.full_like(louder, math.log(100)), atol=1e-4, rtol=0)


def test_silence_is_the_floor():
    found = fbank(torch.zeros(1600), 16000)
    assert found.unique().tolist() == [pytest.approx(math.log(1.1920929e-07))]


def test_a_constant_is_taken_off_but_for_rounding():
    waveform = noise(1600)
    torch.testing.assert_close(
        fbank(waveform + 0.25, 16000), fbank(waveform, 16000), atol=2e-3, rtol=0
    )


@pytest.mark.parametrize("hz", [300.0, 1000.0, 3000.0])
def test_a_tone_is_loudest_in_the_filter_around_it(hz: float):
    tone = 0.5 * torch.sin(2 * math.pi * hz * torch.arange(8000) / 16000)
    step = (mel(8000) - mel(20)) / 81
    loudest = fbank(tone, 16000).argmax(dim=1)
    assert (loudest - ((mel(hz) - mel(20)) / step - 1)).abs().max() <= 1


def test_filters_moved_up_see_a_tone_as_lower():
    tone = 0.5 * torch.sin(2 * math.pi * 2000 * torch.arange(8000) / 16000)
    channel = {warp: int(fbank(tone, 16000, warp=warp)[0].argmax()) for warp in (0.9, 1, 1.1)}
    lower = 0.5 * torch.sin(2 * math.pi * 2000 / 1.1 * torch.arange(8000) / 16000)
    assert channel[1.1] < channel[1] < channel[0.9]
    assert channel[1.1] == int(fbank(lower, 16000)[0].argmax())


@pytest.mark.parametrize("warp", [0.5, 0.8, 0.95, 1.0, 1.05, 1.2, 2.0])
@pytest.mark.parametrize("rate", [1000, 8000, 16000])
def test_warping_keeps_the_ends_and_the_order_and_multiplies_between(warp: float, rate: int):
    hz = torch.linspace(20, rate / 2, 500, dtype=torch.float64)
    warped = warp_hz(hz, rate, warp)
    assert warped[0] == pytest.approx(20)
    assert warped[-1] == pytest.approx(rate / 2)
    assert (warped.diff() > 0).all()
    low, high = 100 * max(1, 1 / warp), max(rate / 2 - 500, 0.375 * rate) * min(1, 1 / warp)
    middle = (hz >= low) & (hz < high)
    torch.testing.assert_close(warped[middle], warp * hz[middle])
    there_and_back = warp_hz(warped, rate, 1 / warp)
    torch.testing.assert_close(there_and_back, hz)


def test_neighbouring_filters_sum_to_one_between_their_centres():
    weights = mel_filters(80, 16000, 512)
    assert weights.shape == (256, 80)
    bins = hz_to_mel(torch.arange(256) * 16000 / 512)
    step = (mel(8000) - mel(20)) / 81
    inner = (bins >= mel(20) + step) & (bins <= mel(8000) - step)
    sums = weights[inner].sum(dim=1)
    torch.testing.assert_close(sums, torch.ones_like(sums))


def test_filters_are_made_once():
    assert mel_filters(80, 16000, 512, 1.05) is mel_filters(80, 16000, 512, 1.05)


def test_warped_filters_between_two_bins_take_the_nearest():
    """80 filters at 8 kHz are hardly wider than a bin; moved together, one lies between two."""
    for warp in (0.8, 0.85, 0.9, 0.95, 1.05, 1.1, 1.2):
        weights = mel_filters(80, 8000, 256, warp)
        assert (weights.sum(dim=0) > 0).all()
    plain = mel_filters(80, 8000, 256)
    assert (plain.sum(dim=0) > 0).all()


def test_too_many_filters_are_refused_with_a_number_that_works():
    expected = (
        r"num_mels=200 is too fine for 512 samples at 16000 Hz: a filter contains no bin of the "
        r"spectrum; take features\.num_mels=\d+\."
    )
    with pytest.raises(AsrError, match=expected) as error:
        fbank(noise(400), 16000, num_mels=200)
    works = int(str(error.value).rstrip(".").split("=")[-1])
    assert fbank(noise(400), 16000, num_mels=works).shape == (1, works)
    with pytest.raises(AsrError, match="is too fine"):
        fbank(noise(400), 16000, num_mels=works + 1)
    for number in (0, 1025):
        with pytest.raises(AsrError, match=f"num_mels={number} must be from 1 to 1024; 80 is"):
            fbank(noise(400), 16000, num_mels=number)


@pytest.mark.parametrize("warp", [0.4, 2.1, float("nan")])
def test_a_warp_out_of_range_is_refused(warp: float):
    with pytest.raises(AsrError, match=r"warp=.* must be from 0\.5 to 2; 1 leaves the frequencies"):
        fbank(noise(400), 16000, warp=warp)


def test_dither_is_repeatable_noise_in_16_bit_steps():
    silence = torch.zeros(16000)
    draws = [
        fbank(silence, 16000, dither=1.0, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    torch.testing.assert_close(draws[0], draws[1])
    assert not torch.allclose(draws[0], draws[2])
    # 25 ms of it as samples: the same noise level as white noise of standard deviation 1 / 32768.
    rounded = fbank(noise(16000) / 0.1 / 32768, 16000)
    assert abs(float(draws[0].mean() - rounded.mean())) < 0.05


def test_a_waveform_of_several_channels_is_refused_with_the_way_to_mono():
    with pytest.raises(
        AsrError, match=r"is \[2, 16000\]; expected one axis.*waveform\.mean\(dim=0\)"
    ):
        fbank(torch.zeros(2, 16000), 16000)


def test_integer_samples_are_refused():
    with pytest.raises(AsrError, match=r"is torch\.int16; expected float in .*divide by 32768"):
        fbank(torch.zeros(16000, dtype=torch.int16), 16000)


def test_samples_in_16_bit_units_are_refused():
    with pytest.raises(AsrError, match=r"reaches 3[0-9]{3}.*; expected \[-1, 1\]: divide by 32768"):
        fbank(torch.linspace(-3000, 3000, 1000), 16000)
    assert fbank(4 * noise(16000) / 0.1, 16000).isfinite().all()  # merely too loud


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinite_samples_are_refused_with_their_number(bad: float):
    waveform = noise(1000)
    waveform[[5, 7]] = bad
    with pytest.raises(AsrError, match="2 of 1000 samples of the waveform are NaN or infinite"):
        fbank(waveform, 16000)


def test_fewer_samples_than_a_window_are_refused_with_both_numbers():
    for size in (0, 1, 399):
        with pytest.raises(AsrError, match=f"has {size} samples, fewer than one window of 400"):
            fbank(noise(size), 16000)
    with pytest.raises(AsrError, match="sample_rate=50 is too low"):
        fbank(noise(400), 50)


@pytest.mark.parametrize(("m", "n"), [(7, 6), (3, 2), (5, 5), (4, 3), (3, 1), (2, 1), (1, 1)])
def test_stacked_rows_hold_the_frames_that_the_formula_names(m: int, n: int):
    for size in range(1, 40):
        feats = torch.stack([torch.arange(size), 100 + torch.arange(size)], dim=1).float()
        rows = [
            [min(max(n * i - (m - 1) // 2 + k, 0), size - 1) for k in range(m)]
            for i in range(math.ceil(size / n))
        ]
        expected = torch.tensor([[v for t in row for v in (t, 100 + t)] for row in rows]).float()
        assert torch.equal(stack_frames(feats, m, n), expected)


def test_no_frames_stack_to_no_rows():
    assert stack_frames(torch.zeros(0, 80), 7, 6).shape == (0, 560)


def test_stacks_that_leave_frames_out_are_refused():
    with pytest.raises(AsrError, match="stacks of m=2 frames at every n=3: expected 1 <= n <= m"):
        stack_frames(torch.zeros(9, 4), 2, 3)
    with pytest.raises(AsrError, match=r"feats is \[2, 9, 4\]; expected 2 axes"):
        stack_frames(torch.zeros(2, 9, 4), 3, 2)


def small_frontend() -> Frontend:
    return Frontend(FeatureConfig(sample_rate=8000, num_mels=20, stack=3, stride=2))


def test_a_new_frontend_only_stacks():
    frontend = small_frontend()
    frames = frontend.frames(noise(8000))
    assert torch.equal(frames, fbank(noise(8000), 8000, num_mels=20))
    assert torch.equal(frontend(frames), stack_frames(frames, 3, 2))
    assert frontend.dim == 60
    assert frontend.frame_seconds == pytest.approx(0.02)


def test_a_fitted_frontend_gives_its_training_data_mean_0_and_variance_1():
    frontend = small_frontend()
    utterances = [frontend.frames(noise(size, size)) for size in (4000, 8000, 900)]
    frontend.fit(iter(utterances))
    feats = torch.cat([frontend(frames) for frames in utterances])
    assert feats.mean(dim=0).abs().max() < 1e-4
    assert (feats.std(dim=0, correction=0) - 1).abs().max() < 1e-4


def test_fit_reads_no_more_utterances_than_configured():
    frontend = Frontend(FeatureConfig(num_mels=2, cmvn_utterances=2))
    frontend.fit(torch.full((1, 2), float(i)) for i in range(100))
    assert frontend.shift.tolist() == [-0.5, -0.5]


def test_fit_on_nothing_is_an_error_and_changes_nothing():
    frontend = small_frontend()
    with pytest.raises(AsrError, match="there is no frame to take mean and variance of"):
        frontend.fit([])
    assert frontend.scale.tolist() == [1.0] * 60


def test_shift_and_scale_are_saved_and_applied_in_this_order():
    frontend = Frontend(FeatureConfig(num_mels=2))
    frontend.set_cmvn(torch.tensor([1.0, 2.0]), torch.tensor([10.0, 100.0]))
    copy = Frontend(FeatureConfig(num_mels=2))
    copy.load_state_dict(frontend.state_dict())
    assert copy(torch.tensor([[3.0, 4.0]])).tolist() == [[40, 600]]
    assert {name: value.dtype for name, value in copy.state_dict().items()} == {
        "shift": torch.float32,
        "scale": torch.float32,
    }


def test_shift_and_scale_of_another_size_are_refused():
    with pytest.raises(AsrError, match=r"scale is \[560\]; expected \[60\] for features.stack=3"):
        small_frontend().set_cmvn(torch.zeros(60), torch.ones(560))


def test_frames_of_another_width_are_refused():
    with pytest.raises(AsrError, match=r"frames is \[5, 80\]: axis 1 should be 20"):
        small_frontend()(torch.zeros(5, 80))


def test_the_frontend_dithers_only_when_asked():
    frontend = Frontend(FeatureConfig(dither=1.0))
    waveform = noise(1600)
    assert torch.equal(frontend.frames(waveform), fbank(waveform, 16000))
    draws = [
        frontend.frames(waveform, dither=True, generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], fbank(waveform, 16000))


def test_the_frontend_passes_the_warp_on():
    frontend = Frontend(FeatureConfig())
    expected = fbank(noise(1600), 16000, warp=1.1)
    assert torch.equal(frontend.frames(noise(1600), warp=1.1), expected)
