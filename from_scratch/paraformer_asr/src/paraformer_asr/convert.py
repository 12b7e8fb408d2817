"""Take over the weights of a FunASR Paraformer: `load_funasr` is the door.

In: FunASR's checkpoint (`model.pt`) and what lies beside it: `tokens.json` or `tokens.txt` (the
vocabulary) and `am.mvn` (mean and variance of the features). Out: one of our models, and a report
of every tensor that found no counterpart. Two types of models are known, in any combination of
encoder and decoder: SAN-M, as Paraformer-large is, and conformer with SAN decoder, as the AISHELL
recipe makes it. All sizes are read from the tensors' shapes; `convert_names.py` holds the names.

    converted = load_funasr("speech_paraformer-large/model.pt")
    print(converted.report.text())

Letters: F features, V vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from paraformer_asr.checkpoints import save
from paraformer_asr.cmvn import read_kaldi_cmvn
from paraformer_asr.config import (
    Config,
    FeatureConfig,
    LossConfig,
    ModelConfig,
    config_to_dict,
)
from paraformer_asr.convert_files import (
    checkpoint_file,
    read_weights,
    vocabulary,
    without_vocabulary,
)
from paraformer_asr.convert_names import is_known, table_of, their_names
from paraformer_asr.errors import AsrError
from paraformer_asr.models import Paraformer, build_model
from paraformer_asr.tokenizer import FIRST, Tokenizer

SANM_MARK = "encoder.encoders0.0.self_attn.linear_q_k_v.weight"
CONFORMER_MARK = "encoder.encoders.0.self_attn.pos_bias_u"
SANM_DECODER_MARK = "decoder.decoders3.0.feed_forward.w_1.weight"
SAN_DECODER_MARK = "decoder.decoders.0.self_attn.linear_q.weight"
"""Tensors that only one kind of encoder or decoder has."""

STACK, STRIDE = 7, 6
"""The low frame rate that SAN-M models are trained with; nothing in their shapes tells it."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What became of each tensor."""

    source: Path
    kind: str
    """Encoder and decoder, such as "sanm + sanm"."""
    mapped: Mapping[str, tuple[str, ...]]
    """Our name -> FunASR's names, more than one where tensors were stacked."""
    unmatched: tuple[str, ...]
    """FunASR's names that nothing of ours takes; parts that this program does not have."""
    unfilled: tuple[str, ...]
    """Our names that nothing of FunASR's fills; they hold what a new model holds."""
    notes: tuple[str, ...]
    """What to know or do, in sentences."""

    def text(self) -> str:
        """A few lines for people; every unmatched name of both sides is listed."""
        used = sum(len(names) for names in self.mapped.values())
        lines = [f"{self.source}: {self.kind}, {used} tensors taken over into {len(self.mapped)}."]
        lines += [f"not used: {name}" for name in self.unmatched]
        lines += [f"not filled: {name}" for name in self.unfilled]
        return "\n".join([*lines, *self.notes])


class Converted(NamedTuple):
    """A model with FunASR's weights, in eval mode, and how it came about."""

    model: Paraformer
    report: Report


