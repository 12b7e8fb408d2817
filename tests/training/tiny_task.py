"""A small real problem for the trainer's tests: numbers in tensors, an MLP, two kinds of target.

`run_as_program` is what a test starts in a process of its own in order to kill it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maquette.device import Device
from maquette.evaluation.accumulators import ClassificationMetrics, RegressionMetrics
from maquette.nn.losses import summed_loss
from maquette.recipe import Recipe, make_recipe
from maquette.runs import RunFolder
from maquette.tasks.base import Batch
from maquette.tasks.batching import batch_slices
from maquette.training.loop import FitResult, fit
from maquette.training.seeding import seed_everything

FEATURES = 6
CLASSES = ("no", "yes", "perhaps")
CPU = Device(name="cpu", precision="fp32")


@dataclass
class TinySource:
    """Samples in tensors; a batch is a slice of one gather."""

    inputs: Tensor
    targets: Tensor
    weights: Tensor | None = None

    @property
    def ids(self) -> Sequence[str]:
        return [f"row {index + 2}" for index in range(len(self))]

    def __len__(self) -> int:
        return len(self.targets)

    def batches(self, order: Tensor, batch_size: int, *, epoch: int) -> Iterator[Batch]:
        inputs, targets = self.inputs[order], self.targets[order]
        weights = None if self.weights is None else self.weights[order]
        for part in batch_slices(len(order), batch_size):
            yield Batch(
                (inputs[part],),
                targets[part],
                order[part],
                None if weights is None else weights[part],
            )


@dataclass
class TinyTask:
    """The part of a task that the trainer asks for."""

    recipe: Recipe
    regression: bool = False

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, float | Tensor]:
        return summed_loss(
            "mse" if self.regression else "cross_entropy",
            model(*batch.inputs),
            batch.targets,
            weights=batch.weights,
        )

    def metrics(self, preprocessor: Any) -> ClassificationMetrics | RegressionMetrics:
        return RegressionMetrics(0.0, 1.0) if self.regression else ClassificationMetrics(CLASSES)


class TinyNet(nn.Module):
    """An MLP with dropout, batch normalisation and (B, N) or (B,) outputs."""

    def __init__(
        self, *, regression: bool = False, dropout: float = 0.2, norm: bool = True
    ) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Dropout(dropout))
        self.norm = nn.BatchNorm1d(16) if norm else nn.Identity()
        self.output = nn.Linear(16, 1 if regression else len(CLASSES))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.output(self.norm(self.hidden(inputs)))
        return outputs.squeeze(1) if outputs.shape[1] == 1 else outputs


def tiny_source(size: int, *, seed: int = 0, regression: bool = False) -> TinySource:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(size, FEATURES, generator=generator)
    score = inputs[:, 0] * inputs[:, 1] + inputs[:, 2]
    if regression:
        return TinySource(inputs, score)
    return TinySource(inputs, (score > -0.5).long() + (score > 0.5).long())


def tiny_recipe(runs_dir: Path | str = "runs", **training: Any) -> Recipe:
    """A recipe; keys of `training` may be given as early_stopping={…}, others at the top as is."""
    top = {key: training.pop(key) for key in ("seed", "debug", "device") if key in training}
    return make_recipe(
        {
            "name": "tiny",
            "runs_dir": str(runs_dir),
            "data": {"tabular": {"path": "tiny.csv", "target_column": "y"}},
            "model": {"type": "tabular", "name": "mlp"},
            "training": {"epochs": 3, "batch_size": 16, "learning_rate": 0.01} | training,
            **top,
        }
    )


def run_tiny(
    recipe: Recipe,
    *,
    folder: RunFolder | None = None,
    resume: bool = False,
    model: nn.Module | None = None,
    train: Any = None,
    valid: Any = None,
    device: Device = CPU,
    regression: bool = False,
    callbacks: Sequence[Any] = (),
) -> tuple[FitResult, nn.Module, RunFolder]:
    """Fit the tiny network as the lifecycle would, and return what came out."""
    folder = folder or RunFolder.create(recipe)
    seed_everything(recipe.seed, deterministic=True)
    model = model or TinyNet(regression=regression)
    result = fit(
        task=TinyTask(recipe, regression),
        preprocessor=None,
        model=model,
        train=train or tiny_source(70, regression=regression),
        valid=valid or tiny_source(40, seed=1, regression=regression),
        recipe=recipe,
        folder=folder,
        device=device,
        callbacks=callbacks,
        resume=resume,
    )
    return result, model, folder


class Slow:
    """A callback that gives a test time to stop the program in the middle."""

    def on_step(self, view: Any) -> None:
        time.sleep(0.004)

    def on_epoch_end(self, view: Any) -> None: ...

    def on_end(self, view: Any) -> None: ...


def run_as_program(folder: str, *, resume: bool = False, largest_file: int | None = None) -> None:
    """Train in a process of its own, as the command line would: errors on stderr, exit status 1.

    Args:
        largest_file: bytes; a file that grows beyond fails as on a full disk.
    """
    from maquette.errors import MaquetteError

    torch.set_num_threads(1)
    run = RunFolder.open(folder)
    if largest_file is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    with (run.path / "stderr.txt").open("w", buffering=1) as sys.stderr:
        try:
            _, model, _ = run_tiny(run.recipe(), folder=run, resume=resume, callbacks=(Slow(),))
        except MaquetteError as error:
            sys.stderr.write(str(error))
            sys.exit(1)
        if "torch._dynamo" in sys.modules or "sympy" in sys.modules:
            sys.exit("training imported the compiler, which takes seconds")
    torch.save(model.state_dict(), run.path / "final.pt")
