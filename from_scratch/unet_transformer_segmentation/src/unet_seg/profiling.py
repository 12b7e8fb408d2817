"""Where the time and the memory of a network go: a row for each part, and the throughput.

Start reading at `profile`. Times are measured; multiply-adds and memory are counted, so that they
are the same on every machine. Memory is counted in tensors: what a kernel takes for itself while it
runs is in no row, but in the peak of the process below them.
"""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from unet_seg.config import Config
from unet_seg.devices import peak_memory_mb
from unet_seg.errors import SegError
from unet_seg.flops import count_flops
from unet_seg.models import count_parameters
from unet_seg.trainer import Trainer, compute_loss, forward_levels, make_trainer

MIB = 2**20


@dataclass(frozen=True)
class Part:
    """What one part of a network costs, for a batch where nothing else is said."""

    name: str
    parameters: int
    gmac: float
    """Multiply-adds of the forward pass of one image, in billions."""
    milliseconds: float
    """Time of the forward pass, median."""
    kept_mb: float
    """MiB that its forward pass in training keeps for the backward pass: what `accumulate`, a
    smaller batch or a smaller crop saves."""
    peak_mb: float
    """Most MiB alive at once among the tensors made in its forward pass in inference."""


@dataclass(frozen=True)
class Profile:
    """The parts of a network and its speed as a whole."""

    parts: list[Part]
    """The children of the network and the members of its lists of stages."""
    total: Part
    """The network as a whole, with what it does between its parts."""
    batch_size: int
    size: tuple[int, int]
    """Height and width of the images."""
    device: str
    train_images_per_s: float
    """Of whole steps, in the precision of the configuration."""
    infer_images_per_s: float
    """Of forward passes in float32, as `infer` computes them."""
    peak_memory_mb: float
    """See `devices.peak_memory_mb`."""

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, for JSON."""
        return asdict(self)

    def table(self) -> str:
        """The figures as text: a line a part, the whole, and the throughput."""
        columns = ("parameters", "GMAC", "ms", "share", "kept MiB", "peak MiB")
        lines = ["part".ljust(28) + "".join(f"{name:>11}" for name in columns)]
        for part in [*self.parts, self.total]:
            share = part.milliseconds / max(self.total.milliseconds, 1e-9)
            lines.append(
                f"{part.name:<28}{part.parameters:>11,}{part.gmac:>11.3f}"
                f"{part.milliseconds:>11.2f}{share:>11.0%}{part.kept_mb:>11.2f}{part.peak_mb:>11.2f}"
            )
        lines.append(
            f"batch {self.batch_size} of {self.size[0]}x{self.size[1]} on {self.device}: training "
            f"{self.train_images_per_s:.1f} images/s, inference {self.infer_images_per_s:.1f} "
            f"images/s, peak memory {self.peak_memory_mb:.0f} MiB"
        )
        return "\n".join(lines)


def profile(config: Config, *, size: tuple[int, ...] = (128, 128), repeats: int = 5) -> Profile:
    """Measure the configured network on random images.

    Args:
        config: model, loss, optimiser, batch size, precision and device are taken from it.
        size: height and width of the images.
        repeats: timed passes after one that is not timed; medians are reported.
    Raises:
        SegError: a size or repeats below 1, or as `trainer.make_trainer`.
    """
    if min(size) < 1 or repeats < 1:
        raise SegError(f"size={list(size)} and repeats={repeats} must be at least 1.")
    trainer = make_trainer(config)
    model, device = trainer.model, trainer.device
    image, mask, valid = _random_batch(config, (size[0], size[1]), device)
    stages = _stages(model)

    kept = _kept_for_backward(trainer, stages, image)
    step_seconds = _median_seconds(lambda: _step(trainer, image, mask, valid), repeats, device)
    model.eval()
    with torch.no_grad():
        peaks = _peaks(model, stages, image)
        forward_seconds = _median_seconds(lambda: model(image), repeats, device)
        stage_seconds = _stage_seconds(model, stages, image, repeats, device)
    gmacs = count_flops(model, (config.data.channels, size[0], size[1]))

    def part(name: str, module: nn.Module, seconds: float) -> Part:
        parameters, gmac = count_parameters(module), gmacs[name] / 1e9
        return Part(name, parameters, gmac, 1e3 * seconds, kept[name] / MIB, peaks[name] / MIB)

    return Profile(
        parts=[part(name, module, stage_seconds[name]) for name, module in stages.items()],
        total=part("total", model, forward_seconds),
        batch_size=len(image),
        size=(size[0], size[1]),
        device=str(device),
        train_images_per_s=len(image) / step_seconds,
        infer_images_per_s=len(image) / forward_seconds,
        peak_memory_mb=peak_memory_mb(device),
    )


def _random_batch(
    config: Config, size: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Image, mask and validity as in a `Batch`."""
    generator, batch_size = torch.Generator().manual_seed(0), config.train.batch_size
    image = torch.randn(batch_size, config.data.channels, *size, generator=generator)
    mask = torch.randint(len(config.data.classes), (batch_size, *size), generator=generator)
    if config.train.channels_last:
        image = image.contiguous(memory_format=torch.channels_last)
    valid = torch.ones_like(mask, dtype=torch.bool)
    return image.to(device), mask.to(device), valid.to(device)


