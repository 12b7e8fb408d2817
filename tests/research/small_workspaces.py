"""A workspace whose project needs the standard library alone, so that its runs take no time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from maquette.research.workspace import Workspace

DATA = "x,y\n1,0\n2,1\n"
SHA = hashlib.sha256(DATA.encode()).hexdigest()

PLAN = f"""# Does a line fit?

Is a line better than the most frequent class?

## Dataset Plan

### Wine

- source: https://example.org/wine.csv
- sha256: {SHA}

## Model Plan

### Line

A line $$ y = a x $$

## Training Plan

- epochs: 2

### Mean loss

$$ L = y - x $$

## Testing Plan

### Accuracy

- goal: higher
- range: 0 to 1
- baseline: majority class
"""

NOTES = """# Notes

## Deviations from Plan

## Known Issues
"""

RUN = '''"""Trains a line."""

import argparse
import hashlib
import json
import os
from pathlib import Path

from model.line import Line


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("runs/now"))
    options = parser.parse_args()
    data = Path(os.environ["RESEARCH_DATA"]) / "wine.csv"
    digest = hashlib.sha256(data.read_bytes()).hexdigest()
    losses = [Line().loss(epoch) for epoch in range(options.epochs)]
    print("losses", losses, "of", data)
    options.output.mkdir(parents=True)
    training = {
        "dataset": "wine",
        "model": "line",
        "seed": 0,
        "losses": losses,
        "metrics": {"accuracy": 0.8},
        "baseline": {"accuracy": 0.5},
    }
    record = {
        "format": 1,
        "command": "python run.py",
        "epochs": options.epochs,
        "seconds": 0.1,
        "datasets": {"wine": {"sha256": digest, "samples": 2}},
        "trainings": [training],
    }
    (options.output / "run.json").write_text(json.dumps(record))


main()
'''

MODEL = '''"""A line."""


class Line:
    """y = a x"""

    def loss(self, epoch: int) -> float:
        return 1 / (epoch + 1)
'''

TEST = '''"""The line."""

from model.line import Line


def test_line() -> None:
    assert Line().loss(0) == 1
'''


def make(folder: Path, files: Mapping[str, str] | None = None) -> Workspace:
    """Write a workspace that passes; `files` replace or add files of the project."""
    workspace = Workspace(folder)
    contents = {
        "run.py": RUN,
        "model/line.py": MODEL,
        "model/__init__.py": "",
        "tests/test_line.py": TEST,
        "requirements.txt": "",
        **(files or {}),
    }
    for name, text in contents.items():
        path = workspace.project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    workspace.plan_file.write_text(PLAN, encoding="utf-8")
    workspace.notes_file.write_text(NOTES, encoding="utf-8")
    return workspace


def data_cache(folder: Path) -> Path:
    """Write the data that the project reads, and return their folder."""
    folder.mkdir(parents=True)
    (folder / "wine.csv").write_text(DATA, encoding="utf-8")
    return folder
