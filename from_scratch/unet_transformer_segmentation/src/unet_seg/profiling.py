"""Where the time and the memory of a network go: a row for each part, and the throughput."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unet_seg.config import Config
from unet_seg.devices import peak_memory_mb
from unet_seg.errors import SegError
from unet_seg.flops import count_flops
from unet_seg.trainer import Trainer, compute_loss, make_trainer


@dataclass(frozen=True)
class Part:
    """One module: what it costs in a forward pass of one batch."""

    name: str
    parameters: int
    gmac: float
    """Multiply-adds of one image, in billions."""
    milliseconds: float
    """Forward time of a batch, median."""
    output_mb: float
    """Size of its output for a batch, in MiB: what training keeps of it, about."""


@dataclass(frozen=True)
class Profile:
    """The parts of a network and its speed as a whole."""

    parts: list[Part]
    total: Part
    batch_size: int
    size: tuple[int, int]
    device: str
    train_images_per_s: float
    infer_images_per_s: float
    peak_memory_mb: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def table(self) -> str:
        lines = [
            f"{'part':<28}{'parameters':>12}{'GMAC':>9}{'ms':>9}{'share':>7}{'output MiB':>12}"
        ]
        for part in [*self.parts, self.total]:
            share = part.milliseconds / max(self.total.milliseconds, 1e-9)
            lines.append(
                f"{part.name:<28}{part.parameters:>12,}{part.gmac:>9.3f}{part.milliseconds:>9.2f}"
                f"{share:>7.0%}{part.output_mb:>12.2f}"
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
    """
    if min(size) < 1 or repeats < 1:
        raise SegError(f"size={list(size)} and repeats={repeats} must be at least 1.")
    trainer = make_trainer(config)
    batch_size, (height, width) = config.train.batch_size, (size[0], size[1])
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(batch_size, config.data.channels, height, width, generator=generator)
    mask = torch.randint(len(config.data.classes), (batch_size, height, width), generator=generator)
    image, mask = image.to(trainer.device), mask.to(trainer.device)
    valid = torch.ones_like(mask, dtype=torch.bool)

    step_seconds = _median_seconds(
        lambda: _step(trainer, image, mask, valid), repeats, trainer.device
    )
    model = trainer.model.eval()
    if config.train.channels_last:
        image = image.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        forward_seconds = _median_seconds(lambda: model(image), repeats, trainer.device)
        parts = _parts(model, image, repeats, trainer.device)
    flops = count_flops(model, (config.data.channels, height, width))
    rows = [
        Part(name, _parameters(module), flops[name] / 1e9, 1e3 * seconds, megabytes)
        for name, (module, seconds, megabytes) in parts.items()
    ]
    logits_mb = batch_size * len(config.data.classes) * height * width * 4 / 2**20
    total_gmac = flops["total"] / 1e9
    total = Part("total", _parameters(model), total_gmac, 1e3 * forward_seconds, logits_mb)
    return Profile(
        parts=rows,
        total=total,
        batch_size=batch_size,
        size=(height, width),
        device=str(trainer.device),
        train_images_per_s=batch_size / step_seconds,
        infer_images_per_s=batch_size / forward_seconds,
        peak_memory_mb=peak_memory_mb(trainer.device),
    )


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


def _parts(
    model: nn.Module, image: Tensor, repeats: int, device: torch.device
) -> dict[str, tuple[nn.Module, float, float]]:
    """Time each stage: the direct children, and the members of lists of stages among them."""
    stages: dict[str, nn.Module] = {}
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleList):
            stages |= {f"{name}.{i}": member for i, member in enumerate(child)}
        else:
            stages[name] = child
    times: dict[str, list[float]] = {name: [] for name in stages}
    started: dict[str, float] = {}
    megabytes: dict[str, float] = {}

    def before(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any) -> None:
            _wait(device)
            started[name] = time.perf_counter()

        return hook

    def after(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            _wait(device)
            times[name].append(time.perf_counter() - started[name])
            if isinstance(output, Tensor):
                megabytes[name] = output.numel() * output.element_size() / 2**20

        return hook

    handles = [m.register_forward_pre_hook(before(n)) for n, m in stages.items()]
    handles += [m.register_forward_hook(after(n)) for n, m in stages.items()]
    try:
        for _ in range(repeats):
            model(image)
    finally:
        for handle in handles:
            handle.remove()
    return {
        name: (stages[name], statistics.median(values), megabytes.get(name, 0.0))
        for name, values in times.items()
        if values
    }


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
