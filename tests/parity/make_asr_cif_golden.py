"""Write what FunASR's CIF and predictors compute, for the parity tests of paraformer_asr.

    .venv-peers/bin/python tests/parity/make_asr_cif_golden.py

Runs in .venv-peers. Inputs and weights come from `asr_cif_cases.py`. `--seed` and `--output` make
other numbers elsewhere (the live test). What the reference gets wrong is stored as it is;
`test_asr_cif.py` shows the difference.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import funasr
import torch
from asr_cif_cases import (
    DIM,
    NUM_TOKENS,
    ONE_TOKEN,
    SILENT_LAST,
    TAIL,
    TWO_IN_ONE,
    alphas,
    hidden,
    many,
    mask,
    predictor_weights,
    probe,
)
from funasr.models.paraformer.cif_predictor import CifPredictor, CifPredictorV2, cif, cif_v1
from torch import Tensor

FORMS = {"cif": cif, "cif_v1": cif_v1}
PREDICTORS = {"full": CifPredictorV2, "depthwise": CifPredictor}


def sums(form: Callable[..., Any], seed: int, *, scaled: bool) -> dict[str, Any]:
    """Token vectors of given weights, and gradients of their projection."""
    frames, weights = hidden(seed).requires_grad_(), alphas(seed).requires_grad_()
    counts = torch.tensor(NUM_TOKENS) if scaled else weights.detach().sum(dim=1).floor().long()
    total = weights.sum(dim=1, keepdim=True)
    used = weights * (counts[:, None] / total) if scaled else weights
    embeds, _ = form(frames, used, 1.0)
    (embeds * probe(counts, embeds.shape[1])).sum().backward()
    return {
        "counts": counts.tolist(),
        "embeds": embeds.tolist(),
        "hidden gradient": frames.grad.tolist(),
        "alphas gradient": (weights.grad * mask()).tolist(),
    }


def predictor(kind: str, seed: int) -> Any:
    made = PREDICTORS[kind](DIM, 1, 1, threshold=1.0, tail_threshold=TAIL).eval()
    made.load_state_dict(predictor_weights(kind, seed))
    return made


def predicted(kind: str, seed: int, *, training: bool) -> dict[str, Any]:
    """A whole predictor: counts, token vectors, the sum of weights, and all gradients."""
    module, frames = predictor(kind, seed), hidden(seed).requires_grad_()
    lens = torch.tensor(NUM_TOKENS) if training else None
    embeds, total, weights, _ = module(frames, mask=mask()[:, None], target_label_length=lens)
    counts = torch.tensor(NUM_TOKENS) if training else total.long()
    loss = (embeds * probe(counts, embeds.shape[1])).sum()
    if training:
        loss = loss + (total * torch.tensor([1.0, -0.5, 0.25])).sum()
    loss.backward()
    return {
        "counts": counts.tolist(),
        "total": total.tolist(),
        "alphas": weights[:, : mask().shape[1]].tolist(),
        "embeds": embeds.tolist(),
        "hidden gradient": frames.grad.tolist(),
        "gradients": {name: p.grad.tolist() for name, p in module.named_parameters()},
    }


def leak(kind: str, seed: int) -> float:
    """How much an utterance's weights change with what stands in its padding."""
    module, frames = predictor(kind, seed), hidden(seed)
    filled = frames.masked_fill(~mask()[..., None], 3.0)
    lens = torch.tensor(NUM_TOKENS)
    found = [module(x, mask=mask()[:, None], target_label_length=lens)[1] for x in (frames, filled)]
    return float((found[0] - found[1]).abs().max())


def lost_tokens(seed: int) -> list[bool]:
    """Of each of many utterances, whether the last row of a scaled sum is missing or all 0."""
    lost = []
    for weights, L in many(seed):
        scaled = weights * (L / weights.sum(-1))[:, None]
        embeds, _ = cif_v1(torch.ones(*weights.shape, 1), scaled, 1.0)
        lost.append(embeds.shape[1] < L or not bool(embeds[0, L - 1].any()))
    return lost


def weights_of(form: Callable[..., Any], given: Tensor) -> dict[str, Any]:
    """Rows of weights (the sum of unit vectors), or the error that came instead."""
    B, T = given.shape
    try:
        embeds, _ = form(torch.eye(T).repeat(B, 1, 1), given.clone(), 1.0)
    except Exception as error:  # whatever it is, it is what is recorded
        return {"error": type(error).__name__}
    return {"weights": embeds.tolist()}


def without_weight() -> str:
    """What all-zero weights come to in training: an error's name, or NaN."""
    module = predictor("full", 0)
    module.noise_threshold = 2.0
    try:
        embeds, *_ = module(
            hidden(0), mask=mask()[:, None], target_label_length=torch.tensor(NUM_TOKENS)
        )
    except RuntimeError as error:
        return type(error).__name__
    return "NaN" if embeds.isnan().any() else "finite"


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
        "sums": {
            f"{name}{' scaled' if scaled else ''}": sums(form, args.seed, scaled=scaled)
            for name, form in FORMS.items()
            for scaled in (False, True)
        },
        "predictors": {
            f"{kind} {'training' if training else 'inference'}": predicted(
                kind, args.seed, training=training
            )
            for kind in PREDICTORS
            for training in (False, True)
        },
        "leak": {kind: leak(kind, args.seed) for kind in PREDICTORS},
        "lost": lost_tokens(args.seed),
        "two in one": {name: weights_of(form, TWO_IN_ONE) for name, form in FORMS.items()},
        "silent last": {name: weights_of(form, SILENT_LAST) for name, form in FORMS.items()},
        "one token": {name: weights_of(form, ONE_TOKEN) for name, form in FORMS.items()},
        "without weight": without_weight(),
    }
    (args.output / "asr_cif.json").write_text(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
