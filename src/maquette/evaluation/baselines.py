"""What a network must beat: a guess that ignores the inputs, and scikit-learn's boosted trees.

Scored by the same metrics, on the same test samples. n training samples, m test samples, F
features, N classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maquette.evaluation.checks import Floats, Integers
from maquette.evaluation.metrics import classification_metrics, regression_metrics

Features = NDArray[np.float32]

_SECONDS_FOR_ROUNDS = 1.5
_SECONDS_AT_MOST = 6.0
_SECONDS_PER_CELL = 18e-9
_SECONDS_PER_FEATURE = 33e-6
"""What a tree costs on one core, per training cell and per feature: a rough guess that only decides
how much of the training the boosted trees are given."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """One simple model's metrics on the test split."""

    name: str
    metrics: dict[str, float]
    seconds: float
    """Wall time to fit and predict."""


def score_baselines(
    train_features: Features,
    train_targets: NDArray[Any],
    test_features: Features,
    test_targets: NDArray[Any],
    classes: Sequence[str] | None,
) -> list[Baseline]:
    """Fit the baselines on the training split and score them on the test split.

    Args:
        train_features, test_features: (n, F) and (m, F) numbers; missing values are NaN.
        train_targets, test_targets: (n,) and (m,) class names, or numbers in the user's unit.
        classes: class names in the order of the network's outputs; None for regression.
    Raises:
        ValueError: a target is not among `classes`, or a split is empty.
    """
    if classes is None:
        return _score_regression(
            train_features,
            train_targets.astype(np.float64),
            test_features,
            test_targets.astype(np.float64),
        )
    return _score_classification(
        train_features,
        indices_of(train_targets, classes),
        test_features,
        indices_of(test_targets, classes),
        len(classes),
    )


def indices_of(targets: NDArray[Any], classes: Sequence[str]) -> Integers:
    """Return each target's position in `classes`.

    Raises:
        ValueError: a target is not among `classes`.
    """
    position = {name: index for index, name in enumerate(classes)}
    unknown = sorted({str(target) for target in targets} - set(position))
    if unknown:
        raise ValueError(f"targets {unknown[:5]} are not among the classes {list(classes)[:5]}.")
    return np.array([position[str(target)] for target in targets], dtype=np.int64)


def _score_classification(
    train: Features, labels: Integers, test: Features, truth: Integers, num_classes: int
) -> list[Baseline]:
    def score(name: str, predict: Callable[[], Floats]) -> Baseline:
        probabilities, seconds = _timed(predict)
        metrics = classification_metrics(truth, probabilities)
        return Baseline(name=name, metrics=metrics, seconds=seconds)

    shares = np.bincount(labels, minlength=num_classes) / len(labels)
    baselines = [score("majority class", lambda: np.tile(shares, (len(test), 1)))]
    present = len(np.unique(labels))
    if present > 1:  # trees need something to tell apart
        rounds, rows = affordable(train.shape, trees_per_round=present if present > 2 else 1)
        model = _boosted_trees(rounds, regression=False)
        chosen = _spread(len(train), rows)

        def trees() -> Floats:
            model.fit(train[chosen], labels[chosen])
            probabilities = np.zeros((len(test), num_classes))
            probabilities[:, model.classes_] = model.predict_proba(test)
            return probabilities

        baselines.append(score(_trees_name(len(train), len(chosen)), trees))
    return baselines


def _score_regression(
    train: Features, numbers: Floats, test: Features, truth: Floats
) -> list[Baseline]:
    def score(name: str, predict: Callable[[], Floats]) -> Baseline:
        predictions, seconds = _timed(predict)
        metrics = regression_metrics(truth, predictions)
        return Baseline(name=name, metrics=metrics, seconds=seconds)

    rounds, rows = affordable(train.shape, trees_per_round=1)
    model = _boosted_trees(rounds, regression=True)
    chosen = _spread(len(train), rows)

    def trees() -> Floats:
        answers: Floats = model.fit(train[chosen], numbers[chosen]).predict(test)
        return answers

    return [
        score("mean", lambda: np.full(len(test), numbers.mean())),
        score(_trees_name(len(train), len(chosen)), trees),
    ]


def affordable(shape: tuple[int, ...], *, trees_per_round: int) -> tuple[int, int]:
    """Return the boosting rounds and training rows that fit in seconds for features (n, F).

    Rounds come down from scikit-learn's 100 first, to no fewer than 15; then rows, to no fewer than
    1000.
    """
    n, num_features = shape
    per_row = _SECONDS_PER_CELL * num_features * trees_per_round
    fixed = _SECONDS_PER_FEATURE * num_features * trees_per_round
    rounds = int(np.clip(_SECONDS_FOR_ROUNDS / (per_row * n + fixed), 15, 100))
    rows = int((_SECONDS_AT_MOST / rounds - fixed) / per_row)
    return rounds, min(n, max(rows, 1000))


def _boosted_trees(rounds: int, *, regression: bool) -> Any:
    """scikit-learn's defaults, but for larger steps where there are fewer rounds."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier
    return model(max_iter=rounds, learning_rate=min(0.3, 10 / rounds), random_state=0)


def _spread(num_rows: int, wanted: int) -> Integers:
    """Positions of `wanted` rows at equal steps over all of them."""
    return np.arange(wanted) * num_rows // wanted


def _trees_name(num_rows: int, used: int) -> str:
    return "boosted trees" if used == num_rows else f"boosted trees ({used} of {num_rows} rows)"


def _timed(predict: Callable[[], Floats]) -> tuple[Floats, float]:
    start = time.perf_counter()
    values = predict()
    return values, time.perf_counter() - start
