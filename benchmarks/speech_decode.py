"""Seconds from samples to text: greedy decoding by paraformer_asr against FunASR.

    .venv-peers/bin/python benchmarks/speech_decode.py
    .venv-peers/bin/python benchmarks/speech_decode.py --seconds 10 --rates lfr

One utterance of noise at a time, features included, by two models of equal weights
(`speech_peer.py`), at 100 frames a second and at the low frame rate of FunASR's large model (7
frames stacked, every 6th). FunASR does what its `inference` does between sample and token id:
WavFrontend without dither, encode, calc_predictor, cal_decoder_with_predictor, argmax; loading
files, tokenizer and times are left out on its side. Ours goes on to text, times and confidence.
Whether both name the same tokens is checked before anything is measured. `rounds.py` says
how it is measured and what the columns mean.
"""

from __future__ import annotations

import argparse
import sys

import rounds
from speech_peer import SOURCE, use_levers

RATES = {"full": (1, 1), "lfr": (7, 6)}


def jobs_of(options: argparse.Namespace) -> rounds.Jobs:
    """Name -> recognition of one utterance."""
    import torch
    from paraformer_asr.decode import decode_batch

    from speech_peer import make_pair

    pair = make_pair(*RATES[options.rates[0]])
    funasr, frontend, ours = pair.funasr.eval(), pair.frontend, pair.ours
    num_samples = int(16000 * options.seconds)
    waveform = 0.1 * torch.randn(num_samples, generator=torch.Generator().manual_seed(0))

    @torch.inference_mode()
    def run_funasr_model(feats: torch.Tensor, feat_lens: torch.Tensor) -> list[int]:
        hidden, lens = funasr.encode(feats, feat_lens)
        embeds, counts, _, _ = funasr.calc_predictor(hidden, lens)
        counts = counts.round().long()
        scores, _ = funasr.cal_decoder_with_predictor(hidden, lens, embeds, counts)
        found: list[int] = scores[0, : counts[0]].argmax(dim=-1).tolist()
        return found

    @torch.inference_mode()
    def run_funasr() -> list[int]:
        return run_funasr_model(*frontend(waveform[None], torch.tensor([num_samples])))

    @torch.inference_mode()
    def run_ours() -> list[int]:
        feats = ours.frontend(ours.frontend.frames(waveform))
        return decode_batch(ours, feats[None], torch.tensor([len(feats)]))[0].ids

    theirs, own = [i for i in run_funasr() if i > 2], run_ours()
    if not own or theirs != own:
        raise SystemExit(f"the models do not agree: {theirs} and {own}")
    given = frontend(waveform[None], torch.tensor([num_samples]))
    our_feats = ours.frontend(ours.frontend.frames(waveform))[None]
    our_lens = torch.tensor([our_feats.shape[1]])
    return {
        "funasr": run_funasr,
        "funasr, features made before": lambda: run_funasr_model(*given),
        "paraformer_asr": run_ours,
        "paraformer_asr, features before": lambda: decode_batch(ours, our_feats, our_lens),
    }


def main() -> int:
    parser = rounds.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rates", nargs="+", choices=RATES, default=list(RATES))
    options = parser.parse_args()
    if options.worker:
        rounds.serve(options, jobs_of, source=SOURCE, use_levers=use_levers)
        return 0
    results = {}
    for rate in options.rates:
        arguments = [f"--seconds={options.seconds}", "--rates", rate]
        result = rounds.measure(__file__, options, arguments)
        stack, stride = RATES[rate]
        print(f"\n{options.seconds:g} s of audio, {stack} frames stacked, every {stride}.")
        pairs = [
            ("paraformer_asr", "funasr"),
            ("paraformer_asr, features before", "funasr, features made before"),
        ]
        rounds.report(result, pairs, lambda s: f"{1e3 * s:.1f} ms, {s / options.seconds:.5f}")
        results[rate] = result
    rounds.save(options.out, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
