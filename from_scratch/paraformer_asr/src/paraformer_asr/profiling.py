"""Where time and memory go: a row for each part of the model, and its speed in training and use.

Start reading at `profile`. The model is untrained and hears noise; its predictor is set to find
`TOKENS_PER_SECOND`, as speech would make it, because the decoder's work depends on them.
Multiply-adds are counted and are the same on every machine; times are medians of what was measured
on this one.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from paraformer_asr.config import Config
from paraformer_asr.data.batches import Batch, collate
from paraformer_asr.decode import decode_batch
from paraformer_asr.devices import peak_memory_mib, pick_device, set_matmul, use_fast_matmul
from paraformer_asr.errors import AsrError
from paraformer_asr.features import num_frames
from paraformer_asr.models import Paraformer, build_model
from paraformer_asr.seed import seed_all
from paraformer_asr.trainer import Trainer

TOKENS_PER_SECOND = 4.0
"""Of quick speech; characters of Mandarin, syllables elsewhere."""
SHORTEST = 20
"""Frames of 10 ms that an utterance needs at least, so that one is left after subsampling."""
PRODUCTS = {"mm": (0, 1), "bmm": (0, 1), "addmm": (1, 2), "baddbmm": (1, 2)}
"""PyTorch's matrix products, to which all others come down, and where their two factors stand."""

Call = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one part costs, for a whole batch."""

    name: str
    parameters: int
    multiply_adds: int
    """Of matrix products and convolutions on the way forward."""
    forward: float
    """Seconds, in training (with what is kept for the way back)."""
    backward: float | None
    """Seconds; None where nothing is learned."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """The parts of a model and its speed as a whole."""

    parts: tuple[Part, ...]
    """features, then each child of the model that runs; the decoder runs twice in a step of
    training with glancing and stands here once."""
    batch: int
    seconds_of_audio: float
    """Of each utterance."""
    tokens: int
    """Of each utterance."""
    device: str
    threads: int
    matmul: str
    train_utterances_per_second: float
    """Whole steps: forward, losses, backward, optimiser; features made before."""
    real_time_factor: float
    """Greedy decoding of one utterance, from features to text with times, by its duration."""
    real_time_factor_with_features: float
    """The same from samples."""
    peak_memory_mib: float
    """Of all the above together; see `devices.peak_memory_mib`."""

    def table(self) -> str:
        """The figures as text."""
        head = ("part", "parameters", "Mmadd", "forward ms", "backward ms")
        lines = [f"{head[0]:<12}" + "".join(f"{name:>14}" for name in head[1:])]
        for part in [*self.parts, self.sum()]:
            back = "" if part.backward is None else f"{1e3 * part.backward:.2f}"
            lines.append(
                f"{part.name:<12}{part.parameters:>14,}{part.multiply_adds / 1e6:>14,.1f}"
                f"{1e3 * part.forward:>14.2f}{back:>14}"
            )
        lines += [
            f"batch of {self.batch} x {self.seconds_of_audio:g} s, {self.tokens} tokens each; "
            f"{self.device}, {self.threads} threads; {self.matmul}",
            f"training: {self.train_utterances_per_second:.1f} utterances/s",
            f"decoding one utterance: real-time factor {self.real_time_factor:.5f} from features, "
            f"{self.real_time_factor_with_features:.5f} from samples",
            f"peak memory: {self.peak_memory_mib:.0f} MiB",
        ]
        return "\n".join(lines)

    def sum(self) -> Part:
        """All parts together."""
        return Part(
            name="sum",
            parameters=sum(part.parameters for part in self.parts),
            multiply_adds=sum(part.multiply_adds for part in self.parts),
            forward=sum(part.forward for part in self.parts),
            backward=sum(part.backward or 0.0 for part in self.parts),
        )


def profile(
    config: Config, *, seconds_of_audio: float = 5.0, batch: int = 8, repeats: int = 5
) -> Report:
    """Measure the model of a configuration.

    Args:
        config: model, features, losses, optimiser, precision and device are taken from it.
        seconds_of_audio: length of every utterance.
        batch: utterances of a step.
        repeats: timed passes, after one that is not timed.
    Raises:
        AsrError: a batch or repeats below 1, audio too short for a window or for the tokens, or a
            configuration that does not decide its vocabulary.
    """
    num_samples = int(seconds_of_audio * config.features.sample_rate)
    if min(batch, repeats) < 1 or num_frames(num_samples, config.features.sample_rate) < SHORTEST:
        raise AsrError(
            f"batch={batch}, repeats={repeats} and seconds={seconds_of_audio:g}: expected at "
            "least 1, 1 and 0.25."
        )
    if config.train.threads is not None:
        torch.set_num_threads(config.train.threads)
    device = pick_device(config.train.device)
    matmul = use_fast_matmul(device) if config.train.fast_matmul else set_matmul("highest")
    seed_all(config.seed)
    clock = _Clock(device, repeats)
    model = build_model(config)
    waveform = 0.1 * torch.randn(num_samples)
    tokens = max(1, int(seconds_of_audio * TOKENS_PER_SECOND))
    data = _batch_of(model, waveform, tokens, batch).to(device)
    model, waveform = model.to(device), waveform.to(device)

    trainer = Trainer(model, config, device)
    train_seconds = clock.median(lambda: trainer.step([data], step=0, progress=0.0))
    parts = [_features_part(model, waveform, batch, clock), *_model_parts(model, data, clock)]
    decode_seconds, with_features = _decode_seconds(model, waveform, data, tokens, clock)
    return Report(
        parts=tuple(parts),
        batch=batch,
        seconds_of_audio=seconds_of_audio,
        tokens=tokens,
        device=str(device),
        threads=torch.get_num_threads(),
        matmul=str(matmul),
        train_utterances_per_second=batch / train_seconds,
        real_time_factor=decode_seconds / seconds_of_audio,
        real_time_factor_with_features=with_features / seconds_of_audio,
        peak_memory_mib=peak_memory_mib(device),
    )


def _batch_of(model: Paraformer, waveform: Tensor, tokens: int, batch: int) -> Batch:
    """The same utterance several times, with random characters for a text."""
    frames = model.frontend.frames(waveform)
    model.frontend.fit([frames])
    feats = model.frontend(frames)
    characters = model.tokenizer.characters
    chosen = torch.randint(len(characters), (tokens,)).tolist()
    text = "".join(characters[i] for i in chosen)
    ids = model.tokenizer.encode(text)
    return collate([(f"noise {i}", text, feats, ids) for i in range(batch)])


def _features_part(model: Paraformer, waveform: Tensor, batch: int, clock: _Clock) -> Part:
    """From samples to normalised features, one utterance after the other."""

    def run() -> None:
        for _ in range(batch):
            model.frontend(model.frontend.frames(waveform))

    return Part(
        name="features",
        parameters=0,
        multiply_adds=count_multiply_adds(run),
        forward=clock.median(run),
        backward=None,
    )


def _model_parts(model: Paraformer, data: Batch, clock: _Clock) -> list[Part]:
    """Each child of the model alone, with the inputs it gets in training."""
    model.train()
    calls = _calls(model, data)
    return [_part(name, module, calls[name], clock) for name, module in _children(model, calls)]


def _children(model: nn.Module, calls: Mapping[str, Call]) -> list[tuple[str, nn.Module]]:
    return [(name, module) for name, module in model.named_children() if name in calls]


def _calls(model: Paraformer, data: Batch) -> dict[str, Call]:
    """The arguments of each child's first call in a training forward pass."""
    seen: dict[str, Call] = {}

    def remember(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen.setdefault(name, (args, kwargs))

        return hook

    handles = [
        module.register_forward_pre_hook(remember(name), with_kwargs=True)
        for name, module in model.named_children()
    ]
    try:
        with torch.no_grad():
            model(data.feats, data.feat_lens, data.tokens, data.token_lens)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _part(name: str, module: nn.Module, call: Call, clock: _Clock) -> Part:
    args, kwargs = call
    inputs = [_leaf(value) for value in args]
    outputs: list[Tensor] = []

    def forward() -> None:
        outputs[:] = _learned(module(*inputs, **kwargs))

    def backward() -> None:
        torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])

    with torch.no_grad():
        multiply_adds = count_multiply_adds(lambda: module(*inputs, **kwargs))
    forward_seconds, backward_seconds = clock.medians(forward, backward)
    module.zero_grad(set_to_none=True)
    return Part(
        name=name,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        multiply_adds=multiply_adds,
        forward=forward_seconds,
        backward=backward_seconds,
    )


