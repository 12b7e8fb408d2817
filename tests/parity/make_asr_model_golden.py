"""Write what small Paraformers of FunASR compute, for the parity tests of paraformer_asr.

    .venv-peers/bin/python tests/parity/make_asr_model_golden.py

Runs in .venv-peers. Networks, weights and inputs come from `asr_model_cases.py`. `--seed` and
`--output` make other numbers elsewhere (the live test), and there the checkpoints themselves, too.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import funasr
import torch
from asr_model_cases import CONFIG, condense, feats, fill_state, memory, probe, vectors
from funasr.models.conformer.encoder import ConformerEncoder
from funasr.models.paraformer.cif_predictor import CifPredictor, CifPredictorV2
from funasr.models.paraformer.decoder import ParaformerSANDecoder, ParaformerSANMDecoder
from funasr.models.paraformer.model import Paraformer
from funasr.models.sanm.encoder import SANMEncoder

REGISTERED = (
    ConformerEncoder,
    CifPredictor,
    CifPredictorV2,
    ParaformerSANDecoder,
    ParaformerSANMDecoder,
    SANMEncoder,
)
"""Paraformer finds its parts by name, once they have been imported."""


def build(kind: str, seed: int) -> Any:
    model = Paraformer(**CONFIG[kind]).eval()
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    model.load_state_dict(fill_state(shapes, seed))
    return model


def recognise(model: Any, x: torch.Tensor, lens: torch.Tensor) -> dict[str, Any]:
    """A whole pass without a target: frames, counts and logits."""
    hidden, hidden_lens = model.encode(x, lens)
    embeds, counts, _, _ = model.calc_predictor(hidden, hidden_lens)
    counts = counts.round().long()
    logits = model.decoder(hidden, hidden_lens, embeds, counts)[0]
    return {
        "hidden": hidden,
        "hidden lens": hidden_lens.tolist(),
        "counts": counts.tolist(),
        "logits": logits,
    }


def alone(model: Any, kind: str, seed: int) -> list[dict[str, Any]]:
    """Each utterance in a batch of its own."""
    x, lens = feats(kind, seed)
    found = []
    for b, T in enumerate(lens.tolist()):
        seen = recognise(model, x[b : b + 1, :T], lens[b : b + 1])
        found.append({k: v.tolist() if hasattr(v, "tolist") else v for k, v in seen.items()})
    return found


def batch_differs(model: Any, kind: str, seed: int) -> list[float]:
    """Of each utterance, the largest change of its frames' logits of CTC size: hidden frames and
    sums of weights in a batch against those alone."""
    x, lens = feats(kind, seed)
    together, together_lens = model.encode(x, lens)
    totals = weigh(model, together, together_lens)
    found = []
    for b, T in enumerate(lens.tolist()):
        single, single_lens = model.encode(x[b : b + 1, :T], lens[b : b + 1])
        n = int(single_lens)
        total = weigh(model, single, single_lens)
        frames = float((together[b, :n] - single[0]).abs().max())
        found.append([frames, float((totals[b] - total[0]).abs())])
    return found


def weigh(model: Any, hidden: torch.Tensor, lens: torch.Tensor) -> torch.Tensor:
    """The sum of weights of each utterance."""
    mask = torch.arange(hidden.shape[1]) < lens[:, None]
    return model.predictor(hidden, None, mask[:, None], target_label_length=torch.ones(len(lens)))[
        1
    ]


def train(model: Any, kind: str, seed: int) -> dict[str, Any]:
    """A pass with a target length for one utterance, and gradients of a projection of everything.

    The length is the largest below the sum of weights for which the reference does not lose the
    last token.
    """
    x, lens = feats(kind, seed)
    x, lens = x[:1, : lens[0]], lens[:1]
    hidden, hidden_lens = model.encode(x, lens)
    mask = torch.ones(1, 1, hidden.shape[1])
    for L in range(int(hidden_lens) // 3, 0, -1):
        asked = torch.tensor([L])
        embeds, total, _, _ = model.predictor(hidden, None, mask, target_label_length=asked)
        if bool(embeds[0, L - 1].any()):
            break
    logits = model.decoder(hidden, hidden_lens, embeds, asked)[0]
    loss = (logits * probe(tuple(logits.shape))).sum() + total.sum()
    if model.ctc is not None:
        ctc_logits = model.ctc.ctc_lo(hidden)
        loss = loss + (ctc_logits * probe(tuple(ctc_logits.shape))).sum()
    model.zero_grad()
    loss.backward()
    return {
        "tokens": L,
        "logits": logits.tolist(),
        "total": total.item(),
        "gradients": {
            name: condense(name, p.grad)
            for name, p in model.named_parameters()
            if p.grad is not None
        },
    }


def decode(model: Any, seed: int) -> dict[str, Any]:
    """The decoder alone on a batch, with gradients of what it was given."""
    (frames, frame_lens), (embeds, lens) = memory(seed), vectors(seed)
    frames.requires_grad_()
    embeds.requires_grad_()
    logits = model.decoder(frames, frame_lens, embeds, lens)[0]
    real = (torch.arange(embeds.shape[1]) < lens[:, None])[..., None]
    (logits * probe(tuple(logits.shape)) * real).sum().backward()
    return {
        "logits": (logits * real).tolist(),
        "memory gradient": frames.grad.tolist(),
        "vectors gradient": embeds.grad.tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    golden = Path(__file__).parent / "golden"
    parser.add_argument("--output", type=Path, default=golden)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    versions = {"torch": str(torch.__version__), "funasr": funasr.__version__}
    facts: dict[str, Any] = {"made with": versions | {"seed": args.seed}, "models": {}}
    for kind in CONFIG:
        model = build(kind, args.seed)
        facts["models"][kind] = {
            "shapes": {name: list(value.shape) for name, value in model.state_dict().items()},
            "alone": alone(model, kind, args.seed),
            "batch differs": batch_differs(model, kind, args.seed),
            "training": train(model, kind, args.seed),
            "decoder": decode(model, args.seed),
        }
        if args.output != golden:
            torch.save({"state_dict": model.state_dict()}, args.output / f"{kind}.pt")
    (args.output / "asr_model.json").write_text(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
