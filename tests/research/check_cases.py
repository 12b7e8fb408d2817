"""A small finished workspace, clean to every rule, as texts that a test may change."""

from __future__ import annotations

from pathlib import Path

from maquette.research.checking.check import Finding, check_workspace
from maquette.research.workspace import Workspace

FILES: dict[str, str] = {
    "plan_res.md": r"""# Two heads on Penguins
Do two heads help?

## Dataset Plan
### Penguins
- source: catalogue:penguins
- target: species
## Model Plan
### Two heads
Two linear layers whose answers are averaged.
## Training Plan
- optimizer: AdamW
- epochs: 5
### Mean loss
$$ L = \frac{1}{n} \sum_{i=1}^{n} \ell(y_i, \hat y_i) $$
## Testing Plan
### Accuracy
- goal: higher
- range: 0 to 1
""",
    "notes.md": "# Notes\n\n## Deviations from Plan\n\n## Known Issues\n",
    "project/README.md": "# Two heads\nRun: python run.py --epochs 2\n",
    "project/requirements.txt": """# what run.py needs
torch==2.8.0
numpy~=2.1
pandas==2.*  # tables
pytest==8.4.1
""",
    "project/model/__init__.py": "",
    "project/model/two_heads.py": '''"""Two heads."""

import torch
from torch import nn


class TwoHeads(nn.Module):
    """Two linear layers whose answers are averaged."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.randn(width))
        self.heads = nn.ModuleList(nn.Linear(width, classes) for _ in range(2))

    def forward(self, x):
        return sum(head(x + self.start) for head in self.heads) / 2
''',
    "project/data/__init__.py": "",
    "project/data/dataset.py": '''"""Penguins."""

from pathlib import Path

import pandas as pd

from .preprocess import jittered


def load_penguins(folder: Path):
    """Read the table."""
    table = pd.read_csv(folder / "penguins.csv")
    X = jittered(table.drop(columns="species").to_numpy())
    return X, table["species"].to_numpy()
''',
    "project/data/loader.py": '''"""Batches."""

import torch


def batches(X, y, size: int):
    """Yield shuffled batches."""
    order = torch.randperm(len(X))
    for start in range(0, len(X), size):
        rows = order[start : start + size]
        yield X[rows], y[rows]
''',
    "project/data/preprocess.py": '''"""Scaling and augmentation."""

import numpy as np


def jittered(X):
    """Add a little noise."""
    rng = np.random.default_rng(0)
    if rng.random() < 0.5:
        X = X[:, ::-1]
    return X + 0.01 * rng.normal(size=X.shape)
''',
    "project/training/__init__.py": "",
    "project/training/trainer.py": '''"""The loop."""

import logging

from training.loss import mean_loss

LOG = logging.getLogger(__name__)


def train(model, batches, optimizer, epochs: int):
    """Train and return the loss of each epoch."""
    losses = []
    for epoch in range(epochs):
        for x, y in batches():
            loss = mean_loss(model(x), y)
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
        LOG.info("shape %s", x.shape)
        print(f"epoch {epoch}: loss={loss:.4f}")
    return losses
''',
    "project/training/loss.py": '''"""The loss."""

from torch import nn


def mean_loss(logits, y):
    r"""Compute $$L = \\frac{1}{n}
    \\sum_{i=1}^{n} \\ell(y_i, \\hat y_i)$$ over a batch.
    """
    return nn.functional.cross_entropy(logits, y)
'''.replace("\\\\", "\\"),
    "project/testing/__init__.py": "",
    "project/testing/evaluator.py": '''"""Evaluation."""

from testing.metrics import accuracy


def evaluate(model, X, y):
    """Score a model."""
    return {"accuracy": accuracy(model(X).argmax(1), y)}
''',
    "project/testing/metrics.py": '''"""Metrics."""


def accuracy(predicted, y):
    """Return the share of right answers."""
    return (predicted == y).float().mean().item()
''',
    "project/utils/__init__.py": "",
    "project/run.py": '''"""Train and test."""

import argparse

from data.dataset import load_penguins
from model.two_heads import TwoHeads


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--output", default="runs/latest")
    arguments = parser.parse_args()
    X, y = load_penguins(arguments.output)
    model = TwoHeads(X.shape[1], 3)
    print(X.shape, model)


if __name__ == "__main__":
    main()
''',
    "project/tests/__init__.py": "",
    "project/tests/test_penguins.py": '''"""Penguins."""

from data.dataset import load_penguins


def test_the_table_is_whole(tmp_path):
    X, y = load_penguins(tmp_path)
    assert len(X) == len(y) == 344
''',
    "project/tests/test_two_heads.py": '''"""Two heads."""

import pytest
import torch

import model.two_heads as heads


@pytest.fixture
def net():
    return heads.TwoHeads(4, 3)


class TestTwoHeads:
    def test_shape(self, net):
        assert net(torch.randn(2, 4)).shape == (2, 3)
''',
    "project/tests/test_mean_loss.py": '''"""The loss."""

import torch

from training.loss import mean_loss


def test_by_hand():
    check(mean_loss(torch.zeros(1, 2), torch.tensor([0])))


def check(loss):
    torch.testing.assert_close(loss, torch.tensor(0.6931472))
''',
    "project/tests/test_accuracy.py": '''"""Accuracy."""

import torch
from testing import metrics


def test_half():
    assert metrics.accuracy(torch.tensor([0, 1]), torch.tensor([0, 0])) == 0.5
''',
}


def write_workspace(folder: Path, files: dict[str, str]) -> Workspace:
    """Write texts below a folder and open it."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return Workspace.open(folder)


def findings(folder: Path, changes: dict[str, str | None]) -> tuple[Finding, ...]:
    """Check the clean workspace with some files changed; None takes a file away."""
    files = {**FILES, **changes}
    return check_workspace(
        write_workspace(folder, {k: v for k, v in files.items() if v is not None})
    )


def where(found: tuple[Finding, ...]) -> list[tuple[str, str, int]]:
    """Return (rule, path, line) of findings."""
    return [(finding.rule, finding.path, finding.line) for finding in found]
