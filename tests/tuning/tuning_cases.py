"""A search space, and a study over it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maquette.tuning.space import Choices, Space, Span
from maquette.tuning.study import Study, open_study

SPACE: Space = {
    "training.learning_rate": Span(low=1e-4, high=1e-1, log=True),
    "training.batch_size": Span(low=8, high=64, whole=True),
    "training.optimizer": Choices(values=("adamw", "sgd")),
}


def opened(file: Path, **changes: Any) -> Study:
    """Open a study of valid/loss over SPACE."""
    arguments: dict[str, Any] = {
        "name": "iris",
        "larger_is_better": False,
        "space": SPACE,
        "startup_trials": 3,
        "warmup_epochs": 0,
        "facts": {"training.epochs": "5"},
    }
    return open_study(file, **(arguments | changes))
