"""Speech features against kaldi-native-fbank and FunASR.

Stored numbers run in the ordinary suite; with `-m peers` numbers made just now from another seed.
The references run with a Hamming window and without dither, as ours do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from asr_features_cases import (
    FBANKS,
    FILTERS,
    LFR,
    LFR_LENGTHS,
    NUM_MELS,
    STACK,
    STRIDE,
    cmvn_text,
    signals,
)
from facts import read_facts
from paraformer_asr.cmvn import read_kaldi_cmvn
from paraformer_asr.config import FeatureConfig
from paraformer_asr.features import Frontend, fbank, stack_frames
from paraformer_asr.mel import mel_filters

LIVE_SEED = 1
TOLERANCE = 5e-4
"""More than twice what was found. Both compute in float32, each 1e-4 or so off float64."""


@pytest.fixture(scope="module", params=["golden", pytest.param("live", marks=pytest.mark.peers)])
def facts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """What the references computed: "golden" from the stored file, "live" just now."""
    folder = tmp_path_factory.mktemp("live")
    return read_facts(request.param, "asr_features", folder, seed=LIVE_SEED)


@pytest.mark.parametrize(("signal", "rate", "num_mels"), FBANKS)
def test_fbank_is_kaldis(facts: dict[str, Any], signal: str, rate: int, num_mels: int):
    waveform = signals(rate, facts["made with"]["seed"])[signal]
    theirs = torch.tensor(facts["fbank"][f"{signal} {rate} {num_mels}"])
    ours = fbank(waveform, rate, num_mels=num_mels)
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(("rate", "num_mels", "factor"), FILTERS)
def test_filters_and_their_warping_are_kaldis(
    facts: dict[str, Any], rate: int, num_mels: int, factor: float
):
    fft_size = {16000: 512, 8000: 256}[rate]
    theirs = torch.zeros(fft_size // 2, num_mels)
    for column, part in enumerate(facts["filters"][f"{rate} {num_mels} {factor}"]):
        theirs[part["first"] : part["first"] + len(part["weights"]), column] = torch.tensor(
            part["weights"]
        )
    ours = mel_filters(num_mels, rate, fft_size, factor)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("m", "n"), LFR)
def test_stacks_are_funasrs_exactly(facts: dict[str, Any], m: int, n: int):
    for size in LFR_LENGTHS:
        ours = stack_frames(torch.arange(size).float()[:, None], m, n)
        assert ours.int().tolist() == facts["stacks"][f"{m} {n}"][str(size)]


def test_the_whole_front_end_is_funasrs(facts: dict[str, Any], tmp_path: Path):
    seed = facts["made with"]["seed"]
    (tmp_path / "am.mvn").write_text(cmvn_text(seed))
    frontend = Frontend(FeatureConfig(num_mels=NUM_MELS, stack=STACK, stride=STRIDE))
    frontend.set_cmvn(*read_kaldi_cmvn(tmp_path / "am.mvn"))
    ours = frontend(frontend.frames(signals(16000, seed)["uneven"]))
    torch.testing.assert_close(ours, torch.tensor(facts["funasr"]), atol=TOLERANCE, rtol=0)


def test_the_signals_hold_what_they_are_for(facts: dict[str, Any]):
    for rate, num_mels in {case[1:] for case in FBANKS}:
        floors = torch.tensor(facts["fbank"][f"uneven {rate} {num_mels}"]) < -15.9
        assert floors.all(dim=1).any()  # digital silence
        assert not floors.all()