def load_funasr(
    path: str | Path,
    *,
    heads: int = 4,
    characters: Sequence[str] | None = None,
    strict: bool = False,
) -> Converted:
    """Read a FunASR checkpoint and build our model with its weights.

    Args:
        path: the .pt file, or the folder that holds it as `model.pt` or `model.pb`.
        heads: attention heads, which no shape of a SAN-M model tells; both published ones have 4.
            A conformer tells its own.
        characters: the tokens between </s> and <unk>, in order, in place of a vocabulary file.
        strict: refuse a checkpoint that leaves a weight of ours unfilled, or whose encoder or
            decoder has tensors that ours has not, or that has no vocabulary. False loads what
            fits, calls tokens without a name by their number, such as {17}, and reports it all.
    Raises:
        AsrError: no file, a damaged one, one that is no Paraformer of a known type (names the
            first tensor that does not fit), a vocabulary of another size.
    """
    path = checkpoint_file(Path(path))
    weights = read_weights(path)
    encoder, decoder = architecture(path, weights)
    size = Sizes(path, weights)
    V = size("decoder.output_layer.weight", 0)
    notes = []
    tokenizer = vocabulary(path, V, characters)
    if tokenizer is None:
        if strict:
            raise AsrError(without_vocabulary(path, V))
        notes.append(without_vocabulary(path, V) + " Until then tokens are called by their number.")
        tokenizer = Tokenizer([f"{{{i}}}" for i in range(len(FIRST), V - 1)])
    config = configuration(encoder, decoder, size, weights, heads)
    model = build_model(config, tokenizer=tokenizer)

    mapped = fill(path, model, weights, encoder, decoder)
    used = {name for names in mapped.values() for name in names}
    unmatched = tuple(name for name in weights if name not in used)
    unfilled = [name for name in model.state_dict() if name not in mapped]
    cmvn = path.with_name("am.mvn")
    if cmvn.is_file():
        model.frontend.set_cmvn(*read_kaldi_cmvn(cmvn))
        unfilled = [name for name in unfilled if not name.startswith("frontend.")]
    else:
        notes.append(
            f"{cmvn} is missing, so features are not normalised. If the model was trained with it, "
            "put it there and convert again."
        )
    if strict:
        refuse_differences(path, unmatched, unfilled)
    report = Report(
        source=path,
        kind=f"{encoder} + {decoder}",
        mapped=mapped,
        unmatched=unmatched,
        unfilled=tuple(unfilled),
        notes=tuple(notes),
    )
    return Converted(model.eval(), report)


def convert_file(path: str | Path, out: str | Path) -> str:
    """Write what `load_funasr` reads as a checkpoint of ours, and return the report's text.

    Args:
        path: as for `load_funasr`.
        out: .pt file to write; its folder is made if need be.
    """
    converted = load_funasr(path, strict=True)
    out = Path(out)
    state = {
        "model": converted.model.state_dict(),
        "config": config_to_dict(converted.model.config),
        "characters": list(converted.model.tokenizer.characters),
        "step": 0,
    }
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        save(out, state)
    except OSError as error:
        raise AsrError(f"{out} cannot be written: {error.strerror}.") from None
    return f"{converted.report.text()}\nwritten: {out}"


def architecture(path: Path, weights: Mapping[str, Tensor]) -> tuple[str, str]:
    """The kinds of encoder and decoder, as our configuration calls them."""
    encoders = {SANM_MARK: "sanm", CONFORMER_MARK: "conformer"}
    decoders = {SANM_DECODER_MARK: "sanm", SAN_DECODER_MARK: "san"}
    encoder = next((kind for mark, kind in encoders.items() if mark in weights), None)
    decoder = next((kind for mark, kind in decoders.items() if mark in weights), None)
    if encoder and decoder:
        return encoder, decoder
    part = "decoder" if encoder else "encoder"
    marks = " and no ".join(encoders if part == "encoder" else decoders)
    strange = next((name for name in weights if not is_known(name)), None)
    first = f"the first tensor that does not fit is {strange}; " if strange else ""
    raise AsrError(
        f"{path}: is no Paraformer of a known type (SAN-M, or conformer with SAN decoder): "
        f"{first}there is no {marks}, which tells the {part}."
    )


class Sizes:
    """Looks up sizes in the tensors' shapes."""

    def __init__(self, path: Path, weights: Mapping[str, Tensor]) -> None:
        self.path, self.weights = path, weights

    def __call__(self, name: str, axis: int) -> int:
        """Size of one axis of a tensor that must be there."""
        if name not in self.weights:
            raise AsrError(f"{self.path}: {name} is missing; the checkpoint is not whole.")
        shape = self.weights[name].shape
        if len(shape) <= axis:
            raise AsrError(f"{self.path}: {name} is {list(shape)}; expected {axis + 1} axes.")
        return int(shape[axis])

    def layers(self, prefix: str) -> int:
        """Layers numbered from 0 under a name such as `encoder.encoders`."""
        numbers = {
            int(name[len(prefix) + 1 :].partition(".")[0])
            for name in self.weights
            if re.match(rf"{re.escape(prefix)}\.\d+\.", name)
        }
        return len(numbers)


