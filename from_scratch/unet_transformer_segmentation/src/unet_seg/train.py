"""Training: a configuration in, a run folder out. The loop is in `_run`, read from top to bottom.

Resuming is exact: batches, augmentation and learning rate are functions of the step, and a
checkpoint holds weights, average, optimiser, loss scale and random state. On the CPU a run that was
killed at any step and resumed ends with the same bits as one that never stopped.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch

from unet_seg import checkpoints
from unet_seg.config import Config, config_to_dict
from unet_seg.data.batches import eval_batches, train_batches
from unet_seg.data.build import build_datasets
from unet_seg.data.sample import Samples
from unet_seg.devices import peak_memory_mb
from unet_seg.errors import Interrupted
from unet_seg.flops import count_flops
from unet_seg.metrics import SegmentationMeter
from unet_seg.models import count_parameters
from unet_seg.optim import learning_rate, set_learning_rate
from unet_seg.runs import RunLog, create_run, read_config, write_atomic
from unet_seg.trainer import Trainer, make_trainer, update

Datasets = dict[str, Samples]
VALID_SCORES = ("mean_iou", "mean_iou_foreground", "mean_dice", "pixel_accuracy")


def train(config: Config, *, progress: bool = True) -> Path:
    """Train a configuration from the start; returns the run folder.

    Raises:
        SegError: the data, the configuration or the device does not allow it.
        NotFinite: the loss or a gradient became NaN or infinite.
        Interrupted: SIGINT or SIGTERM came; the step was finished and saved.
    """
    datasets = build_datasets(config)
    trainer = make_trainer(config)
    return _run(create_run(config), trainer, datasets, progress=progress)


def resume(run: Path, *, progress: bool = True) -> Path:
    """Go on with a run from its newest checkpoint, exactly where it was. Raises as `train`."""
    config = read_config(run)
    datasets = build_datasets(config)
    trainer = make_trainer(config)
    checkpoint = checkpoints.load_last(run, trainer.device)
    trainer.restore(checkpoint, source=str(run / "checkpoints" / "last.pt"))
    return _run(run, trainer, datasets, progress=progress)


def _run(run: Path, trainer: Trainer, datasets: Datasets, *, progress: bool) -> Path:
    from tqdm import tqdm

    config, settings = trainer.config, trainer.config.train
    log = RunLog(run, columns(config), resume_step=trainer.step)
    log.say(describe(trainer, datasets))
    if trainer.step == 0:
        checkpoints.save(run / "checkpoints" / "last.pt", trainer.state())
    batches = train_batches(
        datasets["train"],
        config.data,
        seed=config.seed,
        batch_size=settings.batch_size,
        start_step=trainer.step,
        steps=settings.steps,
        num_workers=settings.num_workers,
        multiple=trainer.model.stride,  # type: ignore[arg-type]
    )
    bar = tqdm(total=settings.steps, initial=trainer.step, unit="step", disable=not progress)
    clock = _Clock(trainer)
    with _stop_signals() as stop:
        for batch in batches:
            lr = learning_rate(config.optim, trainer.step, trainer.progress)
            set_learning_rate(trainer.optimizer, lr)
            loss, grad_norm = update(trainer, batch)
            trainer.step += 1
            trainer.recent_losses.append(loss)
            clock.tick(images=len(batch.names))

            finished = trainer.progress >= 1
            row: dict[str, float] = {}
            if trainer.step % settings.log_every == 0 or finished:
                mean = sum(trainer.recent_losses) / len(trainer.recent_losses)
                trainer.recent_losses.clear()
                row = {"lr": lr, "train/loss": mean, "train/grad_norm": grad_norm}
                row["train/images_per_s"] = clock.images_per_s()
                bar.set_postfix_str(_postfix(trainer, row))
            if trainer.step % settings.valid_every == 0 or finished:
                row |= clock.without(lambda: validate(run, trainer, datasets["valid"]))
                log.say(_validation_line(trainer, row, loss))
            if row:
                log.row(trainer.step, {**row, "seconds": trainer.seconds})
            if trainer.step % settings.checkpoint_every == 0 or finished or stop.signal:
                checkpoints.save(run / "checkpoints" / "last.pt", trainer.state())
            bar.update()
            if finished or stop.signal:
                break
    bar.close()

    from unet_seg.plots import draw_curves

    draw_curves(run)
    if stop.signal and trainer.progress < 1:
        raise Interrupted(run, trainer.step, 128 + stop.signal)
    best = trainer.best_scores["valid/mean_iou"]
    log.say(f"best valid/mean_iou {best:.4f} at step {trainer.best_step}")
    return run


@torch.no_grad()
def validate(run: Path, trainer: Trainer, dataset: Samples) -> dict[str, float]:
    """Score the shipped weights on the validation split; keep them if they are the best so far."""
    model, config = trainer.shipped, trainer.config
    was_training = model.training
    model.eval()
    meter = SegmentationMeter(config.data.classes)
    losses, images = 0.0, 0
    for batch in eval_batches(
        dataset,
        config.data,
        batch_size=config.train.batch_size,
        num_workers=0,
        multiple=model.stride,  # type: ignore[arg-type]
    ):
        batch = batch.to(trainer.device)
        logits = model(batch.image)
        losses += float(trainer.loss(logits, batch.mask, batch.valid)) * len(batch.names)
        images += len(batch.names)
        meter.update(logits.argmax(dim=1), batch.mask, batch.valid)
    model.train(was_training)

    scores = meter.compute()
    row = {"valid/loss": losses / images}
    row |= {f"valid/{name}": scores[name] for name in VALID_SCORES}
    row |= {f"valid/iou/{name}": scores["per_class"][name]["iou"] for name in config.data.classes}
    # The first validation counts as the best even if no pixel of it counts, which gives NaN.
    if not trainer.best_scores or row["valid/mean_iou"] > trainer.best_scores["valid/mean_iou"]:
        trainer.best_step, trainer.best_scores = trainer.step, row
        state = {"config": config_to_dict(config), "step": trainer.step, "scores": row}
        checkpoints.save(run / "checkpoints" / "best.pt", state | {"model": model.state_dict()})
    _write_summary(run, trainer, row)
    return row


def columns(config: Config) -> list[str]:
    """The columns of metrics.csv after `step`."""
    return [
        *("lr", "seconds", "train/loss", "train/grad_norm", "train/images_per_s", "valid/loss"),
        *(f"valid/{name}" for name in VALID_SCORES),
        *(f"valid/iou/{name}" for name in config.data.classes),
    ]


def _write_summary(run: Path, trainer: Trainer, row: dict[str, float]) -> None:
    """metrics.json: the scores of the best weights so far, and what the run cost."""
    scores = trainer.best_scores.items()
    summary: dict[str, float | None] = {
        **{name: None if value != value else value for name, value in scores},  # JSON has no NaN
        "best_step": trainer.best_step,
        "last/valid/mean_iou": row["valid/mean_iou"],
        "step": trainer.step,
        "seconds": round(trainer.seconds, 3),
        "parameters": count_parameters(trainer.model),
        "peak_memory_mb": round(peak_memory_mb(trainer.device), 1),
    }
    write_atomic(run / "metrics.json", json.dumps(summary, indent=2) + "\n")


def describe(trainer: Trainer, datasets: Datasets) -> str:
    """The first line of a log: what is trained on what, and what it costs."""
    config = trainer.config
    image = datasets["train"][0].image
    height, width = config.data.augment.crop or config.data.resize or image.shape[-2:]
    flops = count_flops(trainer.shipped, (config.data.channels, height, width))["total"]
    counts = ", ".join(f"{len(part)} {name}" for name, part in datasets.items())
    return (
        f"{config.model.name}: {count_parameters(trainer.model):,} parameters, "
        f"{flops / 1e9:.2f} GMAC for {height}x{width}; {counts} images; "
        f"classes {', '.join(config.data.classes)}; {trainer.device}, {config.train.precision}"
    )


def _postfix(trainer: Trainer, row: dict[str, float]) -> str:
    iou = f"{trainer.best_scores['valid/mean_iou']:.3f}" if trainer.best_scores else "-"
    speed = row["train/images_per_s"]
    return f"loss {row['train/loss']:.3f}, IoU {iou}, {speed:.1f} images/s"


def _validation_line(trainer: Trainer, row: dict[str, float], loss: float) -> str:
    star = " *" if trainer.best_step == trainer.step else ""
    return (
        f"step {trainer.step}: train/loss {loss:.4f}, valid/loss {row['valid/loss']:.4f}, "
        f"valid/mean_iou {row['valid/mean_iou']:.4f}{star}"
    )


class _Clock:
    """Keeps `trainer.seconds`, and the speed of training without the time of validation."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._before = trainer.seconds
        self._started = self._since = time.perf_counter()
        self._images = 0

    def tick(self, *, images: int) -> None:
        self._images += images
        self._trainer.seconds = self._before + time.perf_counter() - self._started

    def images_per_s(self) -> float:
        """Images per second since the last time this was asked."""
        now = time.perf_counter()
        speed = self._images / max(now - self._since, 1e-9)
        self._since, self._images = now, 0
        return speed

    def without(self, work: Callable[[], dict[str, float]]) -> dict[str, float]:
        """Do something whose time counts for the run but not for the speed."""
        started = time.perf_counter()
        result = work()
        self._since += time.perf_counter() - started
        self.tick(images=0)
        return result


class _Stop:
    signal: int = 0


@contextmanager
def _stop_signals() -> Iterator[_Stop]:
    """While open, SIGINT and SIGTERM only leave a note, so that the step at hand is finished."""
    stop = _Stop()

    def note(number: int, _frame: FrameType | None) -> None:
        stop.signal = number

    try:
        before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread, where signals do not arrive anyway
        before = {}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
