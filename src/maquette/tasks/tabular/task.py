"""The tabular task: ties reading, preprocessing and network to the protocol of `tasks/base.py`.

Letters: B batch, n rows, F features, N classes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from maquette.errors import UsageError
from maquette.evaluation.accumulators import ClassificationMetrics, RegressionMetrics
from maquette.nn.losses import CLASS_LOSSES, summed_loss
from maquette.recipe import Recipe
from maquette.recipe.schema import Architecture, SplitRule, Training
from maquette.tasks.base import Batch, Json, MetricAccumulator, Predictions, Splits
from maquette.tasks.class_weights import balanced_weights
from maquette.tasks.tabular.data import load_labelled, load_table
from maquette.tasks.tabular.encoders import days
from maquette.tasks.tabular.model import TabularMLP
from maquette.tasks.tabular.prediction_file import predict_table
from maquette.tasks.tabular.preprocess import TabularPreprocessor
from maquette.tasks.tabular.profile import table_profile
from maquette.tasks.tabular.row_schema import date_text, example_row
from maquette.tasks.tabular.samples import TableSamples
from maquette.tasks.tabular.source import CategoryHider, TableSource

VISION_KEYS = ("stem", "base_width", "drop_path", "weights")
"""Keys of `model.architecture` that an mlp does not have."""


class TabularTask:
    """Classification and regression of table rows with a multi-layer perceptron."""

    def __init__(self, recipe: Recipe) -> None:
        """Take the recipe.

        Raises:
            UsageError: it sets an architecture key that an mlp does not have.
        """
        assert recipe.data.tabular is not None, "Recipe guarantees data.tabular for this task"
        _refuse_vision_keys(recipe.model.architecture)
        self.recipe = recipe
        self._data = recipe.data.tabular

    def load(self) -> Splits[TableSamples]:
        """Read, validate and split the table; raises DataError."""
        return load_table(self._data, seed=self.recipe.seed)

    def load_labelled(self, path: str, preprocessor: TabularPreprocessor) -> TableSamples:
        """Read another table with the same columns and target as one split.

        Raises:
            DataError: it cannot be used, or holds a class that the preprocessor does not know.
        """
        data = self._data.model_copy(update={"path": path, "split": SplitRule()})
        return load_labelled(
            data,
            kinds=preprocessor.column_kinds,
            date_orders={column.name: column.order for column in preprocessor.dates},
            classes=preprocessor.classes,
        )

    def fit_preprocessor(self, train: TableSamples) -> TabularPreprocessor:
        """Fit scaling, fills, categories and classes; raises DataError."""
        return TabularPreprocessor.fit(train, self._data.preprocessing)

    def preprocessor_from_json(self, state: Json) -> TabularPreprocessor:
        """Restore a preprocessor saved by `to_json`."""
        return TabularPreprocessor.from_json(state)

    def prepare(
        self, samples: TableSamples, preprocessor: TabularPreprocessor, *, augment: bool
    ) -> TableSource:
        """Encode a whole split into tensors, once.

        `augment` shows a few categories as unknown. Class weights apply to every split, so that
        train and validation losses are the same quantity.
        """
        targets = preprocessor.encode_targets(samples)
        weights = None
        if self.recipe.training.class_weights == "balanced" and preprocessor.class_counts:
            weights = balanced_weights(preprocessor.class_counts)[targets]
        return TableSource(
            inputs=preprocessor.encode_samples(samples),
            targets=targets,
            weights=weights,
            ids=samples.ids,
            hider=self._hider(samples, preprocessor) if augment else None,
        )

    def build_model(self, preprocessor: TabularPreprocessor) -> TabularMLP:
        """Build the network for these inputs and outputs.

        Raises:
            UsageError: the recipe's architecture or loss does not fit the data.
        """
        self._refuse_misfit(preprocessor)
        architecture = self.recipe.model.architecture
        return TabularMLP(
            num_numbers=preprocessor.num_numbers,
            category_sizes=preprocessor.category_sizes,
            embedding_dim=architecture.embedding_dim,
            hidden_layers=architecture.hidden_layers,
            num_outputs=1 if preprocessor.classes is None else len(preprocessor.classes),
            activation=architecture.activation,
            dropout=architecture.dropout,
            normalization=architecture.normalization,
        )

    def load_initial_weights(self, model: TabularMLP) -> None:
        """Tables differ too much for an mlp to start from another's weights."""
        del model

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, float | Tensor]:
        """Return the (weighted) sum of the batch's losses and what it sums over."""
        training = self.recipe.training
        name: str = training.loss
        if name == "auto":
            name = "mse" if batch.targets.is_floating_point() else "cross_entropy"
        return summed_loss(
            name,
            model(*batch.inputs),
            batch.targets,
            weights=batch.weights,
            label_smoothing=training.label_smoothing,
        )

    def metrics(self, preprocessor: TabularPreprocessor) -> MetricAccumulator:
        """Return an empty accumulator for classes, or for numbers in the user's unit."""
        if preprocessor.classes is None:
            return RegressionMetrics(preprocessor.target_mean, preprocessor.target_scale)
        return ClassificationMetrics(preprocessor.classes)

    def decode(self, outputs: Tensor, preprocessor: TabularPreprocessor) -> Predictions:
        """Turn logits (B, N) into class names and probabilities, or (B,) into the user's unit."""
        outputs = outputs.detach().cpu().float()
        classes = preprocessor.classes
        if classes is None:
            numbers = outputs.double() * preprocessor.target_scale + preprocessor.target_mean
            return Predictions(numbers.tolist())
        probabilities = outputs.softmax(dim=1)
        winners = probabilities.argmax(dim=1).tolist()
        return Predictions([classes[n] for n in winners], probabilities.numpy(), classes)

    def raw_inputs(self, samples: TableSamples, rows: Sequence[int]) -> list[Any]:
        """Return rows by column name, as `encode` takes them: missing is None, dates are text."""
        return [{name: _cell(samples, name, row) for name in samples.columns} for row in rows]

    def baseline_features(self, samples: TableSamples) -> NDArray[np.float32]:
        """(n, F) numbers, days of dates, and a code per category; missing is NaN.

        A category's code is a 24-bit checksum of its text, which float32 holds exactly: the same
        in every split without anything fitted. Trees split codes as well as any other numbering.
        """
        columns = [samples.numbers[n] for n in samples.columns if n in samples.numbers]
        columns += [days(samples.dates[n]) for n in samples.columns if n in samples.dates]
        columns += [
            np.array([_code(value) for value in samples.categories[n]])
            for n in samples.columns
            if n in samples.categories
        ]
        limit = np.finfo(np.float32).max
        return np.clip(np.stack(columns, axis=1), -limit, limit).astype(np.float32)

    def target_values(self, samples: TableSamples) -> NDArray[Any]:
        """(n,) class names, or numbers in the user's unit."""
        return samples.target

    def profile(self, samples: TableSamples) -> Json:
        """Describe the distribution of every column and the target."""
        return table_profile(samples)

    def predict_file(
        self,
        predict: Callable[[Sequence[Any]], Predictions],
        preprocessor: TabularPreprocessor,
        *,
        source: Path,
        output: Path,
    ) -> list[str]:
        """Predict a table into a CSV with the answers as further columns."""
        return predict_table(
            predict,
            columns=preprocessor.columns,
            settings=self._data,
            source=source,
            output=output,
        )

    def example(self, preprocessor: TabularPreprocessor) -> Json:
        """Return one row of medians and most frequent categories."""
        return example_row(
            preprocessor.columns,
            preprocessor.numbers,
            preprocessor.dates,
            preprocessor.categories,
        )

    def _hider(
        self, samples: TableSamples, preprocessor: TabularPreprocessor
    ) -> CategoryHider | None:
        """Ordinals need no hiding: slot 0 is the number below the others."""
        slots = preprocessor.category_slots(samples)
        if preprocessor.encoding == "ordinal" or not slots.shape[1]:
            return None
        return CategoryHider(
            slots=slots,
            keys=samples.lines,
            seed=self.recipe.seed,
            onehot_starts=preprocessor.onehot_starts if preprocessor.encoding == "onehot" else None,
        )

    def _refuse_misfit(self, preprocessor: TabularPreprocessor) -> None:
        """What can only be known once the data is there."""
        architecture, training = self.recipe.model.architecture, self.recipe.training
        if architecture.input_dim not in ("auto", preprocessor.num_inputs):
            raise UsageError(
                f"model.architecture.input_dim is {architecture.input_dim}, but the data gives "
                f"{preprocessor.num_inputs} inputs after preprocessing; use "
                f"input_dim: {preprocessor.num_inputs} or auto."
            )
        if architecture.normalization == "batch" and training.batch_size == 1:
            raise UsageError(
                "model.architecture.normalization is 'batch', which needs at least two rows per "
                "batch, but training.batch_size is 1; use a larger batch or normalization: layer."
            )
        _refuse_other_losses(training, preprocessor)