def _leaf(value: Any) -> Any:
    """A float tensor as an input whose gradient is wanted, as inside of the model."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().clone().requires_grad_()
    return value


def _learned(output: Any) -> list[Tensor]:
    """The tensors of an output that carry a gradient."""
    if is_dataclass(output) and not isinstance(output, type):
        output = [getattr(output, field.name) for field in fields(output)]
    values = output if isinstance(output, tuple | list) else [output]
    return [value for value in values if isinstance(value, Tensor) and value.requires_grad]


def _decode_seconds(
    model: Paraformer, waveform: Tensor, data: Batch, tokens: int, clock: _Clock
) -> tuple[float, float]:
    """Seconds to recognise one utterance, from features and from samples.

    The model has just been built: its alphas are set to add up to the number of tokens.
    """
    model.eval()
    feats, feat_lens = data.feats[:1], data.feat_lens[:1]
    with torch.no_grad():
        _, lens = model.encode(feats, feat_lens)
        share = min(tokens / int(lens[0]), 0.99)
        model.predictor.output.weight.zero_()
        model.predictor.output.bias.fill_(math.log(share / (1 - share)))

    def from_samples() -> None:
        with torch.inference_mode():
            made = model.frontend(model.frontend.frames(waveform))
        decode_batch(model, made[None], feat_lens)

    decode = clock.median(lambda: decode_batch(model, feats, feat_lens))
    return decode, clock.median(from_samples)


def count_multiply_adds(run: Callable[[], object]) -> int:
    """Multiply-adds of the matrix products and convolutions that `run` computes.

    Sums, norms, activations and Fourier transforms are not counted: they are few, or no products.
    """
    counter = _Counter()
    with counter:
        run()
    return counter.total


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation of PyTorch while it is entered."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total: int = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in PRODUCTS:
            left, right = (args[i] for i in PRODUCTS[name])
            self.total += left.numel() * right.shape[-1]  # (..., n, m) x (..., m, p)
        elif name == "convolution":
            weight, is_transposed = args[1], args[6]
            self.total += (args[0] if is_transposed else result).numel() * weight[0].numel()
        return result


class _Clock:
    """Times runs; on a GPU until it has finished them."""

    def __init__(self, device: torch.device, repeats: int) -> None:
        self.device = device
        self.repeats = repeats

    def median(self, run: Callable[[], object]) -> float:
        """Seconds of a run, after one that is not timed."""
        return self.medians(run)[0]

    def medians(self, *runs: Callable[[], object]) -> list[float]:
        """Seconds of each of several runs that follow one another."""
        times: list[list[float]] = [[] for _ in runs]
        for turn in range(self.repeats + 1):
            for run, taken in zip(runs, times, strict=True):
                start = self._now()
                run()
                if turn:
                    taken.append(self._now() - start)
        return [statistics.median(taken) for taken in times]

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()
        return time.perf_counter()
