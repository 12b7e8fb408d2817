"""Seconds of integrate-and-fire, forward and backward: paraformer_asr against FunASR.

    .venv-peers/bin/python benchmarks/speech_cif.py
    .venv-peers/bin/python benchmarks/speech_cif.py --batch 1 --frames 84
    .venv-peers/bin/python benchmarks/speech_cif.py --passes 1      # with cold caches

As in training: weights are scaled to the number of tokens (a token takes 8 frames), frames are
summed, and the gradients of frames and weights are computed. FunASR has two forms: the loop `cif`
(its CifPredictor) and `cif_v1` without one (its CifPredictorV2). Whether all three agree is checked
before anything is measured. `rounds.py` says how it is measured and what the columns mean;
here a turn is several passes in a row, and its time is divided by their number.
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Callable

import rounds
from speech_peer import SOURCE, use_levers

OURS = "paraformer_asr"
SIZES = ("batch", "frames", "dim", "passes")


def jobs_of(options: argparse.Namespace) -> rounds.Jobs:
    """Name -> one forward and backward pass."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    import torch
    from funasr.models.paraformer.cif_predictor import cif, cif_v1
    from paraformer_asr.cif import integrate_and_fire
    from torch import Tensor

    B, T, D = options.batch, options.frames, options.dim
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(B, T, D, generator=generator)
    alphas = torch.rand(B, T, generator=generator) / 4
    num_tokens = torch.full((B,), T // 8)
    grad = torch.randn(B, T // 8, D, generator=generator)

    def funasr(routine: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., Tensor]:
        def run(hidden: Tensor, alphas: Tensor) -> Tensor:
            total = alphas.sum(-1)  # what its predictors do before they call the routine
            scaled = alphas * (num_tokens / total)[:, None].repeat(1, alphas.size(1))
            return routine(hidden, scaled, 1.0)[0]

        return run

    def ours(hidden: Tensor, alphas: Tensor) -> Tensor:
        return integrate_and_fire(hidden, alphas, num_tokens=num_tokens)[0]

    def step(run: Callable[..., Tensor]) -> Callable[[], list[Tensor]]:
        def once() -> list[Tensor]:
            h, a = hidden.detach().requires_grad_(), alphas.detach().requires_grad_()
            embeds = run(h, a)
            embeds.backward(grad[:, : embeds.shape[1]])
            assert h.grad is not None
            assert a.grad is not None
            return [embeds.detach(), h.grad, a.grad]

        return lambda: [once() for _ in range(options.passes)][-1]

    jobs = {
        "funasr cif (a loop)": step(funasr(cif)),
        "funasr cif_v1 (without a loop)": step(funasr(cif_v1)),
        OURS: step(ours),
    }
    for name, job in jobs.items():
        # Without the last token, which FunASR loses in a part of the utterances.
        for theirs, own in zip(job(), jobs[OURS](), strict=True):
            if name != OURS and theirs.shape[1] == T // 8:
                torch.testing.assert_close(theirs[:, :-1], own[:, :-1], atol=1e-4, rtol=1e-3)
    return jobs


def main() -> int:
    parser = rounds.parser(__doc__)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--passes", type=int, default=5)
    options = parser.parse_args()
    if options.worker:
        rounds.serve(options, jobs_of, source=SOURCE, use_levers=use_levers)
        return 0
    sizes = [f"--{name}={getattr(options, name)}" for name in SIZES]
    result = rounds.measure(__file__, options, sizes)
    print(f"integrate and fire, forward and backward, {' '.join(sizes)}")
    peers = [job for job in result["seconds"]["plain"] if job != OURS]
    pairs = [(OURS, peer) for peer in peers]
    rounds.report(result, pairs, lambda s: f"{1e3 * s / options.passes:.2f} ms")
    rounds.save(options.out, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
