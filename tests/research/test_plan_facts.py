"""What the fields of a plan set in the code, and what is left to a person."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from maquette.research.scaffolding import plan_facts
from maquette.research.scaffolding.plan_facts import (
    LEAST,
    Source,
    relative_to,
    requirements,
    settings_of,
)


def test_numbers_and_optimizers_that_torch_has_become_defaults():
    settings = settings_of(
        {
            "optimizer": "adamw",
            "LR": "3e-4",
            "weight decay": "0.01",
            "batch-size": "64",
            "epochs": "7",
            "seeds": "2",
        }
    )

    assert settings.optimizer == "AdamW"
    assert settings.optimizer_options == [("weight_decay", 0.01)]
    assert (settings.learning_rate, settings.batch_size) == (3e-4, 64)
    assert (settings.epochs, settings.seeds, settings.by_hand) == (7, 2, ())


@pytest.mark.parametrize(
    ("fields", "by_hand"),
    [
        ({"schedule": "cosine"}, ("schedule: cosine",)),
        ({"learning_rate": "1e-3, then 1e-4"}, ("learning_rate: 1e-3, then 1e-4",)),
        ({"learning_rate": "inf"}, ("learning_rate: inf",)),
        ({"batch_size": "-1"}, ("batch_size: -1",)),
        ({"optimizer": "Lion", "momentum": "0.9"}, ("optimizer: Lion", "momentum: 0.9")),
        ({"optimizer": "Adam", "momentum": "0.9"}, ("momentum: 0.9",)),
        ({"optimizer": "Rprop"}, ("optimizer: Rprop",)),
    ],
)
def test_the_rest_is_left_to_a_person(fields: dict[str, str], by_hand: tuple[str, ...]):
    settings = settings_of(fields)

    assert settings.by_hand == by_hand
    assert settings.optimizer_options == []


def test_momentum_is_for_those_that_have_it():
    assert settings_of({"optimizer": "SGD", "momentum": "0.9"}).optimizer_options == [
        ("momentum", 0.9)
    ]


def test_every_optimizer_takes_what_it_is_given():
    import torch

    weight = [torch.nn.Parameter(torch.zeros(1))]
    for name in plan_facts.OPTIMIZERS:
        fields = {"optimizer": name, "weight_decay": "0.1", "momentum": "0.5"}
        options = dict(settings_of(fields).optimizer_options)
        assert options["weight_decay"] == 0.1
        getattr(torch.optim, name)(weight, lr=0.1, **options)


def test_what_is_not_installed_is_pinned_to_the_least_version(monkeypatch):
    def version(name: str) -> str:
        if name == "torch":
            return "2.13.0+cpu"
        raise PackageNotFoundError(name)

    monkeypatch.setattr(plan_facts, "version", version)

    pinned = requirements({"digits": Source(file="", sha256="ab" * 32)})

    assert pinned == [
        f"numpy=={LEAST['numpy']}",
        f"pytest=={LEAST['pytest']}",
        f"scikit-learn=={LEAST['scikit-learn']}",
        "torch==2.13.0",
    ]


def test_another_drive_has_no_relative_path(monkeypatch, tmp_path: Path):
    def fails(*_: object) -> str:
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    assert relative_to(tmp_path / "a" / "b", tmp_path) == "a/b"
    monkeypatch.setattr(plan_facts.os.path, "relpath", fails)
    assert relative_to(tmp_path / "a", tmp_path) == (tmp_path / "a").as_posix()