def _stages(model: nn.Module) -> dict[str, nn.Module]:
    """The direct children, and the members of lists of stages in place of the lists."""
    stages: dict[str, nn.Module] = {}
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleList):
            stages |= {f"{name}.{i}": member for i, member in enumerate(child)}
        else:
            stages[name] = child
    return stages


def _step(trainer: Trainer, image: Tensor, mask: Tensor, valid: Tensor) -> None:
    loss = compute_loss(trainer, image, mask, valid)
    trainer.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    trainer.scaler.step(trainer.optimizer)
    trainer.scaler.update()
    trainer.optimizer.zero_grad(set_to_none=True)


def _median_seconds(run: Callable[[], object], repeats: int, device: torch.device) -> float:
    run()
    times = []
    for _ in range(repeats):
        _wait(device)
        started = time.perf_counter()
        run()
        _wait(device)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _wait(device: torch.device) -> None:
    """Let the device finish what was queued; the CPU queues nothing."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@contextmanager
def _around(
    stages: Mapping[str, nn.Module], before: Callable[[str], None], after: Callable[[str], None]
) -> Iterator[None]:
    """While open, call `before` and `after` with a stage's name around each of its passes."""
    handles = []
    for name, module in stages.items():
        handles.append(module.register_forward_pre_hook(lambda *_, name=name: before(name)))
        handles.append(module.register_forward_hook(lambda *_, name=name: after(name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _stage_seconds(
    model: nn.Module,
    stages: Mapping[str, nn.Module],
    image: Tensor,
    repeats: int,
    device: torch.device,
) -> dict[str, float]:
    """Median time of each stage; 0 for one that a forward pass leaves out."""
    times: dict[str, list[float]] = {name: [] for name in stages}
    started = 0.0

    def before(_name: str) -> None:
        nonlocal started
        _wait(device)
        started = time.perf_counter()

    def after(name: str) -> None:
        _wait(device)
        times[name].append(time.perf_counter() - started)

    with _around(stages, before, after):
        for _ in range(repeats):
            model(image)
    return {name: statistics.median(values or [0.0]) for name, values in times.items()}


def _kept_for_backward(
    trainer: Trainer, stages: Mapping[str, nn.Module], image: Tensor
) -> dict[str, int]:
    """Bytes that autograd keeps of each stage, and in "total" of the whole forward pass.

    A storage counts once, for the stage that kept it first; the weights and the image, which are
    there anyway, do not count.
    """
    bytes_of = dict.fromkeys([*stages, "total"], 0)
    seen = {t.untyped_storage().data_ptr() for t in [image, *trainer.model.parameters()]}
    inside: list[str] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            for name in [*inside, "total"]:
                bytes_of[name] += storage.nbytes()
        return tensor

    with (
        _around(stages, inside.append, inside.remove),
        saved_tensors_hooks(pack, lambda tensor: tensor),
    ):
        levels = forward_levels(trainer, image)
    del levels  # until here its graph has held what was kept, so that no address was used twice
    return bytes_of


def _peaks(model: nn.Module, stages: Mapping[str, nn.Module], image: Tensor) -> dict[str, int]:
    """Most bytes alive at once of the tensors made in each stage, and in "total" in the network."""
    peaks = dict.fromkeys([*stages, "total"], 0)
    live = _LiveBytes([image, *model.parameters(), *model.buffers()])
    at_start = 0

    def before(_name: str) -> None:
        nonlocal at_start
        at_start = live.restart()

    def after(name: str) -> None:
        peaks[name] = live.peak - at_start
        live.restart()

    with _around(stages, before, after), live:
        model(image)
    peaks["total"] = live.peak_of_all
    return peaks


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While open, counts the bytes of the tensors that operations have made and nobody let go."""

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = self.peak_of_all = self._now = 0
        self._seen = {tensor.untyped_storage()._cdata for tensor in known}

    def restart(self) -> int:
        """Forget `peak`, which goes on from the bytes alive now; returns them."""
        self.peak = self._now
        return self._now

    def __torch_dispatch__(  # type: ignore[no-untyped-def]
        self, function, types, arguments=(), options=None
    ):
        made = function(*arguments, **(options or {}))
        for tensor in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return made

    def _add(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata in self._seen:  # a view, or written in place
            return
        self._seen.add(storage._cdata)
        self._now += storage.nbytes()
        self.peak, self.peak_of_all = max(self.peak, self._now), max(self.peak_of_all, self._now)
        weakref.finalize(storage, self._let_go, storage._cdata, storage.nbytes())

    def _let_go(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self._now -= size
