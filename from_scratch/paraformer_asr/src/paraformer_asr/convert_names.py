"""Which tensor of a FunASR Paraformer is which of ours: the tables, and how they are read.

Left is our name, right FunASR's. A row stands for all tensors under both names (`.weight`, `.bias`
and the buffers of norms), or for one tensor where the names are complete. `{i}` is a layer's
number. Several names on the right are stacked in that order: we multiply by one matrix where
FunASR has queries, keys and values apart.

Letters: none; only names here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

Table = Mapping[str, str | tuple[str, ...]]

SANM_ENCODER: Table = {
    # {layer} is encoders0.0 for our layer 0 and encoders.{i - 1} for the others.
    "encoder.layers.{i}.norm_attention": "encoder.{layer}.norm1",
    "encoder.layers.{i}.mixer.attention.query_key_value": "encoder.{layer}.self_attn.linear_q_k_v",
    "encoder.layers.{i}.mixer.attention.out": "encoder.{layer}.self_attn.linear_out",
    "encoder.layers.{i}.mixer.memory": "encoder.{layer}.self_attn.fsmn_block",
    "encoder.layers.{i}.norm_ffn": "encoder.{layer}.norm2",
    "encoder.layers.{i}.ffn.up": "encoder.{layer}.feed_forward.w_1",
    "encoder.layers.{i}.ffn.down": "encoder.{layer}.feed_forward.w_2",
    "encoder.norm": "encoder.after_norm",
}

CONFORMER_ENCODER: Table = {
    "encoder.input.conv1": "encoder.embed.conv.0",
    "encoder.input.conv2": "encoder.embed.conv.2",
    "encoder.input.out": "encoder.embed.out.0",
    "encoder.layers.{i}.norm_ffn1": "encoder.encoders.{i}.norm_ff_macaron",
    "encoder.layers.{i}.ffn1.up": "encoder.encoders.{i}.feed_forward_macaron.w_1",
    "encoder.layers.{i}.ffn1.down": "encoder.encoders.{i}.feed_forward_macaron.w_2",
    "encoder.layers.{i}.norm_attention": "encoder.encoders.{i}.norm_mha",
    "encoder.layers.{i}.attention.query_key_value": (
        "encoder.encoders.{i}.self_attn.linear_q",
        "encoder.encoders.{i}.self_attn.linear_k",
        "encoder.encoders.{i}.self_attn.linear_v",
    ),
    "encoder.layers.{i}.attention.position": "encoder.encoders.{i}.self_attn.linear_pos",
    "encoder.layers.{i}.attention.content_bias": "encoder.encoders.{i}.self_attn.pos_bias_u",
    "encoder.layers.{i}.attention.position_bias": "encoder.encoders.{i}.self_attn.pos_bias_v",
    "encoder.layers.{i}.attention.out": "encoder.encoders.{i}.self_attn.linear_out",
    "encoder.layers.{i}.norm_conv": "encoder.encoders.{i}.norm_conv",
    "encoder.layers.{i}.conv.gate": "encoder.encoders.{i}.conv_module.pointwise_conv1",
    "encoder.layers.{i}.conv.filter": "encoder.encoders.{i}.conv_module.depthwise_conv.weight",
    "encoder.layers.{i}.conv.filter_bias": "encoder.encoders.{i}.conv_module.depthwise_conv.bias",
    "encoder.layers.{i}.conv.norm": "encoder.encoders.{i}.conv_module.norm",
    "encoder.layers.{i}.conv.out": "encoder.encoders.{i}.conv_module.pointwise_conv2",
    "encoder.layers.{i}.norm_ffn2": "encoder.encoders.{i}.norm_ff",
    "encoder.layers.{i}.ffn2.up": "encoder.encoders.{i}.feed_forward.w_1",
    "encoder.layers.{i}.ffn2.down": "encoder.encoders.{i}.feed_forward.w_2",
    "encoder.layers.{i}.norm": "encoder.encoders.{i}.norm_final",
    "encoder.norm": "encoder.after_norm",
}

SANM_DECODER: Table = {
    "decoder.layers.{i}.norm_ffn": "decoder.decoders.{i}.norm1",
    "decoder.layers.{i}.ffn.up": "decoder.decoders.{i}.feed_forward.w_1",
    "decoder.layers.{i}.ffn.norm": "decoder.decoders.{i}.feed_forward.norm",
    "decoder.layers.{i}.ffn.down": "decoder.decoders.{i}.feed_forward.w_2",
    "decoder.layers.{i}.norm_memory": "decoder.decoders.{i}.norm2",
    "decoder.layers.{i}.memory": "decoder.decoders.{i}.self_attn.fsmn_block",
    "decoder.layers.{i}.norm_cross": "decoder.decoders.{i}.norm3",
    "decoder.layers.{i}.cross_attention.query": "decoder.decoders.{i}.src_attn.linear_q",
    "decoder.layers.{i}.cross_attention.key_value": "decoder.decoders.{i}.src_attn.linear_k_v",
    "decoder.layers.{i}.cross_attention.out": "decoder.decoders.{i}.src_attn.linear_out",
    "decoder.last.norm_ffn": "decoder.decoders3.0.norm1",
    "decoder.last.ffn.up": "decoder.decoders3.0.feed_forward.w_1",
    "decoder.last.ffn.norm": "decoder.decoders3.0.feed_forward.norm",
    "decoder.last.ffn.down": "decoder.decoders3.0.feed_forward.w_2",
}

SAN_DECODER: Table = {
    "decoder.layers.{i}.norm_self": "decoder.decoders.{i}.norm1",
    "decoder.layers.{i}.self_attention.query_key_value": (
        "decoder.decoders.{i}.self_attn.linear_q",
        "decoder.decoders.{i}.self_attn.linear_k",
        "decoder.decoders.{i}.self_attn.linear_v",
    ),
    "decoder.layers.{i}.self_attention.out": "decoder.decoders.{i}.self_attn.linear_out",
    "decoder.layers.{i}.norm_cross": "decoder.decoders.{i}.norm2",
    "decoder.layers.{i}.cross_attention.query": "decoder.decoders.{i}.src_attn.linear_q",
    "decoder.layers.{i}.cross_attention.key_value": (
        "decoder.decoders.{i}.src_attn.linear_k",
        "decoder.decoders.{i}.src_attn.linear_v",
    ),
    "decoder.layers.{i}.cross_attention.out": "decoder.decoders.{i}.src_attn.linear_out",
    "decoder.layers.{i}.norm_ffn": "decoder.decoders.{i}.norm3",
    "decoder.layers.{i}.ffn.up": "decoder.decoders.{i}.feed_forward.w_1",
    "decoder.layers.{i}.ffn.down": "decoder.decoders.{i}.feed_forward.w_2",
}

REST: Table = {
    "decoder.embedding": "decoder.embed.0",
    "decoder.norm": "decoder.after_norm",
    "decoder.output": "decoder.output_layer",
    "predictor.conv": "predictor.cif_conv1d",
    "predictor.output": "predictor.cif_output",
    "ctc": "ctc.ctc_lo",
}

ENCODER_TABLES: Mapping[str, Table] = {"sanm": SANM_ENCODER, "conformer": CONFORMER_ENCODER}
DECODER_TABLES: Mapping[str, Table] = {"sanm": SANM_DECODER, "san": SAN_DECODER}


def table_of(encoder: str, decoder: str) -> Table:
    """All rows of a model with these two parts."""
    return {**ENCODER_TABLES[encoder], **DECODER_TABLES[decoder], **REST}


def their_names(own: str, table: Table) -> tuple[str, ...]:
    """FunASR's names of what our tensor `own` is made of; none if it has no counterpart there."""
    number = re.search(r"\.(\d+)\.", own)
    row = own if number is None else f"{own[: number.start()]}.{{i}}.{own[number.end() :]}"
    leaf = ""
    if row not in table:
        row, _, last = row.rpartition(".")
        leaf = f".{last}"
    if row not in table:
        return ()
    templates = table[row]
    i = 0 if number is None else int(number.group(1))
    layer = "encoders0.0" if i == 0 else f"encoders.{i - 1}"
    listed = (templates,) if isinstance(templates, str) else templates
    return tuple(template.format(i=i, layer=layer) + leaf for template in listed)


def is_known(theirs: str) -> bool:
    """Whether any table has a row for FunASR's name `theirs`."""
    return _KNOWN.fullmatch(theirs) is not None


def _pattern(template: str) -> str:
    escaped = re.escape(template).replace(r"\{i\}", r"\d+")
    return escaped.replace(r"\{layer\}", r"(?:encoders0\.0|encoders\.\d+)") + r"(?:\.\w+)?"


_KNOWN = re.compile(
    "|".join(
        _pattern(template)
        for table in (*ENCODER_TABLES.values(), *DECODER_TABLES.values(), REST)
        for right in table.values()
        for template in ((right,) if isinstance(right, str) else right)
    )
)
