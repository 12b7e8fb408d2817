"""paraformer_asr's encoders against FunASR's, values and gradients.

Stored numbers run in the ordinary suite; with `-m peers` numbers made just now from another seed.
Parameters are matched by the tables below, written by hand and apart from `convert.py`. Theirs is
float64, ours float64 and float32. `latest` relative positions are float32 inside theirs, so they
agree to 1e-5 only.

Where FunASR lets padding into an utterance's result, ours differs on purpose, and a test says so:
its conformer convolves over padding, counts a subsampled frame that saw padding, and takes legacy
relative positions by the padded length.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from asr_encoders_cases import (
    CONFORMER_INPUT,
    CONFORMER_KERNEL,
    CONFORMERS,
    DIM,
    FFN,
    HEADS,
    LAYERS,
    NORM_EPS,
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
from facts import read_facts
from paraformer_asr.conformer import ConformerEncoder
from paraformer_asr.sanm import SanmEncoder, SanmLayer
from torch import Tensor, nn

LIVE_SEED = 1
SIZES: dict[str, Any] = {"dim": DIM, "heads": HEADS, "ffn": FFN, "dropout": 0.0}
SIZES |= {"norm_eps": NORM_EPS}

SANM_LAYER = {
    "norm1": "norm_attention",
    "self_attn.linear_q_k_v": "mixer.attention.query_key_value",
    "self_attn.linear_out": "mixer.attention.out",
    "self_attn.fsmn_block": "mixer.memory",
    "norm2": "norm_ffn",
    "feed_forward.w_1": "ffn.up",
    "feed_forward.w_2": "ffn.down",
}
CONFORMER_LAYER = {
    "norm_ff_macaron": "norm_ffn1",
    "feed_forward_macaron.w_1": "ffn1.up",
    "feed_forward_macaron.w_2": "ffn1.down",
    "norm_mha": "norm_attention",
    "self_attn.linear_q": "attention.query_key_value 0",
    "self_attn.linear_k": "attention.query_key_value 1",
    "self_attn.linear_v": "attention.query_key_value 2",
    "self_attn.linear_out": "attention.out",
    "self_attn.linear_pos": "attention.position",
    "norm_conv": "norm_conv",
    "conv_module.pointwise_conv1": "conv.gate",
    "conv_module.norm": "conv.norm",
    "conv_module.pointwise_conv2": "conv.out",
    "norm_ff": "norm_ffn2",
    "feed_forward.w_1": "ffn2.up",
    "feed_forward.w_2": "ffn2.down",
    "norm_final": "norm",
}
CONFORMER_TENSORS = {
    "self_attn.pos_bias_u": "attention.content_bias",
    "self_attn.pos_bias_v": "attention.position_bias",
    "conv_module.depthwise_conv.weight": "conv.filter",
    "conv_module.depthwise_conv.bias": "conv.filter_bias",
}
CONFORMER_REST = {
    "embed.conv.0": "input.conv1",
    "embed.conv.2": "input.conv2",
    "embed.out.0": "input.out",
    "after_norm": "norm",
}


@pytest.fixture(scope="module", params=["golden", pytest.param("live", marks=pytest.mark.peers)])
def facts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """What FunASR computed: "golden" from the stored file, "live" just now."""
    folder: Path = tmp_path_factory.mktemp("live")
    return read_facts(request.param, "asr_encoders", folder, seed=LIVE_SEED)


def layer_name(table: dict[str, str], theirs: str) -> str:
    """Our name of a parameter inside a layer; "name 1" is the second third of a fused one."""
    if theirs in CONFORMER_TENSORS:
        return CONFORMER_TENSORS[theirs]
    module, tensor = theirs.rsplit(".", 1)
    name, _, third = table[module].partition(" ")
    return f"{name}.{tensor} {third}".strip()


def sanm_name(theirs: str) -> str:
    if theirs.startswith("after_norm"):
        return theirs.replace("after_norm", "norm")
    group, index, rest = theirs.split(".", 2)  # encoders0 is the first layer alone
    layer = 0 if group == "encoders0" else int(index) + 1
    return f"layers.{layer}.{layer_name(SANM_LAYER, rest)}"


def conformer_name(theirs: str) -> str:
    for module, ours in CONFORMER_REST.items():
        if theirs.startswith(module):
            return ours + theirs[len(module) :]
    _, layer, rest = theirs.split(".", 2)
    return f"layers.{layer}.{layer_name(CONFORMER_LAYER, rest)}"


def name_of(case: str, theirs: str) -> str:
    if case in SANM_LAYERS:
        return layer_name(SANM_LAYER, theirs)
    return sanm_name(theirs) if case in SANM_ENCODERS else conformer_name(theirs)


def pick(tensors: dict[str, Tensor], ours: str) -> Tensor:
    """The tensor of a name that may end in the third it means."""
    name, _, third = ours.partition(" ")
    return tensors[name].chunk(3)[int(third)] if third else tensors[name]


def make(case: str) -> nn.Module:
    if case in SANM_LAYERS:
        shift = SANM_SHIFT.get(case, 0)
        return SanmLayer(input_dim=SANM_LAYERS[case], kernel=SANM_KERNEL, shift=shift, **SIZES)
    if case in SANM_ENCODERS:
        width = SANM_ENCODERS[case]
        return SanmEncoder(input_dim=width, layers=LAYERS, kernel=SANM_KERNEL, **SIZES)
    return ConformerEncoder(
        input_dim=CONFORMER_INPUT,
        layers=LAYERS,
        kernel=CONFORMER_KERNEL,
        subsampling="conv2d",
        relative=CONFORMERS[case],
        **SIZES,
    )


def load(facts: dict[str, Any], case: str, dtype: torch.dtype) -> nn.Module:
    """Our module with the weights of theirs; every parameter on both sides must be matched."""
    shapes = facts["cases"][case]["shapes"]
    empty = {
        name: torch.empty(shape, dtype=torch.int64 if name.endswith("tracked") else torch.float64)
        for name, shape in shapes.items()
    }
    module = make(case).double()
    state = module.state_dict()
    missing = set(state)
    with torch.no_grad():
        for theirs, value in weights(empty, facts["made with"]["seed"]).items():
            ours = name_of(case, theirs)
            part = pick(state, ours)
            part.copy_(value.reshape(part.shape))
            missing.discard(ours.partition(" ")[0])
    assert missing == set()
    return module.to(dtype).eval()


def compare(
    module: nn.Module, output: Tensor, theirs: dict[str, Any], case: str, seed: int, within: float
) -> None:
    """The output, and of each parameter the norm and a projection of its gradient."""
    expected = torch.tensor(theirs["output"], dtype=output.dtype)
    torch.testing.assert_close(output, expected, atol=within, rtol=within)
    module.zero_grad()
    probe(output, seed).backward()
    gradients = {name: p.grad for name, p in module.named_parameters()}
    found = {n: condensed(n, pick(gradients, name_of(case, n)), seed) for n in theirs["gradients"]}
    for name, expected in theirs["gradients"].items():
        assert found[name] == pytest.approx(expected, abs=10 * within, rel=10 * within), name


def tolerance(case: str, dtype: torch.dtype) -> float:
    if dtype == torch.float64:
        return 1e-5 if case == "conformer latest" else 1e-9
    return 2e-5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", SANM_LAYERS)
def test_a_sanm_layer(facts: dict[str, Any], case: str, dtype: torch.dtype):
    module, seed = load(facts, case, dtype), facts["made with"]["seed"]
    x = inputs(case, SANM_LAYERS[case], seed).to(dtype)
    real = torch.arange(x.shape[1]) < lengths(case)[:, None]
    output = module(x, real).masked_fill(~real[..., None], 0)
    compare(module, output, facts["cases"][case], case, seed, tolerance(case, dtype))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", SANM_ENCODERS)
def test_the_sanm_encoder(facts: dict[str, Any], case: str, dtype: torch.dtype):
    module, seed = load(facts, case, dtype), facts["made with"]["seed"]
    output, lens = module(inputs(case, SANM_ENCODERS[case], seed).to(dtype), lengths(case))
    assert lens.tolist() == facts["cases"][case]["lengths"]
    compare(module, output, facts["cases"][case], case, seed, tolerance(case, dtype))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", CONFORMERS)
def test_the_conformer_encoder_on_full_utterances(
    facts: dict[str, Any], case: str, dtype: torch.dtype
):
    module, seed = load(facts, case, dtype), facts["made with"]["seed"]
    x = inputs(case, CONFORMER_INPUT, seed, equal=True).to(dtype)
    everything = torch.full((len(x),), x.shape[1])
    theirs, within = facts["cases"][case], tolerance(case, dtype)
    output, lens = module(x, everything)
    assert lens.tolist() == theirs["lengths"]
    compare(module, output, theirs, case, seed, within)

    output, _ = module.train()(x, everything)
    compare(module, output, theirs["training"], case, seed, within)
    buffers = dict(module.named_buffers())
    for name, expected in theirs["training"]["buffers"].items():
        found = condensed(name, pick(buffers, name_of(case, name)), seed)
        assert found == pytest.approx(expected, abs=within, rel=within), name


@pytest.mark.parametrize("case", CONFORMERS)
def test_padding_reaches_their_shorter_utterances_and_not_ours(facts: dict[str, Any], case: str):
    module, seed = load(facts, case, torch.float64), facts["made with"]["seed"]
    output, lens = module(inputs(case, CONFORMER_INPUT, seed), lengths(case))
    theirs = facts["cases"][case]["padded"]
    expected = torch.tensor(theirs["output"], dtype=torch.float64)
    within = tolerance(case, torch.float64)
    torch.testing.assert_close(output[0], expected[0], atol=within, rtol=within)

    assert lens.tolist() == [10, 6]
    assert theirs["lengths"] == [10, 8]  # frames made of padding in part
    difference = (output[1] - expected[1])[:6].abs().amax(dim=1)
    assert difference.max() > 1e-3
    alone, _ = module(
        inputs(case, CONFORMER_INPUT, seed)[1:, : lengths(case)[1]], lengths(case)[1:]
    )
    torch.testing.assert_close(output[1:, :6], alone, atol=1e-12, rtol=1e-12)
