"""The one protocol: what the lifecycle asks of a task, in the order it asks.

    task = make_task(recipe)                      tasks/__init__.py
    splits = task.load()                          read and validate: source -> raw samples
    preprocessor = task.fit_preprocessor(splits.train)        state from the training split only
    source = task.prepare(splits.train, preprocessor, augment=True)    raw samples -> batches
    model = task.build_model(preprocessor)        sizes come from the data
    total, count = task.loss(model, batch)        summed loss and its count, divided by the trainer
    task.metrics(preprocessor)                    accumulator over a whole split
    task.decode(outputs, preprocessor)            network outputs -> predictions
    task.example(preprocessor)                    one raw input, for docs, warm-up and playground

Serving uses `preprocessor.encode(raw)`, the network, and `decode`: the same objects, so training
and serving cannot disagree. Letters: B batch, N classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from maquette.recipe import Recipe

Json = dict[str, Any]
"""A JSON object: what preprocessors and profiles are saved as."""

SamplesT = TypeVar("SamplesT")
"""A task's raw samples of one split: a table, or image paths with labels."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What the network and the loss see at once."""

    inputs: tuple[Tensor, ...]
    """Arguments of the network, each with B first."""
    targets: Tensor
    """(B,) int64 class indices, (B,) float32 standardised numbers, or (B, 2) int64 groups of equal
    images and of equal texts."""
    rows: Tensor
    """(B,) int64 positions in the split; `source.ids[row]` names the sample for a reader."""
    weights: Tensor | None = None
    """(B,) float32 sample weights, or None for all equal."""

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`; the rows stay where they are."""
        if self.targets.device == device:
            return self
        is_cuda = device.type == "cuda"  # elsewhere a copy that nobody waits for may be torn
        return Batch(
            inputs=tuple(x.to(device, non_blocking=is_cuda) for x in self.inputs),
            targets=self.targets.to(device, non_blocking=is_cuda),
            rows=self.rows,
            weights=None if self.weights is None else self.weights.to(device, non_blocking=is_cuda),
        )

    def __len__(self) -> int:
        return len(self.rows)

    def pieces(self, size: int) -> list[Batch]:
        """Cut the batch into pieces of at most `size` samples, in order."""
        if len(self) <= size:
            return [self]
        parts = [slice(start, start + size) for start in range(0, len(self), size)]
        return [
            Batch(
                inputs=tuple(x[part] for x in self.inputs),
                targets=self.targets[part],
                rows=self.rows[part],
                weights=None if self.weights is None else self.weights[part],
            )
            for part in parts
        ]


class Source(Protocol):
    """Prepared samples of one split, handed out in any order as batches."""

    @property
    def ids(self) -> Sequence[str]:
        """One name per sample that a user recognises: "row 17", "cats/3.png"."""
        ...

    def __len__(self) -> int: ...

    def batches(self, order: Tensor, batch_size: int, *, epoch: int) -> Iterator[Batch]:
        """Yield the samples of `order` (int64 positions) in turn, `batch_size` at a time.

        What a sample becomes depends on (seed, epoch, sample id) alone, never on the order, the
        batch it falls in, or the number of workers.
        """
        ...


@runtime_checkable
class StreamedSource(Protocol):
    """A source that is read fastest in an order of its own: shards, one file after the other."""

    def epoch_order(self, epoch: int) -> Tensor | None:
        """Return the order of an epoch, (n,) int64, or None where any order is as good."""
        ...


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """What reading the data found: counts, things set aside, things worth knowing."""

    source: str
    """The path as the recipe gives it."""
    num_samples: int
    """Usable samples, all splits together."""
    quarantined: Sequence[Mapping[str, str]] = ()
    """One entry per sample set aside: its `place` and the `reason`."""
    warnings: Sequence[str] = ()
    summary: Json = field(default_factory=dict)
    """JSON facts for the report: column types and ranges, image sizes, class counts."""


@dataclass(frozen=True, kw_only=True)
class Splits(Generic[SamplesT]):
    """The three splits, and for each the ids of its samples (stored with the run)."""

    train: SamplesT
    valid: SamplesT
    test: SamplesT
    assignment: Mapping[str, Sequence[str]]
    """{"train": [ids], "valid": [ids], "test": [ids]}"""
    report: DataReport


@dataclass(frozen=True)
class Predictions:
    """Predictions for B inputs; index it or iterate it for one dictionary per input."""

    values: list[str] | list[float]
    """The predicted class, or number, of each input."""
    probabilities: NDArray[np.float32] | None = None
    """(B, N) rows that sum to 1, in the order of `classes`; None for regression."""
    classes: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """{"prediction": value} and, for classes, "probabilities": {class: probability}."""
        one: dict[str, Any] = {"prediction": self.values[index]}
        if self.probabilities is not None and self.classes is not None:
            row = self.probabilities[index].tolist()
            one["probabilities"] = dict(zip(self.classes, row, strict=True))
        return one

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[index] for index in range(len(self)))


class Preprocessor(Protocol):
    """Raw inputs -> network inputs; fitted on train only, saved as JSON, used everywhere."""

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Class names in the order of the network's outputs; None for regression."""
        ...

    def encode(self, raw: Sequence[Any]) -> tuple[Tensor, ...]:
        """Turn raw inputs (rows, or images) into the network's arguments, B first.

        Raises:
            RequestError: an input does not fit; the text names its index, the field and the value.
        """
        ...

    def input_schema(self) -> Json:
        """JSON Schema of one raw input."""
        ...

    def to_json(self) -> Json: ...

    @classmethod
    def from_json(cls, state: Json) -> Self: ...


class MetricAccumulator(Protocol):
    """Streaming metrics over a whole split."""

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take the network outputs (B, N) or (B,) and targets (B,) of one batch."""
        ...

    def compute(self) -> dict[str, float]:
        """Return every metric by its plain name: accuracy, f1_macro, rmse, …"""
        ...


class Task(Protocol[SamplesT]):
    """One modality: what differs between tables and images, and nothing else."""

    recipe: Recipe

    def load(self) -> Splits[SamplesT]:
        """Read, validate and split the data.

        Raises:
            DataError: the data cannot be used; the text lists places and reasons.
        """
        ...

    def load_labelled(self, path: str, preprocessor: Any) -> SamplesT:
        """Read other labelled data in the form of the training data, all of it as one split.

        Raises:
            DataError: it cannot be used, or holds a class that the preprocessor does not know.
        """
        ...

    def fit_preprocessor(self, train: SamplesT) -> Preprocessor:
        """Fit everything that is learned from data but is not the network."""
        ...

    def preprocessor_from_json(self, state: Json) -> Preprocessor:
        """Restore a preprocessor saved by `to_json`."""
        ...

    def prepare(self, samples: SamplesT, preprocessor: Any, *, augment: bool) -> Source:
        """Turn the raw samples of a split into batches; `augment` for training only."""
        ...

    def build_model(self, preprocessor: Any) -> nn.Module:
        """Build the network with inputs and outputs sized by the data."""
        ...

    def load_initial_weights(self, model: Any) -> str | None:
        """Load the weights the recipe starts from, if any; return what was and was not used.

        Asked when a run begins and never when a bundle is loaded.
        """
        ...

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, float | Tensor]:
        """Return the loss summed over the batch, and the count it sums over.

        A sum of weights stays a 0-d tensor, so that no step waits for the GPU to read it.
        """
        ...

    def metrics(self, preprocessor: Any) -> MetricAccumulator:
        """Return an empty accumulator."""
        ...

    def decode(self, outputs: Tensor, preprocessor: Any) -> Predictions:
        """Turn network outputs (B, N) or (B,) into predictions in the user's labels and units."""
        ...

    def raw_inputs(self, samples: SamplesT, rows: Sequence[int]) -> list[Any]:
        """Return the raw inputs at these positions, as `encode` takes them: probes, mistakes."""
        ...

    def baseline_features(self, samples: SamplesT) -> NDArray[np.float32]:
        """(n, F) plain features for scikit-learn baselines; missing values are NaN."""
        ...

    def target_values(self, samples: SamplesT) -> NDArray[Any]:
        """(n,) targets as the user gave them: class names, or numbers in the user's unit."""
        ...

    def profile(self, samples: SamplesT) -> Json:
        """Describe the split's distribution: what monitoring compares live inputs with."""
        ...

    def predict_file(
        self,
        predict: Callable[[Sequence[Any]], Predictions],
        preprocessor: Any,
        *,
        source: Path,
        output: Path,
    ) -> list[str]:
        """Predict every input in a file or folder, write `output` whole or not at all.

        Returns:
            lines that say what was done.
        """
        ...

    def example(self, preprocessor: Any) -> Any:
        """Return one raw input that `encode` accepts."""
        ...


@runtime_checkable
class CoupledTask(Protocol):
    """A task whose loss compares the samples of a batch with each other.

    The loss of a large batch is then no sum over smaller ones. The trainer asks for representations
    piece by piece, calls the loss once on all of them, and carries its gradient back through the
    pieces (training/coupled.py).
    """

    def represent(self, model: Any, batch: Batch) -> tuple[Tensor, ...]:
        """Return what the loss compares: float32 tensors with one row per sample, (B, …)."""
        ...

    def coupled_loss(
        self, model: Any, representations: tuple[Tensor, ...], targets: Tensor
    ) -> tuple[Tensor, float]:
        """Return the loss summed over the batch, and the number of its samples."""
        ...

    def learning_rates(self, model: Any) -> Mapping[str, float]:
        """Return the factor of the learning rate of each parameter that does not have 1."""
        ...

    def after_update(self, model: Any) -> None:
        """Bring parameters back into their range after an optimiser step."""
        ...

    def readings(self, model: Any, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Return what is worth watching besides metrics: the temperature, the parts of the loss.

        Args:
            outputs: network outputs of a whole split, on the CPU, with their `targets`.
        """
        ...

    def finish(
        self, model: Any, preprocessor: Any, *, evaluate: Callable[[], Mapping[str, float]]
    ) -> Json:
        """Make the trained network what is shipped (merge, average); return facts for the log.

        Args:
            evaluate: scores `model` as it is on the validation split.
        """
        ...
