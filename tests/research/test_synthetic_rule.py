"""Real data, not toy data: what counts as made up, and what is augmentation."""

from __future__ import annotations

import pytest
from check_cases import FILES, findings, where

DATA = "project/data/preprocess.py"
HEAD = '''"""Scaling."""

import random

import numpy as np
import torch
from torch.utils.data import TensorDataset


def jittered(X):
    """Add noise."""
    return X


def scaled(X, noise=0):
    return X + noise


'''
FIRST = HEAD.count("\n") + 1
REMEDY = (
    "Read the data set that the plan names. If it is noise for real samples, combine it with them "
    "in one expression, or call it noise. [synthetic]"
)

MADE_UP = {
    "def f():\n    return torch.randn(100, 5)": (1, "torch.randn"),
    "def f(n):\n    X = np.random.rand(n, 5)\n    y = (X @ np.array([1.0, 2.0]) > 0)\n"
    "    return X, y": (
        1,
        "np.random.rand",
    ),
    "def f(n):\n    X = torch.zeros(n)\n    return X, torch.randint(0, 10, (n,))": (
        2,
        "torch.randint",
    ),
    "def f(X):\n    y = torch.rand(len(X)) > 0.5\n    return {'x': X, 'y': y.long()}": (
        1,
        "torch.rand",
    ),
    "def f(X):\n    X = torch.rand_like(X)\n    return X": (1, "torch.rand_like"),
    "def f(n):\n    rng = np.random.default_rng(0)\n    return rng.normal(size=(n, 3))": (
        2,
        "rng.normal",
    ),
    "def f(n, rng):\n    return rng.normal(0, 1, (n, 3)) * 2 + 1": (1, "rng.normal"),
    "def f(n):\n    return np.random.default_rng(0).standard_normal(n)": (
        1,
        "np.random.default_rng(0).standard_normal",
    ),
    "def f(n):\n    return [random.gauss(0, 1) for _ in range(n)]": (1, "random.gauss"),
    "def f(n):\n    return {i: random.random() for i in range(n)}": (1, "random.random"),
    "def f(n):\n    xs = []\n    for _ in range(n):\n        xs.append(random.random())\n"
    "    return xs": (
        3,
        "random.random",
    ),
    "def f(n):\n    X = np.zeros((n, 3))\n    for i in range(n):\n"
    "        X[i] = np.random.randn(3)\n    return X": (3, "np.random.randn"),
    "def f(n):\n    for _ in range(n):\n        yield torch.randn(3)": (2, "torch.randn"),
    "def f(n):\n    while True:\n        try:\n            pass\n        except OSError:\n"
    "            return torch.randn(n)": (5, "torch.randn"),
    "def f(n):\n    match n:\n        case 1:\n            return torch.randn(n)": (
        3,
        "torch.randn",
    ),
    "class D:\n    def __init__(self, n):\n        self.X = torch.empty(n, 3).uniform_()": (
        2,
        "torch.empty(n, 3).uniform_",
    ),
    "def f(n):\n    batch = {}\n    batch['x'] = torch.randn(n, 3)\n    return 1": (
        2,
        "torch.randn",
    ),
    "def f(X, n):\n    return TensorDataset(X, torch.randint(2, size=(n,)))": (1, "torch.randint"),
    "def f(n):\n    X, y = torch.randn(n, 3), torch.ones(n)\n    return X": (1, "torch.randn"),
    "def f(n):\n    X: object = torch.randn(n, 3)\n    X += 1\n    return -X.reshape(3, n)[0]": (
        1,
        "torch.randn",
    ),
    "def f(n):\n    return torch.distributions.Normal(0, 1).sample((n, 3))": (
        1,
        "torch.distributions.Normal(0, 1).sample",
    ),
    "def f(n, real):\n    return torch.randn(n, 3) if n or not n else torch.randn(n, 4)": (
        1,
        "torch.randn",
    ),
    "def f(n):\n    return [*torch.tensor(np.random.random((n, 3)))]": (1, "np.random.random"),
    "def f(n):\n    return torch.cat([torch.randn(n, 3), torch.zeros(n, 3)])": (1, "torch.randn"),
    "X = torch.normal(0.0, 1.0, (100, 3))\nscaled(X)": (0, "torch.normal"),
    "def f(n):\n    a = b = (c := np.random.rand(n)) if n else 0\n    return a or b": (
        1,
        "np.random.rand",
    ),
    "scaled(X=np.random.poisson(3, 100))": (0, "np.random.poisson"),
}


@pytest.mark.parametrize("code", MADE_UP)
def test_made_up_data_is_found(code, tmp_path):
    line, call = MADE_UP[code]
    (found,) = findings(tmp_path, {DATA: f"{HEAD}{code}\n"})

    assert where((found,)) == [("synthetic", DATA, FIRST + line)]
    assert str(found).endswith(f"{call} stands for data here. {REMEDY}")


