"""The same Paraformer twice: FunASR's, and ours with its weights; used by the speech benchmarks.

A SAN-M encoder and decoder of width 256, as FunASR's large model has them at width 512, with random
weights. The predictor is set to find a token in every quarter of a second, because the decoder's
work depends on how many there are.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCE = "from_scratch/paraformer_asr/src"
"""The package that is compared, from the root of the repository."""
DIM, HEADS, FFN, KERNEL = 256, 4, 1024, 11
ENCODER_LAYERS, DECODER_LAYERS = 4, 4
VOCABULARY = 4234
"""As in AISHELL."""
TOKENS_PER_SECOND = 4
MELS = 80
DROPOUT = 0.1
"""Around layers and in the feed-forward. Attention weights are not dropped on either side."""


@dataclass(frozen=True)
class Pair:
    """Both models, untrained, of equal weights."""

    funasr: Any
    """Its Paraformer, in the mode it was made in (training)."""
    frontend: Any
    """Its WavFrontend, without dither."""
    ours: Any
    """A `paraformer_asr.models.Paraformer` in evaluation mode."""


def use_levers() -> object:
    """Take the faster fp32 products where they are exact; tell what was measured."""
    from paraformer_asr.devices import use_fast_matmul

    return use_fast_matmul()


def make_pair(stack: int, stride: int) -> Pair:
    """Build FunASR's model and convert it."""
    warnings.simplefilter("ignore")  # what the peer's imports deprecate does not concern us
    logging.disable(logging.WARNING)
    import torch

    with contextlib.redirect_stdout(sys.stderr):
        # Importing them fills the tables that the names of parts are looked up in.
        import funasr.models.paraformer.decoder
        import funasr.models.sanm.encoder
        from funasr.frontends.wav_frontend import WavFrontend
        from funasr.models.paraformer.model import Paraformer

    torch.manual_seed(0)
    shared = {"attention_heads": HEADS, "linear_units": FFN, "dropout_rate": DROPOUT}
    funasr = Paraformer(
        input_size=MELS * stack,
        vocab_size=VOCABULARY,
        encoder="SANMEncoder",
        encoder_conf={
            **shared,
            **{"output_size": DIM, "num_blocks": ENCODER_LAYERS},
            **{"input_layer": "pe", "kernel_size": KERNEL, "selfattention_layer_type": "sanm"},
        },
        decoder="ParaformerSANMDecoder",
        decoder_conf={
            **shared,
            **{"num_blocks": DECODER_LAYERS, "att_layer_num": DECODER_LAYERS},
            **{"kernel_size": KERNEL},
        },
        predictor="CifPredictorV2",
        predictor_conf={"idim": DIM, "l_order": 1, "r_order": 1, "tail_threshold": 0.45},
        ctc_weight=0.0,
        lsm_weight=0.1,
        length_normalized_loss=True,
        predictor_weight=1.0,
        predictor_bias=1,
        sampling_ratio=0.75,
    )
    share = TOKENS_PER_SECOND * 0.01 * stride
    torch.nn.init.zeros_(funasr.predictor.cif_output.weight)
    torch.nn.init.constant_(funasr.predictor.cif_output.bias, math.log(share / (1 - share)))
    frontend = WavFrontend(n_mels=MELS, lfr_m=stack, lfr_n=stride, dither=0.0)
    return Pair(funasr, frontend, _converted(funasr))


def _converted(funasr: Any) -> Any:
    import torch
    from paraformer_asr.convert import load_funasr

    characters = [chr(0x4E00 + i) for i in range(VOCABULARY - 4)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        torch.save(funasr.state_dict(), path)
        return load_funasr(path, heads=HEADS, characters=characters).model


def parameters(model: Any) -> int:
    """How many numbers a model learns."""
    return sum(parameter.numel() for parameter in model.parameters())