def _refuse_other_losses(training: Training, preprocessor: TabularPreprocessor) -> None:
    """Losses and weights of classes need classes, those of numbers need numbers."""
    is_regression = preprocessor.classes is None
    target = (
        f"column {preprocessor.target_name!r} holds {'numbers' if is_regression else 'classes'}"
    )
    if training.loss != "auto" and (training.loss in CLASS_LOSSES) == is_regression:
        fitting, other = (
            ("mse, mae, huber", "class") if is_regression else ("cross_entropy, focal", "number")
        )
        raise UsageError(
            f"training.loss is {training.loss!r}, but {target}; use {fitting} or auto, "
            f"or set data.tabular.target_type: {other}."
        )
    if is_regression and training.class_weights != "none":
        raise UsageError(
            f"training.class_weights is {training.class_weights!r}, but {target}; "
            "use class_weights: none."
        )
    loss = "mse" if is_regression else "cross_entropy"
    loss = loss if training.loss == "auto" else training.loss
    if training.label_smoothing and loss != "cross_entropy":
        raise UsageError(
            f"training.label_smoothing is {training.label_smoothing:g}, which the loss {loss!r} "
            "does not have; use label_smoothing: 0."
        )


def _refuse_vision_keys(architecture: Architecture) -> None:
    """A resolved recipe states every default, so only other values than the default are refused."""
    for key in VISION_KEYS:
        value = getattr(architecture, key)
        if value != Architecture.model_fields[key].default:
            raise UsageError(
                f"model.architecture.{key} is {value!r}, which an mlp does not have; remove it. "
                "An mlp has hidden_layers, normalization, embedding_dim, dropout and activation."
            )


def _cell(samples: TableSamples, name: str, row: int) -> Any:
    """One cell as a caller would send it."""
    if name in samples.numbers:
        number = float(samples.numbers[name][row])
        return None if np.isnan(number) else number
    if name in samples.dates:
        date = samples.dates[name][row]
        return None if np.isnat(date) else date_text(date)
    return samples.categories[name][row]


def _code(value: str | None) -> float:
    return np.nan if value is None else float(zlib.crc32(value.encode()) >> 8)
