"""Every setting of a run, typed and frozen, with a sentence under each.

`load_config` reads a YAML file (values only), applies `key=value` from the command line and checks
what must fit together. The resolved configuration is saved with each run and repeats it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from paraformer_asr.errors import AsrError
from paraformer_asr.settings import as_plain, as_settings, load_yaml, set_key


@dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """From a recording to what the encoder sees (`audio.py`, `features.py`)."""

    sample_rate: int = 16000
    """Samples per second the model hears; recordings at other rates are resampled."""
    allow_upsampling: bool = False
    """Accept recordings below sample_rate, which lack the upper part of the spectrum."""
    num_mels: int = 80
    """Triangles of the mel filterbank."""
    stack: int = 1
    """Low frame rate: frames put side by side (m); FunASR uses 7."""
    stride: int = 1
    """Frames from one stack to the next (n); FunASR uses 6."""
    dither: float = 0.0
    """Standard deviation of noise added to each sample, in units of 16-bit steps; training only."""
    cmvn_utterances: int = 2000
    """Training utterances that the global mean and variance are computed from."""

    def __post_init__(self) -> None:
        at_least("features.sample_rate", self.sample_rate, 1000)
        at_least("features.num_mels", self.num_mels, 1)
        at_least("features.stack", self.stack, 1)
        between("features.stride", self.stride, 1, self.stack)
        at_least("features.dither", self.dither, 0)
        at_least("features.cmvn_utterances", self.cmvn_utterances, 1)


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    """Made-up speech: token sequences drawn as log-mel frames (`data/toy.py`)."""

    alphabet: str = "abcdefghijklmnopqrst"
    """One character per token; each gets a spectral template of its own."""
    num_train: int = 4000
    num_valid: int = 200
    num_test: int = 400
    tokens: tuple[int, int] = (3, 15)
    """Fewest and most tokens of an utterance."""
    duration: tuple[int, int] = (6, 14)
    """Fewest and most 10 ms frames of a token."""
    coarticulation: int = 3
    """Frames over which neighbouring tokens blend at each border; 0 is a sharp border."""
    speakers: float = 0.5
    """Strength of speaker variation (spectral tilt and shift), 0 (one voice) to 1."""
    noise: float = 0.5
    """Standard deviation of noise added to log-mel values; templates span about -2 to 2."""
    silence: tuple[int, int] = (2, 10)
    """Fewest and most frames of silence at both ends; half as many may stand between tokens."""

    def __post_init__(self) -> None:
        need(len(self.alphabet) >= 2, "data.toy.alphabet needs at least two characters.")
        need(
            len(set(self.alphabet)) == len(self.alphabet),
            f"data.toy.alphabet={self.alphabet!r} repeats a character.",
        )
        need(
            not any(c.isspace() for c in self.alphabet),
            f"data.toy.alphabet={self.alphabet!r} holds white space; tokens must be visible.",
        )
        for name in ("num_train", "num_valid", "num_test"):
            at_least(f"data.toy.{name}", getattr(self, name), 1)
        ordered("data.toy.tokens", self.tokens, 1)
        ordered("data.toy.duration", self.duration, 2)
        ordered("data.toy.silence", self.silence, 0)
        between("data.toy.coarticulation", self.coarticulation, 0, self.duration[0] // 2)
        between("data.toy.speakers", self.speakers, 0, 1)
        at_least("data.toy.noise", self.noise, 0)


@dataclass(frozen=True, kw_only=True)
class JoinConfig:
    """Utterances made by joining short recordings of one speaker (`data/join.py`)."""

    count: tuple[int, int] = (1, 6)
    """Fewest and most recordings in an utterance."""
    pause: tuple[float, float] = (0.0, 0.3)
    """Shortest and longest pause between two, and at both ends, in seconds."""
    separator: str = ""
    """What stands between their texts: nothing, or a space for words."""
    num_train: int = 4000
    """Utterances of an epoch; each epoch joins anew."""
    num_valid: int = 300
    num_test: int = 500

    def __post_init__(self) -> None:
        ordered("data.manifest.join.count", self.count, 1)
        ordered("data.manifest.join.pause", self.pause, 0)
        for name in ("num_train", "num_valid", "num_test"):
            at_least(f"data.manifest.join.{name}", getattr(self, name), 1)


@dataclass(frozen=True, kw_only=True)
class ManifestConfig:
    """Your own recordings, listed in a CSV file (`data/manifest.py`)."""

    path: str
    """CSV with the columns path and text, and optionally speaker and split (train, valid, test);
    paths of recordings start from the CSV's folder."""
    valid_fraction: float = 0.1
    """Part of the training lines held out for validation where no line says split=valid."""
    test_fraction: float = 0.1
    """Part of all lines held out for the test where no line says split=test."""
    split_seed: int = 0
    """Seed of those splits, apart from the run's seed so that runs compare."""
    hold_out_speaker: str | None = None
    """All recordings of this speaker become the test split and none of them is trained on."""
    lowercase: bool = True
    """Read texts in lower case."""
    join: JoinConfig | None = None
    """Join recordings of one speaker into longer utterances; null takes each as it is."""

    def __post_init__(self) -> None:
        for name in ("valid_fraction", "test_fraction"):
            value = getattr(self, name)
            need(0 < value < 1, f"data.manifest.{name}={value:g} must lie between 0 and 1.")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes of training utterances (`augment.py`)."""

    speeds: tuple[float, ...] = (1.0,)
    """Recordings are played at one of these speeds, which moves the pitch too; toy data is not."""
    gain_db: float = 0.0
    """Loudness changes by up to this many decibels to either side; recordings only."""
    noise_db: tuple[float, float] | None = None
    """Lowest and highest signal-to-noise ratio of added white noise in dB; recordings only."""
    warp: float = 0.0
    """Vocal-tract length: frequencies are stretched by a factor in [1 - x, 1 + x]."""
    response_db: float = 0.0
    """The spectrum is raised and lowered by a smooth curve of up to so many decibels, as another
    microphone or voice would do it; recordings only."""
    freq_masks: int = 0
    """SpecAugment: bands of mel channels set to the mean."""
    freq_width: int = 15
    """Largest width of such a band in mel channels."""
    time_masks: int = 0
    """SpecAugment: stretches of time set to the mean."""
    time_width: int = 8
    """Longest such stretch in (stacked) frames."""

    def __post_init__(self) -> None:
        need(
            len(self.speeds) > 0 and all(0.5 <= s <= 2 for s in self.speeds),
            f"data.augment.speeds={list(self.speeds)} must be numbers from 0.5 to 2.",
        )
        at_least("data.augment.gain_db", self.gain_db, 0)
        if self.noise_db is not None:
            ordered("data.augment.noise_db", self.noise_db, -20)
        between("data.augment.warp", self.warp, 0, 0.3)
        at_least("data.augment.response_db", self.response_db, 0)
        for name in ("freq_masks", "freq_width", "time_masks", "time_width"):
            at_least(f"data.augment.{name}", getattr(self, name), 0)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where utterances come from and how they are put into batches."""

    kind: Literal["toy", "manifest"] = "toy"
    toy: ToyConfig = field(default_factory=ToyConfig)
    manifest: ManifestConfig | None = None
    characters: str | None = None
    """The vocabulary; null takes the toy alphabet, or every character of the training texts."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    batch_frames: int = 2400
    """Frames of a batch with its padding, as the encoder sees them (after stacking)."""
    max_batch: int = 64
    """Most utterances in a batch, however short they are."""
    bucketing: bool = True
    """Put utterances of similar length together; false shuffles them all."""

    def __post_init__(self) -> None:
        need(
            self.kind == "toy" or self.manifest is not None,
            "data.kind=manifest needs data.manifest.path, a CSV with the columns path and text.",
        )
        at_least("data.batch_frames", self.batch_frames, 1)
        at_least("data.max_batch", self.max_batch, 1)


@dataclass(frozen=True, kw_only=True)
class StreamConfig:
    """Encoding in chunks, so that recognition can begin before the recording ends."""

    chunk: int = 10
    """Encoder frames of a chunk."""
    left: int = 20
    """Frames before the chunk that it can look back at, in each layer."""
    right: int = 5
    """Frames after the chunk that it can look ahead at; they delay the text."""

    def __post_init__(self) -> None:
        at_least("model.stream.chunk", self.chunk, 1)
        at_least("model.stream.left", self.left, 0)
        at_least("model.stream.right", self.right, 0)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network (`models.py`, read from there)."""

    encoder: str = "transformer"
    """A key of `paraformer_asr.encoders.ENCODERS`."""
    decoder: str = "san"
    """A key of `paraformer_asr.decoders.DECODERS`."""
    dim: int = 128
    """Width of encoder and decoder (D)."""
    heads: int = 4
    ffn: int = 256
    """Hidden width of the feed-forward layers."""
    encoder_layers: int = 3
    decoder_layers: int = 2
    kernel: int = 11
    """Width of the memory (sanm) and of the depthwise convolution (conformer), in frames; odd."""
    subsampling: Literal["none", "conv2d"] = "none"
    """conv2d makes one encoder frame of four (conformer only); others stack frames in features."""
    relative: Literal["latest", "legacy"] = "latest"
    """Relative positions of the conformer; legacy repeats the ones of older checkpoints."""
    predictor: Literal["full", "depthwise"] = "full"
    """Convolution of the predictor: over all channels, or each alone and added to its input."""
    dropout: float = 0.1
    norm_eps: float = 1e-5
    """Added to the variance in layer norms; converted FunASR weights need 1e-12."""
    tail: float = 0.45
    """Added to the count of tokens at inference: a rest of 1 - tail or more is a last token."""
    sampling_ratio: float = 0.4
    """Glancing: replaced positions per wrong token of the first pass; 0 leaves the pass out."""
    end_token: bool = False
    """Append </s> to every target, as FunASR's large model does (predictor_bias 1)."""
    share_embedding: bool = False
    """One matrix for the token embeddings and the output layer."""
    ctc: bool = True
    """Have a CTC head on the encoder, used in training only."""
    stream: StreamConfig | None = None
    """Encode in chunks (transformer and sanm); null sees the whole utterance."""

    def __post_init__(self) -> None:
        for name in ("dim", "heads", "ffn", "encoder_layers", "decoder_layers", "kernel"):
            at_least(f"model.{name}", getattr(self, name), 1)
        need(
            self.dim % 2 == 0 and self.dim % self.heads == 0,
            f"model.dim={self.dim} must be even and divisible by model.heads={self.heads}.",
        )
        need(self.kernel % 2 == 1, f"model.kernel={self.kernel} must be odd.")
        need(0 <= self.dropout < 1, f"model.dropout={self.dropout:g} must be in [0, 1).")
        need(self.norm_eps > 0, f"model.norm_eps={self.norm_eps:g} must be above 0.")
        need(0 <= self.tail < 1, f"model.tail={self.tail:g} must be in [0, 1).")
        between("model.sampling_ratio", self.sampling_ratio, 0, 1)
        need(
            self.subsampling == "none" or self.encoder == "conformer",
            f"model.subsampling=conv2d is the conformer's; {self.encoder} takes features.stack.",
        )
        need(
            self.stream is None or self.encoder != "conformer",
            "model.stream needs model.encoder=transformer or sanm: the conformer's batch norm and "
            "relative positions see the whole utterance.",
        )


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What is minimised (`losses.py`): ctc*CTC + (1 - ctc)*CE + quantity*MAE + mwer*MWER."""

    ctc: float = 0.3
    """Weight of CTC; cross-entropy gets the rest."""
    quantity: float = 1.0
    """Weight of the error in the number of tokens."""
    label_smoothing: float = 0.1
    """Probability taken from the right token and shared among all others."""
    mwer: float = 0.0
    """Weight of the expected number of word errors; for a second stage of training."""
    mwer_samples: int = 4
    """Sampled hypotheses per utterance for MWER."""

    def __post_init__(self) -> None:
        between("loss.ctc", self.ctc, 0, 1)
        need(
            0 <= self.label_smoothing < 1,
            f"loss.label_smoothing={self.label_smoothing:g} must be in [0, 1).",
        )
        at_least("loss.quantity", self.quantity, 0)
        at_least("loss.mwer", self.mwer, 0)
        at_least("loss.mwer_samples", self.mwer_samples, 2)


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimiser, learning rate, clipping and averaging (`optim.py`)."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = 1e-3
    """Highest learning rate, reached at the end of the warm-up."""
    weight_decay: float = 1e-2
    """Of matrices and filters; biases, norms and embeddings are not decayed."""
    betas: tuple[float, float] = (0.9, 0.98)
    momentum: float = 0.9
    """Of sgd."""
    schedule: Literal["cosine", "inverse_sqrt", "constant"] = "cosine"
    warmup_steps: int = 200
    final_lr: float = 0.01
    """Where cosine ends, as a part of lr."""
    grad_clip: float | None = 5.0
    """Largest norm of the gradient; null does not clip."""
    average: float | None = None
    """Decay of the moving average of the weights, which is then validated and shipped."""

    def __post_init__(self) -> None:
        need(self.lr > 0, f"optim.lr={self.lr:g} must be above 0.")
        at_least("optim.weight_decay", self.weight_decay, 0)
        at_least("optim.warmup_steps", self.warmup_steps, 0)
        between("optim.final_lr", self.final_lr, 0, 1)
        need(
            all(0 <= beta < 1 for beta in self.betas),
            f"optim.betas={list(self.betas)} must be two numbers in [0, 1).",
        )
        if self.grad_clip is not None:
            need(self.grad_clip > 0, f"optim.grad_clip={self.grad_clip:g}: above 0, or null.")
        if self.average is not None:
            need(0 < self.average < 1, f"optim.average={self.average:g}: between 0 and 1, or null.")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The loop (`train.py`)."""

    steps: int = 2000
    """Updates of the weights in the whole run."""
    accumulate: int = 1
    """Batches of an update; the gradient is that of one big batch."""
    valid_every: int = 500
    log_every: int = 20
    checkpoint_every: int = 500
    """A killed run loses at most these many steps."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    fast_matmul: bool = True
    """Let the CPU use its faster fp32 products where they are measured to be exact enough."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    deterministic: bool = True
    threads: int | None = None
    """CPU threads; null leaves the number to PyTorch."""
    max_minutes: float | None = None
    """End after this time as if all steps were done; the schedule follows the clock."""
    init_from: str | None = None
    """Run folder or .pt file to take the starting weights from, for a second stage."""

    def __post_init__(self) -> None:
        for name in ("steps", "accumulate", "valid_every", "log_every", "checkpoint_every"):
            at_least(f"train.{name}", getattr(self, name), 1)
        if self.threads is not None:
            at_least("train.threads", self.threads, 1)
        if self.max_minutes is not None:
            need(self.max_minutes > 0, f"train.max_minutes={self.max_minutes:g}: above 0, or null.")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run."""

    name: str
    """Part of the run folder's name; runs of one name are compared over their seeds."""
    seed: int = 0
    out: str = "runs"
    """Folder that run folders are made in."""
    data: DataConfig = field(default_factory=DataConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        at_least("seed", self.seed, 0)
        need(
            bool(self.name) and not set(self.name) & set("/\\ \t\n") and self.name[0] != ".",
            f"name={self.name!r} becomes part of a folder's name: no space, slash or leading dot.",
        )
        need(
            self.model.ctc or self.loss.ctc == 0,
            f"loss.ctc={self.loss.ctc:g} needs the CTC head: set model.ctc=true or loss.ctc=0.",
        )


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration file and apply `key=value` overrides to it.

    Raises:
        AsrError: naming the file and the key that is unknown, of a wrong type or out of range.
    """
    values = load_yaml(Path(path))
    for assignment in overrides:
        set_key(values, assignment)
    return config_from_dict(values, where=str(path))


def config_from_dict(values: dict[str, Any], *, where: str = "configuration") -> Config:
    """Make a Config of nested plain values; `where` begins the message if they do not fit."""
    try:
        return as_settings(Config, values)
    except AsrError as error:
        raise AsrError(f"{where}: {error}") from None


def config_to_dict(config: Config) -> dict[str, Any]:
    """Nested plain values, as YAML and checkpoints hold them."""
    return as_plain(config)


def need(holds: bool, message: str) -> None:
    """Raise AsrError with the message unless the condition holds."""
    if not holds:
        raise AsrError(message)


def at_least(key: str, value: float, least: float) -> None:
    need(value >= least, f"{key}={value:g} must be at least {least:g}.")


def between(key: str, value: float, low: float, high: float) -> None:
    need(low <= value <= high, f"{key}={value:g} must be from {low:g} to {high:g}.")


def ordered(key: str, pair: tuple[float, float], least: float) -> None:
    need(
        least <= pair[0] <= pair[1],
        f"{key}={list(pair)} must be [least, most] with {least:g} <= least <= most.",
    )
