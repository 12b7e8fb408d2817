"""Write the losses of FunASR and PyTorch, for the parity tests of paraformer_asr.

    .venv-peers/bin/python tests/parity/make_asr_losses_golden.py

Runs in .venv-peers, in float64. Inputs come from `asr_losses_cases.py`. `--seed` and `--output`
make other numbers elsewhere (the live test). FunASR's CTC is PyTorch's, divided by utterances, so
PyTorch's own loss of each utterance is stored.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import funasr
import torch
import torch.nn.functional as F
from asr_losses_cases import (
    SMOOTHINGS,
    VOCABULARY,
    lens,
    logits,
    observe,
    token_lens,
    tokens,
    total,
)
from funasr.losses.label_smoothing_loss import LabelSmoothingLoss
from funasr.models.paraformer.cif_predictor import mae_loss


def cross_entropy(seed: int, smoothing: float, *, by_length: bool) -> dict[str, Any]:
    given = logits("decoder", seed).requires_grad_()
    loss = LabelSmoothingLoss(VOCABULARY, -1, smoothing, by_length)
    return observe(loss(given, tokens(seed)), given)


def quantity(seed: int, *, by_length: bool) -> dict[str, Any]:
    given = total(seed).requires_grad_()
    return observe(mae_loss(by_length)(token_lens().double(), given), given)


def ctc(seed: int) -> dict[str, Any]:
    given = logits("ctc", seed).requires_grad_()
    log_probs = given.log_softmax(dim=2).transpose(0, 1)
    wanted = tokens(seed).clamp_min(0)
    loss = F.ctc_loss(log_probs, wanted, lens(), token_lens(), reduction="none", zero_infinity=True)
    return observe(loss, given)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "golden")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    facts: dict[str, Any] = {
        "made with": {
            "torch": str(torch.__version__),
            "funasr": funasr.__version__,
            "seed": args.seed,
        },
        "ce": {
            f"{smoothing} by {'length' if by_length else 'utterances'}": cross_entropy(
                args.seed, smoothing, by_length=by_length
            )
            for smoothing in SMOOTHINGS
            for by_length in (False, True)
        },
        "quantity": {
            "by utterances": quantity(args.seed, by_length=False),
            "by length": quantity(args.seed, by_length=True),
        },
        "ctc": ctc(args.seed),
    }
    (args.output / "asr_losses.json").write_text(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
