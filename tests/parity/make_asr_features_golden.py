"""Write the features of kaldi-native-fbank and FunASR, for the speech features parity tests.

    .venv-peers/bin/python tests/parity/make_asr_features_golden.py

Runs in .venv-peers. `--seed` and `--output` make other numbers elsewhere (the live test).
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import kaldi_native_fbank as knf
import numpy as np
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
from funasr import __version__ as funasr_version
from funasr.frontends.wav_frontend import WavFrontend, apply_lfr
from torch import Tensor


def options(rate: int, num_mels: int) -> knf.FbankOptions:
    chosen = knf.FbankOptions()
    chosen.frame_opts.samp_freq = rate
    chosen.frame_opts.dither = 0.0
    chosen.frame_opts.window_type = "hamming"
    chosen.mel_opts.num_bins = num_mels
    return chosen


def kaldi_fbank(waveform: Tensor, rate: int, num_mels: int) -> list[list[float]]:
    online = knf.OnlineFbank(options(rate, num_mels))
    online.accept_waveform(rate, (waveform * 32768).tolist())
    online.input_finished()
    rows = [online.get_frame(i) for i in range(online.num_frames_ready)]
    return np.stack(rows).astype(np.float64).round(5).tolist()


def kaldi_filters(rate: int, num_mels: int, factor: float) -> list[dict[str, Any]]:
    """Of each filter, the first bin with a weight and all weights up to the last one."""
    chosen = options(rate, num_mels)
    banks = knf.MelBanks(chosen.mel_opts, chosen.frame_opts, vtln_warp_factor=1 / factor)
    found = []
    for row in banks.get_matrix():
        bins = np.flatnonzero(row)
        weights = row[bins[0] : bins[-1] + 1].astype(np.float64).round(6)
        found.append({"first": int(bins[0]), "weights": weights.tolist()})
    return found


def stacked_rows(m: int, n: int) -> dict[str, list[list[int]]]:
    """For each length, which frames FunASR puts side by side in each row."""
    return {
        str(size): apply_lfr(torch.arange(size).float()[:, None], m, n).int().tolist()
        for size in LFR_LENGTHS
    }


def funasr_features(seed: int) -> list[list[float]]:
    """Waveform to normalised stacks by its own front end."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "am.mvn"
        path.write_text(cmvn_text(seed))
        frontend = WavFrontend(
            cmvn_file=str(path), n_mels=NUM_MELS, lfr_m=STACK, lfr_n=STRIDE, dither=0.0
        )
    waveform = signals(16000, seed)["uneven"]
    feats, _ = frontend(waveform[None], torch.tensor([len(waveform)]))
    return feats[0].double().numpy().round(5).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "golden")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    made_with = {
        "torch": str(torch.__version__),
        "kaldi_native_fbank": knf.__version__,
        "funasr": funasr_version,
        "seed": args.seed,
    }
    facts = {
        "made with": made_with,
        "fbank": {
            f"{signal} {rate} {num_mels}": kaldi_fbank(
                signals(rate, args.seed)[signal], rate, num_mels
            )
            for signal, rate, num_mels in FBANKS
        },
        "filters": {" ".join(map(str, case)): kaldi_filters(*case) for case in FILTERS},
        "stacks": {f"{m} {n}": stacked_rows(m, n) for m, n in LFR},
        "funasr": funasr_features(args.seed),
    }
    text = json.dumps(facts, indent=1)
    text = re.sub(r"\[[^\[\]{}]*\]", lambda row: re.sub(r"\s+", " ", row[0]), text)  # rows as lines
    (args.output / "asr_features.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