AUGMENTED = [
    "def f(x):\n    return x + 0.1 * torch.randn_like(x)",
    "def f(x):\n    noise = torch.randn(x.shape)\n    return x, noise",
    "def f(x):\n    return torch.normal(x, 0.1)",
    "def f(x, rng):\n    return rng.normal(x, 0.1)",
    "def f(x):\n    if torch.rand(1) < 0.5:\n        x = x.flip(-1)\n    return x",
    "def f(x):\n    return x * (torch.rand(x.shape) > 0.1)",
    "def f(x):\n    x[3:5] = torch.rand(2)\n    return x",
    "def f(x):\n    kept = torch.randint(0, len(x), (9,))\n    return x[kept]",
    "def f(x):\n    top, left = random.randint(0, 4), random.randint(0, 4)\n"
    "    return x[top:, left:]",
    "def f(x):\n    return x[torch.randperm(len(x))]",
    "def f(x, y):\n    lam = np.random.beta(0.2, 0.2)\n"
    "    return lam * x + (1 - lam) * x.flip(0), lam",
    "def random_mask(x):\n    return torch.rand(x.shape) < 0.15",
    "def f(x):\n    return torch.where(torch.rand(x.shape) < 0.1, 0.0, x)",
    "def f(x):\n    return x.add(torch.randn(x.shape))",
    "def f(x):\n    return torch.randn(x.shape).add(x)",
    "def f(x):\n    return scaled(x + torch.randn(3)), scaled(x, noise=torch.randn(3))",
    "def f(x):\n    angle = torch.distributions.Uniform(0, 9).sample()\n    return angle",
    "def f(x):\n    return (lambda: 1), float(torch.rand(())), torch.randint(0, 9, size=(1,))",
    "def f(x):\n    return np.random.uniform(0.9, 1.1), np.random.randint(5), np.pi, f'{x}'",
    "async def f(x):\n    return await x, [a + np.random.normal() for a in x], {x for _ in x}",
    "def f(x):\n    return np.random.normal(0, 1, 1), np.random.normal(size=None), {'a': 1}",
    "class RandomErasing:\n    def fill(self, size):\n        return torch.randn(size)",
    "class Mixup:\n    def __call__(self, x):\n        self.low = torch.randint(9, size=(3,))",
    "def f(x, model):\n    return model.sample((3,)), x.sample(3), (torch.rand(3) + x).sum()",
]


@pytest.mark.parametrize("code", AUGMENTED)
def test_augmentation_is_not(code, tmp_path):
    assert findings(tmp_path, {DATA: f"{HEAD}{code}\n"}) == ()


TOYS = [
    ("from sklearn.datasets import make_moons", "make_moons(100)"),
    ("import sklearn.datasets as toys", "toys.make_classification()"),
    ("from torchvision import datasets", "datasets.FakeData()"),
    ("from faker import Faker", "Faker()"),
]


@pytest.mark.parametrize(("line", "call"), TOYS)
def test_toys_are_found_anywhere_but_in_tests(line, call, tmp_path):
    text = f"try:\n    {line}\nexcept ImportError:\n    pass\nX = {call}\n"
    place = "project/utils/toys.py"
    (found,) = findings(tmp_path / "a", {place: text})

    assert where((found,)) == [("synthetic", place, 5)]
    assert f"{call.partition('(')[0]} makes up data. Read the data set" in str(found)
    assert findings(tmp_path / "b", {"project/tests/toys.py": text}) == ()


def test_only_the_pipeline_may_not_draw(tmp_path):
    text = "import torch\n\n\ndef make(n):\n    return torch.randn(n, 3)\n"
    model, helper = "project/model/latent.py", "project/utils/helper.py"
    used = FILES[DATA] + "\n\nfrom utils import helper\nfrom utils.helper import make\n"

    assert findings(tmp_path / "a", {model: text, helper: text}) == ()
    found = findings(tmp_path / "b", {model: text, helper: text, DATA: used})
    assert where(found) == [("synthetic", helper, 5)]


def test_a_file_of_augmentation_may_draw(tmp_path):
    text = "import torch\n\n\ndef fill(n):\n    return torch.randn(n, 3)\n"

    assert findings(tmp_path / "a", {"project/data/random_erasing.py": text}) == ()
    assert len(findings(tmp_path / "b", {"project/data/random.py": text})) == 1
    assert len(findings(tmp_path / "c", {"project/data/__init__.py": text})) == 1


def test_a_run_that_trains_on_noise_is_found(tmp_path):
    run = FILES["project/run.py"].replace(
        "    model = TwoHeads(X.shape[1], 3)\n",
        "    model = TwoHeads(X.shape[1], 3)\n    model(torch.randn(1, 4))\n"
        "    train(model, torch.randn(64, 4), y)\n",
    )
    run = run.replace("import argparse\n", "import argparse\nimport torch\n").replace(
        "from model.", "from training.trainer import train\nfrom model."
    )
    (found,) = findings(tmp_path, {"project/run.py": run})

    assert found.rule == "synthetic"
    assert run.splitlines()[found.line - 1].strip() == "train(model, torch.randn(64, 4), y)"
