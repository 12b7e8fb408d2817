"""A small plan on the iris sample, workspaces made from it, and their projects as modules."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from maquette.research.scaffolding.scaffold import create

IRIS = Path(__file__).resolve().parents[2] / "data" / "sample" / "iris.csv"

PACKAGES = ("data", "model", "run", "testing", "tests", "training", "utils")
"""What a project holds at its top."""

DATASETS = f"""\
### Iris
- source: {IRIS}
- target: species

Lengths and widths in centimetres.
"""
MODELS = r"""
### Small net

One hidden layer: $h = \max(0, W x)$.

$$ \hat y = V h + b $$
"""
TRAINING = """
- optimizer: AdamW
- learning_rate: 0.01
- epochs: 4
- seeds: 2
"""
LOSSES = r"""
### Cross entropy

$$ L = -\frac{1}{B} \sum_{i=1}^{B} \log p_{i, y_i} $$
"""
METRICS = """
### Accuracy
- goal: higher
- range: 0 to 1
- baseline: the most frequent class
"""


def plan_text(
    *,
    datasets: str = DATASETS,
    models: str = MODELS,
    training: str = TRAINING,
    losses: str = LOSSES,
    metrics: str = METRICS,
) -> str:
    """Return a plan, with some of its sections replaced."""
    return (
        f"# A small net on iris\n\nIs it better than guessing?\n\n## Dataset Plan\n{datasets}\n"
        f"## Model Plan\n{models}\n## Training Plan\n{training}\n{losses}\n"
        f"## Testing Plan\n{metrics}"
    )


def new_workspace(folder: Path, **sections: str) -> Path:
    """Return a workspace made from the plan, in a folder of its own."""
    plan_file = folder / "plan.md"
    plan_file.write_text(plan_text(**sections))
    create(folder / "workspace", plan_file)
    return folder / "workspace"


class Modules:
    """A project's modules: `modules("utils.record")` imports one."""

    def __call__(self, name: str) -> ModuleType:
        return importlib.import_module(name)


@contextmanager
def imported(project: Path) -> Iterator[Modules]:
    """Make a project's own modules importable, and nobody else's of the same names."""
    before = {name: sys.modules[name] for name in list(sys.modules) if _is_ours(name)}
    for name in before:
        del sys.modules[name]
    sys.path.insert(0, str(project))
    importlib.invalidate_caches()
    try:
        yield Modules()
    finally:
        sys.path.remove(str(project))
        for name in [name for name in sys.modules if _is_ours(name)]:
            del sys.modules[name]
        sys.modules.update(before)


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] in PACKAGES


IRIS_LOADER = """\
    names, rows = {}, []
    with path.open() as file:
        for row in csv.DictReader(file):
            label = names.setdefault(row.pop("species"), len(names))
            rows.append(([float(value) for value in row.values()], label))
    inputs = torch.tensor([values for values, _ in rows])
    targets = torch.tensor([label for _, label in rows])
    train, valid, test = split_indices(len(rows), parts=(0.6, 0.2, 0.2), seed=seed)
    standardise = Standardiser.fit(inputs[train])
    inputs = standardise(inputs)
    return Splits(*(Samples(inputs[part], targets[part]) for part in (train, valid, test)))
"""


def write_items(project: Path) -> None:
    """Do what a researcher does next: write the items of the plan above, and their tests."""
    _replace(
        project / "data/dataset.py",
        '    raise NotImplementedError(f"Iris: read {path} into Splits, by seed {seed}.")\n',
        IRIS_LOADER,
    )
    _replace(
        project / "data/dataset.py",
        "from collections.abc import Sequence\n",
        "import csv\nfrom collections.abc import Sequence\n",
    )
    _replace(
        project / "data/dataset.py",
        "from torch import Tensor\nfrom torch.utils.data import Dataset\n\n",
        "import torch\nfrom torch import Tensor\nfrom torch.utils.data import Dataset\n\n"
        "from data.preprocess import Standardiser, split_indices\n",
    )
    _replace(
        project / "model/small_net.py",
        '        raise NotImplementedError("Small net: make its layers, and write forward.")\n',
        "        super().__init__()\n"
        "        self.layers = nn.Sequential(\n"
        "            nn.Linear(num_features, 16), nn.ReLU(), nn.Linear(16, num_outputs)\n"
        "        )\n",
    )
    _replace(
        project / "model/small_net.py",
        "        raise NotImplementedError\n",
        "        return self.layers(inputs)\n",
    )
    _replace(
        project / "training/loss.py",
        '    raise NotImplementedError("Cross entropy: write its formula.")\n',
        "    return -outputs.log_softmax(1).gather(1, targets[:, None]).mean()\n",
    )
    _replace(
        project / "testing/metrics.py",
        '    raise NotImplementedError("Accuracy: write it.")\n',
        "    return (outputs.argmax(1) == targets).float().mean().item()\n",
    )


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, (path, old)
    path.write_text(text.replace(old, new))
