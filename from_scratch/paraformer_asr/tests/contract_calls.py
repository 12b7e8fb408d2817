"""A call of every door in docs/CONTRACTS.md, for test_contracts_table.py.

`CALLS` holds, by the door's name, a function that prepares the call: the tensors that go in, what
to do with them, and where their padding begins. All sizes differ, so that no axis can stand for
another one by accident.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from make_recordings import RATE, config_for, write_digits, write_tone
from small import small_config
from torch import Tensor, nn

from paraformer_asr import (
    attention,
    audio,
    augment,
    chunked,
    cif,
    conformer,
    ctc,
    decoder_layers,
    dropout,
    features,
    fsmn,
    losses,
    masks,
    mwer,
    positions,
    relative,
    sampler,
    sanm,
    stream,
    timestamps,
    transformer,
)
from paraformer_asr.cmvn import CmvnSums, read_kaldi_cmvn
from paraformer_asr.config import (
    AugmentConfig,
    FeatureConfig,
    JoinConfig,
    LossConfig,
    ModelConfig,
    StreamConfig,
)
from paraformer_asr.data import batches, join, manifest, recordings, toy
from paraformer_asr.data.utterance import Utterance
from paraformer_asr.decode import decode_batch, greedy
from paraformer_asr.decoders import build_decoder
from paraformer_asr.encoders import build_encoder
from paraformer_asr.infer import look
from paraformer_asr.inputs import frames_from, read_sound
from paraformer_asr.mel import mel_filters
from paraformer_asr.models import Paraformer, add_end_token, build_model
from paraformer_asr.predictor import CifPredictor
from paraformer_asr.resample import resample

B, T, F, D, H, K, V, M = 3, 11, 6, 8, 2, 4, 9, 5
LENS = torch.tensor([T, 7, 4])
TOKEN_LENS = torch.tensor([K, 0, 2])
CHUNK, LEFT, RIGHT = 4, 6, 2
STREAM = StreamConfig(chunk=CHUNK, left=LEFT, right=RIGHT)
SIZES: dict[str, Any] = {"heads": H, "ffn": 12, "dropout": 0.1}


@dataclass
class Call:
    """A door, ready to be gone through."""

    run: Callable[..., Any]
    """Takes the tensors by name; gives a tensor, a tuple of them, or an object that holds them."""
    takes: dict[str, Any] = field(default_factory=dict)
    letters: Mapping[str, int] = field(default_factory=dict)
    """Sizes that no tensor going in tells."""
    lens: Mapping[str, Tensor] = field(default_factory=dict)
    """Tensor, in or out, -> real positions of its second axis."""


CALLS: dict[str, Callable[[Path], Call]] = {}


def door(name: str) -> Callable[[Callable[[Path], Call]], Callable[[Path], Call]]:
    def remember(make: Callable[[Path], Call]) -> Callable[[Path], Call]:
        assert name not in CALLS
        CALLS[name] = make
        return make

    return remember


def module_door(
    name: str, make: Callable[[], nn.Module], method: str, takes: Callable[[], dict[str, Any]]
) -> None:
    """A method of a module in evaluation mode, with nothing but tensors to tell."""

    def prepare(folder: Path) -> Call:
        torch.manual_seed(0)
        module = make().eval()
        given = takes()
        lens = dict.fromkeys(("x", "feats", "hidden", "values", "memory", "→ y"), LENS)
        return Call(getattr(module, method), given, lens=lens)

    CALLS[name] = prepare


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def uniform(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def padded(values: Tensor, lens: Tensor = LENS) -> Tensor:
    return masks.zero_padding(values, masks.length_mask(lens, values.shape[1]))


def token_ids(lens: Tensor = TOKEN_LENS, size: int = V) -> Tensor:
    ids = 3 + torch.arange(B * K).view(B, K) % (size - 4)
    return ids.masked_fill(~masks.length_mask(lens, K), -1)


def real(lens: Tensor = LENS, size: int = T) -> Tensor:
    return masks.length_mask(lens, size)


def trained_size(**model: Any) -> Paraformer:
    """A whole model of 20 mel channels, stacks of 3, and tokens in its noise."""
    torch.manual_seed(0)
    model_ = build_model(small_config(model=model))
    nn.init.constant_(model_.predictor.output.bias, -0.5)
    return model_.eval()


# Recordings and features


@door("audio.read_wav")
def _(folder: Path) -> Call:
    write_tone(folder / "a.wav", samples=900)
    return Call(lambda: audio.read_wav(folder / "a.wav"), letters={"N": 900})


@door("audio.write_wav")
def _(folder: Path) -> Call:
    def run(samples: Tensor) -> None:
        audio.write_wav(folder / "a.wav", samples, RATE)

    return Call(run, {"samples": uniform(900) - 0.5})


@door("audio.load_audio")
def _(folder: Path) -> Call:
    write_tone(folder / "a.wav", samples=900)
    config = FeatureConfig(sample_rate=RATE)
    return Call(lambda: audio.load_audio(folder / "a.wav", config)[0], letters={"N": 900})


@door("resample.resample")
def _(folder: Path) -> Call:
    return Call(lambda samples: resample(samples, 3, 2), {"samples": noise(900)}, {"p": 2, "q": 3})


@door("augment.augment_waveform")
def _(folder: Path) -> Call:
    config = AugmentConfig(speeds=(0.9,), gain_db=6, noise_db=(5, 6))
    return Call(
        lambda samples: augment.augment_waveform(samples, RATE, config, np.random.default_rng(0)),
        {"samples": uniform(900) * 2 - 1},
        {"s": 0.9},  # type: ignore[dict-item]
    )


@door("augment.change_speed")
def _(folder: Path) -> Call:
    return Call(
        lambda samples: augment.change_speed(samples, 1.1),
        {"samples": uniform(900) * 2 - 1},
        {"s": 1.1},  # type: ignore[dict-item]
    )


@door("augment.add_noise")
def _(folder: Path) -> Call:
    return Call(
        lambda samples: augment.add_noise(samples, 5, np.random.default_rng(0)),
        {"samples": uniform(900) * 2 - 1},
    )


@door("augment.gain")
def _(folder: Path) -> Call:
    return Call(lambda samples: augment.gain(samples, 6), {"samples": uniform(900) * 2 - 1})


@door("augment.draw_response")
def _(folder: Path) -> Call:
    config = AugmentConfig(response_db=6)
    return Call(
        lambda: augment.draw_response(M, config, np.random.default_rng(0)), letters={"M": M}
    )


@door("augment.spec_augment")
def _(folder: Path) -> Call:
    config = AugmentConfig(freq_masks=1, freq_width=3, time_masks=1)
    return Call(
        lambda feats: augment.spec_augment(feats, M, config, np.random.default_rng(0)),
        {"feats": noise(T, 3 * M)},
        {"m": 3, "M": M},
    )


@door("mel.mel_filters")
def _(folder: Path) -> Call:
    return Call(lambda: mel_filters(M, RATE, 256), letters={"M": M, "F": 128})


@door("features.fbank")
def _(folder: Path) -> Call:
    return Call(
        lambda waveform: features.fbank(waveform, RATE, num_mels=M),
        {"waveform": uniform(900) * 2 - 1},
        {"M": M, "W": 200, "P": 80},
    )


@door("features.stack_frames")
def _(folder: Path) -> Call:
    return Call(
        lambda feats: features.stack_frames(feats, 3, 2), {"feats": noise(T, M)}, {"m": 3, "n": 2}
    )


def frontend() -> features.Frontend:
    return features.Frontend(FeatureConfig(sample_rate=RATE, num_mels=M, stack=3, stride=2))


@door("features.Frontend")
def _(folder: Path) -> Call:
    return Call(frontend, letters={"m": 3, "M": M})


@door("features.Frontend.frames")
def _(folder: Path) -> Call:
    return Call(
        lambda waveform: frontend().frames(waveform),
        {"waveform": uniform(900) * 2 - 1},
        {"M": M, "W": 200, "P": 80},
    )


@door("features.Frontend.forward")
def _(folder: Path) -> Call:
    return Call(frontend(), {"frames": noise(T, M)}, {"m": 3, "n": 2})


@door("features.Frontend.fit")
def _(folder: Path) -> Call:
    def run(frames: Tensor) -> tuple[Tensor, Tensor]:
        made = frontend()
        made.fit([frames, frames + 1])
        return made.shift, made.scale

    return Call(run, {"frames": noise(T, M)}, {"m": 3})


@door("features.Frontend.set_cmvn")
def _(folder: Path) -> Call:
    return Call(
        frontend().set_cmvn, {"shift": noise(3 * M), "scale": uniform(3 * M)}, {"m": 3, "M": M}
    )


@door("cmvn.CmvnSums.accumulate")
def _(folder: Path) -> Call:
    return Call(CmvnSums(F).accumulate, {"feats": noise(T, F)})


def filled_sums() -> CmvnSums:
    sums = CmvnSums(F)
    sums.accumulate(noise(T, F))
    return sums


@door("cmvn.CmvnSums.mean")
def _(folder: Path) -> Call:
    return Call(filled_sums().mean, letters={"F": F})


@door("cmvn.CmvnSums.std")
def _(folder: Path) -> Call:
    return Call(filled_sums().std, letters={"F": F})


@door("cmvn.read_kaldi_cmvn")
def _(folder: Path) -> Call:
    row = "<LearnRateCoef> 0 [ 1 2 3 ]"
    (folder / "am.mvn").write_text(f"<AddShift> 3 3\n{row}\n<Rescale> 3 3\n{row}\n")
    return Call(lambda: read_kaldi_cmvn(folder / "am.mvn"), letters={"F": 3})


# Data


@door("utterance.Utterance")
def _(folder: Path) -> Call:
    return Call(lambda: Utterance("a", "text", noise(T, M)), letters={"T0": T, "M": M})


@door("toy.templates")
def _(folder: Path) -> Call:
    return Call(lambda: toy.templates("abcdefg", 20), letters={"A": 7, "M": 20})


@door("toy.ToySpeech.load")
def _(folder: Path) -> Call:
    config = small_config()
    speech = toy.ToySpeech(config.data.toy, 20, split="test", seed=0)
    return Call(lambda: speech.load(0), letters={"T0": speech.lengths(0)[0], "M": 20})


@door("toy.decode_by_templates")
def _(folder: Path) -> Call:
    config = small_config()
    speech = toy.ToySpeech(config.data.toy, 20, split="test", seed=0)
    return Call(
        lambda frames: toy.decode_by_templates(frames, config.data.toy),
        {"frames": speech.load(0).frames},
    )


@door("manifest.ManifestSpeech.load")
def _(folder: Path) -> Call:
    config = config_for(write_digits(folder, speakers=("ann",), takes=3))
    lines = manifest.read_manifest(config.data.manifest)
    speech = manifest.ManifestSpeech(config, lines, split="train")
    return Call(lambda: speech.load(0), letters={"T0": speech.lengths(0)[0], "M": 8})


def joined(folder: Path) -> join.JoinedSpeech:
    made = write_digits(folder, speakers=("ann",), takes=3)
    config = config_for(made, join=JoinConfig(count=(2, 3), num_train=4))
    lines = manifest.read_manifest(config.data.manifest)
    return join.JoinedSpeech(config, lines, split="train")


@door("join.JoinedSpeech.load")
def _(folder: Path) -> Call:
    speech = joined(folder)
    return Call(lambda: speech.load(0), letters={"T0": speech.lengths(0)[0], "M": 8})


@door("join.JoinedSpeech.waveform")
def _(folder: Path) -> Call:
    speech = joined(folder)
    return Call(lambda: speech.waveform(0), letters={"N": len(speech.waveform(0))})


@door("recordings.Recordings.waveform")
def _(folder: Path) -> Call:
    write_tone(folder / "a.wav", samples=900)
    made = recordings.Recordings(FeatureConfig(sample_rate=RATE))
    return Call(lambda: made.waveform(folder / "a.wav"), letters={"N": 900})


@door("recordings.Speech.frames")
def _(folder: Path) -> Call:
    speech = recordings.Speech(config_for(folder / "none.csv"), train=False)
    return Call(
        lambda waveform: speech.frames(waveform, epoch=0, index=0, num=1),
        {"waveform": uniform(900) * 2 - 1},
        {"M": 8, "W": 200, "P": 80},
    )


BATCH_LENS = {"→ feats": torch.tensor([5, 2]), "→ tokens": torch.tensor([0, 3])}


@door("batches.collate")
def _(folder: Path) -> Call:
    def run(first: Tensor, second: Tensor) -> batches.Batch:
        return batches.collate([("a", "", first, []), ("b", "abc", second, [3, 4, 5])])

    given = {"first": noise(5, F), "second": noise(2, F)}
    return Call(run, given, {"B": 2, "T": 5, "K": 3, "V": V}, BATCH_LENS)


def toy_batches() -> batches.Batches:
    config = small_config()
    model = build_model(config)
    speech = toy.ToySpeech(config.data.toy, 20, split="test", seed=0)
    return batches.Batches(speech, model.frontend, model.tokenizer, config, train=False)


@door("batches.Batches.get")
def _(folder: Path) -> Call:
    batch = toy_batches().get(0, 0)
    sizes = {"B": len(batch), "T": batch.feats.shape[1], "F": 60, "K": batch.tokens.shape[1]}
    lens = {"→ feats": batch.feat_lens, "→ tokens": batch.token_lens}
    return Call(lambda: toy_batches().get(0, 0), letters={**sizes, "V": 8}, lens=lens)


@door("batches.Batches.item")
def _(folder: Path) -> Call:
    made = toy_batches()
    return Call(
        lambda: made.item(made.frontend, 0, 2)[2],
        letters={"T": made.lengths(0)[2], "F": 60},
    )


# Masks, dropout, positions


@door("masks.length_mask")
def _(folder: Path) -> Call:
    return Call(lambda lengths: masks.length_mask(lengths, T), {"lengths": LENS}, {"T": T})


@door("masks.zero_padding")
def _(folder: Path) -> Call:
    return Call(
        masks.zero_padding,
        {"values": noise(B, T, D), "mask": real()},
        lens={"values": LENS, "→ y": LENS},
    )


@door("dropout.dropout")
def _(folder: Path) -> Call:
    return Call(lambda x: dropout.dropout(x, 0.5), {"x": noise(B, T, D)})


module_door(
    "dropout.Dropout.forward",
    lambda: dropout.Dropout(0.5),
    "forward",
    lambda: {"x": noise(B, T, D)},
)


@door("positions.positions")
def _(folder: Path) -> Call:
    return Call(
        lambda like: positions.positions("interleaved", 2, T, D, like),
        {"like": noise(1)},
        {"T": T, "D": D},
    )


@door("positions.relative_positions")
def _(folder: Path) -> Call:
    return Call(lambda like: positions.relative_positions(T, like), {"like": noise(B, D)}, {"T": T})


@door("positions.legacy_positions")
def _(folder: Path) -> Call:
    return Call(lambda like: positions.legacy_positions(T, like), {"like": noise(B, D)}, {"T": T})


# Attention and memory


def attending() -> dict[str, Any]:
    mask = real()[:, None]
    return {"query": noise(B, K, D), "memory": noise(B, T, D), "mask": mask}


def cross_attention() -> nn.Module:
    return attention.MultiHeadAttention(dim=D, heads=H, dropout=0.1)


def self_attention() -> attention.SelfAttention:
    torch.manual_seed(0)
    return attention.SelfAttention(dim=D, heads=H, dropout=0.1).eval()


module_door("attention.MultiHeadAttention.forward", cross_attention, "forward", attending)


@door("attention.MultiHeadAttention.attend")
def _(folder: Path) -> Call:
    torch.manual_seed(0)
    module = cross_attention().eval()
    return Call(module.attend, attending(), {"H": H})  # type: ignore[arg-type]


def masked_x() -> dict[str, Any]:
    return {"x": noise(B, T, D), "mask": real()[:, None]}


def framed_x() -> dict[str, Any]:
    return {"x": noise(B, T, D), "mask": real()}


module_door("attention.SelfAttention.forward", self_attention, "forward", masked_x)


@door("attention.SelfAttention.mix")
def _(folder: Path) -> Call:
    given = {"query": noise(B, K, D), "key": noise(B, T, D), "value": noise(B, T, D)}
    return Call(self_attention().mix, {**given, "mask": real()[:, None]})


@door("attention.attend")
def _(folder: Path) -> Call:
    def run(**given: Tensor) -> tuple[Tensor, Tensor]:
        query, key, value, mask = given.values()
        return attention.attend(query, key, value, mask, heads=H, dropout=0.0)

    given = {"query": noise(B, K, D), "key": noise(B, T, D), "value": noise(B, T, D)}
    return Call(run, {**given, "mask": real()[:, None]}, {"H": H})


@door("attention.mix_values")
def _(folder: Path) -> Call:
    return Call(
        lambda scores, value: attention.mix_values(scores, value, heads=H, dropout=0.0),
        {"scores": noise(B * H, K, T), "value": noise(B, T, D)},
        {"H": H, "B": B},
    )


@door("attention.split_heads")
def _(folder: Path) -> Call:
    return Call(lambda x: attention.split_heads(x, H), {"x": noise(B, T, D)}, {"H": H})


@door("attention.nothing_where_blind")
def _(folder: Path) -> Call:
    return Call(attention.nothing_where_blind, {"output": noise(B, K, D), "mask": real()[:, None]})


@door("attention.check_mask")
def _(folder: Path) -> Call:
    def run(query: Tensor, memory: Tensor, mask: Tensor) -> None:
        attention.check_mask(("query", query), ("memory", memory), mask)

    return Call(run, attending())


def relative_attention() -> nn.Module:
    return relative.RelativeSelfAttention(dim=D, heads=H, dropout=0.1)


module_door("relative.RelativeSelfAttention.forward", relative_attention, "forward", masked_x)


@door("fsmn.MemoryBlock.forward")
def _(folder: Path) -> Call:
    torch.manual_seed(0)
    given = {"values": noise(B, T, D), "mask": real()}
    return Call(fsmn.MemoryBlock(D, 5), given, lens={"values": LENS, "→ y": LENS})


@door("fsmn.depthwise")
def _(folder: Path) -> Call:
    given = {"x": noise(B, T, D), "weight": noise(D, 1, 5), "bias": noise(D)}
    return Call(lambda x, weight, bias: fsmn.depthwise(x, weight, bias), given, {"k": 5})


# Encoders


def encoded(feats: int = F) -> dict[str, Any]:
    return {"feats": noise(B, T, feats), "feat_lens": LENS}


def encoder_door(module: str, kind: str, name: str, **more: Any) -> None:
    def make() -> nn.Module:
        torch.manual_seed(0)
        config = ModelConfig(encoder=kind, dim=D, encoder_layers=2, kernel=3, **more, **SIZES)
        return build_encoder(config, F).eval()

    lens = {"feats": LENS, "→ hidden": LENS}
    CALLS[f"{module}.{name}.forward"] = lambda _: Call(make(), encoded(), {"D": D}, lens)
    CALLS[f"{module}.{name}.output_lengths"] = lambda _: Call(
        make().output_lengths,  # type: ignore[arg-type]
        {"feat_lens": LENS},
    )
    if more:
        CALLS[f"{module}.{name}.step"] = lambda _: Call(
            lambda feats_window: make().step(  # type: ignore[operator]
                feats_window, CHUNK + RIGHT, make().start(B), last=False
            )[0],
            {"feats_window": noise(B, CHUNK + RIGHT, F)},
            {"D": D, "c": CHUNK, "r": RIGHT},
        )


encoder_door("transformer", "transformer", "TransformerEncoder", stream=STREAM)
encoder_door("sanm", "sanm", "SanmEncoder", stream=STREAM)
encoder_door("conformer", "conformer", "ConformerEncoder")


@door("encoders.build_encoder")
def _(folder: Path) -> Call:
    torch.manual_seed(0)
    encoder = build_encoder(ModelConfig(dim=D, **SIZES), F).eval()
    return Call(encoder, encoded(), {"D": D}, {"feats": LENS, "→ hidden": LENS})


module_door(
    "transformer.FeedForward.forward",
    lambda: transformer.FeedForward(D, 12, dropout=0.1),
    "forward",
    lambda: {"x": noise(B, T, D)},
)
module_door(
    "transformer.TransformerLayer.forward",
    lambda: transformer.TransformerLayer(dim=D, **SIZES),
    "forward",
    masked_x,
)


@door("transformer.padding_mask")
def _(folder: Path) -> Call:
    return Call(lambda lens: transformer.padding_mask(lens, T), {"lens": LENS}, {"T": T})


@door("transformer.without_padding")
def _(folder: Path) -> Call:
    given = {"x": noise(B, T, D), "mask": real()}
    return Call(transformer.without_padding, given, lens={"x": LENS, "→ y": LENS})


@door("conformer.Subsampling.forward")
def _(folder: Path) -> Call:
    torch.manual_seed(0)
    return Call(conformer.Subsampling(F + 1, D), {"feats": noise(B, T, F + 1)}, {"D": D})


module_door(
    "conformer.MaskedBatchNorm.forward", lambda: conformer.MaskedBatchNorm(D), "forward", framed_x
)


@door("conformer.MaskedBatchNorm")
def _(folder: Path) -> Call:
    return Call(lambda: conformer.MaskedBatchNorm(D), letters={"D": D})


module_door(
    "conformer.ConvolutionModule.forward",
    lambda: conformer.ConvolutionModule(D, 5),
    "forward",
    framed_x,
)
module_door(
    "conformer.ConformerLayer.forward",
    lambda: conformer.ConformerLayer(dim=D, kernel=5, **SIZES),
    "forward",
    framed_x,
)
module_door(
    "sanm.SanmAttention.forward",
    lambda: sanm.SanmAttention(dim=D, heads=H, kernel=3),
    "forward",
    framed_x,
)
module_door(
    "sanm.SanmLayer.forward", lambda: sanm.SanmLayer(dim=D, kernel=3, **SIZES), "forward", framed_x
)


# Chunks


def windows() -> chunked.Windows:
    """Two chunks of each of B utterances, from their third chunk on."""
    mask = torch.ones(2 * B, CHUNK + RIGHT, dtype=torch.bool)
    return chunked.Windows(batch=B, start=2 * CHUNK, chunk=CHUNK, left=LEFT, mask=mask)


WINDOWED = {"B": B, "c": CHUNK, "r": RIGHT, "L": LEFT}


def windowed_door(name: str, make: Callable[[], Any]) -> None:
    def prepare(folder: Path) -> Call:
        torch.manual_seed(0)
        module = make().eval()
        width = module.cache_dim if hasattr(module, "cache_dim") else 2 * D
        given = {"x": noise(2 * B, CHUNK + RIGHT, D), "cache": noise(B, LEFT, width)}
        return Call(lambda x, cache: module.windowed(x, windows(), cache), given, WINDOWED)

    CALLS[name] = prepare


windowed_door(
    "transformer.TransformerLayer.windowed", lambda: transformer.TransformerLayer(dim=D, **SIZES)
)
windowed_door("sanm.SanmAttention.windowed", lambda: sanm.SanmAttention(dim=D, heads=H, kernel=3))
windowed_door("sanm.SanmLayer.windowed", lambda: sanm.SanmLayer(dim=D, kernel=3, **SIZES))


@door("chunked.Windows")
def _(folder: Path) -> Call:
    return Call(windows, letters={**WINDOWED, "C": 2})


@door("chunked.Windows.with_left")
def _(folder: Path) -> Call:
    given = {"values": noise(2 * B, CHUNK + RIGHT, D), "cache": noise(B, LEFT, D)}
    return Call(lambda values, cache: windows().with_left(values, cache, LEFT), given, WINDOWED)


@door("chunked.Windows.key_mask")
def _(folder: Path) -> Call:
    return Call(lambda: windows().key_mask(LEFT), letters={**WINDOWED, "C": 2})


@door("chunked.windowed_attention")
def _(folder: Path) -> Call:
    given = {"x": noise(2 * B, CHUNK + RIGHT, D), "cache": noise(B, LEFT, 2 * D)}
    attention_ = self_attention()
    return Call(
        lambda x, cache: chunked.windowed_attention(attention_, x, windows(), cache),
        given,
        WINDOWED,
    )


def layers() -> nn.ModuleList:
    torch.manual_seed(0)
    return nn.ModuleList([transformer.TransformerLayer(dim=D, **SIZES) for _ in range(2)]).eval()


@door("chunked.EncoderState")
def _(folder: Path) -> Call:
    state = chunked.start_state(layers(), B, noise(1))
    return Call(lambda: state.caches[0], letters={"B": B, "D": D})


@door("chunked.start_state")
def _(folder: Path) -> Call:
    return Call(
        lambda like: chunked.start_state(layers(), B, like).caches[0],
        {"like": noise(1)},
        {"B": B, "D": D},
    )


@door("chunked.encode_chunks")
def _(folder: Path) -> Call:
    given = {"x": padded(noise(B, T, D)), "lens": LENS}
    return Call(lambda x, lens: chunked.encode_chunks(layers(), x, lens, STREAM), given)


@door("chunked.encode_step")
def _(folder: Path) -> Call:
    state = chunked.start_state(layers(), B, noise(1))
    given = {"x": noise(B, CHUNK + RIGHT, D)}
    return Call(
        lambda x: chunked.encode_step(layers(), x, CHUNK + RIGHT, state, STREAM)[0],
        given,
        {"c": CHUNK, "r": RIGHT},
    )


@door("chunked.check_step")
def _(folder: Path) -> Call:
    def run(feats_window: Tensor) -> None:
        chunked.check_step(STREAM, feats_window, F, CHUNK + RIGHT, False)

    return Call(run, {"feats_window": noise(B, CHUNK + RIGHT, F)}, {"c": CHUNK, "r": RIGHT})


# Predictor


def weights() -> Tensor:
    return padded(uniform(B, T) * 0.6)


def cif_door(name: str, function: Callable[..., Any], *, training: bool) -> None:
    def prepare(folder: Path) -> Call:
        given = {"hidden": noise(B, T, D), "alphas": weights()}
        if training:
            given["num_tokens"] = TOKEN_LENS
        counts = function(**given)[1]
        return Call(function, given, lens={"hidden": LENS, "alphas": LENS, "→ embeds": counts})

    CALLS[name] = prepare


cif_door("cif.integrate_and_fire", cif.integrate_and_fire, training=True)
cif_door("cif.integrate_and_fire_loop", cif.integrate_and_fire_loop, training=False)


@door("cif.overlap_weights")
def _(folder: Path) -> Call:
    return Call(lambda alphas: cif.overlap_weights(alphas, K), {"alphas": weights()}, {"K": K})


@door("cif.running_sum")
def _(folder: Path) -> Call:
    return Call(lambda alphas: cif.running_sum(alphas), {"alphas": weights()})


@door("cif.overlap_sum")
def _(folder: Path) -> Call:
    ends = weights().double().cumsum(1)
    counts = torch.tensor([2, 0, 1])
    given = {"hidden": noise(B, T, D), "ends": ends, "counts": counts}
    return Call(
        lambda hidden, ends, counts: cif.overlap_sum(hidden, ends, counts),
        given,
        {"K": 2},
        {"→ embeds": counts},
    )


def predictor() -> CifPredictor:
    torch.manual_seed(0)
    return CifPredictor(dim=D, kind="full", tail=0.45).eval()


@door("predictor.CifPredictor.alphas")
def _(folder: Path) -> Call:
    given = {"hidden": noise(B, T, D), "mask": real()}
    return Call(predictor().alphas, given, lens={"hidden": LENS, "→ alphas": LENS})


@door("predictor.CifPredictor.weigh")
def _(folder: Path) -> Call:
    given = {"hidden": padded(noise(B, T, D)), "mask": real()}
    return Call(
        lambda hidden, mask: predictor().weigh(hidden, mask), given, lens={"→ alphas": LENS}
    )


@door("predictor.CifPredictor.forward")
def _(folder: Path) -> Call:
    given = {"hidden": noise(B, T, D), "lens": LENS, "num_tokens": TOKEN_LENS}
    lens = {"hidden": LENS, "→ alphas": LENS, "→ embeds": TOKEN_LENS}
    return Call(predictor(), given, lens=lens)


@door("predictor.Predicted")
def _(folder: Path) -> Call:
    found = predictor()(noise(B, T, D), LENS)
    lens = {"→ alphas": LENS, "→ embeds": found.counts}
    return Call(
        lambda: found, letters={"B": B, "T": T, "D": D, "K": found.embeds.shape[1]}, lens=lens
    )


@door("sampler.glance")
def _(folder: Path) -> Call:
    def run(**given: Tensor) -> Tensor:
        torch.manual_seed(0)
        return sampler.glance(**given, ratio=1.0)

    given = {
        "embeds": noise(B, K, D),
        "token_embeds": noise(B, K, D) + 1,
        "logits": noise(B, K, V),
        "tokens": token_ids(),
        "token_lens": TOKEN_LENS,
    }
    lens = dict.fromkeys(("token_embeds", "tokens", "→ y"), TOKEN_LENS)
    return Call(run, given, {}, lens)


# Decoder


def layer_door(name: str, make: Callable[[], nn.Module]) -> None:
    def given() -> dict[str, Any]:
        return {
            "x": noise(B, K, D),
            "mask": real(TOKEN_LENS, K),
            "memory": noise(B, T, D),
            "memory_mask": real(),
        }

    def prepare(method: str) -> Callable[[Path], Call]:
        def call(folder: Path) -> Call:
            torch.manual_seed(0)
            return Call(getattr(make().eval(), method), given(), {"H": H})

        return call

    CALLS[f"decoder_layers.{name}.forward"] = prepare("forward")
    CALLS[f"decoder_layers.{name}.attend"] = prepare("attend")


layer_door("SanLayer", lambda: decoder_layers.SanLayer(dim=D, norm_eps=1e-5, **SIZES))
layer_door("SanmLayer", lambda: decoder_layers.SanmLayer(dim=D, kernel=3, norm_eps=1e-5, **SIZES))
module_door(
    "decoder_layers.FfnLayer.forward",
    lambda: decoder_layers.FfnLayer(dim=D, ffn=12, dropout=0.1, norm_eps=1e-5),
    "forward",
    lambda: {"x": noise(B, K, D)},
)
module_door(
    "decoder_layers.NormedFeedForward.forward",
    lambda: decoder_layers.NormedFeedForward(D, 12, dropout=0.1, eps=1e-5),
    "forward",
    lambda: {"x": noise(B, K, D)},
)


def decoder() -> Any:
    torch.manual_seed(0)
    return build_decoder(ModelConfig(dim=D, **SIZES), V).eval()


def decoded() -> dict[str, Any]:
    return {
        "embeds": noise(B, K, D),
        "token_lens": TOKEN_LENS,
        "memory": noise(B, T, D),
        "memory_lens": LENS,
    }


@door("decoders.build_decoder")
def _(folder: Path) -> Call:
    return Call(decoder(), decoded(), {"V": V})


@door("decoders.Decoder.table")
def _(folder: Path) -> Call:
    return Call(lambda: decoder().table, letters={"V": V, "D": D})


@door("decoders.Decoder.embed")
def _(folder: Path) -> Call:
    return Call(decoder().embed, {"tokens": token_ids()}, {"V": V, "D": D}, {"→ y": TOKEN_LENS})


@door("decoders.Decoder.forward")
def _(folder: Path) -> Call:
    return Call(decoder(), decoded(), {"V": V})


@door("decoders.Decoder.attend")
def _(folder: Path) -> Call:
    return Call(decoder().attend, decoded(), {"V": V, "H": H})


@door("decoders.Decoder.masks")
def _(folder: Path) -> Call:
    return Call(decoder().masks, decoded())


# The whole model


MODEL = {"F": 60, "D": 16, "V": 8, "H": 2}


def trained_on() -> dict[str, Any]:
    return {
        "feats": padded(noise(B, T, 60)),
        "feat_lens": LENS,
        "tokens": token_ids(size=8),
        "token_lens": TOKEN_LENS,
    }


@door("models.build_model")
def _(folder: Path) -> Call:
    model = trained_size()
    names = ("logits", "total", "ctc_logits", "hidden_lens", "tokens", "token_lens")
    return Call(lambda **given: pick(model(**given), names), trained_on(), MODEL)


def pick(value: object, names: tuple[str, ...]) -> dict[str, Tensor]:
    return {name: getattr(value, name) for name in names}


@door("models.Paraformer.encode")
def _(folder: Path) -> Call:
    given = {"feats": padded(noise(B, T, 60)), "feat_lens": LENS}
    return Call(trained_size().encode, given, MODEL, {"feats": LENS, "→ hidden": LENS})


@door("models.Paraformer.target_lens")
def _(folder: Path) -> Call:
    return Call(trained_size(end_token=True).target_lens, {"token_lens": TOKEN_LENS})


@door("models.Paraformer.forward")
def _(folder: Path) -> Call:
    model = trained_size(end_token=True)

    def run(**given: Tensor) -> object:
        torch.manual_seed(0)
        return model(**given)

    model.train()
    lens = {"tokens": TOKEN_LENS, "→ tokens": TOKEN_LENS + 1}
    return Call(run, trained_on(), MODEL, lens)


@door("models.Outputs")
def _(folder: Path) -> Call:
    found = trained_size().train()(**trained_on())
    sizes = {**MODEL, "B": B, "T": T, "K": K}
    return Call(lambda: found, letters=sizes, lens={"→ tokens": TOKEN_LENS})


@door("models.Paraformer.predict")
def _(folder: Path) -> Call:
    given = {"feats": padded(noise(B, T, 60)), "feat_lens": LENS}
    model = trained_size()
    counts = model.predict(**given).counts
    return Call(
        lambda feats, feat_lens: model.predict(feats, feat_lens, attention=True),
        given,
        {**MODEL, "K": int(counts.max())},
        {"feats": LENS, "→ alphas": LENS},
    )


@door("models.Prediction")
def _(folder: Path) -> Call:
    model = trained_size()
    found = model.predict(padded(noise(B, T, 60)), LENS, attention=True)
    sizes = {**MODEL, "B": B, "T": T, "K": int(found.counts.max())}
    return Call(lambda: found, letters=sizes, lens={"→ alphas": LENS})


@door("models.add_end_token")
def _(folder: Path) -> Call:
    given = {"tokens": token_ids(), "token_lens": TOKEN_LENS}
    return Call(
        lambda tokens, token_lens: add_end_token(tokens, token_lens, 2),
        given,
        {"V": V},
        {"→ tokens": TOKEN_LENS + 1},
    )


# Losses


def judged() -> dict[str, Any]:
    return {"logits": noise(B, K, V), "tokens": token_ids(), "token_lens": TOKEN_LENS}


JUDGED = {"logits": TOKEN_LENS, "tokens": TOKEN_LENS}


@door("losses.label_smoothed_ce")
def _(folder: Path) -> Call:
    return Call(
        lambda logits, tokens, token_lens: losses.label_smoothed_ce(
            logits, tokens, token_lens, 0.1
        ),
        judged(),
        lens=JUDGED,
    )


@door("losses.quantity_mae")
def _(folder: Path) -> Call:
    given = {"total": uniform(B) * 5, "token_lens": TOKEN_LENS}
    return Call(losses.quantity_mae, given)


@door("losses.Losses.counts")
def _(folder: Path) -> Call:
    def run(token_lens: Tensor) -> None:
        losses.Losses(LossConfig()).counts(token_lens)

    return Call(run, {"token_lens": TOKEN_LENS})


@door("losses.Losses.sums")
def _(folder: Path) -> Call:
    outputs = trained_size()(**trained_on())
    made = losses.Losses(LossConfig(mwer=0.1))
    given = {"tokens": token_ids(size=8), "token_lens": TOKEN_LENS}

    def run(**given: Tensor) -> dict[str, Tensor]:
        torch.manual_seed(0)
        return made.sums(outputs, **given)

    return Call(run, given, {"V": 8}, {"tokens": TOKEN_LENS})


@door("losses.Losses.total")
def _(folder: Path) -> Call:
    made = losses.Losses(LossConfig(ctc=0))
    counts = {"ce": 3, "quantity": 2}
    return Call(
        lambda ce, quantity: made.total({"ce": ce, "quantity": quantity}, counts),
        {"ce": torch.tensor(3.0), "quantity": torch.tensor(2.0)},
    )


@door("losses.Losses.num_impossible")
def _(folder: Path) -> Call:
    outputs = trained_size()(**trained_on())
    given = {"tokens": token_ids(size=8), "token_lens": TOKEN_LENS}
    return Call(
        lambda **given: losses.Losses(LossConfig()).num_impossible(outputs, **given),
        given,
        {"V": 8},
    )


@door("ctc.ctc_loss")
def _(folder: Path) -> Call:
    given = {
        "logits": noise(B, T, V),
        "lens": LENS,
        "tokens": token_ids(),
        "token_lens": TOKEN_LENS,
    }
    return Call(ctc.ctc_loss, given, {}, {"logits": LENS, "tokens": TOKEN_LENS})


@door("ctc.is_impossible")
def _(folder: Path) -> Call:
    given = {"lens": LENS, "tokens": token_ids(), "token_lens": TOKEN_LENS}
    return Call(ctc.is_impossible, given, {"V": V}, {"tokens": TOKEN_LENS})


@door("mwer.sample_hypotheses")
def _(folder: Path) -> Call:
    given = {"logits": noise(B, K, V), "token_lens": TOKEN_LENS}

    def run(**given: Tensor) -> Tensor:
        same = torch.Generator().manual_seed(0)
        return mwer.sample_hypotheses(**given, num=5, generator=same)

    return Call(run, given, {"N": 5}, {"logits": TOKEN_LENS})


@door("mwer.mwer_loss")
def _(folder: Path) -> Call:
    drawn = mwer.sample_hypotheses(noise(B, K, V), TOKEN_LENS, 5)
    given = {
        "logits": noise(B, K, V),
        "token_lens": TOKEN_LENS,
        "hypotheses": drawn,
        "tokens": token_ids(),
    }
    return Call(mwer.mwer_loss, given, {}, {"logits": TOKEN_LENS})


@door("mwer.log_probabilities")
def _(folder: Path) -> Call:
    given = {"logits": noise(B, K, V), "mask": real(TOKEN_LENS, K)}
    return Call(
        lambda logits, mask: mwer.log_probabilities(logits, mask),
        given,
        lens={"logits": TOKEN_LENS},
    )


# Use


@door("decode.greedy")
def _(folder: Path) -> Call:
    model = trained_size()
    found = model.predict(padded(noise(B, T, 60)), LENS)
    names = ("logits", "counts", "alphas", "hidden_lens")

    def run(**given: Tensor) -> None:
        greedy(type(found)(**given, attention=None), model.tokenizer, 0.02)

    return Call(run, pick(found, names), MODEL)


@door("decode.decode_batch")
def _(folder: Path) -> Call:
    model = trained_size()

    def run(**given: Tensor) -> None:
        decode_batch(model, **given)

    return Call(run, {"feats": padded(noise(B, T, 60)), "feat_lens": LENS}, MODEL)


@door("timestamps.token_spans")
def _(folder: Path) -> Call:
    def run(alphas: Tensor) -> Tensor:
        return torch.tensor(timestamps.token_spans(alphas, K, 0.02))

    return Call(run, {"alphas": uniform(T)}, {"K": K})


@door("timestamps.token_peaks")
def _(folder: Path) -> Call:
    return Call(lambda alphas: timestamps.token_peaks(alphas, K), {"alphas": uniform(T)}, {"K": K})


@door("infer.look")
def _(folder: Path) -> Call:
    model = trained_size()

    def run(frames: Tensor) -> dict[str, Tensor]:
        view = look(model, frames, title="a")
        assert view.attention is not None
        return {name: torch.from_numpy(getattr(view, name)) for name in ("frames", "alphas")}

    return Call(run, {"frames": 10 + noise(T, 20)}, {"M": 20, "n": 2})


@door("inputs.Sound")
def _(folder: Path) -> Call:
    np.save(folder / "a.npy", 10 + noise(T, 20).numpy())
    model = trained_size()
    return Call(lambda: read_sound(model, folder / "a.npy"), letters={"T0": T, "M": 20})


@door("inputs.frames_from")
def _(folder: Path) -> Call:
    return Call(
        lambda array: frames_from(array.numpy(), M, where="here"),
        {"array": noise(T, M)},
        {"M": M},
    )


def streamed() -> Paraformer:
    return trained_size(stream={"chunk": CHUNK, "left": LEFT, "right": RIGHT})


@door("stream.Stream.feed")
def _(folder: Path) -> Call:
    def run(samples: Tensor) -> None:
        stream.Stream(streamed()).feed(samples)

    return Call(run, {"samples": uniform(9000) * 2 - 1})


@door("stream.Stream.push_frames")
def _(folder: Path) -> Call:
    def run(frames: Tensor) -> None:
        stream.Stream(streamed()).push_frames(frames)

    return Call(run, {"frames": 10 + noise(T, 20)}, {"M": 20})


@door("stream.StackStream.push")
def _(folder: Path) -> Call:
    return Call(
        lambda frames: stream.StackStream(streamed()).push(frames, last=True),
        {"frames": 10 + noise(T, 20)},
        {"m": 3, "n": 2},
    )


@door("stream.CifStream.push")
def _(folder: Path) -> Call:
    model = streamed()
    hidden = noise(1, T, 16)
    count = int(model.predictor(hidden, torch.tensor([T])).counts[0])
    return Call(
        lambda hidden: stream.CifStream(model).push(hidden, last=True),
        {"hidden": hidden},
        {"k": count},
    )
