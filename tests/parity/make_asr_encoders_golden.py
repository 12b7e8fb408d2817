"""Write what FunASR's encoders compute, for the parity tests of paraformer_asr.

    .venv-peers/bin/python tests/parity/make_asr_encoders_golden.py

Runs in .venv-peers, in float64. Sizes, inputs and weights come from `asr_encoders_cases.py`.
`--seed` and `--output` make other numbers elsewhere (the live test).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import funasr
import torch
from asr_encoders_cases import (
    CONFORMER_INPUT,
    CONFORMER_KERNEL,
    CONFORMERS,
    DIM,
    FFN,
    HEADS,
    LAYERS,
    SANM_ENCODERS,
    SANM_KERNEL,
    SANM_LAYERS,
    SANM_SHIFT,
    condensed,
    inputs,
    lengths,
    probe,
    weights,
)
from funasr.models.conformer.encoder import ConformerEncoder
from funasr.models.sanm.attention import MultiHeadedAttentionSANM
from funasr.models.sanm.encoder import EncoderLayerSANM, SANMEncoder
from funasr.models.transformer.positionwise_feed_forward import PositionwiseFeedForward
from torch import Tensor, nn


def sanm_layer(width: int, shift: int) -> nn.Module:
    attention = MultiHeadedAttentionSANM(HEADS, width, DIM, 0.0, SANM_KERNEL, shift)
    return EncoderLayerSANM(width, DIM, attention, PositionwiseFeedForward(DIM, FFN, 0.0), 0.0)


def sanm_encoder(width: int) -> nn.Module:
    return SANMEncoder(
        width, DIM, HEADS, FFN, LAYERS, 0.0, 0.0, 0.0, input_layer="pe", kernel_size=SANM_KERNEL
    )


def conformer(relative: str) -> nn.Module:
    return ConformerEncoder(
        CONFORMER_INPUT,
        DIM,
        HEADS,
        FFN,
        LAYERS,
        dropout_rate=0.0,
        positional_dropout_rate=0.0,
        attention_dropout_rate=0.0,
        input_layer="conv2d",
        macaron_style=True,
        rel_pos_type=relative,
        cnn_module_kernel=CONFORMER_KERNEL,
    )


def filled(module: nn.Module, seed: int) -> nn.Module:
    module.load_state_dict(weights(module.state_dict(), seed))
    return module.double().eval()


def observed(module: nn.Module, output: Tensor, real: Tensor, seed: int) -> dict[str, Any]:
    """The output with 0 in the padding, and of each parameter its condensed gradient."""
    output = output.masked_fill(~real[..., None], 0)
    module.zero_grad()
    probe(output, seed).backward()
    return {
        "shapes": {name: list(value.shape) for name, value in module.state_dict().items()},
        "output": output.tolist(),
        "gradients": {n: condensed(n, p.grad, seed) for n, p in module.named_parameters()},
    }


def layer_facts(case: str, seed: int) -> dict[str, Any]:
    width = SANM_LAYERS[case]
    module = filled(sanm_layer(width, SANM_SHIFT.get(case, 0)), seed)
    x = inputs(case, width, seed)
    real = torch.arange(x.shape[1]) < lengths(case)[:, None]
    return observed(module, module(x, real[:, None])[0], real, seed)


def sanm_facts(case: str, seed: int) -> dict[str, Any]:
    module = filled(sanm_encoder(SANM_ENCODERS[case]), seed)
    x, lens = inputs(case, SANM_ENCODERS[case], seed), lengths(case)
    output, out_lens, _ = module(x, lens)
    facts = observed(module, output, torch.arange(x.shape[1]) < lens[:, None], seed)
    return facts | {"lengths": out_lens.tolist()}


def conformer_facts(case: str, seed: int) -> dict[str, Any]:
    """Full utterances in evaluation and in training (dropout 0), and a batch with padding."""
    module = filled(conformer(CONFORMERS[case]), seed)
    full, lens = inputs(case, CONFORMER_INPUT, seed, equal=True), lengths(case)
    everything = torch.full_like(lens, full.shape[1])
    output, out_lens, _ = module(full, everything)
    real = torch.ones(output.shape[:2], dtype=torch.bool)
    facts = observed(module, output, real, seed) | {"lengths": out_lens.tolist()}

    output, out_lens, _ = module(inputs(case, CONFORMER_INPUT, seed), lens)
    facts["padded"] = {"output": output.tolist(), "lengths": out_lens.tolist()}

    output, _, _ = module.train()(full, everything)
    trained = observed(module, output, real, seed)
    del trained["shapes"]
    buffers = {n: b for n, b in module.named_buffers() if b.is_floating_point()}
    facts["training"] = trained | {
        "buffers": {name: condensed(name, value, seed) for name, value in buffers.items()}
    }
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "golden")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    versions = {m.__name__: str(m.__version__) for m in (torch, funasr)}
    facts: dict[str, Any] = {"made with": versions | {"seed": args.seed}, "cases": {}}
    for cases, compute in (
        (SANM_LAYERS, layer_facts),
        (SANM_ENCODERS, sanm_facts),
        (CONFORMERS, conformer_facts),
    ):
        facts["cases"] |= {case: compute(case, args.seed) for case in cases}
    (args.output / "asr_encoders.json").write_text(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