def configuration(
    encoder: str, decoder: str, size: Sizes, weights: Mapping[str, Tensor], heads: int
) -> Config:
    """Our settings for a model of these shapes."""
    sanm = encoder == "sanm"
    first = "encoder.encoders0.0" if sanm else "encoder.encoders.0"
    kernel = "self_attn.fsmn_block" if sanm else "conv_module.depthwise_conv"
    ctc = "ctc.ctc_lo.weight" in weights
    model = ModelConfig(
        encoder=encoder,
        decoder=decoder,
        dim=size("encoder.after_norm.weight", 0),
        heads=heads if sanm else size(CONFORMER_MARK, 0),
        ffn=size(f"{first}.feed_forward.w_1.weight", 0),
        encoder_layers=size.layers("encoder.encoders") + sanm,
        decoder_layers=size.layers("decoder.decoders"),
        kernel=size(f"{first}.{kernel}.weight", 2),
        subsampling="none" if sanm else "conv2d",
        relative="legacy",
        predictor="depthwise" if size("predictor.cif_conv1d.weight", 1) == 1 else "full",
        norm_eps=1e-12,
        tail=0.45,
        sampling_ratio=0.75 if sanm else 0.4,
        end_token=sanm and decoder == "sanm",
        share_embedding="decoder.embed.0.weight" not in weights,
        ctc=ctc,
    )
    return Config(
        name="funasr",
        features=features(encoder, size),
        model=model,
        loss=LossConfig(ctc=0.3 if ctc else 0.0),
    )


def features(encoder: str, size: Sizes) -> FeatureConfig:
    """Stacking and mel channels from the width that the encoder takes."""
    if encoder == "sanm":
        F = size(SANM_MARK, 1)
        if F % STACK:
            return FeatureConfig(num_mels=F)
        return FeatureConfig(num_mels=F // STACK, stack=STACK, stride=STRIDE)
    # The two convolutions leave ((F - 1) // 2 - 1) // 2 rows: 19 of 79 to 82. Of the four widths
    # that leave as many, 4 * (rows + 1) is the usual one: 80.
    rows = size("encoder.embed.out.0.weight", 1) // size("encoder.embed.out.0.weight", 0)
    return FeatureConfig(num_mels=4 * (rows + 1))


def fill(
    path: Path, model: Paraformer, weights: Mapping[str, Tensor], encoder: str, decoder: str
) -> dict[str, tuple[str, ...]]:
    """Copy every tensor that has a counterpart into the model; returns our name -> theirs."""
    table = table_of(encoder, decoder)
    mapped: dict[str, tuple[str, ...]] = {}
    with torch.no_grad():
        for own, value in model.state_dict().items():
            names = their_names(own, table)
            if not names or any(name not in weights for name in names):
                continue
            parts = [weights[name] for name in names]
            theirs = parts[0] if len(parts) == 1 else torch.cat(parts)
            if theirs.ndim == value.ndim + 1 and theirs.shape[-1] == 1:
                theirs = theirs.squeeze(-1)  # a convolution over one frame is a matrix
            if theirs.shape != value.shape:
                raise AsrError(
                    f"{path}: {' with '.join(names)} is {list(theirs.shape)}; the other tensors "
                    f"make it {list(value.shape)}. All layers must have one width, one hidden "
                    "width and one kernel."
                )
            value.copy_(theirs)
            mapped[own] = names
    return mapped


def refuse_differences(path: Path, unmatched: Sequence[str], unfilled: Sequence[str]) -> None:
    """Raise AsrError if the network would not be FunASR's.

    Parts outside of encoder and decoder may be left: heads for timestamps or hot words, which do
    not change the text.
    """
    lacking = [name for name in unfilled if not name.startswith("frontend.")]
    strange = [name for name in unmatched if name.startswith(("encoder.", "decoder."))]
    problems = [f"{name} has no counterpart here" for name in strange]
    problems += [f"nothing fills our {name}" for name in lacking]
    if problems:
        more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise AsrError(
            f"{path}: is another architecture, or not whole: {'; '.join(problems[:3])}{more}. "
            "strict=False loads what fits and reports the rest."
        )
